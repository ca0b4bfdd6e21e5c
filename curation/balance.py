"""Balance: which clips to keep, or how often to draw each, so that concepts have the shares wanted.

A concept is the value of one column or of several together (`concepts`). `select` leaves clips
out and repeats none; `weight` leaves none out and gives each a sampling weight.

The paper's own case (SkyReels-V2, arXiv 2504.13074: Human from 84.8 % to 63.2 % while the volume
falls by about half) shows the difference. By leaving out people alone, Human at 63.2 % keeps all
of the other 15.2 % and so 15.2 / (1 - 0.632) = 41.3 % of the clips: that is the largest selection
that meets the share, and what `{Human: 0.632}` selects. `total: 0.5` asks for half of the clips;
there are not enough others, so Human then has (50 - 15.2) / 50 = 69.6 %. Both of the paper's
figures together need repeats, which `mode: weight` gives: every other clip is drawn 1.21 times
in an epoch half as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

NONE = "none"
"""The concept of clips whose column is empty; a concept like any other."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_TOLERANCE = 1e-6
"""How far shares of all concepts may be from 1 together: they are typed by people."""


class BalanceError(ValueError):
    """A target that the clips cannot be balanced to, in one line."""


class BalanceConfig(BaseModel):
    """What to balance, and to what.

    by: columns whose values together make the concept.
    to: `uniform`, every concept the same share; `tempered`, in proportion to counts to the power
        `alpha` (0 is uniform, 1 changes nothing); `capped`, no concept above the share `cap`, the
        others in proportion to their counts; or shares by concept, where those not named divide
        what is left in proportion to their counts.
    total: share (0-1] of the clips to keep, or to draw in an epoch. With `select` and no total,
        as many as meet the shares exactly. A larger total keeps all of the scarce concepts and
        divides the rest by the shares of the others: the total comes first, then the shares.
    seed: another seed, other clips. A smaller total keeps a subset of a larger one's.
    factors: by how much the target share of a concept is multiplied before all are brought to 1
        together; 1 for those not named. A cap holds for the shares before this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Annotated[tuple[str, ...], Field(min_length=1)]
    to: Literal["uniform", "tempered", "capped"] | dict[str, Share] = "uniform"
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    cap: Annotated[float, Field(gt=0, le=1)] | None = None
    total: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    mode: Literal["select", "weight"] = "select"
    factors: dict[str, Factor] = {}

    @model_validator(mode="after")
    def _options_fit_target(self) -> Self:
        for option, target in (("alpha", "tempered"), ("cap", "capped")):
            given = getattr(self, option) is not None
            if given != (self.to == target):
                need = "needs" if self.to == target else "alone takes"
                raise ValueError(f"`to: {target}` {need} `{option}`")
        if isinstance(self.to, dict):
            if not self.to:
                raise ValueError("`to` names no concept")
            if (together := sum(self.to.values())) > 1 + _TOLERANCE:
                raise ValueError(f"the shares add up to {together:g}, more than 1")
        return self


@dataclass(frozen=True)
class Concept:
    """A concept before and after: clips, and the share it was to have (0-1).

    `after` counts the clips selected, or with weights those to expect in an epoch.
    """

    name: str
    before: int
    after: float
    target: float


@dataclass(frozen=True)
class Balance:
    """The outcome for N clips, in their order.

    keep: (N,) bool, all True where clips are weighted.
    weight: (N,) float64, how often a clip is drawn in an epoch, on average; 0 or 1 by selection.
    concepts: the most frequent first, as they were before.
    met: whether each concept got the share that it was to have, within rounding.
    """

    keep: Bool
    weight: Float
    concepts: tuple[Concept, ...]
    met: bool

    def table(self) -> list[tuple[str, int, float, float, float, float]]:
        """Rows of concept, clips before, share before, clips after, share after, target share."""
        before = sum(c.before for c in self.concepts) or 1
        after = sum(c.after for c in self.concepts) or 1.0
        return [
            (c.name, c.before, c.before / before, c.after, c.after / after, c.target)
            for c in self.concepts
        ]


def concepts(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """The concept of each row, a string: the values of the columns, joined by " / ".

    Null and "" are `NONE`.
    """
    named = []
    for column in columns:
        text = pc.cast(column, pa.string())
        named.append(pc.if_else(pc.equal(pc.fill_null(text, ""), ""), NONE, text))
    joined = named[0] if len(named) == 1 else pc.binary_join_element_wise(*named, " / ")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def balance(
    clip_ids: pa.Array | pa.ChunkedArray, concept: pa.Array, config: BalanceConfig
) -> Balance:
    """Balance N clips by their concepts; the order of the clips makes no difference.

    clip_ids: (N,) strings. concept: (N,) strings without nulls, as `concepts` gives them.
    Raises BalanceError where the target names a concept without clips or cannot be reached.
    """
    if not len(concept):
        return Balance(np.zeros(0, np.bool_), np.zeros(0), (), True)
    encoded = pc.dictionary_encode(concept)
    found = encoded.dictionary.to_pylist()
    # In order of name, so that sums of floats do not depend on the order of the clips.
    names = sorted(found)
    codes = np.searchsorted(np.array(names), np.array(found))[encoded.indices.to_numpy()]
    counts = np.bincount(codes, minlength=len(names))
    shares = target_shares(dict(zip(names, counts.tolist())), config)
    target = np.array([shares[name] for name in names])

    if config.mode == "weight":
        after = target * len(codes) * (config.total or 1.0)
        keep, weight = np.ones(len(codes), np.bool_), (after / counts)[codes]
    else:
        quota = _quota(counts, target, config.total)
        keep = _first(clip_ids, codes, quota, config.seed)
        after, weight = quota.astype(np.float64), keep.astype(np.float64)
    # Rounding moves a concept by half a clip, and all of them together the total by as much each.
    met = bool(np.all(np.abs(after - target * after.sum()) <= 0.5 + 0.5 * len(names) * target))
    order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))
    table = (Concept(names[i], int(counts[i]), float(after[i]), float(target[i])) for i in order)
    return Balance(keep, weight, tuple(table), met)


def target_shares(counts: dict[str, int], config: BalanceConfig) -> dict[str, float]:
    """The share (0-1, 1 in all) that each concept is to have, from the clips (> 0) of each.

    Raises BalanceError where the target names a concept without clips or cannot be reached.
    """
    names = list(counts)
    have = np.array([counts[name] for name in names], np.float64)
    if isinstance(config.to, dict):
        shares = _named(names, have, config.to)
    elif config.to == "capped":
        shares = _capped(have, config.cap or 1.0)
    else:
        alpha = 0.0 if config.to == "uniform" else config.alpha or 0.0
        # Divided first, so that no count overflows.
        shares = (have / have.max()) ** alpha
        shares = shares / shares.sum()
    if config.factors:
        shares = shares * np.array([config.factors.get(name, 1.0) for name in names])
        shares = shares / shares.sum()
    return dict(zip(names, shares.tolist()))


def _named(names: Sequence[str], have: Float, wanted: dict[str, float]) -> Float:
    """The shares named, and what is left for those that are not."""
    for name, share in wanted.items():
        if share > 0 and name not in names:
            known = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
            raise BalanceError(
                f"the balance wants {100 * share:g} % of {name!r}, which no clip is: "
                f"there are {known}"
            )
    shares = np.array([wanted.get(name, 0.0) for name in names])
    others = np.array([name not in wanted for name in names])
    left = max(0.0, 1.0 - shares.sum())
    if others.any():
        shares[others] = left * have[others] / have[others].sum()
    elif left > _TOLERANCE:
        raise BalanceError(
            f"the balance names every concept there is, but its shares add up to "
            f"{100 * shares.sum():g} %"
        )
    return np.asarray(shares / shares.sum(), np.float64)


def _capped(have: Float, cap: float) -> Float:
    """Shares in proportion to counts, none above the cap."""
    if cap * len(have) < 1 - _TOLERANCE:
        raise BalanceError(
            f"the balance caps each share at {100 * cap:g} %, but there are only {len(have)} "
            f"concepts: the cap must be at least {100 / len(have):.3g} %"
        )
    # The concept above the cap takes it, the others share the rest, until none is above.
    at_cap = np.zeros(len(have), np.bool_)
    shares = have / have.sum()
    while (above := (shares > cap + 1e-12) & ~at_cap).any():
        at_cap |= above
        shares[at_cap] = cap
        if not at_cap.all():
            shares[~at_cap] = have[~at_cap] / have[~at_cap].sum() * (1 - cap * at_cap.sum())
    return np.asarray(shares / shares.sum(), np.float64)


def _quota(counts: NDArray[np.int_], target: Float, total: float | None) -> NDArray[np.int_]:
    """Clips to keep of each concept, in proportion to the target as far as there are clips."""
    wanted = target > 0
    enough = np.full(len(counts), np.inf)
    enough[wanted] = counts[wanted] / target[wanted]
    # `scale` is how many clips all shares together would make; a concept runs out at `enough`.
    scale = enough.min()
    if total is not None:
        clips = total * counts.sum()
        if clips > counts[wanted].sum():
            raise BalanceError(
                f"the balance is to keep {100 * total:g} % of the clips, but the concepts that "
                f"it wants have only {100 * counts[wanted].sum() / counts.sum():.3g} %"
            )
        scale = clips
        while (short := wanted & (enough < scale)).any():
            rest = target[wanted & ~short].sum()
            grown = (clips - counts[short].sum()) / rest if rest > 0 else np.inf
            if grown <= scale:
                break
            scale = grown
    kept = np.zeros(len(counts))
    kept[wanted] = np.minimum(counts[wanted], target[wanted] * scale)
    return np.asarray(np.floor(kept + 0.5), np.int_)


def _first(clip_ids: Any, codes: NDArray[np.int_], quota: NDArray[np.int_], seed: int) -> Bool:
    """The first `quota` clips of each concept, in the order of their hashes."""
    ids = np.array(clip_ids.to_pylist(), np.bytes_)
    order = np.lexsort((ids, _hash(ids, seed), codes))
    sorted_codes = codes[order]
    starts = np.searchsorted(sorted_codes, np.arange(len(quota)))
    keep = np.zeros(len(codes), np.bool_)
    keep[order] = np.arange(len(codes)) - starts[sorted_codes] < quota[sorted_codes]
    return keep


def _hash(ids: NDArray[np.bytes_], seed: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each id and the seed: the finaliser of SplitMix64 (Steele, Lea and Flood,
    2014) over the id's words of 8 bytes."""
    width = -(-ids.dtype.itemsize // 8) * 8
    words = ids.astype(f"S{width}").view("<u8").reshape(len(ids), -1)
    mixed = np.full(len(ids), seed, np.uint64)
    for word in words.T:
        mixed = (mixed ^ word) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
