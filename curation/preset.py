"""Presets: which rules a tier has, read from YAML and checked before anything is decoded.

A preset is a YAML file:

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
    models:                             # curation.scorers: models that score clips, by name
      watermark: {model: OWNER/NAME, label: watermark}    # a rule names it model_watermark

A rule takes the place of an inherited one for the same column. Bounds are kept, ends included.
A clip without a value (null, NaN, or no such caption field) is kept unless the rule says
`missing: drop`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curation.balance import BalanceConfig
from curation.measure.columns import Scale
from curation.rule_columns import DERIVED, MODEL, scales
from curation.scorers import EMBEDDING, Scorer, Scoring

T = TypeVar("T")
Keys = tuple[str | int, ...]

PRESETS = Path(__file__).with_name("presets")
"""Where the shipped presets are."""

_TARGETS = ("uniform", "tempered", "capped")

_UNITS = {("ms", "s"): 1e-3, ("min", "s"): 60.0, ("h", "s"): 3600.0}
"""Units that may be written in the place of a column's own, and how many of that they are."""

_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(.*)", re.IGNORECASE)


class PresetError(ValueError):
    """A preset that cannot be used: what is wrong, and in which line of which file."""


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
    models: dict[str, dict[str, Any]] = {}


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
            f"{word} {quantity(bound, self.unit)}" for word, bound in bounds if bound is not None
        ]
        words += [f"one of {listed(self.among)}"] if self.among else []
        words += [f"none of {listed(self.not_among)}"] if self.not_among else []
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
    """Rules in order, the options of the later stages, and models that score clips by name."""

    name: str
    rules: tuple[Rule, ...]
    crop: Section
    dedupe: Section
    balance: BalanceConfig | None
    models: Mapping[str, Scorer] = field(default_factory=dict)

    @property
    def questions(self) -> dict[str, str]:
        """What the model that captions is asked of each clip, by name."""
        return {name: one.question for name, one in self.models.items() if one.question}

    @property
    def scoring(self) -> Scoring | None:
        """The models that look at each clip; None where there are none."""
        own = [(name, one) for name, one in self.models.items() if not one.question]
        return Scoring(tuple(own)) if own else None

    def without(self, models: Iterable[str]) -> Preset:
        """The same without the rules on the scores of these models."""
        columns = {MODEL + name for name in models}
        return dataclasses.replace(
            self, rules=tuple(rule for rule in self.rules if rule.column not in columns)
        )

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
    known = dict(scales() if known is None else known)
    draft = _draft(_find(str(preset), Path(), ""))
    models = {name: _scorer(name, section) for name, section in draft.models.items()}
    for name, scorer in models.items():
        if name == EMBEDDING:
            continue
        known[MODEL + name] = scorer.scale
        if MODEL + name not in schema.names:
            schema = schema.append(pa.field(MODEL + name, pa.float64()))
    # Only now, so that a rule taken away or replaced may name a column that is not there.
    rules = tuple(
        _rule(name, body, places, schema, known) for name, (body, places) in draft.rules.items()
    )
    balance = None if draft.balance is None else _balance(draft.balance, schema)
    return Preset(draft.name, rules, draft.crop, draft.dedupe, balance, models)


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
    models: Mapping[str, Section]


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
    models = {
        name: Section(options, places.under("models", name))
        for name, options in file.models.items()
    }
    base = _Draft("", {}, crop, dedupe, balance, {})
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
        models={**base.models, **models},
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


def _scorer(name: str, section: Section) -> Scorer:
    scorer = section.make(Scorer)
    try:
        scorer.check(name)
    except ValueError as error:
        raise PresetError(f"{section.places.at()}: {error}") from None
    return scorer if scorer.head is None else _beside(scorer, section.places.file.parent)


def _beside(scorer: Scorer, folder: Path) -> Scorer:
    """A head's path is from the preset's file on."""
    return scorer.model_copy(update={"head": str(folder / (scorer.head or ""))})


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
    if bounded and not is_number(kind):
        raise PresetError(f"{places.at()}: {name} is {kind}, no number: use in or not_in")
    if listed and (is_number(kind) or pa.types.is_nested(kind)):
        raise PresetError(f"{places.at()}: {name} is {kind}: no list of values can match it")
    on = known.get(name, Scale())
    minimum = _bound(name, body.min, on, places.at(("min",)))
    maximum = _bound(name, body.max, on, places.at(("max",)))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise PresetError(
            f"{places.at(('min',))}: {name} cannot be at least {quantity(minimum, on.unit)} "
            f"and at most {quantity(maximum, on.unit)}"
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


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can have bounds."""
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
        raise PresetError(f"{where}: {name} can be {ends}, never {quantity(value, on.unit)}")
    return value


def _measured_in(on: Scale) -> str:
    return f"in {on.unit}" if on.unit else "a number without a unit"


def quantity(value: float, unit: str) -> str:
    """A number with its unit, as a preset writes it."""
    return f"{repr(float(value)).removesuffix('.0')} {unit}".rstrip()


def listed(values: Sequence[Any]) -> str:
    """Values in words."""
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
