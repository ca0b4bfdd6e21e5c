"""The gate of a release: a field below its floor, or clearly below the last release, fails it.

    floors: {shot_type: 0.85, camera_motion: 0.8, avg: 0.6}
    release: release/items.parquet      # of the last release's evaluation, beside this file
    captions: 0.99                      # least share of clips with a caption

Every entry may be left out. "Clearly below" is a paired bootstrap whose interval is below 0, at
95 % for all fields together (Bonferroni): of releases as good as the last, 1 in 40 at most fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from captioner.schema import FIELDS
from eval.evaluation import Evaluation, read_items
from eval.fields import Item
from eval.scores import AVERAGE, differences
from eval.testset import TestsetError

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class GateError(ValueError):
    """A gate file that cannot be used, in one line."""


class GateFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floors: dict[str, Share] = {}
    release: str | None = None
    captions: Share | None = None

    @field_validator("floors")
    @classmethod
    def _are_fields(cls, floors: dict[str, float]) -> dict[str, float]:
        for name in floors:
            if name not in (*FIELDS, AVERAGE):
                raise ValueError(f"{name!r} is none of {', '.join((*FIELDS, AVERAGE))}")
        return floors


@dataclass(frozen=True)
class Gate:
    """What is asked of an evaluation. `release` holds the last release's items, `release_judge`
    the judge of their free text."""

    floors: dict[str, float]
    captions: float | None
    release: Sequence[Item] | None
    release_judge: str


def read_gate(path: Path) -> Gate:
    """Read a gate file and the release that it names. Raises GateError, OSError."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        file = GateFile.model_validate({} if values is None else values)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise GateError(f"{where}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    except ValidationError as error:
        one = error.errors(include_url=False)[0]
        where = ": ".join(filter(None, [str(path), ".".join(map(str, one["loc"]))]))
        told = one["msg"].removeprefix("Value error, ")
        raise GateError(f"{where}: {told}") from None
    if not (file.floors or file.release or file.captions):
        raise GateError(f"{path}: asks for nothing; give floors, release or captions")
    items, judge = None, ""
    if file.release is not None:
        try:
            items, judge = read_items(path.parent / file.release)
        except TestsetError as error:
            raise GateError(str(error)) from None
    return Gate(file.floors, file.captions, items, judge)


def failures(gate: Gate, evaluation: Evaluation, seed: int = 0) -> list[str]:
    """What fails, a line each; none where the gate is passed."""
    return [
        *_below_floors(gate, evaluation),
        *_lost_captions(gate, evaluation),
        *_unjudged(evaluation),
        *_below_release(gate, evaluation, seed),
    ]


def _below_floors(gate: Gate, evaluation: Evaluation) -> Iterator[str]:
    for name, floor in gate.floors.items():
        found = evaluation.accuracy(name)
        if found is None:
            yield f"{name}: nothing was asked, so its floor of {floor:.3f} cannot be checked"
        elif found < floor:
            yield f"{name}: {found:.3f} is below its floor of {floor:.3f}"


def _lost_captions(gate: Gate, evaluation: Evaluation) -> Iterator[str]:
    clips = sum(evaluation.statuses.values())
    lost = sum(evaluation.statuses.get(name, 0) for name in ("invalid", "error", "missing"))
    if gate.captions is not None and clips - lost < gate.captions * clips:
        share = (clips - lost) / clips
        yield f"captions: {share:.3f} of the clips have one, less than {gate.captions:.3f}"


def _unjudged(evaluation: Evaluation) -> Iterator[str]:
    for name, result in evaluation.results.items():
        if result.unjudged:
            yield f"{name}: {result.unjudged} answers got no ruling from the judge"


def _below_release(gate: Gate, evaluation: Evaluation, seed: int) -> Iterator[str]:
    if gate.release is None:
        return
    release, now = list(gate.release), list(evaluation.items)
    if gate.release_judge != evaluation.judge:
        yield (
            f"the release's free text was judged by {gate.release_judge}, this one's by "
            f"{evaluation.judge}: judge both alike"
        )
        release = [item for item in release if item.classes]
        now = [item for item in now if item.classes]
    found = differences(release, now, seed, alpha=0.05 / (len(FIELDS) + 1))
    if not found:
        yield "the release shares no clip with this test set, so nothing can be compared"
    for name, one in found.items():
        if one.high < 0:
            yield (
                f"{name}: {one.second:.3f} is significantly below the release's {one.first:.3f} "
                f"({one.value:+.3f}, {one.low:+.3f} to {one.high:+.3f})"
            )
