"""Drift: how the answers of two captioners, or two versions, differ, without any labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from captioner.schema import FIELDS, ShotCaption
from eval.fields import SCORERS, subject_value
from eval.predictions import Prediction


@dataclass(frozen=True)
class Drift:
    """A field over the clips that both captioned; of subjects the main one.

    `changed` is the share of clips with another answer after normalisation, `filled` the shares of
    answers that are not empty, first and second. `shift` is, for closed fields, the total variation
    distance of the answers (0: equally often, 1: nothing in common), and `moved` the answers
    whose share changed most, with the change.
    """

    field: str
    clips: int
    changed: float
    filled: tuple[float, float]
    shift: float | None
    moved: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Drifts:
    """Every field, and how many captions only one of the two has."""

    fields: tuple[Drift, ...]
    only_first: int
    only_second: int


MOVED = 3
"""Answers named a field."""


def drift(first: Iterable[Prediction], second: Iterable[Prediction]) -> Drifts:
    """Compare captions of the same clips, known by clip_id or by file and bounds."""
    one, other = _captions(first), _captions(second)
    both = sorted(one.keys() & other.keys())
    return Drifts(
        tuple(_drift(field, [(one[c], other[c]) for c in both]) for field in FIELDS if both),
        len(one) - len(both),
        len(other) - len(both),
    )


def _captions(predictions: Iterable[Prediction]) -> dict[str, ShotCaption]:
    return {
        one.clip_id or f"{one.sha256 or one.source}:{one.start}:{one.end}": one.caption
        for one in predictions
        if one.caption is not None
    }


def _drift(field: str, pairs: list[tuple[ShotCaption, ShotCaption]]) -> Drift:
    normal, closed = SCORERS[field].normal, SCORERS[field].closed
    answers = [(normal(_answer(a, field)), normal(_answer(b, field))) for a, b in pairs]
    n = len(answers)
    before, after = Counter(a for a, _ in answers), Counter(b for _, b in answers)
    change = {name: (after[name] - before[name]) / n for name in {*before, *after}}
    moved = sorted(change.items(), key=lambda one: (-abs(one[1]), one[0]))[:MOVED]
    return Drift(
        field=field,
        clips=n,
        changed=sum(a != b for a, b in answers) / n,
        filled=(1 - before[""] / n, 1 - after[""] / n),
        shift=sum(map(abs, change.values())) / 2 if closed else None,
        moved=tuple(one for one in moved if one[1]) if closed else (),
    )


def _answer(caption: ShotCaption, field: str) -> str:
    if field in ShotCaption.model_fields:
        return str(getattr(caption, field))
    main = caption.main_subject
    return subject_value(main, field) if main else ""
