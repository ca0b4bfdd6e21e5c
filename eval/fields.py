"""The scorer for closed fields: a field is right, wrong or left empty.

An empty answer is not an error but costs coverage, so both numbers are given, beside what always
answering the commonest class would score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class FieldScore:
    """How a field was answered: `asked` clips have a label, `answered` of them an answer and
    `right` a right one. `majority` is the accuracy of the commonest label over all that were
    asked, `majority_answered` that of the same label over those answered. `confusion` counts
    (label, answer) pairs in descending order, an empty answer being "".
    """

    field: str
    asked: int
    answered: int
    right: int
    majority: float
    majority_answered: float
    confusion: tuple[tuple[str, str, int], ...]

    @property
    def accuracy(self) -> float:
        """Share of the answers that are right; nan without an answer."""
        return self.right / self.answered if self.answered else math.nan

    @property
    def share_answered(self) -> float:
        """Share of the labelled clips that have an answer; nan without a label."""
        return self.answered / self.asked if self.asked else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.right, self.answered)


def score_field(field: str, labels: Sequence[str], answers: Sequence[str]) -> FieldScore:
    """Score answers (empty: none) against labels (empty: the clip is not asked).

    A label may allow several answers, separated by "|": the first one stands for it in the
    baseline and the confusion table. Raises ValueError when the lengths differ.
    """
    pairs = [(label.split("|"), answer) for label, answer in zip(labels, answers, strict=True)]
    asked = [(allowed, answer) for allowed, answer in pairs if allowed != [""]]
    answered = [(allowed, answer) for allowed, answer in asked if answer]
    common = Counter(allowed[0] for allowed, _ in asked).most_common(1)
    name = common[0][0] if common else ""
    shown = Counter(
        (answer if answer in allowed else allowed[0], answer) for allowed, answer in asked
    )
    return FieldScore(
        field=field,
        asked=len(asked),
        answered=len(answered),
        right=sum(answer in allowed for allowed, answer in answered),
        majority=_share([name in allowed for allowed, _ in asked]),
        majority_answered=_share([name in allowed for allowed, _ in answered]),
        confusion=tuple(
            (label, answer, count)
            for (label, answer), count in sorted(shown.items(), key=lambda p: (-p[1], p[0]))
        ),
    )


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; (0, 1) without trials.

    Raises ValueError unless 0 <= right <= total.
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no proportion")
    if total == 0:
        return 0.0, 1.0
    share, weight = right / total, Z95**2 / total
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def table(scores: Sequence[FieldScore]) -> str:
    """The scores as an aligned text table."""
    lines = [
        f"{'field':<16}{'right':>7}{'answered':>10}{'asked':>7}{'accuracy':>10}{'95 %':>14}"
        f"{'majority':>10}{'on answered':>13}"
    ]
    for score in scores:
        low, high = score.interval
        lines.append(
            f"{score.field:<16}{score.right:>7}{score.answered:>10}{score.asked:>7}"
            f"{score.accuracy:>10.2f}{f'{low:.2f}-{high:.2f}':>14}"
            f"{score.majority:>10.2f}{score.majority_answered:>13.2f}"
        )
    return "\n".join(lines)


def confusion_table(score: FieldScore) -> str:
    """Rows are labels, columns answers; "-" is a field left empty."""
    labels = sorted({label for label, _, _ in score.confusion})
    answers = sorted(
        {answer for _, answer, _ in score.confusion}, key=lambda name: (not name, name)
    )
    counts = {(label, answer): count for label, answer, count in score.confusion}
    wide = max([len(name) for name in (*labels, score.field)], default=0) + 2
    head = "".join(f"{name or '-':>{max(8, len(name) + 2)}}" for name in answers)
    lines = [f"{score.field:<{wide}}{head}"]
    for label in labels:
        cells = "".join(
            f"{counts.get((label, answer), 0):>{max(8, len(answer) + 2)}}" for answer in answers
        )
        lines.append(f"{label:<{wide}}{cells}")
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else math.nan
