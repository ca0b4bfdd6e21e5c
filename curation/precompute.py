"""Latents and text features of a dataset's clips, made once, so that a trainer runs no encoder.

OUT/data/*.parquet has a row a clip, by `clip_id`. Its `latents` and `text` are the bytes of a
tensor (C order, little-endian) with shape and torch dtype beside it; whatever reads Parquet has it:

    torch.frombuffer(bytearray(row["latents"]), dtype=torch.bfloat16).view(row["latents_shape"])

Latents are the mode of the VAE's distribution, not normalised: what its `decode` takes.
OUT/precompute.json has the configuration, the VAE's mean and deviation, and each clip that has no
latents, with its reason. A shard is there whole or not at all; another run does what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from captioner.files import first_line
from curation.buckets import Bucket, Fit
from curation.clip_dataset import ClipDataset, Failure, Sample, Task
from curation.dataset import fingerprints, locked, read_manifest
from curation.encoders import Encoders, Model, PrecomputeError, need, told
from curation.engine_ray import EnginePool, connect
from curation.ledger import replacing, sweep

FORMAT = 1
"""Counts up when the same configuration would give other bytes."""

MAX_TOKENS = 512
"""What Wan 2.1 and SkyReels-V2 read of a text (Wan2.1, wan/configs/shared_config.py: text_len)."""

REPORT = "precompute.json"

DTYPES = ("bfloat16", "float16", "float32")
"""What tensors are stored as: names of torch."""

_GROUP = 8
"""Clips a row group: what is read for one of them."""

_ANEW = "delete it, and run the job again to make it anew"

_SCALES = ("latents_mean", "latents_std", "scaling_factor", "shift_factor")
"""What a trainer normalises latents by, as configurations of diffusers' VAEs name it."""


# --- configuration ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrecomputeConfig:
    """What latents and features depend on.

    `buckets`, `fit`, `fps` and `seed` are those of the training's ClipDataset. Captions are whole,
    without drop-out. Raises PrecomputeError.
    """

    vae: Model
    text: Model
    buckets: tuple[Bucket, ...]
    task: Task = "t2v"
    fit: Fit = field(default_factory=Fit)
    fps: float | Literal["paper"] | None = "paper"
    dtype: str = "bfloat16"
    max_tokens: int = MAX_TOKENS
    seed: int = 0

    def __post_init__(self) -> None:
        for value, options in ((self.task, get_args(Task)), (self.dtype, DTYPES)):
            if value not in options:
                raise PrecomputeError(f"{value!r} is none of {', '.join(options)}")
        if self.max_tokens < 1:
            raise PrecomputeError(f"a text has at least one token, not {self.max_tokens}")

    def identity(self) -> dict[str, Any]:
        """All that the bytes depend on."""
        return {
            "format": FORMAT,
            "vae": self.vae.identity,
            "text": self.text.identity,
            "buckets": sorted(str(bucket) for bucket in self.buckets),
            "task": self.task,
            "fit": asdict(self.fit),
            "fps": self.fps,
            "dtype": self.dtype,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    def hash(self) -> str:
        """16 hex digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


class Missing(BaseModel):
    """Clips without latents: how many a training with these buckets would leave out, by reason,
    and the error of each that failed, by clip_id."""

    model_config = ConfigDict(frozen=True)
    left_out: dict[str, int] = {}
    failed: dict[str, str] = {}


class Report(BaseModel):
    """`precompute.json`; `splits` is what the last run of each split found."""

    model_config = ConfigDict(frozen=True)
    config_hash: str
    config: dict[str, Any]
    models: dict[str, str]
    scales: dict[str, Any]
    splits: dict[str, Missing] = {}


# --- the job ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Precomputed:
    """What a run did: clips `added`, `present` before, and `missing`."""

    added: int
    present: int
    missing: Missing


def precompute(
    dataset: Path,
    out: Path,
    config: PrecomputeConfig,
    split: str = "train",
    *,
    workers: int = 0,
    shard_clips: int = 64,
    sources: Path | None = None,
    pool: EnginePool | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Precomputed:
    """Store latents and text features of the clips of a split that `out` lacks.

    `workers` processes decode ahead of the encoders. With a `pool` all of this happens in each of
    its actors on a Ray cluster, which finds dataset, `out` and models at the same paths. `tell` is
    told how many clips were done, of how many. Raises PrecomputeError, before any video is decoded
    where a model cannot be used, curation.dataset.DatasetError, curation.clip_dataset.ClipError
    where no clip is left, and OSError.
    """
    need("torch", "diffusers", "transformers")
    options: dict[str, Any] = {"fit": config.fit, "fps": config.fps, "seed": config.seed}
    options |= {"dropout": 0.0, "on_error": "skip", "sources": sources}
    clips = ClipDataset(dataset, split, task=config.task, buckets=config.buckets, **options)
    names = [clips.clip_id(index) for index in range(len(clips))]
    made_by = fingerprints(dataset, read_manifest(dataset))
    failed: dict[str, str] = {}
    added = 0
    with locked(out):
        report = _begin(out, config)
        present = _present(out, made_by)
        todo = [number for number, name in enumerate(names) if name not in present]
        chunks = [todo[i : i + shard_clips] for i in range(0, len(todo), shard_clips)]
        for made in _shards_made(chunks, pool, clips, out, config, made_by, workers):
            added += made.clips
            failed |= made.failed
            tell(added + len(failed), len(todo))
        missing = Missing(left_out=dict(clips.left_out), failed=failed)
        _write(out, report.model_copy(update={"splits": {**report.splits, split: missing}}))
    return Precomputed(added, len(names) - len(todo), missing)


def _begin(out: Path, config: PrecomputeConfig) -> Report:
    """The report to go on with. Raises PrecomputeError for a folder of other things."""
    sweep(out)
    sweep(out / "data")
    if _shards(out):
        report, asked = read_report(out), json.loads(json.dumps(config.identity()))
        if other := sorted(name for name in asked if report.config.get(name) != asked[name]):
            raise PrecomputeError(
                f"{out} was begun with another {', '.join(other)}: give the same, or another folder"
            )
        return report
    if strangers := {path.name for path in out.iterdir()} - {".lock", "data", REPORT}:
        raise PrecomputeError(f"{out} holds other things ({min(strangers)}): give an empty folder")
    vae = config.vae.config
    report = Report(
        config_hash=config.hash(),
        config=config.identity(),
        models={"vae": config.vae.name, "text": config.text.name},
        scales={name: vae[name] for name in _SCALES if name in vae},
    )
    _write(out, report)
    return report


def _write(out: Path, report: Report) -> None:
    with replacing(out / REPORT) as part:
        part.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _present(out: Path, made_by: Mapping[str, str]) -> set[str]:
    """The clips in `out`; a shard with a clip that has another caption or crop now is removed."""
    present: set[str] = set()
    for path in _shards(out):
        with told(f"{path} cannot be read", _ANEW):
            table = pq.read_table(path, columns=["clip_id", "made_by"]).to_pydict()
        known = dict(zip(table["clip_id"], table["made_by"]))
        if any(made_by.get(name, known[name]) != known[name] for name in known):
            path.unlink()
        else:
            present |= known.keys()
    return present


@dataclass(frozen=True)
class Made:
    """What became of the clips of one shard."""

    clips: int
    failed: Mapping[str, str]


def _shards_made(
    chunks: Sequence[Sequence[int]], pool: EnginePool | None, *arguments: Any
) -> Iterator[Made]:
    """A shard of each chunk, made here or by actors; what a lost actor had is made again."""
    if pool is None or not chunks:
        yield from map(ShardMaker(*arguments).make, chunks)
        return
    import ray
    from ray.exceptions import RayTaskError
    from ray.util import ActorPool

    connect()
    remote = ray.remote(num_gpus=pool.gpus, num_cpus=pool.cpus, max_restarts=3, max_task_retries=3)
    maker, shared = remote(ShardMaker), [ray.put(argument) for argument in arguments]
    actors: Any = ActorPool([maker.remote(*shared) for _ in range(min(pool.largest, len(chunks)))])
    try:
        yield from actors.map_unordered(lambda actor, chunk: actor.make.remote(chunk), chunks)
    except RayTaskError as error:  # its own message is the traceback of the actor
        raise error.cause from error


class ShardMaker:
    """Makes shards with encoders of its own, which are loaded for the first one."""

    def __init__(
        self,
        clips: ClipDataset,
        out: Path,
        config: PrecomputeConfig,
        made_by: Mapping[str, str],
        workers: int,
    ) -> None:
        self._clips, self._out, self._config = clips, out, config
        self._made_by, self._workers = made_by, workers
        self._encoders: Encoders | None = None

    def make(self, numbers: Sequence[int]) -> Made:
        """Encode clips by number, and write what did not fail. Raises PrecomputeError, OSError."""
        self._encoders = self._encoders or _encoders(self._config)
        rows: list[dict[str, Any]] = []
        failed: dict[str, str] = {}
        for sample in self._samples(numbers):
            if isinstance(sample, Failure):
                failed[sample.clip_id] = sample.error
                continue
            try:
                rows.append(self._row(sample, self._encoders))
            except (RuntimeError, ValueError) as error:
                failed[sample["clip_id"]] = f"{type(error).__name__}: {first_line(error)}"
        if rows:
            self._write(rows)
        return Made(len(rows), failed)

    def _samples(self, numbers: Sequence[int]) -> Iterable[Sample | Failure]:
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            self._clips,  # type: ignore[arg-type, unused-ignore]
            batch_size=None,
            sampler=list(numbers),
            num_workers=min(self._workers, len(numbers)),
            collate_fn=_as_it_is,
        )
        yield from loader

    def _row(self, sample: Sample, encoders: Encoders) -> dict[str, Any]:
        _, frames, height, width = sample["video"].shape
        row: dict[str, Any] = {
            "clip_id": sample["clip_id"],
            "split": self._clips.split,
            "task": sample["task"],
            "caption": sample["caption"],
            "fps": sample["fps"],
            "frames": frames,
            "height": height,
            "width": width,
            "config_hash": self._config.hash(),
            "made_by": self._made_by[sample["clip_id"]],
        }
        made = {
            "latents": encoders.latents(sample["video"]),
            "text": encoders.text(sample["caption"]),
        }
        for name, tensor in made.items():
            row[name] = encoders.stored(tensor)
            row[f"{name}_shape"] = list(tensor.shape)
            row[f"{name}_dtype"] = self._config.dtype
        return row

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        """A shard, named by the clips in it."""
        digest = hashlib.sha256("\n".join(row["clip_id"] for row in rows).encode()).hexdigest()
        with replacing(self._out / "data" / f"{self._clips.split}-{digest[:16]}.parquet") as part:
            pq.write_table(
                pa.Table.from_pylist(rows, _SCHEMA),
                part,
                row_group_size=_GROUP,
                compression="none",  # numbers of a network do not compress
                use_dictionary=False,
                write_statistics=["clip_id"],
            )


def _encoders(config: PrecomputeConfig) -> Encoders:
    small = min(config.buckets, key=lambda bucket: bucket.width * bucket.height)
    size = small.height, small.width
    return Encoders(config.vae, config.text, size, config.dtype, config.max_tokens)


def _as_it_is(sample: Sample | Failure) -> Sample | Failure:
    return sample


_TENSOR = (("", pa.large_binary()), ("_shape", pa.list_(pa.int64())), ("_dtype", pa.string()))

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("clip_id", "split", "task", "caption")),
        ("fps", pa.float64()),
        *((name, pa.int64()) for name in ("frames", "height", "width")),
        *((f"{name}{part}", kind) for name in ("latents", "text") for part, kind in _TENSOR),
        ("config_hash", pa.string()),
        ("made_by", pa.string()),  # a fingerprint of the dataset's row
    ]
)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latents:
    """A clip as a trainer takes it: torch tensors `latents` (C, T, H, W) and `text` (L, D)."""

    clip_id: str
    caption: str
    fps: float
    latents: Any
    text: Any


def latents(out: Path, split: str = "train") -> Iterator[Latents]:
    """The clips of a split, a row group in memory at a time. Raises PrecomputeError."""
    read_report(out)
    names = ["clip_id", "caption", "fps"]
    tensors = [f"{name}{part}" for name in ("latents", "text") for part, _ in _TENSOR]
    for path in _shards(out, split):
        with told(f"{path} cannot be read", _ANEW), pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group, names + tensors, False).to_pylist():
                    made = {kind: _tensor(row, kind) for kind in ("latents", "text")}
                    yield Latents(**{name: row[name] for name in names}, **made)


def read_report(out: Path) -> Report:
    """What `out` holds. Raises PrecomputeError."""
    try:
        return Report.model_validate_json((out / REPORT).read_bytes())
    except (OSError, ValidationError) as error:
        raise PrecomputeError(f"{out} holds no latents ({first_line(error)})") from None


def _shards(out: Path, split: str = "*") -> list[Path]:
    return sorted((out / "data").glob(f"{split}-*.parquet"))


def _tensor(row: Mapping[str, Any], kind: str) -> Any:
    import torch

    if row[f"{kind}_dtype"] not in DTYPES:
        raise ValueError(f"{row[f'{kind}_dtype']!r} is none of {', '.join(DTYPES)}")
    flat = torch.frombuffer(bytearray(row[kind]), dtype=getattr(torch, row[f"{kind}_dtype"]))
    return flat.view(row[f"{kind}_shape"])
