"""The frames of the training clips, decoded once and kept as inference gets them.

Each clip's frames are picked by the same policy and packed by the same code as on their way to the
production engine (`captioner.policies`, `captioner.handover`), so that training sees the pixels
that inference sees. They lie in Arrow files of up to `SHARD` clips, a record batch a clip: reading
one touches only its own bytes. A file is written whole or not at all, and not written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from captioner.decode import open_video
from captioner.frames import ClipSampler, FrameBatch
from captioner.handover import PackedVideo, pack, unpack
from captioner.policies import POLICIES, ModelVideo
from captioner.video import UnreadableVideoError
from curation.ledger import replacing
from finetune.targets import Target

SHARD = 512
"""Clips a file: 16 frames of 532 x 280 as JPEG are 0.4 MB (`captioner.handover`), so 0.2 GB."""

Shape = tuple[int, int, int]
"""Frames, and their height and width in pixels."""

_VERSION = "2"
_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("frames", pa.list_(pa.binary())),
        ("times", pa.list_(pa.float64())),
        ("fps", pa.float64()),
        ("total_frames", pa.int64()),
        ("indices", pa.list_(pa.int64())),
        ("shape", pa.list_(pa.int64())),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Clips:
    """The frames of targets by `clip_id`: their file and number in it, their count, height and
    width; and the targets that have none, with the reason."""

    places: Mapping[str, tuple[Path, int]]
    shapes: Mapping[str, Shape]
    unreadable: Mapping[str, str]

    def packed(self, clip_id: str) -> PackedVideo:
        """The frames of a clip as they are handed to an engine. Raises KeyError."""
        path, number = self.places[clip_id]
        with pa.memory_map(str(path)) as file:
            row = pa.ipc.open_file(file).get_batch(number).to_pylist()[0]
        return PackedVideo(
            tuple(row["frames"]),
            tuple(row["times"]),
            row["fps"],
            row["total_frames"],
            tuple(row["indices"]),
        )

    def video(self, clip_id: str) -> ModelVideo:
        """The frames of a clip, as an engine gets them. Raises KeyError."""
        return unpack(self.packed(clip_id))


def prepare(targets: Sequence[Target], base: Path, folder: Path, policy: str) -> Clips:
    """Decode what is not in `folder` yet. Videos of targets are relative to `base`.

    A clip that cannot be decoded is in `Clips.unreadable`. Raises OSError where the folder cannot
    be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[Path, int]] = {}
    shapes: dict[str, Shape] = {}
    unreadable: dict[str, str] = {}
    for shard in _shards(targets):
        path = folder / f"{_key(shard, base, policy)}.arrow"
        if not path.is_file():
            _write(path, _rows(shard, base, policy))
        for number, (clip_id, shape, error) in enumerate(_read(path)):
            if error is None:
                places[clip_id], shapes[clip_id] = (path, number), shape
            else:
                unreadable[clip_id] = error
    return Clips(places, shapes, unreadable)


def _shards(targets: Sequence[Target]) -> Iterator[Sequence[Target]]:
    """In order of their videos, so that each is decoded once."""
    ordered = sorted(targets, key=lambda target: (target.video, target.start or 0.0))
    for start in range(0, len(ordered), SHARD):
        yield ordered[start : start + SHARD]


def _key(shard: Sequence[Target], base: Path, policy: str) -> str:
    """Changes with whatever the frames depend on."""
    told = [[t.clip_id, t.video, t.start, t.end, t.sha256] for t in shard]
    text = json.dumps([_VERSION, policy, str(base), told])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _rows(shard: Sequence[Target], base: Path, policy: str) -> Iterator[dict[str, object]]:
    by_video: dict[str, list[Target]] = {}
    for target in shard:
        by_video.setdefault(target.video, []).append(target)
    for video, group in by_video.items():
        try:
            batches = read_ranges(base / video, [(t.start, t.end) for t in group])
        except (UnreadableVideoError, OSError) as error:
            batches = [error] * len(group)
        for target, batch in zip(group, batches):
            yield _row(target.clip_id, batch, policy)


def _row(clip_id: str, batch: FrameBatch | Exception, policy: str) -> dict[str, object]:
    if isinstance(batch, Exception):
        return {"clip_id": clip_id, "error": f"{type(batch).__name__}: {batch}"}
    video = POLICIES[policy](batch)
    packed = pack(video)
    return {
        "clip_id": clip_id,
        "frames": packed.frames,
        "times": packed.times,
        "fps": packed.fps,
        "total_frames": packed.total_frames,
        "indices": packed.indices,
        "shape": video.frames.shape[:3],
        "error": None,
    }


def read_ranges(
    path: Path, ranges: Sequence[tuple[float | None, float | None]]
) -> list[FrameBatch | Exception]:
    """What is kept of each range of a video, in seconds (None: its ends), by one decode.

    As `curation.scan` keeps of a shot of these bounds. A range without a frame, or beyond what
    could be decoded, gets the reason. Raises UnreadableVideoError.
    """
    with open_video(path) as video:
        base = video.info.time_base
        parts = [_Part(ClipSampler(video.info.fps), *bounds) for bounds in ranges]
        problem: Exception | None = None
        try:
            for frame in video.frames():
                start, end = float(frame.pts * base), float((frame.pts + frame.duration) * base)
                for part in parts:
                    if part.counts(start, end):
                        part.sampler.offer(frame)
        except UnreadableVideoError as error:
            problem = error
    return [part.batch(problem) for part in parts]


class _Part:
    """A range of a video while it is decoded."""

    def __init__(self, sampler: ClipSampler, start: float | None, end: float | None) -> None:
        self.sampler = sampler
        self.start, self.end = start, end
        self.first, self.last = 0.0, 0.0
        self._whole: FrameBatch | None = None

    def counts(self, start: float, end: float) -> bool:
        """Whether a frame from `start` to `end` seconds is inside; remembers that it is."""
        # A frame belongs where most of it is: times that went through a text file are rounded.
        middle = (start + end) / 2
        if middle < (self.start or float("-inf")):
            return False
        if middle >= (self.end or float("inf")):
            self._close()
            return False
        self.first = start if self.sampler.seen == 0 else self.first
        self.last = end
        return True

    def batch(self, problem: Exception | None) -> FrameBatch | Exception:
        if problem is None or self.last >= (self.end or float("inf")):
            self._close()
        if self._whole is not None:
            return self._whole
        return problem or UnreadableVideoError(f"no frame from {self.start} to {self.end} s")

    def _close(self) -> None:
        """Take what is kept, once: until then the sampler holds frames as they were decoded."""
        if self._whole is None and self.sampler.seen:
            self._whole = self.sampler.batch(self.first, self.last)


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with replacing(path) as part, pa.ipc.new_file(str(part), _SCHEMA) as writer:
        for row in rows:
            writer.write_batch(pa.RecordBatch.from_pylist([dict(row)], _SCHEMA))


def _read(path: Path) -> Iterator[tuple[str, Shape, str | None]]:
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(["clip_id", "shape", "error"])
            row = batch.to_pylist()[0]
            frames, height, width = row["shape"] or (0, 0, 0)
            yield row["clip_id"], (frames, height, width), row["error"]
