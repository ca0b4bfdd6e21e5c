"""The clips that people look at: of an output folder of ours, or of a test set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from captioner.files import first_line
from captioner.schema import ShotCaption
from curation.sources import VIDEO_SUFFIXES
from eval.predictions import pair, read_predictions
from eval.testset import Clip, Line, TestsetError, read_testset, sha256, truths


@dataclass(frozen=True)
class ReviewClip:
    """A clip to look at: the seconds from `start` to `end` of `file`, None for all of it.

    `reference` is the clip as a test set has it, `origin` the file that it is of; `caption` is what
    is said of it, if anything is. `is_hashed`: the file has to have the reference's sha256.
    """

    reference: Clip
    origin: Path
    file: Path
    start: float | None
    end: float | None
    caption: ShotCaption | None = None
    is_hashed: bool = False

    @property
    def clip_id(self) -> str:
        """Its name."""
        return self.reference.clip_id

    @property
    def title(self) -> str:
        """Where it comes from, in words."""
        name = Path(self.reference.path).name
        start, end = self.reference.start, self.reference.end
        return name if start is None or end is None else f"{name}, {start:.2f} to {end:.2f} s"

    @property
    def is_gone(self) -> bool:
        """Whether its file is not there."""
        return not self.file.is_file()

    @property
    def problem(self) -> str:
        """Why its video cannot be shown or trusted, in words; empty when all is well."""
        if self.file.suffix.lower() not in VIDEO_SUFFIXES:
            return f"{self.file.name} has no name of a video"
        try:
            stat = self.file.stat()
            if not self.file.is_file():
                return f"{self.file.name} is no file"
            if self.is_hashed and _hash(self.file, stat.st_mtime_ns) != self.reference.sha256:
                return f"{self.file.name} has changed since the test set was made"
        except OSError as error:
            return f"{self.file.name}: {error.strerror}"
        return ""


@lru_cache(maxsize=4096)
def _hash(file: Path, _changed: int) -> str:
    return sha256(file)


def kept(folder: Path) -> list[str]:
    """The clips that a batch consists of: those that the ledger keeps. Raises TestsetError."""
    ids: list[str] = []
    for table in _tables(folder, ["clip_id", "decision"]):
        ids += table.filter(pc.equal(table["decision"], "keep"))["clip_id"].to_pylist()
    return ids


def clips_of_ledger(folder: Path, only: Collection[str] | None = None) -> list[ReviewClip]:
    """The clips of an output folder (`only` these), by source and time, without failed ones.

    A clip's own file is shown where it was written, else its part of the source. Raises
    TestsetError when there is no ledger, OSError.
    """
    wanted = None if only is None else pa.array(sorted(only), pa.string())
    found = []
    for table in _tables(folder, _COLUMNS):
        if wanted is not None:
            table = table.filter(pc.is_in(table["clip_id"], wanted))
        table = table.filter(pc.is_valid(table["frames"]))
        rows = table.to_pylist()
        found += [_of_row(folder, row) for row in rows if row["decision"] != "error"]
    return sorted(found, key=lambda one: (one.reference.path, one.reference.start or 0.0))


_COLUMNS = [
    *("clip_id", "source", "source_sha256", "start", "end", "frames", "decision", "clip", "caption")
]


def _tables(folder: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    parts = sorted((folder if folder.name == "ledger" else folder / "ledger").glob("*.parquet"))
    if not parts:
        raise TestsetError(
            [f"{folder}: no ledger in it; name the output of jobs.curate or caption"]
        )
    for part in parts:
        try:
            yield pq.read_table(part, columns=list(columns)).select(list(columns))
        except (pa.ArrowException, KeyError) as error:
            told = first_line(error)[:80]
            raise TestsetError([f"{part}: no ledger of this version: {told}"]) from None


def _of_row(folder: Path, row: dict[str, Any]) -> ReviewClip:
    reference = Clip(
        clip_id=row["clip_id"],
        path=row["source"],
        sha256=row["source_sha256"],
        start=row["start"],
        end=row["end"],
    )
    try:
        caption = ShotCaption.model_validate(row["caption"]) if row["caption"] else None
    except ValidationError as error:
        raise TestsetError([f"{folder}: the caption of {row['clip_id']}: {error}"]) from None
    source = Path(row["source"])
    if row["clip"]:
        root = folder.parent if folder.name == "ledger" else folder
        own = root / row["clip"]
        # A ledger from elsewhere must not make the page show other files as its clips.
        if own.resolve().is_relative_to(root.resolve()) and own.is_file():
            return ReviewClip(reference, source, own, None, None, caption)
    return ReviewClip(reference, source, source, row["start"], row["end"], caption)


def clips_of_testset(path: Path, captions: Path | None) -> tuple[list[ReviewClip], list[Line]]:
    """The clips of a test set, with the captions of an output folder or file where given, and the
    set's lines. Raises TestsetError, OSError."""
    lines = read_testset(path)
    found = truths(lines)
    said = pair(found, read_predictions(captions)).predictions if captions else {}
    clips = []
    for one in found:
        caption = said[one.clip.clip_id].caption if one.clip.clip_id in said else None
        clip = one.clip
        clips.append(ReviewClip(clip, one.file, one.file, clip.start, clip.end, caption, True))
    return clips, lines
