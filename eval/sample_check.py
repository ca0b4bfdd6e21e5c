"""People in the loop: accept or reject a batch of clips by the bad ones in a random sample of it.

The protocol and its limits are those of SkyReels-V2 (arXiv 2504.13074, the section on people in the
loop): 1 clip in 10,000 is looked at before pre-training and 1 in 1,000 before post-training; a
batch whose bad clips reach a limit, in all or in a category, is dropped or made again. What
the paper does not say, and we do, is how sure a sample of that size can be: the exact interval of
the batch's share, and how many clips would have to be looked at.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Category = Literal["basic_quality", "type", "post_processing"]

CATEGORIES: Mapping[Category, str] = MappingProxyType(
    {
        "basic_quality": "low resolution or frame rate, black or frozen picture, shake, a cut",
        "type": "surveillance, game recording, animation, nothing of meaning",
        "post_processing": "subtitles, logo, split screen, borders, picture in picture, stickers, "
        "mosaic, changed speed",
    }
)
"""The paper's categories of bad cases, with what they mean."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Phase:
    """What share of a batch is looked at, and the limits that its bad clips must stay below.

    All are shares, 0 to 1; `total` counts a clip that is bad in any category once.
    """

    name: str
    rate: float
    total: float
    by_category: Mapping[Category, float]


PHASES: Mapping[str, Phase] = MappingProxyType(
    {
        phase.name: phase
        for phase in (
            Phase(
                "pre-training",
                1 / 10_000,
                0.15,
                {"basic_quality": 0.03, "type": 0.05, "post_processing": 0.07},
            ),
            Phase(
                "post-training",
                1 / 1_000,
                0.03,
                {"basic_quality": 0.005, "type": 0.01, "post_processing": 0.015},
            ),
        )
    }
)
"""The paper's two phases."""


@dataclass(frozen=True)
class Share:
    """The bad clips of one kind (`total`, or a category) in a sample, beside the limit.

    `interval` holds the share in the whole batch with 95 % confidence.
    """

    name: str
    bad: int
    checked: int
    limit: float
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Bad clips over checked ones; nan when none was checked."""
        return self.bad / self.checked if self.checked else math.nan

    @property
    def is_within(self) -> bool:
        """Whether the sample's share is below the limit."""
        # Rounded, as 0.07 * 100 is a little more than 7.
        return self.bad < round(self.limit * self.checked, 6)

    @property
    def is_sure(self) -> bool:
        """Whether the interval lies on one side of the limit."""
        low, high = self.interval
        return high < self.limit or low >= self.limit


@dataclass(frozen=True)
class Outcome:
    """What becomes of a batch of `batch` clips, `sample` of which were drawn.

    `needed` clips, all of them good, would be the fewest to be sure that every limit holds.
    `undecided` are the drawn clips that nobody has judged yet or could judge.
    """

    phase: str
    batch: int
    sample: int
    undecided: int
    needed: int
    shares: tuple[Share, ...]

    @property
    def checked(self) -> int:
        """The clips that were judged."""
        return self.sample - self.undecided

    @property
    def accepted(self) -> bool:
        """By the paper's rule: every share of the sample is below its limit."""
        return self.checked > 0 and all(share.is_within for share in self.shares)

    @property
    def is_sure(self) -> bool:
        """Whether the sample is large enough for its verdict: each limit surely holds, or one is
        surely broken."""
        if self.accepted:
            return all(share.is_sure for share in self.shares)
        return any(share.is_sure and not share.is_within for share in self.shares)

    @property
    def warning(self) -> str:
        """What the sample cannot tell, in words; empty when it is large enough."""
        if self.is_sure:
            return ""
        if self.checked == 0:
            return "nothing has been checked yet"
        open_ = ", ".join(s.name.replace("_", " ") for s in self.shares if not s.is_sure)
        many = "clip is" if self.checked == 1 else "clips are"
        return (
            f"{self.checked} checked {many} too few to say: the batch may as well be on the other "
            f"side of the limit in {open_}. To be sure that it is good takes {self.needed:,} "
            "clips without a bad one among them, and more with."
        )

    @property
    def in_words(self) -> str:
        """One line."""
        verdict = "accept" if self.accepted else "reject"
        if self.checked == 0:
            verdict = "undecided"
        sure = "" if self.is_sure else ", not sure"
        return (
            f"{verdict}{sure}: {self.shares[0].bad} bad of {self.checked} checked, of "
            f"{self.sample} drawn from {self.batch:,} ({self.phase} limits)"
        )


def sample_size(batch: int, rate: float) -> int:
    """How many clips of a batch are looked at: its share, rounded up, at least one of any.

    The product is rounded before it is rounded up, so that 3 in 1,000 of 1,000 are 3.
    """
    return min(batch, max(1, math.ceil(round(batch * rate, 6))))


def draw(clip_ids: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of the clips, each as likely as any other, in the order in which to look at them.

    It follows from the seed and the ids alone, not from their order, and a larger sample begins
    with the smaller one: looking at more clips loses no work.
    """
    return heapq.nsmallest(count, set(clip_ids), key=lambda name: (_rank(name, seed), name))


def _rank(clip_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()


def outcome(
    phase: Phase, batch: int, sample: int, judged: Collection[Collection[Category]]
) -> Outcome:
    """Decide on a batch. `judged` has the categories in which each judged clip is bad, none where
    it is good. Raises ValueError when more are judged than drawn, or drawn than there are."""
    if not len(judged) <= sample <= batch:
        raise ValueError(f"{len(judged)} judged of {sample} drawn of {batch} clips")
    checked = len(judged)
    counts = Counter[str](name for one in judged for name in set(one))
    counts["total"] = sum(bool(one) for one in judged)
    limits: dict[str, float] = {"total": phase.total}
    limits |= {str(name): limit for name, limit in phase.by_category.items()}
    shares = tuple(
        Share(name, counts[name], checked, limit, bad_share(counts[name], checked, batch))
        for name, limit in limits.items()
    )
    needed = max(clean_sample(limit, batch) for limit in limits.values())
    return Outcome(phase.name, batch, sample, sample - checked, needed, shares)


def together(raters: Collection[Collection[Category]]) -> frozenset[Category]:
    """The categories in which a clip is bad for half of its raters or more."""
    counts = Counter(name for one in raters for name in set(one))
    return frozenset(name for name, count in counts.items() if 2 * count >= len(raters))


# --- what a sample tells of its batch -------------------------------------------------------------


def bad_share(bad: int, checked: int, batch: int) -> tuple[float, float]:
    """The exact 95 % interval of a batch's share of bad clips, from a sample without replacement.

    All shares that neither tail of the hypergeometric distribution excludes at 2.5 %: for a large
    batch the Clopper-Pearson interval, for a batch that was checked in full its own share. Raises
    ValueError unless 0 <= bad <= checked <= batch.
    """
    if not 0 <= bad <= checked <= batch:
        raise ValueError(f"{bad} bad of {checked} checked of {batch} clips")
    if batch == 0:
        return 0.0, 1.0
    tail = (1 - CONFIDENCE) / 2
    least, most = bad, batch - checked + bad
    # The more bad clips a batch has, the less likely are few in its sample.
    high = _last(least, most, lambda k: _at_most(bad, k, checked, batch) > tail)
    low = least
    if bad:
        low = _first(least, most, lambda k: 1 - _at_most(bad - 1, k, checked, batch) > tail)
    return low / batch, high / batch


def clean_sample(limit: float, batch: int) -> int:
    """The fewest clips that, all being good, say with confidence that fewer than `limit` of the
    batch are bad."""
    if limit >= 1 or batch == 0:
        return 0
    return _first(1, batch, lambda n: bad_share(0, n, batch)[1] < limit)


def _at_most(bad: int, bad_in_batch: int, checked: int, batch: int) -> float:
    """P(at most `bad` bad clips in a sample), hypergeometric."""
    good = batch - bad_in_batch
    lowest = max(0, checked - good)
    terms = (
        _log_choose(bad_in_batch, i) + _log_choose(good, checked - i)
        for i in range(lowest, min(bad, bad_in_batch) + 1)
    )
    whole = _log_choose(batch, checked)
    return min(1.0, math.fsum(math.exp(term - whole) for term in terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first of `low` to `high` for which it holds, as for all after it; else `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The last of `low` to `high` for which it holds, as for all before it; else `low`."""
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
