"""The ledger: a row for every clip, in one Parquet file a source, written whole or not at all.

While a source is being worked on, its finished rows go to a journal beside the ledger, so that a
killed run resumes inside a long film. `python -m curation.ledger` prints the columns.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError, create_model

from captioner.schema import FIELDS, ShotCaption, arrow_struct
from curation.measure.clip import Measures
from curation.measure.columns import column
from curation.measure.embedding import DIMENSIONS

SCHEMA_VERSION = "5"


LAYOUT: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}
"""How pyarrow writes a part. Dictionaries cost more time than all the rest, and for a few hundred
rows, mostly numbers, more space than they save."""


class SourceOfField(BaseModel):
    """What saw a field of the caption, and how sure it was."""

    source: str
    confidence: float | None


CaptionSources = create_model(
    "CaptionSources",
    **cast(Any, {name: (SourceOfField | None, Field(default=None)) for name in FIELDS}),
)
"""A field for each of the 13 fields of the caption, null where the field is empty."""


class Fact(BaseModel):
    """Something known about a source: its licence, its genre."""

    name: str
    value: str


class Score(BaseModel):
    """What a model of a preset's section `models` gives a clip."""

    name: str
    value: float


def scores(known: Mapping[str, float]) -> list[Score]:
    """Scores by name, in order of their names."""
    return [Score(name=name, value=known[name]) for name in sorted(known)]


class Row(Measures):
    """A clip's row. Columns that do not apply are null."""

    clip_id: str = Field(
        description="24 hex digits: the source's sha256 with the clip's pts bounds"
    )
    source: str = Field(description="path of the source file as it was given")
    source_copies: list[str] = Field(default=[], description="paths of byte-identical files")
    source_sha256: str | None = Field(default=None, description="sha256 of the source file")
    source_bytes: int | None = Field(default=None, description="size of the source file")
    source_facts: list[Fact] = Field(default=[], description="facts that the user gave about it")
    shot: int = Field(default=0, description="number of the clip in its source, from 0")
    start: float | None = Field(default=None, description="seconds, first frame")
    end: float | None = Field(default=None, description="seconds, end of the last frame")
    start_pts: int | None = Field(default=None, description="start in ticks of time_base")
    end_pts: int | None = Field(default=None, description="end in ticks of time_base, exclusive")
    time_base: str | None = Field(default=None, description="seconds a tick, as a fraction")
    first_frame: int | None = Field(default=None, description="index of the first frame in source")
    frames: int | None = Field(default=None, description="number of frames")
    fps: float | None = Field(default=None, description="frames a second, averaged over the source")
    width: int | None = Field(default=None, description="pixels, upright, square")
    height: int | None = Field(default=None, description="pixels, upright, square")
    codec: str | None = Field(default=None, description="video codec")
    decoder: str | None = Field(default=None, description="pyav, decord or opencv")
    transition_in: str | None = Field(
        default=None, description="how the clip begins: start, cut, dissolve, fade or split"
    )
    motion_camera: list[str] | None = Field(
        default=None, description="camera moves, the strongest first; null when not measurable"
    )
    motion_truck: float | None = Field(default=None, description="frame widths/s, right positive")
    motion_pedestal: float | None = Field(default=None, description="frame heights/s, up positive")
    motion_dolly: float | None = Field(default=None, description="growth/s, forward positive")
    motion_pan: float | None = Field(default=None, description="frame widths/s, right positive")
    motion_tilt: float | None = Field(default=None, description="frame heights/s, up positive")
    motion_roll: float | None = Field(default=None, description="radians/s, clockwise positive")
    motion_zoom: float | None = Field(default=None, description="growth/s, zooming in positive")
    motion_tracking: bool | None = Field(
        default=None, description="whether a subject keeps its place while the background flows"
    )
    text_lines: list[str] = Field(default=[], description="text read on screen")
    model_scores: list[Score] = Field(default=[], description="scores by models of the preset")
    model_embedding: list[float] | None = Field(
        default=None, description="embedding by a model of the preset, of length 1"
    )
    decision: Literal["keep", "drop", "error"] = Field(description="keep, drop or error")
    reason: str | None = Field(default=None, description="why it was dropped or failed, in words")
    stage: str | None = Field(default=None, description="the stage that dropped it or failed")
    crop: list[int] | None = Field(default=None, description="x, y, w, h in pixels to cut out")
    duplicate_of: str | None = Field(default=None, description="clip_id of the kept near-duplicate")
    duplicate_cluster: str | None = Field(
        default=None, description="name of the group of near-duplicates that it is in"
    )
    concept: str | None = Field(default=None, description="what it counts as in the balance")
    sampling_weight: float | None = column("how often to draw it, relative to others", "", 0)
    clip: str | None = Field(default=None, description="path of the clip's file in the output")
    caption: ShotCaption | None = Field(default=None, description="the structured caption")
    caption_status: Literal["ok", "repaired", "truncated", "invalid", "error"] | None = Field(
        default=None, description="ok, repaired, truncated, invalid or error"
    )
    caption_engine: str | None = Field(default=None, description="the engine that captioned it")
    caption_sources: CaptionSources | None = Field(  # type: ignore[valid-type]
        default=None, description="for each field: what saw it, and how sure it was (0 to 1)"
    )
    caption_t2v: str | None = Field(default=None, description="prose for text-to-video")
    caption_i2v: str | None = Field(default=None, description="prose for image-to-video")
    caption_t2v_by: str | None = Field(
        default=None, description="what wrote caption_t2v: template, with the reason, or a model"
    )
    caption_i2v_by: str | None = Field(
        default=None, description="what wrote caption_i2v: template, with the reason, or a model"
    )
    caption_note: str | None = Field(
        default=None, description="what was mended in the caption, or went wrong on the way to it"
    )
    caption_raw: str | None = Field(default=None, description="the model's own text")
    config_hash: str = Field(description="hash of the configuration that made the row")
    warning: str | None = Field(default=None, description="damage met while decoding the source")
    error: str | None = Field(default=None, description="the error message in full")

    @property
    def scores(self) -> dict[str, float]:
        """The scores by models, by name."""
        return {one.name: one.value for one in self.model_scores}


class PartState(BaseModel):
    """What made a part of the ledger, kept in its Parquet metadata."""

    config_hash: str
    final: bool
    source: str
    source_copies: list[str]
    source_facts: list[Fact] = []


def arrow_schema() -> pa.Schema:
    """The ledger's Arrow schema; each field's metadata holds its description."""
    metadata = {"skycaptioner_schema_version": SCHEMA_VERSION}
    fields = {field.name: field for field in arrow_struct(Row)}
    typed = [fields[name].with_type(_TYPES.get(name, fields[name].type)) for name in _names()]
    return pa.schema(typed, metadata=metadata)


def _names() -> list[str]:
    """What a clip is, then what was measured, family by family, then what was decided and said."""
    families = (family for family in Measures.__bases__ if issubclass(family, BaseModel))
    measured = [name for family in families for name in family.model_fields]
    own = [name for name in Row.model_fields if name not in measured]
    at = own.index("transition_in") + 1
    return [*own[:at], *measured, *own[at:]]


_TYPES = {
    "embedding": pa.list_(pa.float32(), DIMENSIONS),
    "model_embedding": pa.list_(pa.float32()),
    "hash_sequence": pa.list_(pa.uint64()),
    "hash_changes": pa.list_(pa.uint64()),
}
"""Columns that are narrower or wider than their Python types tell."""


def arrow_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table of the ledger's schema."""
    values = [row.model_dump(mode="python", by_alias=True) for row in rows]
    return pa.Table.from_pylist(values, schema=arrow_schema())


def clip_id(source_sha256: str, start_pts: int | None, end_pts: int | None) -> str:
    """The identity of a clip: its source's content and its bounds, and nothing else."""
    return hashlib.sha256(f"{source_sha256}:{start_pts}:{end_pts}".encode()).hexdigest()[:24]


class Ledger:
    """The rows under `folder`, and in `state` what is not finished. Raises OSError."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self.state = state

    def parts(self) -> list[Path]:
        """The Parquet files, one a source, in order of name."""
        return sorted(self.folder.glob("*.parquet"))

    def part(self, source_key: str) -> Path:
        """Where a source's rows are."""
        return self.folder / f"{source_key}.parquet"

    def state_of(self, source_key: str) -> PartState | None:
        """What made a source's rows; None when there are none that can be used."""
        try:
            metadata = pq.read_metadata(self.part(source_key)).metadata or {}
        except (OSError, pa.ArrowException):
            return None
        if metadata.get(b"skycaptioner_schema_version", b"").decode() != SCHEMA_VERSION:
            return None
        try:
            return PartState.model_validate_json(metadata[b"skycaptioner_part"])
        except (KeyError, ValidationError):
            return None

    def write(self, source_key: str, rows: Sequence[Row], final: bool = True) -> Path:
        """Put a source's rows (at least one) in the place of any earlier ones.

        Rows that are not `final` are made again by the next run.
        """
        state = PartState(
            config_hash=rows[0].config_hash,
            final=final,
            source=rows[0].source,
            source_copies=rows[0].source_copies,
            source_facts=rows[0].source_facts,
        )
        table = arrow_table(rows)
        table = table.replace_schema_metadata(
            {**table.schema.metadata, "skycaptioner_part": state.model_dump_json()}
        )
        path = self.part(source_key)
        with replacing(path) as part:
            pq.write_table(table, part, **LAYOUT)
        return path

    def read(self, path: Path) -> list[Row]:
        """The rows of one part."""
        return [Row.model_validate(value) for value in pq.read_table(path).to_pylist()]

    def rows(self) -> Iterator[Row]:
        """Every row, part by part."""
        for path in self.parts():
            yield from self.read(path)

    def journal(self, source_key: str, config_hash: str) -> Journal:
        """The journal of a source that is being worked on."""
        return Journal(self.state / f"{source_key}.{config_hash}.jsonl")


class Journal:
    """The finished rows of an unfinished source, so that killing the run loses none of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def rows(self) -> dict[str, Row]:
        """Rows by clip_id; a last line cut short by a kill is left out."""
        rows: dict[str, Row] = {}
        try:
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    try:
                        row = Row.model_validate_json(line)
                    except ValidationError:
                        break
                    rows[row.clip_id] = row
        except FileNotFoundError:
            pass
        return rows

    def add(self, row: Row) -> None:
        """Append a finished row."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(row.model_dump_json(by_alias=True) + "\n")
        self._file.flush()

    def restart(self, rows: Sequence[Row]) -> None:
        """Begin again with these rows alone: what a kill cut short is gone."""
        self.discard()
        for row in rows:
            self.add(row)

    def discard(self) -> None:
        """Drop the journal: its rows are in the ledger now."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, keep it."""
        if self._file is not None:
            self._file.close()
            self._file = None


class replacing:  # noqa: N801 - reads as a verb: `with replacing(path) as part`
    """A file to write in the place of `path`, which changes only when all went well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._part

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._part.open("rb") as file:
                    os.fsync(file.fileno())
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left behind: files that were never renamed into place."""
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)


if __name__ == "__main__":
    for name, field in Row.model_fields.items():
        print(f"{name:16} {arrow_schema().field(name).type!s:.40}  {field.description}")
