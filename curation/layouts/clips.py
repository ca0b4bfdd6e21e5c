"""The clips that are exported: those that a curation keeps, or a split of a dataset."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from captioner.containers import open_container, video_stream
from captioner.schema import ShotCaption
from captioner.video import UnreadableVideoError
from curation.dataset import MANIFEST, open_shards, read_manifest, read_shard
from curation.ledger_columns import read_columns
from curation.output import Output

CaptionKind = Literal["t2v", "i2v", "structured"]
"""Prose for text-to-video, prose for image-to-video, or SkyCaptioner's JSON on one line."""


class ExportError(ValueError):
    """An export that cannot be made; the message says what to do."""


class Media(Protocol):
    """Where a clip's MP4 is."""

    @property
    def size(self) -> int:
        """Bytes. Raises OSError."""

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""

    def is_at(self, target: Path) -> bool:
        """Whether `target` is this video already."""

    def place(self, target: Path) -> None:
        """Put it at `target`, where nothing is. Raises OSError."""


@dataclass(frozen=True)
class FileMedia:
    """A video that is a file."""

    path: Path

    @property
    def size(self) -> int:
        """Bytes. Raises OSError."""
        return self.path.stat().st_size

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        return self.path.read_bytes()

    def is_at(self, target: Path) -> bool:
        """Whether `target` is the same file, or a copy that has its size and time."""
        try:
            ours, theirs = self.path.stat(), target.stat()
        except OSError:
            return False
        same = (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
        return same or os.path.samestat(ours, theirs)

    def place(self, target: Path) -> None:
        """Another name of the same file; a copy where that cannot be, on another disk."""
        try:
            target.hardlink_to(self.path)
        except OSError:
            shutil.copy2(self.path, target)


@dataclass(frozen=True)
class ShardMedia:
    """A video of `size` bytes inside a dataset's shard: `row` of its row group `group`, from 0."""

    shard: Path
    group: int
    row: int
    size: int

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        with pq.ParquetFile(self.shard) as file:
            column = file.read_row_group(self.group, columns=["video.bytes"], use_threads=False)
        content = column["video"][self.row]["bytes"].as_py()
        return bytes(content)

    def is_at(self, target: Path) -> bool:
        """Whether `target` holds the same bytes."""
        known = target.is_file() and target.stat().st_size == self.size
        return known and target.read_bytes() == self.read()

    def place(self, target: Path) -> None:
        """Write it out."""
        target.write_bytes(self.read())


@dataclass(frozen=True)
class Clip:
    """What layouts tell of a clip. `caption` is of the kind that was asked for, "" without one.

    `frames`, `fps`, `width` and `height` in pixels and `seconds` are the video's own; `start` and
    `end` are seconds of its source; `camera` are the moves, the strongest first.
    """

    clip_id: str
    media: Media
    caption: str
    structured: str
    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    source: str
    start: float
    end: float
    camera: tuple[str, ...]
    concept: str
    licence: str


class Skipped(BaseModel):
    """A clip that is not exported, and why."""

    model_config = ConfigDict(frozen=True)
    clip_id: str
    reason: str


def find_clips(source: Path, kind: CaptionKind, split: str | None) -> list[Clip | Skipped]:
    """The clips of a dataset, or of the output folder of a curation, in order of clip_id.

    A dataset gives its `split`, "train" by default. Raises ExportError, DatasetError and
    LedgerError.
    """
    if (source / MANIFEST).is_file():
        found = _of_dataset(source, kind, split)
    elif split is not None:
        raise ExportError(f"{source} is no dataset and has no split {split!r}: leave the split out")
    else:
        found = _of_curation(source, kind)
    return sorted(found, key=lambda clip: clip.clip_id)


_COLUMNS = (
    *("clip_id", "source", "start", "end", "source_facts", "motion_camera", "concept"),
    *("caption", "caption_t2v", "caption_i2v"),
)


def _of_curation(folder: Path, kind: CaptionKind) -> Iterator[Clip | Skipped]:
    ledger = Output(folder).ledger
    parts = ledger.parts()
    if not parts:
        raise ExportError(f"{folder} is neither a dataset nor the output of jobs.curate")
    for part in parts:
        if ledger.state_of(part.stem) is None:
            raise ExportError(f"{part} cannot be read or is of another version: curate again")
    table, _ = read_columns(parts, [*_COLUMNS, "decision", "clip"])
    rows = [row for row in table.to_pylist() if row["decision"] == "keep"]
    if rows and not any(row["clip"] for row in rows):
        raise ExportError(f"{folder} has no clips, only rows: curate with --clips")
    yield from _from_files([(row, row["clip"]) for row in rows], folder, kind)


def _of_dataset(folder: Path, kind: CaptionKind, split: str | None) -> Iterator[Clip | Skipped]:
    manifest = read_manifest(folder)
    if manifest.layout == "virtual":
        raise ExportError(f"{folder} is virtual and has no clips: export the curation's output")
    if split is None and "train" not in manifest.splits:
        raise ExportError(f"name a split of {folder}: {', '.join(manifest.splits)}")
    for shard in open_shards(folder, manifest, split or "train"):
        path = folder / shard.file
        columns = [*_COLUMNS, "frames", "fps", "video_width", "video_height"]
        columns += ["video_bytes", "video.path"]
        rows = read_shard(path, columns).to_pylist()
        if manifest.layout == "files":
            yield from _from_files([(row, row["video"]["path"]) for row in rows], folder, kind)
            continue
        for row, place in zip(rows, places_of(path), strict=True):
            yield _from_shard(row, ShardMedia(path, *place, row["video_bytes"]), kind)


def places_of(shard: Path) -> Iterator[tuple[int, int]]:
    """Row group and row in it, of each row of a shard."""
    metadata = pq.read_metadata(shard)
    for group in range(metadata.num_row_groups):
        for row in range(metadata.row_group(group).num_rows):
            yield group, row


def _from_files(
    rows: Sequence[tuple[Mapping[str, Any], str | None]], folder: Path, kind: CaptionKind
) -> Iterator[Clip | Skipped]:
    """The clips of rows with the name of their file; FFmpeg opens them outside of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda row: _from_file(row[0], folder, row[1], kind), rows)


def _from_file(
    row: Mapping[str, Any], folder: Path, name: str | None, kind: CaptionKind
) -> Clip | Skipped:
    clip_id = row["clip_id"]
    if not name:
        return Skipped(clip_id=clip_id, reason="it has no file")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return Skipped(clip_id=clip_id, reason="its file leads out of the folder")
    if not path.is_file():
        return Skipped(clip_id=clip_id, reason="its file is missing")
    try:
        shape = _probe(path)
    except (av.FFmpegError, UnicodeError, ValueError, UnreadableVideoError, OSError):
        return Skipped(clip_id=clip_id, reason="its file cannot be read as video")
    if shape is None:
        return Skipped(clip_id=clip_id, reason="its file is cut short")
    return _clip(row, FileMedia(path), shape, kind)


def _from_shard(row: Mapping[str, Any], media: ShardMedia, kind: CaptionKind) -> Clip | Skipped:
    seconds = (row["end"] or 0.0) - (row["start"] or 0.0)
    size = row["video_width"], row["video_height"]
    return _clip(row, media, _Shape(row["frames"], row["fps"], *size, seconds), kind)


@dataclass(frozen=True)
class _Shape:
    frames: int
    fps: float
    width: int
    height: int
    seconds: float


def _probe(path: Path) -> _Shape | None:
    """What a file's header says; None where the file ends before its last frame.

    Raises av.FFmpegError, UnicodeError, ValueError, UnreadableVideoError or OSError.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        frames = stream.index_entries
        if len(frames) and frames[-1].pos + frames[-1].size > path.stat().st_size:
            return None
        rate, base = stream.average_rate or Fraction(0), stream.time_base or Fraction(0)
        seconds = float((stream.duration or 0) * base)
        if not (stream.frames and rate and seconds):
            raise ValueError("no frames, rate or duration in the header")
        width, height = stream.codec_context.width, stream.codec_context.height
        return _Shape(stream.frames, float(rate), width, height, seconds)


def _clip(row: Mapping[str, Any], media: Media, shape: _Shape, kind: CaptionKind) -> Clip | Skipped:
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,100}", row["clip_id"]):
        return Skipped(clip_id=row["clip_id"], reason="its clip_id makes no file name")
    structured = ShotCaption.model_validate(row["caption"]).to_json() if row["caption"] else ""
    captions = {"t2v": row["caption_t2v"], "i2v": row["caption_i2v"], "structured": structured}
    facts = {fact["name"]: fact["value"] for fact in row["source_facts"] or ()}
    return Clip(
        clip_id=row["clip_id"],
        media=media,
        caption=" ".join((captions[kind] or "").split()),
        structured=structured,
        frames=shape.frames,
        fps=shape.fps,
        width=shape.width,
        height=shape.height,
        seconds=shape.seconds,
        source=row["source"],
        start=row["start"] or 0.0,
        end=row["end"] or 0.0,
        camera=tuple(row["motion_camera"] or ()),
        concept=row["concept"] or "",
        licence=facts.get("licence") or facts.get("license") or "",
    )
