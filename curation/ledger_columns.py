"""Columns of a ledger's parts, read together and put back in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from captioner.files import first_line
from curation.ledger import LAYOUT, replacing
from curation.rule_columns import HELD_IN, named_columns, whole

T = TypeVar("T")

WRITERS = 8
"""Parts written at a time: most of each one's time goes to waiting for the disk to have it."""


class LedgerError(Exception):
    """A ledger that is not there, or a part of it that cannot be read."""


@dataclass(frozen=True)
class Part:
    """A file of the ledger and its rows."""

    path: Path
    rows: int


def ledger_schema(parts: Sequence[Path]) -> pa.Schema:
    """The schema of the first part, which all share. Raises LedgerError."""
    if not parts:
        raise LedgerError("there is no ledger: no Parquet file")
    return _readable(pq.read_schema, parts[0])


def with_named(schema: pa.Schema, parts: Sequence[Path]) -> pa.Schema:
    """The schema with a column for each fact that the user gave about a source of the ledger and
    for each score by a model: a preset may name them. Raises LedgerError."""
    for field in named_columns(read_columns(parts, HELD_IN)[0]):
        schema = schema.append(field)
    return schema


def read_columns(parts: Sequence[Path], columns: Sequence[str]) -> tuple[pa.Table, list[Part]]:
    """The named Parquet columns of all parts, in their order; a column that a part lacks is null.

    Raises LedgerError.
    """

    def read(path: Path) -> pa.Table:
        return _readable(_read_columns, path, columns=list(columns))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tables = list(pool.map(read, parts))
    known = [Part(path, len(table)) for path, table in zip(parts, tables)]
    return pa.concat_tables(tables, promote_options="default"), known


def write_columns(parts: Sequence[Part], before: pa.Table, columns: Mapping[str, pa.Array]) -> int:
    """Put columns, each (N,), in the place of those of the parts; parts without a change are left.

    `before` has the columns as they are in the parts, in the same order of rows. Each part is
    replaced whole or not at all. Returns how many were; raises LedgerError and OSError.
    """

    def write(part: Part, start: int) -> bool:
        new = {name: values.slice(start, part.rows) for name, values in columns.items()}
        if all(whole(before[name].slice(start, part.rows)).equals(new[name]) for name in new):
            return False
        _rewrite(part.path, new)
        return True

    starts = np.cumsum([0, *(part.rows for part in parts)]).tolist()
    with ThreadPoolExecutor(WRITERS) as pool:
        return sum(pool.map(write, parts, starts))


def _rewrite(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Replace columns of a part, keeping its schema and metadata."""
    table = _readable(_read_columns, path)
    for name, values in columns.items():
        i = table.schema.get_field_index(name)
        table = table.set_column(
            i, table.schema.field(i), pc.cast(values, table.schema.field(i).type)
        )
    with replacing(path) as part:
        pq.write_table(table, part, **LAYOUT)


def _read_columns(path: Path, columns: list[str] | None = None) -> pa.Table:
    # Not read_table, which cannot name a leaf below a list.
    with pq.ParquetFile(path) as file:
        return file.read(columns, use_threads=False)


def _readable(read: Callable[..., T], path: Path, **options: Any) -> T:
    """What reading a part gives. Raises LedgerError, with the file's name."""
    try:
        return read(path, **options)
    except (OSError, pa.ArrowException) as error:
        line = first_line(error)
        raise LedgerError(f"{path}: cannot be read: {line}") from None
