"""A model's text to a structured caption. Never raises, never says what the text does not say.

For engines whose decoding is not constrained to the schema, and for what a token budget cuts off.
The faults are those that users of the released script report (SkyReels-V2 issues 83 and 84) and
that language models are known for: prose and fences around the JSON, single quotes, Python's
literals, forgotten commas, quotes and brackets, repeated keys, other spellings of keys and options,
repetition loops, ends in the middle. Linear in the length of the text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import BaseModel

from captioner.loops import COPIES, cut_loops
from captioner.loose_json import Cut, Reading, Shape, Value, is_empty, read_object, squash, unescape
from captioner.schema import MAX_SUBJECTS, ShotCaption, Subject, SubjectTypes, options


@dataclass(frozen=True)
class Parsed:
    """What a text says. `caption` is None exactly where `status` is invalid.

    ok: the text is a caption as the schema has it. repaired: mended, or fields were left out.
    truncated: the end is missing; what was complete is kept. `notes`: what was mended, in words.
    """

    status: Literal["ok", "repaired", "truncated", "invalid"]
    caption: ShotCaption | None
    notes: tuple[str, ...]


def parse(text: str, finished: bool = True) -> Parsed:
    """The caption in a model's text; `finished`: whether the model ended it by itself.

    Of a cut-off prose the whole sentences are kept, of a cut-off option, word or flag nothing.
    """
    mending = _Mending()
    tree, closed = _strict(text, mending), True
    if tree is None:
        reading = _loose(text, mending)
        if reading is None:
            return Parsed("invalid", None, ("no JSON object and no field of a caption",))
        tree, closed = reading.tree, reading.closed
    fields = mending.caption(tree)
    notes = mending.said()
    if notes and not any(fields.values()):
        return Parsed("invalid", None, (*notes, "no complete field of a caption"))
    caption = ShotCaption.model_validate(fields)
    if not closed and (not finished or mending.lacking):
        return Parsed("truncated", caption, notes)
    return Parsed("repaired" if notes else "ok", caption, notes)


# --- reading --------------------------------------------------------------------------------------


def _names(model: type[BaseModel]) -> dict[str, str]:
    """The fields of a model by their names in JSON and by these as `squash` spells them."""
    names = [info.alias or name for name, info in model.model_fields.items()]
    return {squash(name): name for name in names} | {name: name for name in names}


_CAPTION, _SUBJECT, _TYPES = (_names(model) for model in (ShotCaption, Subject, SubjectTypes))
_SHAPE = Shape(
    tuple(dict.fromkeys(_CAPTION.values())),
    {
        "subjects": Shape(
            tuple(dict.fromkeys(_SUBJECT.values())),
            {"types": Shape(tuple(dict.fromkeys(_TYPES.values())))},
        )
    },
)

_THOUGHT = "</think>"
_SPECIAL = re.compile(r"<\|[a-z_]{1,30}\|>")
_ESCAPED = re.compile(r"\{\s*+\\\"\w")
_FIRST_KEY = (
    r"(?:subjects|shot[ _-]?(?:type|angle|position)|camera[ _-]?motion|environment|lighting)"
)
_ROOT = re.compile(rf"\{{\s*+[\"'“‘`*]{{0,4}}+{_FIRST_KEY}", re.IGNORECASE)
_BODY = re.compile(rf"\b{_FIRST_KEY}[\"'”’`*]{{0,4}}+\s*+[:=]", re.IGNORECASE)
_STARTS = 3
"""Objects that are tried at most, beside the last: a model may show a draft before its answer."""


def _strict(text: str, mending: _Mending) -> dict[str, Value] | None:
    """The object that a text of JSON is; None where it is none with a field of a caption."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                mending.note("repeated key dropped")
            if name not in found or is_empty(found[name]):
                found[name] = value
        return found

    def number(written: str) -> str:
        mending.note("a number read as text")
        return written

    def constant(_: str) -> None:
        mending.note("NaN read as nothing")

    try:
        tree = json.loads(
            text,
            object_pairs_hook=members,
            parse_int=number,
            parse_float=number,
            parse_constant=constant,
        )
    except (ValueError, RecursionError):
        tree = None
    if isinstance(tree, dict) and any(name in _CAPTION for name in tree):
        return tree
    mending.notes.clear()
    return None


def _loose(text: str, mending: _Mending) -> Reading | None:
    """The object in a text that has the most fields of a caption, the first of those."""
    text = text[text.rfind(_THOUGHT) + len(_THOUGHT) :] if _THOUGHT in text else text
    text, marks = _SPECIAL.subn(" ", text)
    if marks:
        mending.note("special tokens dropped")
    if _ESCAPED.search(text):
        text = unescape(text)
        mending.note("JSON inside a string read")
    best: Reading | None = None
    begun = 0
    for start in _starts(text):
        reading = read_object(text, start, _SHAPE)
        if best is None or _filled(reading) > _filled(best):
            best, begun = reading, start
        if _filled(best) == len(ShotCaption.model_fields):
            break
    if best is None:
        return None
    around = text[:begun].removesuffix("{") + text[best.end :]
    if "```" in around:
        mending.note("code fence dropped")
    if around.replace("```", "").strip().removeprefix("json"):
        mending.note("text around the JSON dropped")
    for note in best.notes or ("loose JSON read",):
        mending.note(note)
    if not best.closed:
        mending.note("the end is missing")
    return best


def _starts(text: str) -> Iterator[int]:
    """Where the members of a caption may begin."""
    found = _ROOT.finditer(text)
    first = list(itertools.islice(found, _STARTS))
    for match in (*first, *deque(found, maxlen=1)):
        yield match.start() + 1
    if not first:
        if body := _BODY.search(text):
            yield body.start()
        elif "{" in text:
            yield text.index("{") + 1


def _filled(reading: Reading) -> int:
    return sum(name in _CAPTION and not is_empty(value) for name, value in reading.tree.items())


# --- mending --------------------------------------------------------------------------------------


def _limits(*models: type[BaseModel]) -> dict[str, int]:
    """The longest string that each field of free text takes."""
    return {
        name: part.max_length
        for model in models
        for name, info in model.model_fields.items()
        for part in info.metadata
        if hasattr(part, "max_length") and name != "subjects"
    }


def _spellings(field_name: str) -> dict[str, str]:
    """The options of a field by the ways to write them: `Close-Up`, `close up shot`, `front`."""
    spelled = {}
    for option in options(field_name):
        whole = squash(option)
        stems = {whole} | {whole.removesuffix(end) for end in ("shot", "view", "angle")}
        for stem, end in itertools.product(stems, ("", "shot", "view", "angle")):
            spelled[stem + end] = option
    return spelled | ({"pov": "point_of_view"} if field_name == "shot_position" else {})


_LIMITS = _limits(ShotCaption, Subject, SubjectTypes)
_OPTIONS = {name: options(name) for name in ShotCaption.model_fields if options(name)}
_SPELLINGS = {name: _spellings(name) for name in _OPTIONS}
_TRUE, _FALSE = ("true", "yes"), ("false", "no")
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]+")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]]*+(?=\s|\Z)|[。！？]")
_NOTED_NAMES = 8


@dataclass
class _Mending:
    """Values as the schema has them, from values as they were read."""

    notes: dict[str, None] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.notes[what] = None

    def said(self) -> tuple[str, ...]:
        """The notes, the last of them what is lacking."""
        if not self.lacking:
            return tuple(self.notes)
        more = len(self.lacking) - _NOTED_NAMES
        names = ", ".join(self.lacking[:_NOTED_NAMES]) + (f" and {more} more" if more > 0 else "")
        return (*self.notes, f"missing: {names}")

    def caption(self, tree: Mapping[str, Value]) -> dict[str, Any]:
        """The fields of a caption, checked."""
        found = self._named(tree, _CAPTION, "")
        values: dict[str, Any] = {}
        for name in ShotCaption.model_fields:
            if name not in found or (name in _OPTIONS and isinstance(found[name], Cut)):
                self.lacking.append(name)
            elif name == "subjects":
                values[name] = self._subjects(found[name])
            elif name in _OPTIONS:
                values[name] = self._option(found[name], name)
            else:
                values[name] = self._text(found[name], name, name)
        return values

    def _subjects(self, value: Value) -> list[dict[str, Any]]:
        if isinstance(value, dict):
            self.note("a single subject put into a list")
            value = [value]
        if not isinstance(value, list):
            self.note("subjects that are no list dropped")
            return []
        subjects: list[dict[str, Any]] = []
        for number, one in enumerate(value):
            subject = self._subject(one, f"subjects[{number}]") if isinstance(one, dict) else {}
            if any(value != {} for value in subject.values()):
                subjects.append(subject)
            elif not isinstance(one, Cut):
                self.note("a subject that says nothing dropped")
        return self._bounded(subjects)

    def _bounded(self, subjects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The subjects that the schema takes, each of a loop of them once."""
        keys = [str(subject) for subject in subjects]
        often = max(Counter(keys).values(), default=0)
        if often >= COPIES or len(subjects) > MAX_SUBJECTS:
            once = list(dict(zip(keys, subjects)).values())
            if len(once) > 1 and any(_says_again(once[-1], other) for other in once[:-1]):
                del once[-1]  # the copy that the text's end cuts off
            if len(once) < len(subjects):
                self.note("repeated subjects dropped")
            subjects = once
        if len(subjects) > MAX_SUBJECTS:
            self.note(f"{len(subjects)} subjects, the first {MAX_SUBJECTS} kept")
        return subjects[:MAX_SUBJECTS]

    def _subject(self, tree: Mapping[str, Value], path: str) -> dict[str, Any]:
        flat = {name: value for name, value in tree.items() if _TYPES.get(name)}
        rest = {name: value for name, value in tree.items() if name not in flat}
        found = self._named(rest, _SUBJECT, path)
        if flat and "TYPES" not in found:
            self.note("TYPES put together")
            found["TYPES"] = flat
        values: dict[str, Any] = {}
        for name in dict.fromkeys(_SUBJECT.values()):
            if name not in found or (name == "is_main_subject" and isinstance(found[name], Cut)):
                self.lacking.append(f"{path}.{name}")
            elif name == "TYPES":
                values[name] = self._types(found[name], f"{path}.TYPES")
            elif name == "is_main_subject":
                values[name] = self._flag(found[name], f"{path}.{name}")
            else:
                values[name] = self._text(found[name], name, f"{path}.{name}")
        return values

    def _types(self, value: Value, path: str) -> dict[str, str]:
        if isinstance(value, list) and len(value) == 1:
            self.note(f"{path}: a list of one read as its value")
            value = value[0]
        if isinstance(value, str) and not isinstance(value, Cut):
            self.note("TYPES without sub_type")
            value = {"type": value}
        if not isinstance(value, dict):
            self.lacking.append(path)
            return {}
        found = self._named(value, _TYPES, path)
        values = {}
        for name in SubjectTypes.model_fields:
            if name not in found or isinstance(found[name], Cut):
                self.lacking.append(f"{path}.{name}")
            else:
                values[name] = self._text(found[name], name, f"{path}.{name}")
        return values

    def _named(
        self, tree: Mapping[str, Value], names: Mapping[str, str], path: str
    ) -> dict[str, Value]:
        """The members under the schema's names; others are left out."""
        found: dict[str, Value] = {}
        for key, value in tree.items():
            name = names.get(squash(key))
            if name is not None and name != key:
                self.note(f"key {_quoted(key)} read as {name}")
            if name is None:
                self.note(f"unknown key {_quoted(key)} dropped")
            elif name in found:
                self.note("repeated key dropped")
            else:
                found[name] = value
        return found

    def _option(self, value: Value, name: str) -> str:
        if isinstance(value, list) and len(value) == 1:
            self.note(f"{name}: a list of one read as its value")
            value = value[0]
        if value is None:
            self.note("null read as empty")
            return ""
        if isinstance(value, str) and (value == "" or value in _OPTIONS[name]):
            return value
        option = _SPELLINGS[name].get(squash(value)) if isinstance(value, str) else None
        if option is None:
            self.note(f"{name} {_quoted(value)} is none of its options, left empty")
            return ""
        self.note(f"{name} {_quoted(value)} read as {option}")
        return option

    def _flag(self, value: Value, path: str) -> bool:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in _TRUE + _FALSE:
            self.note(f"{path} {_quoted(value)} is neither true nor false")
            return False
        self.note(f"{path} without quotes")
        return word in _TRUE

    def _text(self, value: Value, name: str, path: str) -> str:
        """A field of free text: whole sentences, no loops, within its bound."""
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            self.note(f"{path}: a list joined")
            value = ", ".join(cast(list[str], [one for one in value if not isinstance(one, Cut)]))
        if value is None:
            self.note("null read as empty")
            return ""
        if not isinstance(value, str):
            self.note(f"{path} {_quoted(value)} is no text, left empty")
            return ""
        text = _UNWRITABLE.sub(" ", str(value))
        if text != value:
            self.note("control characters dropped")
        unlooped = cut_loops(text, unfinished=isinstance(value, Cut))
        looped_on = len(unlooped) < len(text) and text.startswith(unlooped)
        if unlooped != text:
            self.note(f"{path}: repetition loop cut")
            text = unlooped
        if isinstance(value, Cut):
            text = text.rstrip(" ,;") if looped_on else _whole_sentences(text)
            self.lacking.append(f"the end of {path}" if text else path)
        if len(text) > _LIMITS[name]:
            self.note(f"{path}: {len(text)} characters, shortened to {_LIMITS[name]}")
            text = _shortened(text, _LIMITS[name])
        return text


def _says_again(subject: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a subject says nothing that the other does not say."""
    return all(other.get(name) == value for name, value in subject.items() if value)


def _whole_sentences(text: str) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def _shortened(text: str, limit: int) -> str:
    """The whole sentences, or else words, of a text that fit."""
    text = text[:limit]
    return _whole_sentences(text) or text.rpartition(" ")[0] or text


def _quoted(value: object) -> str:
    """A value for a note, in one short line."""
    shown = value if isinstance(value, str) else type(value).__name__
    return json.dumps(shown[:40] + ("…" if len(shown) > 40 else ""), ensure_ascii=True)
