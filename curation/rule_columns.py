"""The columns that a preset's rules can name: measured, derived from others, or facts of the user.

Nothing here opens a video: a table of the ledger's columns goes in, a column comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.ledger import Row
from curation.measure.columns import Scale, scale

Float = NDArray[np.float64]

FACT = "source_"
"""What the name of a fact about the source begins with, as a column."""


MODEL = "model_"
"""What the name of a score by a model of the preset begins with, as a column."""


@dataclass(frozen=True)
class Derived:
    """A column computed from others. `inputs` are Parquet paths; `scale` is None for text."""

    inputs: tuple[str, ...]
    compute: Callable[[pa.Table], Any]
    scale: Scale | None = None


def _number(table: pa.Table, name: str) -> Float:
    """A column as (N,) float64, NaN where it is null."""
    return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(), np.float64)


def durations(table: pa.Table) -> Float:
    """(N,) seconds, NaN where a row has none."""
    return _number(table, "end") - _number(table, "start")


def _short_side(table: pa.Table) -> Float:
    return np.minimum(_number(table, "width"), _number(table, "height"))


def _aspect_ratio(table: pa.Table) -> Float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(table, "width") / _number(table, "height")


def _megapixels(table: pa.Table) -> Float:
    return _number(table, "width") * _number(table, "height") / 1e6


def _text(texts: Any) -> Any:
    """Empty texts as nulls."""
    return pc.if_else(pc.equal(texts, ""), None, texts)


def whole(column: Any) -> pa.Array:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def placed(values: pa.Array, rows: NDArray[np.int_], length: int) -> pa.Array:
    """(length,) the values in these rows, null in the others."""
    index = np.full(length, -1)
    index[rows] = np.arange(len(rows))
    return values.take(pa.array(index, mask=index < 0))


def _shot_field(field: str) -> Derived:
    """A field of the caption."""

    def compute(table: pa.Table) -> Any:
        return _text(pc.struct_field(table["caption"], field))

    return Derived((f"caption.{field}",), compute)


def _subject_field(field: str) -> Derived:
    """A field of the TYPES of the first subject marked as the main one."""

    def compute(table: pa.Table) -> Any:
        subjects = whole(pc.struct_field(table["caption"], "subjects"))
        each = pc.list_flatten(subjects)
        main = np.flatnonzero(pc.fill_null(pc.struct_field(each, "is_main_subject"), False))
        clips = pc.list_parent_indices(subjects).to_numpy()[main]
        types = _text(pc.struct_field(each, ["TYPES", field]))
        return _first_of(len(table), clips, types.take(pa.array(main)))

    subject = "caption.subjects.list.element"
    return Derived((f"{subject}.TYPES.{field}", f"{subject}.is_main_subject"), compute)


def _camera_move(table: pa.Table) -> Any:
    moves = whole(table["motion_camera"])
    return _first_of(len(table), pc.list_parent_indices(moves).to_numpy(), pc.list_flatten(moves))


def _first_of(rows: int, parents: NDArray[np.int_], values: pa.Array) -> pa.Array:
    """For each row the first of the values that have it as their parent, or null."""
    owners, first = np.unique(parents, return_index=True)
    return placed(values.take(pa.array(first)), owners, rows)


DERIVED: Mapping[str, Derived] = {
    "duration": Derived(("start", "end"), durations, Scale("s", 0)),
    "short_side": Derived(("width", "height"), _short_side, Scale("px", 0)),
    "aspect_ratio": Derived(("width", "height"), _aspect_ratio, Scale("", 0)),
    "megapixels": Derived(("width", "height"), _megapixels, Scale("MP", 0)),
    "camera_move": Derived(("motion_camera",), _camera_move),
    "subject_type": _subject_field("type"),
    "subject_sub_type": _subject_field("sub_type"),
    **{
        name: _shot_field(name)
        for name in ("shot_type", "shot_angle", "shot_position", "camera_motion")
    },
}
"""Columns that rules and balance can use although the ledger does not hold them: seconds, pixels,
width / height, millions of pixels, the first of `motion_camera`, and fields of the caption."""

_BASIC = {
    "width": Scale("px", 0),
    "height": Scale("px", 0),
    "fps": Scale("fps", 0),
    "start": Scale("s", 0),
    "end": Scale("s", 0),
    "frames": Scale("", 0),
}


def scales() -> dict[str, Scale]:
    """The unit and range of every number that a rule can bound: measured, basic and derived."""
    measured = {name: found for name in Row.model_fields if (found := scale(Row, name))}
    derived = {name: column.scale for name, column in DERIVED.items() if column.scale}
    return {**_BASIC, **measured, **derived}


def inputs(names: Sequence[str]) -> list[str]:
    """The Parquet paths to read for columns of the ledger or derived ones, each once."""
    paths = (_inputs(name) for name in names)
    return list(dict.fromkeys(path for of_one in paths for path in of_one))


def _inputs(name: str) -> tuple[str, ...]:
    if name in DERIVED:
        return DERIVED[name].inputs
    return (_HELD_IN[prefix][0],) if (prefix := _prefix(name)) else (name,)


_HELD_IN = {FACT: ("source_facts", pa.string()), MODEL: ("model_scores", pa.float64())}
"""The columns of names with values, by what the name of one begins with as a column of its own."""


def is_named(name: str) -> bool:
    """Whether a column is a fact that the user gave about the source, or a model's score."""
    return _prefix(name) is not None


def _prefix(name: str) -> str | None:
    if name in Row.model_fields:
        return None
    return next((prefix for prefix in _HELD_IN if name.startswith(prefix)), None)


def named_columns(table: pa.Table) -> list[pa.Field]:
    """A field for each fact and score that a row has; the table has the columns that hold them."""
    found = []
    for prefix, (held_in, kind) in _HELD_IN.items():
        names = pc.struct_field(pc.list_flatten(table[held_in]), "name")
        found += [pa.field(prefix + name, kind) for name in sorted(pc.unique(names).to_pylist())]
    return found


HELD_IN = tuple(held_in for held_in, _ in _HELD_IN.values())
"""The columns that `named_columns` looks at."""


def _named(table: pa.Table, prefix: str, name: str) -> Any:
    held = whole(table[_HELD_IN[prefix][0]])
    each = pc.list_flatten(held)
    own = np.flatnonzero(pc.equal(pc.struct_field(each, "name"), name.removeprefix(prefix)))
    rows = pc.list_parent_indices(held).to_numpy()[own]
    return _first_of(len(table), rows, pc.struct_field(each, "value").take(pa.array(own)))


def column(table: pa.Table, name: str) -> Any:
    """A column of the table or a derived one, as an Arrow array; KeyError where it lacks inputs."""
    if name in table.column_names:
        return table[name]
    if prefix := _prefix(name):
        return _named(table, prefix, name)
    if name not in DERIVED:
        raise KeyError(name)
    found = DERIVED[name].compute(table)
    return pa.array(found, from_pandas=True) if isinstance(found, np.ndarray) else found
