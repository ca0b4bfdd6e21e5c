"""The dataset: kept clips with their rows in Parquet shards, published whole or not at all.

A dataset is a folder with `data/*.parquet`, `dataset.json` that lists the shards, and a card,
README.md. A shard is there for our readers when `dataset.json` names it, and that file is replaced
in one step, last: a killed publisher leaves the dataset as it was. Appending adds shards and
rewrites none. `datasets`, DuckDB, pandas and what else reads Parquet open the shards without us.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import av
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from captioner.containers import open_container, video_stream
from captioner.files import first_line
from captioner.video import UnreadableVideoError
from curation.ledger import SCHEMA_VERSION as LEDGER_VERSION
from curation.ledger import arrow_schema, replacing, sweep
from curation.output import Output

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two writers apart
    fcntl = None  # type: ignore[assignment]

Layout = Literal["embedded", "files", "virtual"]
"""Where a clip's video is: in its row, in `videos/` beside the shards, or in its source, of which
the row has the range and the crop."""

SCHEMA_VERSION = f"{LEDGER_VERSION}.1"
"""The ledger's version, and that of the columns that are added to it."""

MANIFEST = "dataset.json"

_NOT_TAKEN = {"decision", "reason", "stage", "error", "clip", "hash_sequence", "hash_changes"}
"""Columns of the ledger that say nothing of a kept clip, or that only finding duplicates needs."""

_FIRST = ("clip_id", "video", "caption_t2v", "caption_i2v", "caption")
"""Columns that a viewer shows first."""

_ADDED = (
    pa.field(
        "video",
        pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]),
        metadata={"description": "the clip: an MP4 in `bytes`, or a file at `path` beside data/"},
    ),
    pa.field(
        "video_width", pa.int64(), metadata={"description": "pixels, of the clip after its crop"}
    ),
    pa.field(
        "video_height", pa.int64(), metadata={"description": "pixels, of the clip after its crop"}
    ),
    pa.field("video_bytes", pa.int64(), metadata={"description": "size of the clip's video"}),
)


class DatasetError(ValueError):
    """A dataset that cannot be read or written; the message says what to do."""


@dataclass(frozen=True)
class DatasetConfig:
    """How a dataset is written.

    `splits` are shares by name; a source is in one split with all its clips, drawn by `seed` and
    its content, so that it stays there whatever is appended. A shard is closed at `shard_bytes`. A
    row group is what has to be read for one clip, so it is closed at `row_group_bytes` of video:
    4 MiB hold one to ten clips, and the footer of a shard of 500 MB then stays below 2 MB.
    """

    layout: Layout = "embedded"
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 1.0})
    seed: int = 0
    shard_bytes: int = 512 << 20
    row_group_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.layout not in ("embedded", "files", "virtual"):
            raise DatasetError(f"layout {self.layout!r} is none of embedded, files, virtual")
        if not self.splits or any(not share > 0 for share in self.splits.values()):
            raise DatasetError(f"each split has a share above 0: {dict(self.splits)}")
        if any(not name.isidentifier() for name in self.splits):
            raise DatasetError(f"a split's name is letters, digits and _: {list(self.splits)}")
        if min(self.shard_bytes, self.row_group_bytes) < 1:
            raise DatasetError("shards and row groups have at least one byte")


class Statistics(BaseModel):
    """What a shard, or all, holds: clips, seconds, frames, bytes, and clips by kind."""

    model_config = ConfigDict(frozen=True)
    clips: int = 0
    seconds: float = 0.0
    frames: int = 0
    video_bytes: int = 0
    concepts: dict[str, int] = {}
    licences: dict[str, int] = {}
    caption_statuses: dict[str, int] = {}
    caption_engines: dict[str, int] = {}
    sizes: dict[str, int] = {}
    rates: dict[str, int] = {}
    lengths: dict[str, int] = {}
    configurations: dict[str, int] = {}

    def __add__(self, other: Statistics) -> Statistics:
        mine, theirs = self.model_dump(), other.model_dump()
        return Statistics.model_validate({k: _sum(mine[k], theirs[k]) for k in mine})


class Shard(BaseModel):
    """A Parquet file of a dataset."""

    model_config = ConfigDict(frozen=True)
    file: str = Field(pattern=r"^data/[A-Za-z0-9_]+-\d+-\d+\.parquet$")
    split: str
    rows: int
    bytes: int
    statistics: Statistics


class Manifest(BaseModel):
    """`dataset.json`: what the dataset is. `revision` counts the times that it was changed."""

    model_config = ConfigDict(frozen=True)
    schema_version: str
    layout: Layout
    splits: dict[str, float]
    seed: int
    revision: int = 0
    shards: tuple[Shard, ...] = ()

    @property
    def statistics(self) -> Statistics:
        """Of all shards."""
        return sum((shard.statistics for shard in self.shards), Statistics())


@dataclass(frozen=True)
class Published:
    """What publishing did: clips `added`, `present` (there already), `changed` (there already, but
    with another configuration or caption: left as they are) and `refused`, with the reason."""

    added: int = 0
    present: int = 0
    changed: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


@cache
def dataset_schema() -> pa.Schema:
    """The Arrow schema of a shard; `datasets` reads `video` as its Video feature."""
    fields = {f.name: f for f in (*arrow_schema(), *_ADDED) if f.name not in _NOT_TAKEN}
    metadata = {
        "skycaptioner_dataset_version": SCHEMA_VERSION,
        "huggingface": '{"info": {"features": {"video": {"_type": "Video"}}}}',
    }
    first = [fields.pop(name) for name in _FIRST]
    return pa.schema([*first, *fields.values()], metadata=metadata)


# --- reading ------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset. Raises DatasetError."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{folder} is no dataset: there is no {MANIFEST} in it") from None
    except (OSError, ValidationError) as error:
        line = first_line(error)
        raise DatasetError(f"{path} cannot be read ({line}): publish the dataset anew") from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise DatasetError(
            f"{folder} has schema version {manifest.schema_version}, this program reads "
            f"{SCHEMA_VERSION}: publish the dataset anew, or use the release that wrote it"
        )
    return manifest


def open_shards(folder: Path, manifest: Manifest, split: str) -> list[Shard]:
    """The shards of a split, each there and of its full size. Raises DatasetError."""
    if split not in manifest.splits:
        raise DatasetError(f"{folder} has no split {split!r}, only {', '.join(manifest.splits)}")
    shards = [shard for shard in manifest.shards if shard.split == split]
    for shard in shards:
        path = folder / shard.file
        try:
            size = path.stat().st_size
        except OSError:
            raise DatasetError(f"{path} is missing: copy it again, or publish anew") from None
        if size != shard.bytes:
            raise DatasetError(
                f"{path} is cut short or changed: {size:,} bytes, not {shard.bytes:,}; copy it "
                "again, or publish anew"
            )
    return shards


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a shard, all without `video.bytes` by default. Raises DatasetError."""
    if columns is None:
        columns = [name for name in dataset_schema().names if name != "video"] + ["video.path"]
    try:
        with pq.ParquetFile(path) as file:
            version = (file.schema_arrow.metadata or {}).get(b"skycaptioner_dataset_version", b"")
            if version.decode() != SCHEMA_VERSION:
                raise DatasetError(
                    f"{path} has schema version {version.decode() or 'none'}, not {SCHEMA_VERSION}:"
                    " publish the dataset anew"
                )
            return file.read(list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        line = first_line(error)
        raise DatasetError(f"{path} cannot be read ({line}): publish the dataset anew") from None


def row_groups(path: Path) -> list[int]:
    """Rows of each row group of a shard."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


# --- writing ------------------------------------------------------------------------------------


def publish(curated: Path, folder: Path, config: DatasetConfig | None = None) -> Published:
    """Add the kept clips of a curation's output to the dataset in `folder`, or begin it.

    A clip that is in the dataset is not added twice. A dataset goes on as it was begun: layout,
    splits and seed of `config` must be the same. Raises DatasetError, and OSError when `folder`
    cannot be written.
    """
    config = config or DatasetConfig()
    out = Output(curated)
    parts = out.ledger.parts()
    if not parts:
        raise DatasetError(f"{curated} holds no ledger: give the output folder of jobs.curate")
    with locked(folder):
        before = _begin(folder, config)
        known = fingerprints(folder, before)
        writers = {
            split: ShardWriter(folder, split, before.revision + 1, config)
            for split in before.splits
        }
        tally = _Tally(known)
        try:
            for part in parts:
                for row in _kept(part):
                    if (made := tally.take(row, out, folder, config)) is not None:
                        writers[split_of(_source(row), before.splits, before.seed)].add(made)
            shards = [shard for writer in writers.values() for shard in writer.close()]
        except BaseException:
            for writer in writers.values():
                writer.abandon()
            raise
        _commit(folder, before, (*before.shards, *shards) if shards else before.shards)
        return tally.published()


def compact(folder: Path, config: DatasetConfig | None = None) -> int:
    """Merge shards of less than half of `shard_bytes` with their neighbours of the same split.

    The rows and their order stay. Returns how many shards there are fewer. Raises DatasetError and
    OSError.
    """
    config = config or DatasetConfig()
    read_manifest(folder)  # before anything is made in a folder that is no dataset
    with locked(folder):
        before = read_manifest(folder)
        _clear(folder, before)
        after: list[Shard] = []
        for split in before.splits:
            shards = open_shards(folder, before, split)
            if sum(shard.bytes < config.shard_bytes / 2 for shard in shards) < 2:
                after += shards
                continue
            after += _merged(folder, split, shards, before.revision + 1, config)
        gone = {shard.file for shard in before.shards} - {shard.file for shard in after}
        if gone:
            _commit(folder, before, after)
        for name in gone:
            (folder / name).unlink()
        return len(before.shards) - len(after)


def _merged(
    folder: Path, split: str, shards: Sequence[Shard], revision: int, config: DatasetConfig
) -> list[Shard]:
    """The shards with neighbouring small ones as one; the files of the old ones stay."""
    writer = ShardWriter(folder, split, revision, config)
    after: list[Shard] = []
    try:
        for shard in shards:
            if shard.bytes >= config.shard_bytes / 2:
                after += [*writer.close(), shard]
                continue
            with pq.ParquetFile(folder / shard.file) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, use_threads=False)
                    for i in range(len(table)):
                        writer.add(table.slice(i, 1))
        return [*after, *writer.close()]
    except BaseException:
        writer.abandon()
        raise


class ShardWriter:
    """Writes rows of one split into shards; none is there under its name before `close`."""

    def __init__(self, folder: Path, split: str, revision: int, config: DatasetConfig) -> None:
        self._data = folder / "data"
        self._name = f"{split}-{revision:05d}"
        self._split = split
        self._config = config
        self._rows: list[pa.Table] = []
        self._bytes = 0
        self._file: pq.ParquetWriter | None = None
        self._statistics = Statistics()
        self._written: list[tuple[Path, Path, Statistics]] = []
        self._closed = 0

    def add(self, row: pa.Table) -> None:
        """Add one row. Raises OSError."""
        self._rows.append(row)
        self._bytes += row.nbytes
        if self._bytes >= self._config.row_group_bytes:
            self._end_group()

    def close(self) -> list[Shard]:
        """Put the shards in their place; rows added later begin new ones. Raises OSError."""
        self._end_group()
        self._end_shard()
        shards = []
        for part, path, statistics in self._written:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
            shards.append(
                Shard(
                    file=f"data/{path.name}",
                    split=self._split,
                    rows=statistics.clips,
                    bytes=path.stat().st_size,
                    statistics=statistics,
                )
            )
        self._written = []
        return shards

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._file is not None:
            self._file.close()
        for part in self._data.glob(f".{self._name}-*.part"):
            part.unlink(missing_ok=True)

    def _end_group(self) -> None:
        if not self._rows:
            return
        table = pa.concat_tables(self._rows).combine_chunks()
        if self._file is None:
            self._data.mkdir(parents=True, exist_ok=True)
            self._file = pq.ParquetWriter(
                self._part(),
                dataset_schema(),
                # Video does not compress, and its smallest and largest values tell nothing.
                compression=dict.fromkeys(_leaves(table.schema), "zstd") | {"video.bytes": "none"},
                use_dictionary=[n for n in _leaves(table.schema) if n != "video.bytes"],
                write_statistics=[n for n in _leaves(table.schema) if n != "video.bytes"],
            )
        self._file.write_table(table, row_group_size=len(table))
        self._statistics += statistics_of(table)
        self._rows, self._bytes = [], 0
        if self._part().stat().st_size >= self._config.shard_bytes:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is None:
            return
        self._file.add_key_value_metadata(
            {"skycaptioner_statistics": self._statistics.model_dump_json()}
        )
        self._file.close()
        path = self._data / f"{self._name}-{self._closed:05d}.parquet"
        self._written.append((self._part(), path, self._statistics))
        self._file, self._statistics = None, Statistics()
        self._closed += 1

    def _part(self) -> Path:
        return self._data / f".{self._name}-{self._closed:05d}.part"


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of the Parquet columns, as ParquetWriter wants them."""

    def of(prefix: str, kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_struct(kind):
            for child in kind:
                yield from of(f"{prefix}.{child.name}", child.type)
        elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            yield from of(f"{prefix}.list.element", kind.value_type)
        else:
            yield prefix

    return [leaf for column in schema for leaf in of(column.name, column.type)]


@dataclass
class _Tally:
    """Decides for each row whether it is added, and counts."""

    known: dict[str, str]
    added: int = 0
    present: int = 0
    changed: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def take(
        self, row: pa.Table, out: Output, folder: Path, config: DatasetConfig
    ) -> pa.Table | None:
        """The row as the dataset has it, or None where it is not added."""
        name = row["clip_id"][0].as_py()
        print_ = _fingerprint(row.slice(0, 1))[0]
        if name in self.known:
            if self.known[name] == print_:
                self.present += 1
            else:
                self.changed.append(name)
            return None
        try:
            made = _with_video(row, out.folder, folder, config.layout)
        except (DatasetError, UnreadableVideoError, av.FFmpegError, OSError) as error:
            self.refused.append((name, f"{type(error).__name__}: {error}"))
            return None
        self.known[name] = print_
        self.added += 1
        return made

    def published(self) -> Published:
        return Published(self.added, self.present, tuple(self.changed), tuple(self.refused))


_MADE_BY = ("clip_id", "config_hash", "caption_t2v", "caption_i2v", "crop")


def _fingerprint(table: pa.Table) -> list[str]:
    """Changes when a clip's configuration or caption does."""
    rows = table.select(_MADE_BY).to_pylist()
    return [hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:16] for row in rows]


def fingerprints(folder: Path, manifest: Manifest) -> dict[str, str]:
    """The clips of a dataset, with their fingerprints."""
    known: dict[str, str] = {}
    for split in manifest.splits:
        for shard in open_shards(folder, manifest, split):
            table = read_shard(folder / shard.file, _MADE_BY)
            known |= zip(table["clip_id"].to_pylist(), _fingerprint(table))
    return known


def _kept(part: Path) -> Iterator[pa.Table]:
    """The rows of a ledger's part that are kept, one at a time. Raises DatasetError."""
    try:
        with pq.ParquetFile(part) as file:
            table = file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        line = first_line(error)
        raise DatasetError(f"{part} cannot be read ({line}): curate again") from None
    version = (table.schema.metadata or {}).get(b"skycaptioner_schema_version", b"").decode()
    if version != LEDGER_VERSION:
        raise DatasetError(
            f"{part} has schema version {version or 'none'}, not {LEDGER_VERSION}: curate again"
        )
    table = table.filter(pc.equal(table["decision"], "keep"))
    for i in range(len(table)):
        yield table.slice(i, 1)


def _source(row: pa.Table) -> str:
    """What a row's source is known by: the hash of its content, else its path."""
    return str(row["source_sha256"][0].as_py() or row["source"][0].as_py())


def split_of(source: str, shares: Mapping[str, float], seed: int) -> str:
    """The split of a source: each is a part of 0 to 1, and the hash of seed and source falls in
    one. `shares` are positive, of any sum."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    at = int.from_bytes(digest[:8]) / 2**64 * sum(shares.values())
    for name, share in shares.items():
        if (at := at - share) < 0:
            return name
    return list(shares)[-1]


def _with_video(row: pa.Table, curated: Path, folder: Path, layout: Layout) -> pa.Table:
    """A row of the ledger as the dataset has it.

    Raises DatasetError, UnreadableVideoError, av.FFmpegError or OSError where there is no video.
    """
    values = {name: row[name][0].as_py() for name in ("clip_id", "clip", "frames", "crop")}
    if layout == "virtual":
        width, height = _size(row)
        video, size = None, 0
    else:
        if not values["clip"]:
            raise DatasetError("it has no file: curate with --clips, or publish it as virtual")
        path = curated / values["clip"]
        if not path.resolve().is_relative_to(curated.resolve()):
            raise DatasetError(f"its file {values['clip']!r} leads out of the folder")
        width, height, frames = _probe(path)
        if frames != values["frames"]:
            raise DatasetError(f"its file has {frames} frames, not {values['frames']}")
        size = path.stat().st_size
        name = f"{values['clip_id']}.mp4"
        if layout == "embedded":
            video = {"bytes": path.read_bytes(), "path": name}
        else:
            _link(path, folder / "videos" / name)
            video = {"bytes": None, "path": f"videos/{name}"}
    added = {"video": video, "video_width": width, "video_height": height, "video_bytes": size}
    columns = {
        column.name: pa.array([added[column.name]], column.type)
        if column.name in added
        else row[column.name]
        for column in dataset_schema()
    }
    return pa.table(columns, schema=dataset_schema())


def _size(row: pa.Table) -> tuple[int, int]:
    """Width and height of a clip that is cut out of its source when it is read."""
    width, height = row["width"][0].as_py(), row["height"][0].as_py()
    crop = row["crop"][0].as_py() or (0, 0, width // 2 * 2, height // 2 * 2)
    return crop[2], crop[3]


def _probe(path: Path) -> tuple[int, int, int]:
    """Width, height and number of frames that a clip's file announces."""
    with open_container(path) as container:
        stream = video_stream(container)
        return stream.codec_context.width, stream.codec_context.height, stream.frames


def _link(source: Path, target: Path) -> None:
    """The same file under another name: a hard link, or a copy where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        try:
            part.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, part)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out. Raises DatasetError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DatasetError(f"another program is writing to {folder}") from None
        yield


def _begin(folder: Path, config: DatasetConfig) -> Manifest:
    """The manifest to add to; what a killed writer left behind is removed."""
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        begun = {"layout": manifest.layout, "splits": manifest.splits, "seed": manifest.seed}
        asked = {"layout": config.layout, "splits": dict(config.splits), "seed": config.seed}
        for name, value in begun.items():
            if asked[name] != value:
                raise DatasetError(
                    f"{folder} was begun with {name} {value}, not {asked[name]}: give the same, or "
                    "another folder"
                )
    else:
        strangers = {path.name for path in folder.iterdir()} - {".lock", "data", "videos"}
        if strangers:
            raise DatasetError(
                f"{folder} holds other things ({min(strangers)}): give an empty folder"
            )
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            layout=config.layout,
            splits=dict(config.splits),
            seed=config.seed,
        )
    _clear(folder, manifest)
    return manifest


def _clear(folder: Path, manifest: Manifest) -> None:
    """Remove what a killed writer left behind: shards that the manifest does not name."""
    data = folder / "data"
    sweep(data)
    published = {shard.file for shard in manifest.shards}
    for path in data.glob("*-*-*.parquet"):
        if f"data/{path.name}" not in published:
            path.unlink()


def _commit(folder: Path, before: Manifest, shards: Iterable[Shard]) -> None:
    """Make the shards the dataset, in one step, then write the card."""
    from curation.card import write_card

    after = before.model_copy(update={"shards": tuple(shards), "revision": before.revision + 1})
    if after.shards != before.shards or before.revision == 0:
        with replacing(folder / MANIFEST) as part:
            part.write_text(after.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_card(folder, after)


# --- statistics ---------------------------------------------------------------------------------

_COUNTED = (
    *("start", "end", "frames", "fps", "video_width", "video_height", "video_bytes"),
    *("source_facts", "concept", "caption", "caption_status", "caption_engine", "config_hash"),
)

_LENGTHS = (1, 2, 4, 8, 16, 32, 64)
"""Seconds: upper edges of the histogram of lengths."""


def statistics_of(table: pa.Table) -> Statistics:
    """What rows of the dataset's schema add up to."""
    rows = table.select(_COUNTED).to_pylist()
    lengths = [round((row["end"] or 0.0) - (row["start"] or 0.0), 6) for row in rows]
    return Statistics(
        clips=len(rows),
        seconds=round(sum(lengths), 6),
        frames=sum(row["frames"] or 0 for row in rows),
        video_bytes=sum(row["video_bytes"] or 0 for row in rows),
        concepts=_count(_concept(row) for row in rows),
        licences=_count(_licence(row) for row in rows),
        caption_statuses=_count(row["caption_status"] or "none" for row in rows),
        caption_engines=_count(row["caption_engine"] or "none" for row in rows),
        sizes=_count(f"{row['video_width']}x{row['video_height']}" for row in rows),
        rates=_count(f"{row['fps']:g}" if row["fps"] else "unknown" for row in rows),
        lengths=_count(_length(seconds) for seconds in lengths),
        configurations=_count(row["config_hash"] for row in rows),
    )


def _concept(row: Mapping[str, Any]) -> str:
    """What a clip counts as in the balance; without one, the type of its main subject."""
    subjects = (row["caption"] or {}).get("subjects") or ()
    main = [s["TYPES"]["type"] for s in subjects if s["is_main_subject"]]
    return row["concept"] or (main and main[0]) or "none"


def _licence(row: Mapping[str, Any]) -> str:
    facts = {fact["name"]: fact["value"] for fact in row["source_facts"] or ()}
    return facts.get("licence") or facts.get("license") or "unknown"


def _length(seconds: float) -> str:
    above = next((edge for edge in _LENGTHS if seconds <= edge), None)
    return f"over {_LENGTHS[-1]} s" if above is None else f"up to {above} s"


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _sum(a: Any, b: Any) -> Any:
    if isinstance(a, dict):
        return dict(sorted((Counter(a) + Counter(b)).items()))
    return round(a + b, 6)  # so that the order of adding does not show
