"""Verdicts counted: accuracy a field with its interval, baseline, classes, and differences.

Accuracy is the share of right answers among all that were asked and ruled on: an empty field, a
missing and an invalid caption are wrong. Intervals are 95 %: Wilson's for one accuracy, a paired
bootstrap over clips for the difference of two captioners on the same clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from captioner.schema import FIELDS
from eval.camera_text import AXES, CameraMove, read_camera
from eval.fields import Item, wilson

AVERAGE = "avg"
"""The unweighted mean of the fields, the paper's last line (its first in the table)."""

Counts = NDArray[np.float64]

RESAMPLES = 5000
"""Of the bootstrap: enough for the 0.18 % quantile that the gate asks for to rest on 9 of them."""


@dataclass(frozen=True)
class ClassScore:
    """One class of a closed field: how often it was true, how often answered, and both."""

    name: str
    true: int
    answered: int
    right: int

    @property
    def precision(self) -> tuple[float, float]:
        """The 95 % interval of the share of its answers that are right."""
        return wilson(self.right, self.answered)

    @property
    def recall(self) -> tuple[float, float]:
        """The 95 % interval of the share of its truths that are found."""
        return wilson(self.right, self.true)


@dataclass(frozen=True)
class FieldResult:
    """What became of a field.

    `ruled` answers are right or wrong, `right` of them right; `answered` of them are not empty.
    `untold` could not be told by raters or judges, `unjudged` got no ruling; both are left out.
    `baseline` is the accuracy of always answering `commonest`, None for free text. `confusion`
    counts (truth, answer), an empty answer being "".
    """

    field: str
    ruled: int
    right: int
    answered: int
    untold: int
    unjudged: int
    baseline: float | None
    commonest: str
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[str, str, int], ...]

    @property
    def accuracy(self) -> float | None:
        """None where nothing was asked."""
        return self.right / self.ruled if self.ruled else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson."""
        return wilson(self.right, self.ruled)


@dataclass(frozen=True)
class CameraResult:
    """Camera motion beyond exact or not: (right, of) for the sign on each axis and for the speed,
    where one is labelled; `partial` is the mean share of moves in common (Jaccard)."""

    axes: Mapping[str, tuple[int, int]]
    speed: tuple[int, int]
    partial: float | None


@dataclass(frozen=True)
class Difference:
    """Accuracy of the second minus the first on the clips of both, and its interval."""

    field: str
    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The difference."""
        return self.second - self.first

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def field_results(items: Sequence[Item]) -> dict[str, FieldResult]:
    """Results of the fields that have items, in the schema's order."""
    by_field = _by_field(items)
    return {name: field_result(name, by_field[name]) for name in FIELDS if name in by_field}


def average(results: Mapping[str, FieldResult]) -> float | None:
    """The unweighted mean accuracy of the fields, None without any."""
    known = [one.accuracy for one in results.values() if one.accuracy is not None]
    return sum(known) / len(known) if known else None


def field_result(field: str, items: Sequence[Item]) -> FieldResult:
    """Count the items of one field."""
    verdicts = Counter(item.verdict for item in items)
    ruled = [item for item in items if item.verdict in ("right", "wrong")]
    closed = [item for item in ruled if item.classes]
    confusion = Counter((_true_class(item), item.answer_class) for item in closed)
    commonest, baseline = _baseline(closed)
    names = sorted({name for pair in confusion for name in pair} - {""})
    return FieldResult(
        field=field,
        ruled=len(ruled),
        right=verdicts["right"],
        answered=sum(item.answer != "" for item in ruled),
        untold=verdicts["cannot_tell"],
        unjudged=verdicts["unjudged"] + verdicts[None],
        baseline=baseline if len(closed) == len(ruled) else None,
        commonest=commonest,
        classes=tuple(_class(name, confusion) for name in names),
        confusion=tuple(
            (*pair, count) for pair, count in sorted(confusion.items(), key=lambda p: (-p[1], p[0]))
        ),
    )


def _true_class(item: Item) -> str:
    """Of several right answers the one that was given, else the first."""
    return item.answer_class if item.answer_class in item.classes else item.classes[0]


def _baseline(closed: Sequence[Item]) -> tuple[str, float | None]:
    firsts = Counter(item.classes[0] for item in closed)
    if not firsts:
        return "", None
    name = min(firsts, key=lambda one: (-firsts[one], one))
    return name, sum(name in item.classes for item in closed) / len(closed)


def _class(name: str, confusion: Mapping[tuple[str, str], int]) -> ClassScore:
    return ClassScore(
        name,
        true=sum(count for (true, _), count in confusion.items() if true == name),
        answered=sum(count for (_, said), count in confusion.items() if said == name),
        right=confusion.get((name, name), 0),
    )


def _by_field(items: Iterable[Item]) -> dict[str, list[Item]]:
    grouped: dict[str, list[Item]] = {}
    for item in items:
        grouped.setdefault(item.field, []).append(item)
    return grouped


# --- camera motion, finer -------------------------------------------------------------------------


def camera_result(items: Sequence[Item]) -> CameraResult | None:
    """The axes and the speed of every labelled camera motion; of several right answers the one
    that is nearest to the caption counts. None where none is labelled."""
    asked = [item for item in items if item.field == "camera_motion" and item.truth]
    if not asked:
        return None
    signs = dict.fromkeys(AXES, 0)
    fast = known = 0
    partial = 0.0
    for item in asked:
        said = read_camera(item.answer) if item.answer else None
        truths = [move for one in item.truth if (move := read_camera(one))]
        true = max(truths, key=lambda one: _in_common(one, said))
        partial += _in_common(true, said)
        for i, axis in enumerate(AXES):
            signs[axis] += said is not None and said.signs[i] == true.signs[i]
        if true.speed:
            known += 1
            fast += said is not None and said.speed == true.speed
    return CameraResult(
        {axis: (right, len(asked)) for axis, right in signs.items()},
        (fast, known),
        partial / len(asked),
    )


def _in_common(true: CameraMove, said: CameraMove | None) -> float:
    if said is None:
        return 0.0
    return len(true.elements & said.elements) / len(true.elements | said.elements)


# --- two captioners -------------------------------------------------------------------------------


def differences(
    first: Iterable[Item], second: Iterable[Item], seed: int = 0, alpha: float = 0.05
) -> dict[str, Difference]:
    """How each field, and their average, differ on the clips that both have answers for.

    Percentile intervals of a paired bootstrap (Efron 1979): clips are drawn with their answers of
    both captioners, as the subjects of one clip are no independent trials. An interval leaves the
    true difference out with probability `alpha`.
    """
    one, other = _tallies(first), _tallies(second)
    clips = sorted(one.keys() & other.keys())
    fields = [
        name
        for name in FIELDS
        if any(name in one[c] for c in clips) and any(name in other[c] for c in clips)
    ]
    if not fields:
        return {}
    counts = np.zeros((len(clips), 2, len(fields), 2))
    for row, clip in enumerate(clips):
        for side, tallies in enumerate((one[clip], other[clip])):
            for column, name in enumerate(fields):
                counts[row, side, column] = tallies.get(name, (0, 0))
    whole = _accuracies(counts.sum(0)[None])[0]
    spread = _accuracies(_resampled(counts, seed))
    ends = 50 * alpha, 100 - 50 * alpha
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile(spread[:, 1] - spread[:, 0], ends, axis=0)
    return {
        name: Difference(name, *(float(v[i]) for v in (*whole, low, high)))
        for i, name in enumerate((*fields, AVERAGE))
    }


def _tallies(items: Iterable[Item]) -> dict[str, dict[str, tuple[int, int]]]:
    """By clip and field: right and ruled."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for clip, group in groupby(items, key=lambda item: item.clip_id):
        tallies = found.setdefault(clip, {})
        for item in group:
            if item.verdict in ("right", "wrong"):
                right, ruled = tallies.get(item.field, (0, 0))
                tallies[item.field] = right + (item.verdict == "right"), ruled + 1
    return found


def _resampled(counts: Counts, seed: int) -> Counts:
    """Sums over as many clips as there are, drawn with replacement, `RESAMPLES` times."""
    rng = np.random.default_rng(seed)
    n = len(counts)
    flat = counts.reshape(n, -1)
    drawn = np.empty((RESAMPLES, flat.shape[1]))
    for row in range(RESAMPLES):
        drawn[row] = np.bincount(rng.integers(0, n, n), minlength=n) @ flat
    return drawn.reshape(RESAMPLES, *counts.shape[1:])


def _accuracies(sums: Counts) -> Counts:
    """(N, 2, F, 2) sums of right and ruled to (N, 2, F + 1): each field, then their average."""
    with np.errstate(invalid="ignore"):
        each = sums[..., 0] / sums[..., 1]
    known = ~np.isnan(each)
    mean = np.where(known, each, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    return np.concatenate([each, mean[..., None]], axis=-1)
