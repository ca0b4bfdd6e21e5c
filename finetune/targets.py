"""Targets of fine-tuning, clips with the captions that a model is to give, and the folder of them:

    train.jsonl, validation.jsonl, test.jsonl    a `Target` a line, no source in two of them
    left_out.jsonl                               every other clip of the input, and why
    labels.json                                  configuration, counts, statistics, hashes

`finetune.labels` makes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from captioner.merge import filled
from captioner.schema import FIELDS, ShotCaption
from curation.ledger import replacing

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class TargetError(ValueError):
    """Targets that cannot be made or read: a line with file and line number where there is one."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Model):
    """Who said a field, and how sure that was (0 to 1), where it is known."""

    source: Annotated[str, Field(min_length=1)]
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class Target(_Model):
    """A clip and what is to be said of it.

    video: absolute, or relative to the folder of the targets. start, end: seconds of the clip in
    it, None for all of it. sha256: of the video's file. source: the hash of the source's content;
    all its clips are in one split. sources: who said each of `captioner.schema.FIELDS` that is not
    empty.
    """

    clip_id: Annotated[str, Field(min_length=1)]
    video: Annotated[str, Field(min_length=1)]
    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    source: Annotated[str, Field(min_length=1)]
    concept: str | None
    caption: ShotCaption
    sources: dict[str, Provenance]
    split: Split

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.start is None) != (self.end is None):
            raise ValueError("start and end are both given, or neither")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("the start is not before the end")
        if unknown := sorted(set(self.sources) - set(FIELDS)):
            raise ValueError(f"sources of no field: {', '.join(unknown)}")
        if missing := [name for name in filled(self.caption) if name not in self.sources]:
            raise ValueError(f"no source of {', '.join(missing)}")
        return self


@dataclass(frozen=True)
class LeftOut:
    """A clip that is no target: `why` is one of `REASONS`."""

    clip_id: str
    why: str
    detail: str = ""


def answer(target: Target) -> str:
    """What the model is trained to write: the caption's JSON without blanks, in the order of the
    schema, as constrained decoding allows it."""
    return target.caption.model_dump_json(by_alias=True)


def read_targets(folder: Path, split: Split) -> list[Target]:
    """The targets of a split. Raises TargetError."""
    path = folder / f"{split}.jsonl"
    targets = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                try:
                    targets.append(Target.model_validate_json(line))
                except ValidationError as error:
                    raise TargetError(f"{path}:{number}: {first_problem(error)}") from None
    except OSError as error:
        raise TargetError(
            f"{path}: {error.strerror}: make the targets with python -m jobs.labels"
        ) from None
    return targets


def write_targets(
    folder: Path,
    targets: Iterable[Target],
    left_out: Iterable[LeftOut] = (),
    about: Callable[[], Mapping[str, Any]] = dict,
) -> Counter[Split]:
    """Write the files of a folder, each whole or not at all and labels.json last; how many targets
    each split has.

    `about` tells the rest of labels.json, when every target has been taken. Raises OSError.
    """
    counts: Counter[Split] = Counter()
    with ExitStack() as stack:
        # What is entered first is put in its place last: labels.json, when all others are there.
        facts, others = (
            stack.enter_context(replacing(folder / n)) for n in ("labels.json", "left_out.jsonl")
        )
        parts = {
            split: stack.enter_context(replacing(folder / f"{split}.jsonl")) for split in SPLITS
        }
        files = {
            split: stack.enter_context(p.open("w", encoding="utf-8")) for split, p in parts.items()
        }
        for target in targets:
            files[target.split].write(target.model_dump_json(by_alias=True) + "\n")
            counts[target.split] += 1
        with others.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(one), ensure_ascii=False)}\n" for one in left_out)
        told = {"targets": {split: counts[split] for split in SPLITS}, **about()}
        facts.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return counts


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    one = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in one["loc"])
    told = one["msg"].removeprefix("Value error, ")
    return f"{where}: {told}" if where else told
