"""Decide: a preset's rules over a ledger's measures give keep, or drop with a reason in words.

No video is opened, and the work is done a column at a time. A preset is a YAML file:

    name: mine
    extends: 360p                       # optional: a shipped preset, or a file beside this one
    rules:                              # in this order; the first that fails gives the reason
      - duration: {min: 1 s, max: 60 s}
      - short_side: {min: 360 px}
      - safety_nsfw: {max: 0.5, missing: drop}
      - source_genre: {in: [film, tv]}
      - text_area: off                  # takes an inherited rule away
    crop: {min_area: 0.8}               # handed to curation.crop
    dedupe: {}                          # handed to curation.dedupe
    balance: {by: [subject_type], to: {Human: 0.632}}   # curation.balance.BalanceConfig

A rule takes the place of an inherited one for the same column. Bounds are kept, ends included.
A clip without a value (null, NaN, or no such caption field) is kept unless the rule says
`missing: drop`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curation.balance import BalanceConfig
from curation.ledger import Row, replacing
from curation.measure.columns import Scale, scale

T = TypeVar("T")
Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Keys = tuple[str | int, ...]

FACT = "source_"
"""What the name of a fact about the source begins with, as a column."""

STAGE = "decide"
"""What the column `stage` says of a clip that a rule dropped."""

PRESETS = Path(__file__).with_name("presets")
"""Where the shipped presets are."""

_TARGETS = ("uniform", "tempered", "capped")

_UNITS = {("ms", "s"): 1e-3, ("min", "s"): 60.0, ("h", "s"): 3600.0}
"""Units that may be written in the place of a column's own, and how many of that they are."""

_LARGE = 1 << 20
"""Bytes of a column chunk: the size at which Parquet writers give a dictionary up."""

_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(.*)", re.IGNORECASE)


class PresetError(ValueError):
    """A preset that cannot be used: what is wrong, and in which line of which file."""


class LedgerError(Exception):
    """A ledger that is not there, or a part of it that cannot be read."""


# ---- columns -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Derived:
    """A column computed from others. `inputs` are Parquet paths; `scale` is None for text."""

    inputs: tuple[str, ...]
    compute: Callable[[pa.Table], Any]
    scale: Scale | None = None


def _number(table: pa.Table, name: str) -> Float:
    """A column as (N,) float64, NaN where it is null."""
    return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(), np.float64)


def _duration(table: pa.Table) -> Float:
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


def _whole(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _shot_field(field: str) -> Derived:
    """A field of the caption."""

    def compute(table: pa.Table) -> Any:
        return _text(pc.struct_field(table["caption"], field))

    return Derived((f"caption.{field}",), compute)


def _subject_field(field: str) -> Derived:
    """A field of the TYPES of the first subject marked as the main one."""

    def compute(table: pa.Table) -> Any:
        subjects = _whole(pc.struct_field(table["caption"], "subjects"))
        each = pc.list_flatten(subjects)
        main = np.flatnonzero(pc.fill_null(pc.struct_field(each, "is_main_subject"), False))
        clips = pc.list_parent_indices(subjects).to_numpy()[main]
        types = _text(pc.struct_field(each, ["TYPES", field]))
        return _first_of(len(table), clips, types.take(pa.array(main)))

    subject = "caption.subjects.list.element"
    return Derived((f"{subject}.TYPES.{field}", f"{subject}.is_main_subject"), compute)


def _camera_move(table: pa.Table) -> Any:
    moves = _whole(table["motion_camera"])
    return _first_of(len(table), pc.list_parent_indices(moves).to_numpy(), pc.list_flatten(moves))


def _first_of(rows: int, parents: NDArray[np.int_], values: pa.Array) -> pa.Array:
    """For each row the first of the values that have it as their parent, or null."""
    owners, first = np.unique(parents, return_index=True)
    index = np.full(rows, -1)
    index[owners] = first
    return values.take(pa.array(index, mask=index < 0))


DERIVED: Mapping[str, Derived] = {
    "duration": Derived(("start", "end"), _duration, Scale("s", 0)),
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
    return ("source_facts",) if is_fact(name) else (name,)


def is_fact(name: str) -> bool:
    """Whether a column is a fact that the user gave about the source."""
    return name.startswith(FACT) and name not in Row.model_fields


def _fact(table: pa.Table, name: str) -> Any:
    facts = _whole(table["source_facts"])
    each = pc.list_flatten(facts)
    own = np.flatnonzero(pc.equal(pc.struct_field(each, "name"), name.removeprefix(FACT)))
    rows = pc.list_parent_indices(facts).to_numpy()[own]
    return _first_of(len(table), rows, pc.struct_field(each, "value").take(pa.array(own)))


def column(table: pa.Table, name: str) -> Any:
    """A column of the table or a derived one, as an Arrow array; KeyError where it lacks inputs."""
    if name in table.column_names:
        return table[name]
    if is_fact(name):
        return _fact(table, name)
    if name not in DERIVED:
        raise KeyError(name)
    found = DERIVED[name].compute(table)
    return pa.array(found, from_pandas=True) if isinstance(found, np.ndarray) else found


# ---- presets -------------------------------------------------------------------------------


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min: float | str | None = None
    max: float | str | None = None
    in_: Annotated[list[Any], Field(min_length=1)] | None = Field(default=None, alias="in")
    not_in: Annotated[list[Any], Field(min_length=1)] | None = None
    missing: Literal["keep", "drop"] = "keep"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str | None = None
    extends: str | None = None
    rules: list[dict[str, Any]] = []
    crop: dict[str, Any] = {}
    dedupe: dict[str, Any] = {}
    balance: dict[str, Any] | None = None


@dataclass(frozen=True)
class Rule:
    """What a column must be. `minimum` and `maximum` are in `unit`, the column's own.

    `place` is the file and line that it comes from.
    """

    column: str
    minimum: float | None = None
    maximum: float | None = None
    among: tuple[Any, ...] | None = None
    not_among: tuple[Any, ...] | None = None
    missing: Literal["keep", "drop"] = "keep"
    unit: str = ""
    place: str = ""

    @property
    def threshold(self) -> str:
        """The condition in words."""
        bounds = (("at least", self.minimum), ("at most", self.maximum))
        words = [
            f"{word} {_quantity(bound, self.unit)}" for word, bound in bounds if bound is not None
        ]
        words += [f"one of {_listed(self.among)}"] if self.among else []
        words += [f"none of {_listed(self.not_among)}"] if self.not_among else []
        return ", ".join(words + ["not missing"] * (self.missing == "drop"))


@dataclass(frozen=True)
class Section:
    """Options for a later stage, as they stand in the file, and the place of each of them."""

    values: Mapping[str, Any]
    places: _Places

    def make(self, kind: type[T]) -> T:
        """A value of a (pydantic or data) class from the options. Raises PresetError."""
        fields: Mapping[str, Any] = {}
        if dataclasses.is_dataclass(kind):
            fields = {field.name: field for field in dataclasses.fields(kind)}
        elif issubclass(kind, BaseModel):
            fields = kind.model_fields
        for name in self.values:
            if name not in fields:
                known = ", ".join(fields)
                raise PresetError(
                    f"{self.places.at((name,))}: no option {name!r}; there are {known}"
                )
        try:
            return TypeAdapter(kind).validate_python(dict(self.values))
        except ValidationError as error:
            raise self.places.error(error) from None
        except (TypeError, ValueError) as error:
            raise PresetError(f"{self.places.at()}: {error}") from None


@dataclass(frozen=True)
class Preset:
    """Rules in order, and the options of the later stages."""

    name: str
    rules: tuple[Rule, ...]
    crop: Section
    dedupe: Section
    balance: BalanceConfig | None

    def columns(self) -> list[str]:
        """Columns that the rules and the balance need, some of them derived."""
        by = self.balance.by if self.balance else ()
        return list(dict.fromkeys([*(rule.column for rule in self.rules), *by]))


@dataclass(frozen=True)
class _Places:
    """The file and line of every key and item of a YAML file."""

    file: Path
    lines: Mapping[Keys, int]
    root: Keys = ()

    def at(self, keys: Keys = ()) -> str:
        """FILE:LINE of the deepest of the keys that is in the file."""
        return f"{self.file}:{self.lines.get((*self.root, *self._known(keys)), 1)}"

    def under(self, *keys: str | int) -> _Places:
        """The places below some keys."""
        return _Places(self.file, self.lines, (*self.root, *keys))

    def error(self, error: ValidationError) -> PresetError:
        """The one thing that pydantic found wrong deepest in the file."""
        # Of a union it tells what each branch found; its keys name the branches too.
        wrong = max(error.errors(), key=lambda one: len(self._known(one["loc"])))
        keys = self._known(wrong["loc"])
        message = wrong["msg"].removeprefix("Value error, ")
        if wrong["type"] == "extra_forbidden":
            message = "there is no such option"
        name = f"{'.'.join(map(str, keys))}: " if keys else ""
        return PresetError(f"{self.at(keys)}: {name}{message}")

    def _known(self, keys: Keys) -> Keys:
        """The keys that are in the file."""
        known: Keys = ()
        for key in keys:
            if (*self.root, *known, key) in self.lines:
                known = (*known, key)
        return known


def shipped() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(
    preset: str | Path, schema: pa.Schema, known: Mapping[str, Scale] | None = None
) -> Preset:
    """A preset by name or path, checked against a ledger's schema and the scales of its columns.

    The schema has the columns of facts about the sources too, if there are any. `known` is
    `scales()` unless given. Raises PresetError for anything that could not be decided later.
    """
    known = scales() if known is None else known
    draft = _draft(_find(str(preset), Path(), ""))
    # Only now, so that a rule taken away or replaced may name a column that is not there.
    rules = tuple(
        _rule(name, body, places, schema, known) for name, (body, places) in draft.rules.items()
    )
    balance = None if draft.balance is None else _balance(draft.balance, schema)
    return Preset(draft.name, rules, draft.crop, draft.dedupe, balance)


def _find(preset: str, beside: Path, where: str) -> Path:
    """A preset's file: a name of a shipped one, or a path."""
    if preset in shipped():
        return PRESETS / f"{preset}.yaml"
    if (path := beside / preset).is_file():
        return path
    raise PresetError(
        f"{where}there is no preset {preset!r}: name a YAML file or one of {', '.join(shipped())}"
    )


@dataclass(frozen=True)
class _Draft:
    """A preset before it is checked: what each rule and section says, and where."""

    name: str
    rules: Mapping[str, tuple[Any, _Places]]
    crop: Section
    dedupe: Section
    balance: Section | None


def _draft(path: Path, chain: tuple[Path, ...] = ()) -> _Draft:
    """A file, with what it extends. `chain` is what extends this file."""
    content, places = _read_yaml(path)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise places.error(error) from None
    crop = Section(file.crop, places.under("crop"))
    dedupe = Section(file.dedupe, places.under("dedupe"))
    balance = None if file.balance is None else Section(file.balance, places.under("balance"))
    base = _Draft("", {}, crop, dedupe, balance)
    if file.extends is not None:
        where = places.at(("extends",))
        chain = (*chain, path.resolve())
        parent = _find(file.extends, path.parent, f"{where}: ").resolve()
        if parent in chain:
            raise PresetError(f"{where}: {file.extends} extends this preset itself")
        base = _draft(parent, chain)
    return _Draft(
        name=file.name or path.stem,
        rules=_merged(file.rules, places.under("rules"), base.rules),
        crop=crop if "crop" in content else base.crop,
        dedupe=dedupe if "dedupe" in content else base.dedupe,
        balance=balance or base.balance,
    )


def _read_yaml(path: Path) -> tuple[dict[str, Any], _Places]:
    """A YAML file that holds a mapping, and the line of everything in it."""
    try:
        text = path.read_text(encoding="utf-8")
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AnchorToken):
                line = token.start_mark.line + 1
                raise PresetError(f"{path}:{line}: anchors (&{token.value}) are not supported")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise PresetError(f"{path}:1: not a preset: it holds no `key: value` lines")
        content = yaml.safe_load(text)
        lines: dict[Keys, int] = {}
        _note_lines(path, node, (), lines)
        return content, _Places(path, lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        raise PresetError(f"{path}:{mark.line + 1 if mark else 1}: {problem}") from None
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: not a text file in UTF-8") from None
    except RecursionError:
        raise PresetError(f"{path}: nested too deeply") from None


def _note_lines(file: Path, node: yaml.Node, keys: Keys, lines: dict[Keys, int]) -> None:
    """Put the line of each key and item in `lines`. Refuses a key that is there twice."""
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            line = name.start_mark.line + 1
            if (*keys, name.value) in lines:
                raise PresetError(f"{file}:{line}: {name.value!r} is here twice")
            lines[(*keys, name.value)] = line
            _note_lines(file, value, (*keys, name.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _note_lines(file, item, (*keys, i), lines)


def _merged(
    entries: Sequence[Mapping[str, Any]],
    places: _Places,
    inherited: Mapping[str, tuple[Any, _Places]],
) -> dict[str, tuple[Any, _Places]]:
    """The inherited rules with those of the file in their place, or after them."""
    rules = dict(inherited)
    own: set[str] = set()
    for i, entry in enumerate(entries):
        if len(entry) != 1:
            raise PresetError(f"{places.at((i,))}: a rule is one `column: {{...}}`")
        ((name, body),) = entry.items()
        where = places.under(i, name)
        if name in own:
            raise PresetError(f"{where.at()}: a second rule for {name}")
        own.add(name)
        if body is not False:
            rules[name] = (body, where)
        elif rules.pop(name, None) is None:  # `off`
            raise PresetError(f"{where.at()}: there is no inherited rule for {name}")
    return rules


def _rule(
    name: str, content: Any, places: _Places, schema: pa.Schema, known: Mapping[str, Scale]
) -> Rule:
    kind = _type(name, schema, places.at())
    if not isinstance(content, dict):
        raise PresetError(f"{places.at()}: a rule is one `{name}: {{min: ..., max: ...}}`")
    try:
        body = _Body.model_validate(content)
    except ValidationError as error:
        raise places.error(error) from None
    bounded = body.min is not None or body.max is not None
    listed = body.in_ is not None or body.not_in is not None
    if not bounded and not listed and body.missing == "keep":
        raise PresetError(f"{places.at()}: {name} has no min, max, in or not_in")
    if bounded and not _is_number(kind):
        raise PresetError(f"{places.at()}: {name} is {kind}, no number: use in or not_in")
    if listed and (_is_number(kind) or pa.types.is_nested(kind)):
        raise PresetError(f"{places.at()}: {name} is {kind}: no list of values can match it")
    on = known.get(name, Scale())
    minimum = _bound(name, body.min, on, places.at(("min",)))
    maximum = _bound(name, body.max, on, places.at(("max",)))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise PresetError(
            f"{places.at(('min',))}: {name} cannot be at least {_quantity(minimum, on.unit)} "
            f"and at most {_quantity(maximum, on.unit)}"
        )
    for key, values in (("in", body.in_), ("not_in", body.not_in)):
        try:
            pa.array(values or [], kind)
        except (pa.ArrowException, TypeError):
            raise PresetError(f"{places.at((key,))}: values of {name} are {kind}") from None
    return Rule(
        column=name,
        minimum=minimum,
        maximum=maximum,
        among=None if body.in_ is None else tuple(body.in_),
        not_among=None if body.not_in is None else tuple(body.not_in),
        missing=body.missing,
        unit=on.unit,
        place=places.at(),
    )


def _type(name: str, schema: pa.Schema, where: str) -> pa.DataType:
    """The Arrow type of a column of the ledger or a derived one. PresetError if there is none."""
    if name in schema.names:
        return schema.field(name).type
    needed = [path.split(".")[0] for path in DERIVED[name].inputs] if name in DERIVED else [name]
    if missing := [root for root in needed if root not in schema.names]:
        close = difflib.get_close_matches(name, [*schema.names, *DERIVED], n=1)
        hint = f": did you mean {close[0]}?" if close else ""
        raise PresetError(f"{where}: the ledger has no column {missing[0]}{hint}")
    return pa.float64() if DERIVED[name].scale else pa.string()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _bound(name: str, bound: float | str | None, on: Scale, where: str) -> float | None:
    """A bound in the column's unit."""
    if bound is None:
        return None
    match = _QUANTITY.fullmatch(str(bound).strip())
    if match is None:
        raise PresetError(f"{where}: {bound!r} is no number with a unit")
    value, unit = float(match[1]), match[2]
    if unit == "%" and not on.unit and on.high == 1:
        value /= 100
    elif (unit, on.unit) in _UNITS:
        value *= _UNITS[unit, on.unit]
    elif unit not in ("", on.unit):
        raise PresetError(f"{where}: {name} is {_measured_in(on)}, not in {unit!r}")
    if not math.isfinite(value):
        raise PresetError(f"{where}: {bound!r} is too large")
    low, high = on.low, on.high
    if (low is not None and value < low) or (high is not None and value > high):
        ends = (
            f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
        )
        raise PresetError(f"{where}: {name} can be {ends}, never {_quantity(value, on.unit)}")
    return value


def _measured_in(on: Scale) -> str:
    return f"in {on.unit}" if on.unit else "a number without a unit"


def _quantity(value: float, unit: str) -> str:
    return f"{repr(float(value)).removesuffix('.0')} {unit}".rstrip()


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _balance(section: Section, schema: pa.Schema) -> BalanceConfig:
    places, to = section.places, section.values.get("to")
    if isinstance(to, str) and to not in _TARGETS:
        shares = _read_shares(places.file.parent / to, places.at(("to",)))
        section = Section({**section.values, "to": shares}, places)
    config = section.make(BalanceConfig)
    for i, name in enumerate(config.by):
        where = places.at(("by", i))
        if pa.types.is_nested(kind := _type(name, schema, where)):
            raise PresetError(f"{where}: {name} is {kind}: no concept can be made of it")
    return config


def _read_shares(path: Path, where: str) -> dict[str, Any]:
    """Shares by concept from a YAML or JSON file, which holds one mapping."""
    if not path.is_file():
        targets = ", ".join(_TARGETS)
        raise PresetError(f"{where}: there is no file {path}: name one, or one of {targets}")
    return _read_yaml(path)[0]


# ---- decisions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Decisions:
    """What the rules say of N clips.

    dropped: (R, N) bool, which rule drops which clip. No rule drops a row that is an error.
    failed: (N,) bool, rows that are errors and stay so.
    seconds: (N,) float64, 0 where it is not known.
    reason, stage: (N,) Arrow strings, null for a clip that is kept; those of errors as they were.
    """

    rules: tuple[Rule, ...]
    dropped: Bool
    failed: Bool
    seconds: Float
    reason: pa.Array
    stage: pa.Array

    @cached_property
    def first(self) -> NDArray[np.int_]:
        """(N,) int: the first rule that drops each clip, or -1."""
        return _first_true(self.dropped)

    @cached_property
    def keep(self) -> Bool:
        """(N,) bool."""
        return (self.first < 0) & ~self.failed

    @property
    def decision(self) -> pa.Array:
        """(N,) Arrow strings: keep, drop or error."""
        return pc.if_else(
            pa.array(self.failed), "error", pc.if_else(pa.array(self.keep), "keep", "drop")
        )

    def columns(self) -> dict[str, pa.Array]:
        """The columns of the ledger."""
        return {"decision": self.decision, "reason": self.reason, "stage": self.stage}


@dataclass(frozen=True)
class RuleCount:
    """Clips that a rule drops and no other rule does (`alone`), all that it drops, and the hours
    of both."""

    rule: str
    threshold: str
    alone: int
    hours_alone: float
    total: int
    hours: float


@dataclass(frozen=True)
class Moved:
    """Clips that changed sides."""

    kept_to_dropped: int
    dropped_to_kept: int


def decide(table: pa.Table, preset: Preset) -> Decisions:
    """Apply the rules to every row of a table of `needed` columns. Pure.

    Raises KeyError for a column that is not there; `load_preset` has checked for that.
    """
    rules = preset.rules
    failed = _mask(pc.equal(table["decision"], "error"))
    dropped = np.zeros((len(rules), len(table)), np.bool_)
    values = [column(table, rule.column) for rule in rules]
    for i, rule in enumerate(rules):
        dropped[i] = _fails(values[i], rule) & ~failed
    first = _first_true(dropped)
    reasons, rows = [table["reason"].filter(pa.array(failed))], [np.flatnonzero(failed)]
    for i, rule in enumerate(rules):
        rows.append(np.flatnonzero(first == i))
        reasons.append(_reasons(values[i].take(pa.array(rows[-1])), rule))
    order = np.full(len(table), -1)
    order[np.concatenate(rows)] = np.arange(sum(map(len, rows)))
    texts = pa.concat_arrays([_whole(pc.cast(some, pa.string())) for some in reasons])
    stage = pc.if_else(
        pa.array(first >= 0), STAGE, pc.if_else(pa.array(failed), table["stage"], None)
    )
    seconds = np.nan_to_num(_duration(table), nan=0.0)
    return Decisions(
        rules=rules,
        dropped=dropped,
        failed=failed,
        seconds=seconds,
        reason=texts.take(pa.array(order, mask=order < 0)),
        stage=_whole(pc.cast(stage, pa.string())),
    )


def needed(preset: Preset) -> list[str]:
    """The Parquet paths that `decide` and the preset's balance read."""
    return inputs(["clip_id", "decision", "reason", "stage", "duration", *preset.columns()])


def funnel(decisions: Decisions) -> list[RuleCount]:
    """What each rule drops, in the preset's order."""
    only = decisions.dropped.sum(axis=0) == 1
    counts = []
    for rule, dropped in zip(decisions.rules, decisions.dropped):
        alone = dropped & only
        counts.append(
            RuleCount(
                rule=rule.column,
                threshold=rule.threshold,
                alone=int(alone.sum()),
                hours_alone=float(decisions.seconds[alone].sum() / 3600),
                total=int(dropped.sum()),
                hours=float(decisions.seconds[dropped].sum() / 3600),
            )
        )
    return counts


def moved(before: Any, after: Any) -> Moved:
    """Clips that changed sides between two columns `decision`."""
    kept, keeps = _mask(pc.equal(before, "keep")), _mask(pc.equal(after, "keep"))
    dropped, drops = _mask(pc.equal(before, "drop")), _mask(pc.equal(after, "drop"))
    return Moved(int((kept & drops).sum()), int((dropped & keeps).sum()))


def _mask(column: Any) -> Bool:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)


def _first_true(dropped: Bool) -> NDArray[np.int_]:
    if not len(dropped):
        return np.full(dropped.shape[1], -1)
    return np.where(dropped.any(axis=0), dropped.argmax(axis=0), -1)


def _fails(values: Any, rule: Rule) -> Bool:
    """(N,) bool: the rows that the rule drops."""
    missing = _mask(pc.is_null(values, nan_is_null=True))
    fails = missing & (rule.missing == "drop")
    if rule.minimum is not None or rule.maximum is not None:
        numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
        fails |= (numbers < _or(rule.minimum, -np.inf)) | (numbers > _or(rule.maximum, np.inf))
    kind = values.type
    if rule.among is not None:
        fails |= ~missing & ~_mask(pc.is_in(values, value_set=pa.array(rule.among, kind)))
    if rule.not_among is not None:
        fails |= ~missing & _mask(pc.is_in(values, value_set=pa.array(rule.not_among, kind)))
    return fails


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def _reasons(values: Any, rule: Rule) -> Any:
    """In words, why the rule drops clips with these values, all of which fail it."""
    gap = f" {rule.unit}" if rule.unit else ""
    if _is_number(values.type):
        numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
        low, high = _or(rule.minimum, -np.inf), _or(rule.maximum, np.inf)
        shown = pc.cast(pa.array(_rounded(numbers, low, high)), pa.string())
        texts = pc.if_else(
            pa.array(numbers < low),
            pc.binary_join_element_wise(shown, f"{gap} is below {_quantity(low, rule.unit)}", ""),
            pc.binary_join_element_wise(shown, f"{gap} is above {_quantity(high, rule.unit)}", ""),
        )
        texts = pc.if_else(pa.array(np.isnan(numbers)), "is missing", texts)
    else:
        shown = pc.cast(values, pa.string())
        excluded = pc.is_in(values, value_set=pa.array(rule.not_among or (), values.type))
        texts = pc.if_else(
            excluded,
            pc.binary_join_element_wise(shown, "is excluded", " "),
            pc.binary_join_element_wise(shown, f"is not one of {_listed(rule.among or ())}", " "),
        )
        texts = pc.fill_null(texts, "is missing")
    return pc.binary_join_element_wise(rule.column, texts, " ")


def _rounded(numbers: Float, low: float, high: float) -> Float:
    """To four significant digits, where that leaves a number outside of the bounds."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        digits = 3 - np.floor(np.log10(np.abs(numbers)))
        rounded = np.round(numbers * 10**digits) / 10**digits
    return np.where((rounded < low) | (rounded > high), rounded, numbers)


# ---- the ledger ----------------------------------------------------------------------------


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
        if all(_whole(before[name].slice(start, part.rows)).equals(new[name]) for name in new):
            return False
        _rewrite(part.path, new)
        return True

    starts = np.cumsum([0, *(part.rows for part in parts)]).tolist()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(write, parts, starts))


def _rewrite(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Replace columns of a part, keeping its schema, metadata, encodings and compression."""
    table, layout = _readable(_read_part, path)
    for name, values in columns.items():
        i = table.schema.get_field_index(name)
        table = table.set_column(
            i, table.schema.field(i), pc.cast(values, table.schema.field(i).type)
        )
    with replacing(path) as part:
        pq.write_table(table, part, **layout)


def _read_columns(path: Path, columns: list[str]) -> pa.Table:
    # Not read_table, which cannot name a leaf below a list.
    with pq.ParquetFile(path) as file:
        return file.read(columns, use_threads=False)


def _read_part(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """A part, and the arguments that write it with the same encodings and compression."""
    with pq.ParquetFile(path) as file:
        table = file.read(use_threads=False)
        if not file.metadata.num_row_groups:
            return table, {}
        group = file.metadata.row_group(0)
        chunks = [group.column(i) for i in range(group.num_columns)]
    return table, {
        "compression": {chunk.path_in_schema: _codec(chunk) for chunk in chunks},
        "use_dictionary": [chunk.path_in_schema for chunk in chunks if _dictionary(chunk)],
    }


def _codec(chunk: Any) -> str:
    """The codec of a column chunk; none where a large one saves less than a tenth (embeddings)."""
    large = chunk.total_uncompressed_size >= _LARGE
    saves = chunk.total_compressed_size < 0.9 * chunk.total_uncompressed_size
    return str(chunk.compression) if saves or not large else "NONE"


def _dictionary(chunk: Any) -> bool:
    """Whether a column chunk is worth a dictionary: it had one, and is small because of it."""
    return bool(chunk.has_dictionary_page and chunk.total_uncompressed_size < _LARGE)


def _readable(read: Callable[..., T], path: Path, **options: Any) -> T:
    """What reading a part gives. Raises LedgerError, with the file's name."""
    try:
        return read(path, **options)
    except (OSError, pa.ArrowException) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LedgerError(f"{path}: cannot be read: {line}") from None
