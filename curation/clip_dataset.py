"""ClipDataset: a published dataset as a PyTorch training loop wants it.

    clips = ClipDataset("DATASET", task={"t2v": 0.7, "structured": 0.3}, buckets=buckets)
    for batch in clips.loader(workers=2):  # batch["video"]: (B, C, T, H, W)
        ...

Which clips there are, and which bucket each is in, is known when the dataset is opened, and so is
what is left out and why (`left_out`): an epoch's length never changes in silence. Whatever is drawn
(captions, drop-out, where a long clip begins) depends on seed, epoch and clip alone, so that any
number of workers, and a run that was resumed, sees the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from captioner.decode import read_clip
from captioner.decode_pyav import Position, open_pyav
from captioner.files import first_line
from captioner.frames import ClipSampler, FrameBatch
from captioner.fusion import i2v, t2v
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from captioner.video import UnreadableVideoError
from curation.buckets import Bucket, Fit, target_fps
from curation.clip_frames import Choice, Range, Video, read_frames
from curation.dataset import (
    DatasetError,
    Layout,
    open_shards,
    read_manifest,
    read_shard,
    row_groups,
)
from curation.ledger import replacing

if TYPE_CHECKING:
    from captioner import Captioner
    from curation.clip_loader import ClipLoader

Task = Literal["t2v", "i2v", "structured", "empty"]
"""Prose for text-to-video or image-to-video, the structured caption as SkyCaptioner writes it, or
no text at all, as classifier-free guidance trains."""

OnError = Literal["raise", "skip", "replace"]

DROPOUT = 0.1
"""Rate at which appearance, position (of each subject) and lighting are left out of a caption
(SkyReels-V2, skycaptioner_v1/scripts/vllm_fusion_caption.py: `random() > 0.9`)."""

_TRIES = 8
"""Clips that are tried in the place of one that fails."""


class ClipError(ValueError):
    """A clip that cannot be had, and why."""


class Sample(TypedDict):
    """A clip: `video` (C, T, H, W), uint8 0 to 255 or float32 -1 to 1, RGB, a torch tensor where
    torch is installed and else a NumPy array; `fps` the rate of its frames; `replaces` the clip_id
    of the clip in whose place it is."""

    video: Any
    caption: str
    task: str
    clip_id: str
    fps: float
    replaces: str | None


@dataclass(frozen=True)
class Failure:
    """A clip that could not be had, in the place of its sample."""

    clip_id: str
    error: str


@dataclass(frozen=True)
class Draw:
    """Which clip, in which epoch."""

    index: int
    epoch: int = 0


class ClipDataset:
    """The clips of one split of a dataset, map-style; `loader` gives batches.

    `task` is what captions are for, or probabilities by task. `buckets` are the lengths and sizes
    that clips are brought to, `fit` what may be lost on the way; without buckets clips keep their
    size and length. `fps` is `paper` (of 16 and 24 the rate that wastes least, see
    curation.buckets), a rate, or None for frames spread over the whole clip. `dtype` is uint8 or
    float32. `on_error`: what becomes of clips that no bucket takes, have no caption or do not
    decode: `raise`, `skip` (counted) or, when decoding, `replace` by another of the same bucket
    (counted). `captioner` captions clips that have no caption, once: results are kept in
    `caption_cache`. `sources` is where relative paths of sources begin (virtual datasets).

    Raises DatasetError for a dataset that cannot be read, ClipError for clips where `on_error` is
    raise, ValueError for options that cannot be.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        *,
        task: Task | Mapping[Task, float] = "t2v",
        buckets: Bucket | Sequence[Bucket] | None = None,
        fit: Fit | None = None,
        fps: float | Literal["paper"] | None = "paper",
        dtype: Literal["uint8", "float32"] = "uint8",
        dropout: float = DROPOUT,
        on_error: OnError = "raise",
        captioner: Captioner | None = None,
        caption_cache: Path | None = None,
        sources: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        self.tasks = _probabilities(task)
        self.buckets = (buckets,) if isinstance(buckets, Bucket) else tuple(buckets or ())
        if buckets is not None and not self.buckets:
            raise ValueError("an empty list of buckets takes no clip: leave it out, or name some")
        self.fit = fit or Fit()
        self.fps = fps
        self.dtype = _one_of("dtype", dtype, ("uint8", "float32"))
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, not {dropout}")
        self.dropout = dropout
        self.on_error: OnError = _one_of("on_error", on_error, ("raise", "skip", "replace"))  # type: ignore[assignment]
        self.seed = seed
        self._live = _LiveCaptions(captioner, caption_cache) if captioner else None

        manifest = read_manifest(self.folder)
        shards = open_shards(self.folder, manifest, split)
        self._rows = _Rows([self.folder / s.file for s in shards], manifest.layout, sources)
        table = self._rows.facts()
        if len(table) != sum(shard.rows for shard in shards):
            raise DatasetError(f"{self.folder} has other rows than its manifest: publish it anew")
        self.left_out: Counter[str] = Counter()
        """Clips that are in no epoch, by reason."""
        self._select(table)

    def _select(self, table: pa.Table) -> None:
        """Choose the clips of an epoch and the bucket of each."""
        rows, buckets = [], []
        place = {bucket: i for i, bucket in enumerate(self.buckets)}
        known: dict[tuple[Any, ...], Bucket | str | None] = {}
        columns = ("clip_id", "frames", "fps", "start", "end", "video_width", "video_height")
        values = zip(*(table[name].to_pylist() for name in columns))
        captioned = self._captioned(table)
        for row, (clip_id, frames, fps, start, end, width, height) in enumerate(values):
            if not captioned[row]:
                self._leave_out(clip_id, "no caption", "caption it, or give a captioner")
                continue
            if not fps or not frames:
                self._leave_out(clip_id, "frame rate or length unknown", "curate it again")
                continue
            key = (self._available(frames, fps, end - start), width, height)
            if key not in known:
                known[key] = self.fit.place(self.buckets, *key) if self.buckets else None
            bucket = known[key]
            if isinstance(bucket, str):
                self._leave_out(clip_id, bucket, "add a bucket, or change `fit`")
                continue
            rows.append(row)
            buckets.append(-1 if bucket is None else place[bucket])
        self._index: NDArray[np.int64] = np.array(rows, np.int64)
        self._bucket: NDArray[np.int64] = np.array(buckets, np.int64)
        if not rows:
            why = (
                ", ".join(f"{reason}: {n}" for reason, n in self.left_out.items()) or "it is empty"
            )
            raise ClipError(f"no clip of {self.folder}, split {self.split}, is left ({why})")

    def _captioned(self, table: pa.Table) -> list[bool]:
        if self._live is not None or set(self.tasks) == {"empty"}:
            return [True] * len(table)
        good = ("ok", "repaired", "truncated")
        return [status in good for status in table["caption_status"].to_pylist()]

    def _available(self, frames: int, fps: float, seconds: float) -> int:
        """Frames that a clip has at the rate that it is read at."""
        rate = self._rate(fps)
        return frames if rate is None else math.floor(seconds * rate + 1e-6)

    def _rate(self, fps: float) -> float | None:
        return target_fps(fps) if self.fps == "paper" else self.fps

    def _leave_out(self, clip_id: str, reason: str, remedy: str) -> None:
        if self.on_error == "raise":
            raise ClipError(f"clip {clip_id}: {reason}: {remedy}, or say on_error='skip'")
        self.left_out[reason] += 1

    def __len__(self) -> int:
        return len(self._index)

    def clip_id(self, index: int) -> str:
        """The clip_id of a clip."""
        return self._rows.clip_id(int(self._index[index]))

    def bucket(self, index: int) -> Bucket | None:
        """The bucket of a clip; None without buckets."""
        place = int(self._bucket[index])
        return self.buckets[place] if place >= 0 else None

    @property
    def bucket_numbers(self) -> NDArray[np.int64]:
        """(N,) place of each clip's bucket in `buckets`, -1 without buckets."""
        return self._bucket

    def fingerprint(self) -> str:
        """Changes when the clips of an epoch, or their order, may be others."""
        known = (self._rows.identity(), self.split, self.buckets, self.fps, self.fit, self.seed)
        chosen = self._index.tobytes() + self._bucket.tobytes()
        return hashlib.sha256(repr(known).encode() + chosen).hexdigest()[:16]

    def __getitem__(self, draw: int | Draw) -> Sample | Failure:
        """A clip; with on_error='skip', a Failure where it cannot be had. Raises ClipError."""
        draw = draw if isinstance(draw, Draw) else Draw(int(draw))
        if not -len(self) <= draw.index < len(self):
            raise IndexError(f"clip {draw.index} of {len(self)}")
        try:
            return self._load(draw)
        except _FAILURES as error:
            failed = self.clip_id(draw.index)
            if self.on_error == "raise":
                raise ClipError(f"clip {failed}: {_line(error)}") from error
            if self.on_error == "skip":
                return Failure(failed, _line(error))
        return self._replacement(draw, failed)

    def _replacement(self, draw: Draw, failed: str) -> Sample:
        """Another clip of the same bucket. Raises ClipError."""
        same = np.flatnonzero(self._bucket == self._bucket[draw.index])
        others = same[same != draw.index]
        rng = random.Random(f"{self.seed}:{draw.epoch}:{failed}")  # noqa: S311 - no secret
        for other in rng.sample(others.tolist(), min(_TRIES, len(others))):
            try:
                return {**self._load(Draw(other, draw.epoch)), "replaces": failed}
            except _FAILURES:
                continue
        raise ClipError(f"clip {failed} failed, and so did {min(_TRIES, len(others))} in its place")

    def _load(self, draw: Draw) -> Sample:
        row = self._rows.row(int(self._index[draw.index]))
        rng = random.Random(f"{self.seed}:{draw.epoch}:{row['clip_id']}")  # noqa: S311 - no secret
        video, part = self._rows.video(row)
        seconds = row["end"] - row["start"]
        bucket, rate = self.bucket(draw.index), self._rate(row["fps"])
        offset = rng.random()
        count = (
            bucket.frames if bucket else max(1, self._available(row["frames"], row["fps"], seconds))
        )
        size = (bucket.width, bucket.height) if bucket else None
        frames = read_frames(video, Choice(count, rate, offset), size, part)
        task = rng.choices(list(self.tasks), list(self.tasks.values()))[0]
        return Sample(
            video=_tensor(frames, self.dtype),
            caption=self._caption(row, task, rng, video, part),
            task=task,
            clip_id=row["clip_id"],
            fps=rate or count / seconds,
            replaces=None,
        )

    def _caption(
        self,
        row: Mapping[str, Any],
        task: Task,
        rng: random.Random,
        video: Video,
        part: Range | None,
    ) -> str:
        if task == "empty":
            return ""
        said = row
        if row["caption"] is None:
            if self._live is None:
                raise ClipError("it has no caption")
            said = self._live.of(row, video, part)
        return caption_text(said, task, rng, self.dropout)

    def loader(self, **options: Any) -> ClipLoader:
        """Batches of this dataset: see curation.clip_loader.ClipLoader for the options."""
        from curation.clip_loader import ClipLoader

        return ClipLoader(self, **options)


_FAILURES = (
    *(UnreadableVideoError, ClipError, DatasetError, ValidationError),
    *(OSError, pa.ArrowException),
)


# --- captions -----------------------------------------------------------------------------------


def caption_text(row: Mapping[str, Any], task: Task, rng: random.Random, dropout: float) -> str:
    """The caption of a row for a task, with fields left out at random.

    Prose of a language model stands as it is: what could be left out of it was left out before it
    was written. Prose by the template is told again without the fields that are left out.
    """
    caption = ShotCaption.model_validate(row["caption"])
    less = drop_fields(caption, rng, dropout)
    if task == "structured":
        return less.to_json()
    lines = tuple(row.get("text_lines") or ())
    if task == "i2v":
        return row["caption_i2v"] or i2v(caption)
    for screen_text in ((), lines):
        if row["caption_t2v"] in (None, "", t2v(caption, screen_text)):
            return t2v(less, screen_text)
    return str(row["caption_t2v"])


def drop_fields(caption: ShotCaption, rng: random.Random, rate: float) -> ShotCaption:
    """The caption without what is drawn: appearance and position of each subject, lighting."""

    def kept(text: str) -> str:
        return "" if rng.random() < rate else text

    subjects = tuple(
        subject.model_copy(
            update={"appearance": kept(subject.appearance), "position": kept(subject.position)}
        )
        for subject in caption.subjects
    )
    return caption.model_copy(update={"subjects": subjects, "lighting": kept(caption.lighting)})


class _LiveCaptions:
    """Captions made when a clip is read, kept by clip and by what the captioner is."""

    def __init__(self, captioner: Captioner, folder: Path | None) -> None:
        from captioner.weights import cache_folder

        identity = json.dumps(captioner.engine.identity(), sort_keys=True)
        name = hashlib.sha256(f"{captioner.engine.name}{identity}".encode()).hexdigest()[:16]
        self._folder = (folder or cache_folder() / "captions") / name
        self._captioner = captioner

    def of(self, row: Mapping[str, Any], video: Video, part: Range | None) -> dict[str, Any]:
        """The caption's columns. Raises ClipError where the captioner finds none."""
        path = self._folder / row["clip_id"][:2] / f"{row['clip_id']}.json"
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if {"caption", "caption_t2v", "caption_i2v", "text_lines"} <= known.keys():
                return known
        except (OSError, ValueError):
            pass
        result = self._captioner.caption(_batch(video, part, row))
        if result.caption is None:
            raise ClipError(f"the captioner failed ({result.error})")
        said = _columns(result)
        with replacing(path) as file:
            file.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
        return said


def _columns(result: CaptionResult) -> dict[str, Any]:
    assert result.caption is not None  # noqa: S101
    return {
        "caption": result.caption.model_dump(mode="json", by_alias=True),
        "caption_t2v": result.t2v,
        "caption_i2v": result.i2v,
        "text_lines": list(result.screen_text),
    }


def _batch(video: Video, part: Range | None, row: Mapping[str, Any]) -> FrameBatch:
    """What a captioner reads of a clip. Raises UnreadableVideoError."""
    if isinstance(video, bytes):
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(video)
            file.flush()
            return read_clip(Path(file.name), threads=1)
    if part is None:
        return read_clip(video, threads=1)
    at = Position(part.start_pts, row["first_frame"] or 0)
    with open_pyav(video, 1, at=at) as source:
        sampler = ClipSampler(source.info.fps)
        for frame in source.frames():
            if frame.pts >= part.end_pts:
                break
            sampler.offer(frame)
        return sampler.batch(row["start"], row["end"])


# --- rows ---------------------------------------------------------------------------------------

_FACTS = (
    *("clip_id", "frames", "fps", "start", "end", "video_width", "video_height"),
    "caption_status",
)
"""What is held in memory of every clip: about 100 bytes."""

_PER_CLIP = (
    *("clip_id", "frames", "fps", "start", "end", "start_pts", "end_pts", "time_base", "source"),
    *("first_frame", "crop", "caption", "caption_t2v", "caption_i2v", "text_lines"),
)

_OPEN_SHARDS = 8
"""Shards that a process holds open: a footer takes a few MB."""

_GROUPS = 2
"""Row groups that a process holds: neighbours come from the same one when nothing is shuffled."""


class _Rows:
    """The rows of shards, by number, read a row group at a time."""

    def __init__(self, paths: Sequence[Path], layout: Layout, sources: Path | None) -> None:
        self._paths = list(paths)
        self._layout = layout
        self._sources = sources
        groups = [(i, g, n) for i, p in enumerate(paths) for g, n in enumerate(_groups(p))]
        self._shard = np.array([i for i, _, _ in groups], np.int64)
        self._group = np.array([g for _, g, _ in groups], np.int64)
        self._end = np.cumsum([n for _, _, n in groups], dtype=np.int64)
        self._ids: pa.ChunkedArray | None = None
        self._files: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict(), "_tables": OrderedDict()}

    def identity(self) -> list[tuple[str, int]]:
        """Names and sizes of the shards."""
        return [(path.name, path.stat().st_size) for path in self._paths]

    def facts(self) -> pa.Table:
        """The columns of `_FACTS`, all rows. Raises DatasetError."""
        tables = [read_shard(path, _FACTS) for path in self._paths]
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in _FACTS})
        table = pa.concat_tables(tables)
        self._ids = table["clip_id"]
        return table

    def clip_id(self, number: int) -> str:
        """The clip_id of a row."""
        assert self._ids is not None  # noqa: S101
        return str(self._ids[number].as_py())

    def row(self, number: int) -> dict[str, Any]:
        """A row, its video included where that is embedded. Raises OSError, pa.ArrowException."""
        group = int(np.searchsorted(self._end, number, side="right"))
        table = self._tables.get(group)
        if table is None:
            table = self._file(int(self._shard[group])).read_row_group(
                int(self._group[group]), columns=[*_PER_CLIP, "video"], use_threads=False
            )
            self._tables[group] = table
            while len(self._tables) > _GROUPS:
                self._tables.popitem(last=False)
        start = int(self._end[group]) - len(table)
        row: dict[str, Any] = table.slice(number - start, 1).to_pylist()[0]
        return row

    def video(self, row: Mapping[str, Any]) -> tuple[Video, Range | None]:
        """Where the video of a row is. Raises ClipError."""
        video = row["video"] or {}
        if video.get("bytes") is not None:
            return video["bytes"], None
        if self._layout == "files":
            folder = self._paths[0].parent.parent.resolve()
            path = folder / (video.get("path") or "")
            if not path.resolve().is_relative_to(folder / "videos"):
                raise ClipError(f"its video {video.get('path')!r} is not in the dataset's videos/")
            return path, None
        if self._layout == "embedded":
            raise ClipError("its row has no video")
        crop = row["crop"]
        source = Path(row["source"])
        part = Range(
            row["start_pts"],
            row["end_pts"],
            Fraction(row["time_base"]),
            (crop[0], crop[1], crop[2], crop[3]) if crop else None,
        )
        return (self._sources / source if self._sources else source), part

    def _file(self, shard: int) -> pq.ParquetFile:
        file = self._files.pop(shard, None)
        if file is None:
            file = pq.ParquetFile(self._paths[shard])
            while len(self._files) >= _OPEN_SHARDS:
                self._files.popitem(last=False)[1].close()
        self._files[shard] = file
        return file


def _groups(path: Path) -> list[int]:
    try:
        return row_groups(path)
    except (OSError, pa.ArrowException) as error:
        line = first_line(error)
        raise DatasetError(f"{path} cannot be read ({line}): publish the dataset anew") from None


# --- small things -------------------------------------------------------------------------------


@cache
def torch_or_none() -> Any:
    """The module torch, where it is installed."""
    try:
        return import_module("torch")
    except ImportError:
        return None


def _tensor(frames: NDArray[np.uint8], dtype: str) -> Any:
    """(T, H, W, C) uint8 as (C, T, H, W) of `dtype`."""
    video = np.ascontiguousarray(frames.transpose(3, 0, 1, 2))
    if dtype == "float32":
        scaled = video.astype(np.float32)
        scaled *= 2 / 255
        scaled -= 1
        video = scaled  # type: ignore[assignment]
    torch = torch_or_none()
    return video if torch is None else torch.from_numpy(video)


def _probabilities(task: Task | Mapping[Task, float]) -> dict[Task, float]:
    tasks: dict[Task, float] = {task: 1.0} if isinstance(task, str) else dict(task)
    for name, share in tasks.items():
        _one_of("task", name, ("t2v", "i2v", "structured", "empty"))
        if not share >= 0:
            raise ValueError(f"the probability of task {name} is 0 or more, not {share}")
    if not sum(tasks.values()) > 0:
        raise ValueError("no task has a probability above 0")
    return {name: share for name, share in tasks.items() if share > 0}


def _one_of(name: str, value: str, options: Sequence[str]) -> str:
    if value not in options:
        raise ValueError(f"{name} {value!r} is none of {', '.join(options)}")
    return value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
