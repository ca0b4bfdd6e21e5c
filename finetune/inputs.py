"""What targets are made of: the rows of ledgers and datasets, and the labels of test sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from captioner.files import first_line
from curation.dataset import MANIFEST, DatasetError, open_shards, read_manifest
from curation.ledger import SCHEMA_VERSION
from eval.testset import Line, TestsetError, changed_files, read_testset
from finetune.targets import TargetError

_COLUMNS = (
    *("clip_id", "source", "source_sha256", "start", "end", "concept"),
    *("duplicate_cluster", "caption", "caption_status", "caption_engine", "caption_sources"),
)

USABLE = ("ok", "repaired")
"""Statuses of captions that are learnt from: a truncated one ends in the middle."""


@dataclass(frozen=True)
class Rows:
    """The rows of a ledger or a dataset, in parts; the clips that its decision `dropped`.

    `videos` are the clips' own files, of a dataset that has them beside its shards.
    """

    parts: tuple[pa.Table, ...]
    dropped: frozenset[str] = frozenset()
    videos: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a table."""

    table: pa.Table
    number: int

    def row(self) -> dict[str, Any]:
        """Its values."""
        return dict(self.table.slice(self.number, 1).to_pylist()[0])


def read_rows(path: Path) -> Rows:
    """The rows of an output of caption or jobs.curate, or of a dataset. Raises TargetError."""
    try:
        if (path / MANIFEST).is_file():
            return _of_dataset(path)
    except DatasetError as error:
        raise TargetError(str(error)) from None
    tables = tuple(_read_part(part) for part in ledger_parts(path))
    if not tables:
        raise TargetError(
            f"{path}: no captions in it; name an output of caption or jobs.curate, or a dataset"
        )
    dropped = [table.filter(pc.equal(table["decision"], "drop"))["clip_id"] for table in tables]
    return Rows(tables, frozenset(name for one in dropped for name in one.to_pylist()))


def ledger_parts(path: Path) -> list[Path]:
    """The parts of the ledger of an output; none of a dataset."""
    return sorted((path if path.name == "ledger" else path / "ledger").glob("*.parquet"))


def _of_dataset(path: Path) -> Rows:
    manifest = read_manifest(path)
    tables = [
        read_columns(path / shard.file, (*_COLUMNS, "video.path"))
        for split in manifest.splits
        for shard in open_shards(path, manifest, split)
    ]
    videos: dict[str, str] = {}
    if manifest.layout == "files":
        for table in tables:
            names = zip(table["clip_id"].to_pylist(), table["video"].to_pylist())
            videos |= {clip: str(path / video["path"]) for clip, video in names}
    return Rows(tuple(tables), videos=videos)


def _read_part(path: Path) -> pa.Table:
    table = read_columns(path, (*_COLUMNS, "decision"))
    version = (table.schema.metadata or {}).get(b"skycaptioner_schema_version", b"").decode()
    if version != SCHEMA_VERSION:
        raise TargetError(
            f"{path} has schema version {version or 'none'}, not {SCHEMA_VERSION}: caption again"
        )
    return table


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file, in one piece. Raises TargetError."""
    try:
        with pq.ParquetFile(path) as file:
            # In one piece, so that a row is found at once.
            return file.read(list(columns), use_threads=False).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        line = first_line(error)
        raise TargetError(f"{path}: cannot be read: {line[:80]}") from None


def read_labels(paths: Sequence[Path]) -> list[Line]:
    """The lines of test sets, each of a file that is as it was labelled. Raises TargetError."""
    try:
        lines = [line for path in paths for line in read_testset(path)]
        changed, _ = changed_files(lines)
    except TestsetError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise TargetError(f"{error.problems[0]}{more}") from None
    except OSError as error:
        raise TargetError(f"{error.filename}: {error.strerror}") from None
    for problem in (*changed, *_contradictions(lines)):
        raise TargetError(problem)
    return lines


def _contradictions(lines: Sequence[Line]) -> Iterator[str]:
    """What `eval.testset` looks for in one file, between several."""
    first: dict[str, Line] = {}
    raters: dict[tuple[str, str | None], Line] = {}
    for line in lines:
        clip = line.clip
        known = first.setdefault(clip.clip_id, line)
        if (clip.sha256, clip.start, clip.end) != (
            known.clip.sha256, known.clip.start, known.clip.end,
        ):  # fmt: skip
            yield f"{line.place}: clip {clip.clip_id} is another clip at {known.place}"
        if (earlier := raters.setdefault((clip.clip_id, clip.rater), line)) is not line:
            yield f"{line.place}: a second truth for {clip.clip_id}: see {earlier.place}"
