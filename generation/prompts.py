"""Prompts: captions of a dataset or of a curation, each concept by its share.

What is chosen depends on the clips, the seed and the count alone; within a concept a larger count
goes on with what a smaller one chose.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from captioner.schema import ShotCaption
from curation.clip_frames import Choice, Range, Video, read_frames
from curation.dataset import (
    MANIFEST,
    DatasetError,
    Layout,
    open_shards,
    read_manifest,
    read_shard,
)
from curation.layouts.clips import FileMedia, Media, ShardMedia, places_of
from curation.ledger_columns import read_columns
from curation.output import Output
from generation.config import Task
from generation.frames import GenerationOptionError
from generation.model import Condition, Prompt

By = Literal["concept", "none"]

CAPTIONED = ("ok", "repaired", "truncated")
"""`caption_status` of clips that have a caption."""

NO_CONCEPT = "none"
"""Concept of clips that were not balanced."""

_CAPTION = {"t2v": "caption_t2v", "i2v": "caption_i2v", "df": "caption_t2v"}
"""SkyReels-V2's README.md: diffusion forcing wants prompts as for text to video, also where a
first frame is given."""


@dataclass(frozen=True)
class RealClip:
    """Where a clip's video is: a file or a row of its own, or a part of its source."""

    media: Media | None
    source: Path
    part: Range | None

    def video(self) -> tuple[Video, Range | None]:
        """What `read_frames` reads. Raises OSError."""
        if self.media is None:
            return self.source, self.part
        return (self.media.path if isinstance(self.media, FileMedia) else self.media.read()), None


@dataclass(frozen=True)
class Asked:
    """A prompt and the real clip that it was written for."""

    prompt: Prompt
    clip: RealClip


@dataclass(frozen=True)
class Chosen:
    """Prompts in their order, how many `clips` there are, and how many `without` a caption."""

    asked: tuple[Asked, ...]
    clips: int
    without: int

    @property
    def concepts(self) -> dict[str, int]:
        """Prompts by concept."""
        counts: dict[str, int] = defaultdict(int)
        for one in self.asked:
            counts[one.prompt.concept] += 1
        return dict(counts)


def choose(
    source: Path,
    task: Task,
    count: int | None = None,
    by: By = "concept",
    seed: int = 0,
    samples: int = 1,
    split: str | None = None,
) -> Chosen:
    """`count` prompts (None: all) of a dataset, or of the kept clips of a curation.

    By concept, each gets its share, and at least one. `samples` videos of each prompt, each with a
    seed of its own. Raises GenerationOptionError, DatasetError and LedgerError.
    """
    if (count is not None and count < 1) or samples < 1:
        raise GenerationOptionError("ask for at least one prompt, and one sample of each")
    if by not in ("concept", "none"):
        raise GenerationOptionError(f"by {by!r} is none of concept, none")
    rows = _Rows(source, split)
    groups: dict[str, list[str]] = defaultdict(list)
    clips = without = 0
    for row in rows.facts(_CAPTION[task]):
        clips += 1
        if row["caption_status"] not in CAPTIONED or not row["said"]:
            without += 1
            continue
        groups[row["concept"] or NO_CONCEPT if by == "concept" else ""].append(row["clip_id"])
    if not groups:
        raise GenerationOptionError(
            f"none of the {clips} clips of {source} has a caption for {task}: caption them first"
        )
    numbers = shares({name: len(ids) for name, ids in groups.items()}, count)
    wanted = [
        clip_id
        for name, ids in sorted(groups.items())
        for clip_id in _shuffled(ids, f"{seed}:{name}")[: numbers[name]]
    ]
    found = {row["clip_id"]: (row, clip) for row, clip in rows.read(set(wanted))}
    asked = [
        Asked(_prompt(*found[clip_id], _CAPTION[task], seed, sample), found[clip_id][1])
        for sample in range(samples)
        for clip_id in wanted
    ]
    return Chosen(tuple(asked), clips, without)


def shares(sizes: Mapping[str, int], count: int | None) -> dict[str, int]:
    """How many of each group, `count` together: by size, at least one, and no more than it has.

    Raises GenerationOptionError where there are more groups than `count`.
    """
    total = sum(sizes.values())
    if count is None or count >= total:
        return dict(sizes)
    if count < len(sizes):
        raise GenerationOptionError(
            f"{count} prompts are too few for {len(sizes)} concepts: ask for at least "
            f"{len(sizes)}, or for any with --by none"
        )
    numbers = {name: max(1, math.floor(size * count / total)) for name, size in sizes.items()}
    # One at a time from the group that has most beyond its share, or to the one that lacks most.
    while (sum(numbers.values())) != count:
        lacks = {name: size * count / total - numbers[name] for name, size in sizes.items()}
        if sum(numbers.values()) > count:
            most = min((n for n in sizes if numbers[n] > 1), key=lambda n: (lacks[n], n))
            numbers[most] -= 1
        else:
            least = max((n for n in sizes if numbers[n] < sizes[n]), key=lambda n: (lacks[n], n))
            numbers[least] += 1
    return numbers


def read_condition(clip: RealClip, width: int, height: int, last: bool) -> Condition:
    """The first frame of a real clip, and the `last`, covering the size and cut at the centre.

    Raises UnreadableVideoError, OSError and pa.ArrowException.
    """
    video, part = clip.video()

    def frame(at: float) -> Any:
        # A thousandth of a second is less than any frame lasts.
        return read_frames(video, Choice(1, 1000.0, at), (width, height), part)[0]

    return Condition(frame(0.0), frame(1.0) if last else None)


def _shuffled(ids: Sequence[str], seed: str) -> list[str]:
    shuffled = sorted(ids)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - no secret
    return shuffled


def _prompt(row: Mapping[str, Any], clip: RealClip, column: str, seed: int, sample: int) -> Prompt:
    digest = hashlib.sha256(f"{seed}:{row['clip_id']}:{sample}".encode()).digest()
    return Prompt(
        clip_id=row["clip_id"],
        source_sha256=row["source_sha256"],
        concept=row["concept"] or NO_CONCEPT,
        text=" ".join(row[column].split()),
        caption=ShotCaption.model_validate(row["caption"]),
        seed=int.from_bytes(digest[:4]),
    )


# --- rows of either kind --------------------------------------------------------------------------

_FACTS = ("clip_id", "concept", "caption_status")
_WHOLE = (
    *("clip_id", "source_sha256", "source", "concept", "caption", "caption_t2v", "caption_i2v"),
    *("start_pts", "end_pts", "time_base", "crop"),
)


class _Rows:
    """The rows of a dataset's split, or the kept ones of a curation; videos are not read."""

    def __init__(self, folder: Path, split: str | None) -> None:
        self._folder = folder
        self._layout: Layout | None = None
        if (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            if split is None and "train" not in manifest.splits:
                raise GenerationOptionError(
                    f"name a split of {folder}: {', '.join(manifest.splits)}"
                )
            shards = open_shards(folder, manifest, split or "train")
            self._parts = [folder / shard.file for shard in shards]
            self._layout = manifest.layout
            return
        if split is not None:
            raise GenerationOptionError(f"{folder} is no dataset and has no split {split!r}")
        self._parts = Output(folder).ledger.parts()
        if not self._parts:
            raise GenerationOptionError(
                f"{folder} is neither a dataset nor the output of jobs.curate"
            )

    def facts(self, caption: str) -> Iterator[dict[str, Any]]:
        """Of each clip its id, concept and status, and whether it is `said` something by
        `caption`."""
        for part in self._parts:
            for row in self._table(part, [*_FACTS, caption]).to_pylist():
                said = bool((row.pop(caption) or "").strip())
                yield {**row, "said": said}

    def read(self, wanted: set[str]) -> Iterator[tuple[dict[str, Any], RealClip]]:
        """The wanted clips, whole."""
        for part in self._parts:
            places = list(places_of(part)) if self._layout == "embedded" else None
            extra = {None: ["clip"], "virtual": []}.get(self._layout, ["video.path", "video_bytes"])
            for number, row in enumerate(self._table(part, [*_WHOLE, *extra]).to_pylist()):
                if row["clip_id"] in wanted:
                    yield row, self._clip(part, row, places[number] if places else None)

    def _table(self, part: Path, columns: list[str]) -> pa.Table:
        if self._layout is not None:
            return read_shard(part, columns)
        table, _ = read_columns([part], [*columns, "decision"])
        return table.filter(pc.equal(table["decision"], "keep"))

    def _clip(self, part: Path, row: Mapping[str, Any], place: tuple[int, int] | None) -> RealClip:
        if place is not None:
            return RealClip(ShardMedia(part, *place, row["video_bytes"]), Path(), None)
        name = row["video"]["path"] if self._layout == "files" else row.get("clip")
        if name:
            path = self._folder / name
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise DatasetError(f"the file {name!r} of a clip leads out of {self._folder}")
            return RealClip(FileMedia(path), path, None)
        crop = row["crop"]
        bounds = Range(
            row["start_pts"],
            row["end_pts"],
            Fraction(row["time_base"]),
            (crop[0], crop[1], crop[2], crop[3]) if crop else None,
        )
        return RealClip(None, Path(row["source"]), bounds)
