"""Captions against a test set: every answer ruled on, counted, and kept for the next comparison."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captioner.files import first_line
from captioner.schema import ShotCaption
from curation.ledger import replacing
from eval.agreement import Agreement
from eval.fields import Item, compare, subject_value
from eval.judge import Judge, PeopleVerdicts, judge_items
from eval.predictions import Paired, Prediction
from eval.scores import AVERAGE, CameraResult, FieldResult, average, camera_result, field_results
from eval.testset import TestsetError, Truth

STATUSES = ("ok", "repaired", "truncated", "invalid", "error", "missing")


@dataclass(frozen=True)
class Evaluation:
    """What came out. `statuses` counts the captions of the test set's clips, `subjects` those of
    the truth that were `found` or `missed`, and the caption's that are `extra`. `problems` names
    what was left out and why, a line each."""

    items: Sequence[Item]
    results: Mapping[str, FieldResult]
    camera: CameraResult | None
    statuses: Mapping[str, int]
    subjects: Mapping[str, int]
    judge: str
    about_judge: str
    agreement: Mapping[str, Agreement]
    problems: tuple[str, ...]

    @property
    def average(self) -> float | None:
        """The unweighted mean accuracy of the fields."""
        return average(self.results)

    def accuracy(self, name: str) -> float | None:
        """Of a field or of `AVERAGE`; None where nothing was asked."""
        if name == AVERAGE:
            return self.average
        return self.results[name].accuracy if name in self.results else None


def evaluate(
    truths: Sequence[Truth], paired: Paired, judge: Judge, people: PeopleVerdicts | None = None
) -> Evaluation:
    """Score the captions of all clips of a test set.

    Where people ruled on a field that nobody labelled, their verdict alone decides (the paper's
    protocol); where a closed field is labelled, the label does.
    """
    items: list[Item] = []
    statuses: Counter[str] = Counter()
    subjects: Counter[str] = Counter()
    for truth in truths:
        clip = truth.clip.clip_id
        prediction = paired.predictions.get(clip)
        caption = prediction.caption if prediction else None
        statuses[prediction.status if prediction else "missing"] += 1
        compared = compare(clip, truth.labels, caption, _why(prediction))
        items += compared.items
        subjects["found"] += compared.matched
        subjects["missed"] += len(truth.labels.subjects or ()) - compared.matched
        subjects["extra"] += compared.extra
    judged = judge_items(items, judge, people)
    more, unused = _ruled_by_people(people or PeopleVerdicts(), items, paired)
    items += more
    return Evaluation(
        items=items,
        results=field_results(items),
        camera=camera_result(items),
        statuses={name: statuses[name] for name in STATUSES if statuses[name]},
        subjects=dict(subjects),
        judge=judge.name,
        about_judge=judge.about,
        agreement=judged.agreement,
        problems=(*paired.problems, *unused, *_without_ruling(items)),
    )


def _why(prediction: Prediction | None) -> str:
    """Why a clip has no caption."""
    if prediction is None:
        return "no caption of this clip"
    return f"{prediction.status}: {prediction.problem}".splitlines()[0][:200]


def _ruled_by_people(
    people: PeopleVerdicts, items: Iterable[Item], paired: Paired
) -> tuple[list[Item], list[str]]:
    """Items that nobody labelled but people ruled on, and verdicts that are of no use."""
    known = {(item.clip_id, item.field, item.predicted) for item in items if item.truth}
    more, unused = [], []
    for key in sorted(people.by_key.keys() - known):
        clip, field, subject = key
        prediction = paired.predictions.get(clip)
        said = _said(prediction.caption if prediction else None, field, subject)
        if said is not None:
            item = Item(clip, field, -1, subject, (), said, (), "", None)
            ruling = people.of(item)
            if ruling is not None:
                item.verdict, item.why = ruling.verdict, ruling.why
                more.append(item)
                continue
        unused.append(f"verdict on {field} of {clip} is of another caption than this one")
    return more, unused


def _said(caption: ShotCaption | None, field: str, subject: int) -> str | None:
    if caption is None:
        return None
    if subject < 0:
        return str(getattr(caption, field)) if field in ShotCaption.model_fields else None
    if field in ShotCaption.model_fields or subject >= len(caption.subjects):
        return None
    return subject_value(caption.subjects[subject], field)


def _without_ruling(items: Iterable[Item]) -> Iterator[str]:
    """What the judge failed at, a line a reason."""
    reasons = Counter(item.why for item in items if item.verdict == "unjudged")
    for why, count in reasons.most_common():
        told = why.strip().splitlines()[-1] if why.strip() else "no reason given"
        yield f"{count} answers got no ruling: {told[:300]}"


# --- kept for later -------------------------------------------------------------------------------

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("clip_id", "field")),
        *((name, pa.int16()) for name in ("subject", "predicted")),
        ("truth", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("classes", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("answer_class", "verdict", "why")),
    ]
)


def write_items(items: Sequence[Item], judge: str, path: Path) -> None:
    """Keep the items, Parquet, so that a later version can be compared with this one."""
    columns = {name: [getattr(item, name) for item in items] for name in _SCHEMA.names}
    table = pa.table(columns, _SCHEMA.with_metadata({"skycaptioner_judge": judge}))
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_items(path: Path) -> tuple[list[Item], str]:
    """Items, and the name of their judge. Raises TestsetError, OSError."""
    try:
        table = pq.read_table(path).cast(_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        told = first_line(error)[:100]
        raise TestsetError([f"{path}: not the items.parquet of an evaluation: {told}"]) from None
    judge = (pq.read_metadata(path).metadata or {}).get(b"skycaptioner_judge", b"").decode()
    return [_item(row) for row in table.to_pylist()], judge


def _item(row: dict[str, Any]) -> Item:
    return Item(**{**row, "truth": tuple(row["truth"]), "classes": tuple(row["classes"])})


def write_evaluation(evaluation: Evaluation, problems: Sequence[str], folder: Path) -> None:
    """Write scores.json, items.parquet and problems.txt into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_items(evaluation.items, evaluation.judge, folder / "items.parquet")
    with replacing(folder / "scores.json") as part:
        part.write_text(to_json(summary(evaluation)), encoding="utf-8")
    with replacing(folder / "problems.txt") as part:
        part.write_text("".join(f"{line}\n" for line in problems), encoding="utf-8")


# --- in numbers -----------------------------------------------------------------------------------


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The figures as plain values; the same captions give the same bytes."""
    return {
        "clips": sum(evaluation.statuses.values()),
        "captions": dict(evaluation.statuses),
        "subjects": dict(evaluation.subjects),
        "judge": evaluation.judge,
        "avg": _round(evaluation.average),
        "fields": {name: _field(one) for name, one in evaluation.results.items()},
        "camera": _camera(evaluation.camera),
        "judge_agreement": {name: one.in_words for name, one in evaluation.agreement.items()},
        "problems": len(evaluation.problems),
    }


def to_json(values: Mapping[str, Any]) -> str:
    """Indented JSON with a line break at its end."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def _field(result: FieldResult) -> dict[str, Any]:
    low, high = result.interval
    return {
        "accuracy": _round(result.accuracy),
        "low": _round(low),
        "high": _round(high),
        "right": result.right,
        "ruled": result.ruled,
        "answered": result.answered,
        "cannot_tell": result.untold,
        "unjudged": result.unjudged,
        "baseline": _round(result.baseline),
        "commonest": result.commonest,
        "classes": {
            one.name: {"true": one.true, "answered": one.answered, "right": one.right}
            for one in result.classes
        },
        "confusion": [list(cell) for cell in result.confusion],
    }


def _camera(camera: CameraResult | None) -> dict[str, Any] | None:
    if camera is None:
        return None
    return {
        "axes": {axis: list(counts) for axis, counts in camera.axes.items()},
        "speed": list(camera.speed),
        "partial": _round(camera.partial),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def problem_lines(problems: Sequence[str], shown: int = 10) -> Iterator[str]:
    """The first of the problems, and how many more there are."""
    yield from problems[:shown]
    if len(problems) > shown:
        yield f"and {len(problems) - shown} more"
