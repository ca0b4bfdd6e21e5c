"""From measured rows to kept clips: judge the whole ledger, then cut what is kept."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.clips import ClipConfig, Cut, Written, clip_path, clip_range, present
from curation.clips_ray import CHUNK, Chunk, cut_chunk, cut_on_ray
from curation.crop import CropConfig
from curation.dedupe import DedupeConfig
from curation.facts import Facts
from curation.ledger import Row, arrow_schema
from curation.ledger_columns import read_columns, write_columns
from curation.output import Output
from curation.preset import Preset, PresetError, load_preset
from curation.rows import failed
from curation.scorers import EMBEDDING
from curation.sources import Source
from curation.verdict import FOR_CLUSTERS, Verdict, clusters, columns_to_read, judge


def preset_for(name: str, facts: Facts) -> Preset:
    """A preset by name or path, checked against the ledger's columns and the user's facts.

    Raises PresetError.
    """
    schema = arrow_schema()
    for column in facts.columns:
        schema = schema.append(pa.field(column, pa.string()))
    preset = load_preset(name, schema)
    preset.crop.make(CropConfig)
    if preset.dedupe.make(DedupeConfig).embedding == "model" and EMBEDDING not in preset.models:
        raise PresetError(
            f"{preset.dedupe.places.at(('embedding',))}: there is no `{EMBEDDING}` among the "
            "preset's models: name one, such as `embedding: {model: facebook/dinov2-base}`"
        )
    return preset


def judge_all(preset: Preset, out: Output, against: Sequence[Output] = ()) -> Verdict:
    """Group near-duplicates, decide what becomes of every clip, and write it to the ledger.

    Near-duplicates of clips that are kept in the outputs `against` go. Raises LedgerError,
    BalanceError, and OSError when `out` cannot be written.
    """
    parts = out.ledger.parts()
    columns = [*columns_to_read(preset), *FOR_CLUSTERS, "model_embedding"]
    table, known = read_columns(parts, list(dict.fromkeys(columns)))
    grouped = clusters(table, preset.dedupe.make(DedupeConfig), _kept_elsewhere(against))
    place = table.schema.get_field_index("duplicate_cluster")
    judged = judge(table.set_column(place, "duplicate_cluster", grouped), preset)
    write_columns(known, table, {**judged.columns, "duplicate_cluster": grouped})
    return judged


def _kept_elsewhere(outputs: Sequence[Output]) -> pa.Table | None:
    """The clips that are kept in other outputs, each once, with what tells duplicates."""
    columns = [*FOR_CLUSTERS, "model_embedding", "decision"]
    tables = [read_columns(output.ledger.parts(), columns)[0] for output in outputs]
    if not tables:
        return None
    kept = pa.concat_tables(tables, promote_options="default")
    kept = kept.filter(pc.equal(kept["decision"], "keep"))
    _, once = np.unique(kept["clip_id"].to_numpy(zero_copy_only=False), return_index=True)
    return kept.take(pa.array(np.sort(once)))


def cut_clips(
    sources: Sequence[Source], config: ClipConfig, out: Output, workers: int, ray: bool = False
) -> Cut:
    """Write the clips that are kept, remove those that no longer are; returns what is new.

    With `ray` they are encoded on the cluster, and written here. A clip that cannot be written gets
    an error in its row. Raises OSError when `out` cannot be written.
    """
    kept = {source: rows for source in sources if not source.error if (rows := _kept(source, out))}
    names = {clip_path(out.clips, row.clip_id).name for rows in kept.values() for row in rows}
    for path in out.clips.glob("*.mp4"):
        if path.name not in names:
            path.unlink()
    chunks = [
        Chunk(source, tuple(clip_range(row) for row in rows[start : start + CHUNK]))
        for source, rows in kept.items()
        for start in range(0, len(rows), CHUNK)
    ]
    made: list[Written] = []
    lengths: dict[str, float] = {}
    written: dict[Source, list[Written]] = defaultdict(list)
    for chunk, done in _cut(chunks, out.clips, config, workers, ray):
        written[chunk.source] += done
        made += [one for one in done if one.made]
        lengths |= {one.clip_id: one.seconds for one in chunk.clips}
        if len(written[chunk.source]) == len(kept[chunk.source]):
            _note_clips(chunk.source, kept[chunk.source], written.pop(chunk.source), out)
    return Cut(
        clips=len(made),
        seconds=sum(lengths[one.clip_id] for one in made),
        bytes=sum(one.bytes for one in made),
        cpu_seconds=sum(one.cpu_seconds for one in made),
    )


def _cut(
    chunks: Sequence[Chunk], folder: Path, config: ClipConfig, workers: int, ray: bool
) -> Iterator[tuple[Chunk, list[Written]]]:
    """Each chunk with its files, of which only those that are not there already are made."""
    missing: dict[Chunk, tuple[Chunk, list[Written]]] = {}
    for chunk in chunks:
        known = {c: present(c, clip_path(folder, c.clip_id), config) for c in chunk.clips}
        there = [written for written in known.values() if written is not None]
        left = tuple(clip for clip, written in known.items() if written is None)
        if left:
            missing[Chunk(chunk.source, left)] = chunk, there
        else:
            yield chunk, there
    if not missing:
        return
    cut = cut_on_ray if ray else _cut_here
    for part, made in cut(list(missing), folder, config, workers):
        chunk, there = missing[part]
        yield chunk, there + made


def _cut_here(
    chunks: Sequence[Chunk], folder: Path, config: ClipConfig, workers: int
) -> Iterator[tuple[Chunk, list[Written]]]:
    with ProcessPoolExecutor(workers, _CONTEXT) as pool:
        running = {pool.submit(cut_chunk, chunk, folder, config): chunk for chunk in chunks}
        for future in as_completed(running):
            yield running[future], future.result()


_CONTEXT = multiprocessing.get_context("spawn")


def _kept(source: Source, out: Output) -> list[Row]:
    if out.ledger.state_of(source.key) is None:
        return []
    rows = out.ledger.read(out.ledger.part(source.key))
    return [row for row in rows if row.decision == "keep" and row.frames is not None]


def _note_clips(
    source: Source, rows: Sequence[Row], written: Sequence[Written], out: Output
) -> None:
    """Put the files, or the errors, of a source's clips into its rows."""
    by_id = {one.clip_id: one for one in written}
    noted = {}
    for row in rows:
        one = by_id[row.clip_id]
        path = one.path.relative_to(out.folder).as_posix()
        noted[row.clip_id] = (
            failed(row, "clips", one.error) if one.error else row.model_copy(update={"clip": path})
        )
    state = out.ledger.state_of(source.key)
    before = out.ledger.read(out.ledger.part(source.key))
    after = [noted.get(row.clip_id, row.model_copy(update={"clip": None})) for row in before]
    if after != before:
        out.ledger.write(source.key, after, state.final if state else True)
