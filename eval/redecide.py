"""How long deciding anew takes: `python -m eval.redecide OUT PRESET [--rows N] [--a-part 500]`.

The rows of the finished run in OUT are repeated in a temporary ledger, each with an identity, an
embedding and hashes of its own, since those do not compress. Over it `python -m jobs.decide` runs
twice: a dry run, and one that writes. The second time all rows have just been marked as dropped,
so that nearly every part changes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from curation.ledger import LAYOUT, PartState
from curation.output import Output
from eval.speed import usage_of


def main(
    out: Annotated[Path, typer.Argument(help="Output of a finished run of jobs.curate.")],
    preset: Annotated[str, typer.Argument(help="The preset to decide by.")] = "360p",
    rows: Annotated[int, typer.Option(min=1, help="Rows of the ledger that is made.")] = 1_000_000,
    a_part: Annotated[int, typer.Option(min=1, help="Rows of each of its files.")] = 500,
) -> None:
    """Repeat a ledger's rows and decide over them."""
    known = pa.concat_tables([pq.read_table(path) for path in Output(out).ledger.parts()])
    known = known.filter(pc.is_valid(known["embedding"]))
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        large = Path(folder)
        size = repeated(known, Output(large).ledger.folder, rows, a_part)
        command = [sys.executable, "-m", "jobs.decide", str(large), "--preset", preset]
        table = Table(title=f"{rows:,} rows, {size / 1e9:.2f} GB, {-(-rows // a_part):,} files")
        for column in ("what", "CPU s", "wall s", "peak MiB"):
            table.add_column(column)
        for what, more in (("decided (--dry-run)", ["--dry-run"]), ("decided and written", [])):
            used = usage_of([*command, *more])
            table.add_row(what, f"{used.cpu:.1f}", f"{used.wall:.1f}", f"{used.peak:.0f}")
    Console().print(table)


def repeated(known: pa.Table, folder: Path, rows: int, a_part: int) -> int:
    """Write a ledger of so many rows, drawn from those known; returns its bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    dropped = pa.array(["drop"] * len(known))
    known = known.set_column(known.schema.get_field_index("decision"), "decision", dropped)
    size = 0
    for start in range(0, rows, a_part):
        count = min(a_part, rows - start)
        table = with_own_values(known.take(pa.array(rng.integers(0, len(known), count))), rng)
        state = PartState(config_hash="0", final=True, source=f"{start}.mp4", source_copies=[])
        path = folder / f"{start:012}.parquet"
        metadata = {**(known.schema.metadata or {}), b"skycaptioner_part": state.model_dump_json()}
        pq.write_table(table.replace_schema_metadata(metadata), path, **LAYOUT)
        size += path.stat().st_size
    return size


def with_own_values(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The rows with an identity, an embedding and hashes of their own."""
    names = [f"{number:024x}" for number in rng.integers(0, 2**63, len(table))]
    values = {"clip_id": pa.array(names)}
    for name in ("embedding", "hash_sequence", "hash_changes"):
        old = table[name].combine_chunks()
        if name == "embedding":
            like = pa.array(rng.standard_normal(len(old.flatten()), np.float32))
            values[name] = pa.FixedSizeListArray.from_arrays(like, old.type.list_size)
        else:
            like = pa.array(rng.integers(0, 2**63, len(old.flatten()), np.uint64))
            values[name] = pa.ListArray.from_arrays(old.offsets, like)
    for name, array in values.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), array)
    return table


if __name__ == "__main__":
    typer.run(main)
