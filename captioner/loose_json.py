"""A reader of JSON as language models write it: cut off, unquoted, with brackets missing.

It knows the keys that it is to find, which tells a quote that ends a string from one inside it and
shows where brackets were forgotten. Time is linear in the text, nesting is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

MAX_DEPTH = 16
"""Brackets nested deeper are read as if they were not there; a caption nests four deep."""


class Cut(str):
    """A string or bare word that the end of the text cuts off."""

    __slots__ = ()


Value = str | bool | None | list["Value"] | dict[str, "Value"]
"""Numbers are kept as the text that they are written in."""


@dataclass(frozen=True)
class Shape:
    """The names of an object's keys, and by `squash`ed name the shapes of the objects inside it."""

    names: tuple[str, ...] = ()
    inside: Mapping[str, Shape] = field(default_factory=dict)

    @cached_property
    def by_key(self) -> dict[str, str]:
        """The names by how `squash` spells them."""
        return {squash(name): name for name in self.names}

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names as `squash` spells them."""
        return frozenset(self.by_key)

    @cached_property
    def all_names(self) -> tuple[str, ...]:
        """The names of this object's keys and of all inside it."""
        return self.names + tuple(n for shape in self.inside.values() for n in shape.all_names)

    @cached_property
    def grammar(self) -> _Grammar:
        """What tells keys and the ends of strings in a text of this shape."""
        return _Grammar(self.all_names)


@dataclass(frozen=True)
class Reading:
    """An object as it was read: its end in the text, whether it is closed, what was mended."""

    tree: dict[str, Value]
    end: int
    closed: bool
    notes: tuple[str, ...]


def squash(key: str) -> str:
    """A key without case, spaces, hyphens and underscores: `Shot Type` is `shottype`."""
    return _NO_LETTER.sub("", key).lower()


def read_object(text: str, start: int, shape: Shape) -> Reading:
    """The object whose members begin at `start`, just after its opening bracket, if it has one."""
    reader = _Reader(text, start, shape)
    tree = reader.members(shape, frozenset(), 0)
    return Reading(tree, reader.at, not reader.cut, tuple(reader.notes))


_NO_LETTER = re.compile(r"[\W_]+")
_QUOTES: Final = "\"'`“”„‘’"
_OPENING = {
    '"': '"',
    "'": "'",
    "`": "`'",
    "“": '”“"',
    "”": '”"',
    "„": '“”"',
    "‘": "’'",
    "’": "’'",
}
"""What ends a string, by what opens it."""
_MARK = rf"[{_QUOTES}*]{{0,4}}+"
_KEY = re.compile(rf"{_MARK}(\w[\w -]{{0,59}}+){_MARK}\s*+[:=]")
_SPACE = re.compile(r"(?:[\s*]++|//[^\n]*+)*+")
_SPACE_OR_COMMA = re.compile(r"(?:[\s,;]++|//[^\n]*+)*+")
_JUNK = re.compile(rf".[^{_QUOTES}{{}}\[\],\n]*+", re.DOTALL)
_CLOSERS = re.compile(r"[\s,\]}]{0,40}+")
_STRAY = re.compile(rf"[{_QUOTES}\w]")
_OPENERS = re.compile(r"[\[{\s]++")
_BARE = re.compile(
    r"[^\n\r{}\[\],]*+"
    r"(?:,(?!\s*+(?:[\"'“}\]{\[]|\w[\w -]{0,59}+\s*+:|$))[^\n\r{}\[\],]*+)*+"
)
_TO_QUOTE = {
    close: re.compile(rf"(?:[^{re.escape(close)}\\]++|\\.)*+", re.DOTALL)
    for close in set(_OPENING.values())
}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"} | {c: c for c in "\"'/\\`"}
_WORDS: Final[dict[str, bool | None]] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "nan": None,
}


class _Grammar:
    """Patterns that know the keys to be found."""

    def __init__(self, names: tuple[str, ...]) -> None:
        known = "|".join(name.replace("_", "[ _-]?") for name in sorted(names, reverse=True))
        known = f"(?i:{known})(?!\\w)"
        any_key = rf"[{_QUOTES}]\w[\w -]{{0,59}}+[{_QUOTES}]\s*+[:=]"
        end = (
            # a bracket, a fence, a comment, a line's end or the text's end; a key with or without
            # its comma; a key that the end of the text cuts off
            rf"[ \t]*+(?:\Z|[\r\n}}\]]|```|<\||,?\s*+(?://|{any_key}|[{_QUOTES}]{known})"
            rf"|,\s*+(?:\Z|[}}\]]|\w[\w -]{{0,59}}+:|{known}[{_QUOTES}]?+\s*+[:=]"
            rf"|[{_QUOTES}][\w -]{{0,60}}+[{_QUOTES}]?+\s*+\Z))"
        )
        self.ends = re.compile(end)
        self.ends_in_list = re.compile(rf"{end}|\s*+,\s*+[{_QUOTES}{{\[]")
        self.next_key = re.compile(rf"[{_QUOTES}]({known})[{_QUOTES}]\s*+:")
        # A known key is one without its colon, too, and with one mark too many.
        self.key = re.compile(
            rf"{_MARK}({known}){_MARK}(?:[\]\[{{}},;.]{_MARK}(?=\s*+[:=]))?(?:\s*+[:=]){{0,3}}+"
        )


class _Reader:
    """A position in a text; every step moves it on or gives back to one that does."""

    def __init__(self, text: str, at: int, shape: Shape) -> None:
        self.text = text
        self.at = at
        self.cut = False
        self.notes: dict[str, None] = {}
        self._root = shape.keys
        self._grammar = shape.grammar

    def members(
        self, shape: Shape, outer: frozenset[str], depth: int, in_list: bool = False
    ) -> dict[str, Value]:
        """The members of an object up to its end; `outer` are the keys of those around it."""
        found: dict[str, Value] = {}
        while not self._at_end(_SPACE_OR_COMMA):
            char = self.text[self.at]
            if char in "]}" and self._is_stray(shape, outer, found):
                self._note("stray bracket dropped")
                self.at += 1
                continue
            if char == "}":
                self.at += 1
                return found
            if (char == "]" and depth > 0) or (char == "{" and in_list):
                self._note("missing bracket closed")
                return found
            key = self._grammar.key.match(self.text, self.at) or _KEY.match(self.text, self.at)
            if key is None:
                self._skip_junk()
                continue
            name = squash(key[1])
            if name in outer and name not in shape.keys:
                self._note("missing bracket closed")
                return found
            self.at = key.end()
            value = self._value(shape.inside.get(name), outer | shape.keys, depth + 1)
            self._store(found, shape.by_key.get(name, key[1]), value)
        return found

    def _store(self, found: dict[str, Value], name: str, value: Value) -> None:
        """The first that says something stands: what follows may be a loop, or cut off."""
        if name in found:
            self._note("repeated key dropped")
        if name not in found or is_empty(found[name]):
            found[name] = value

    def _is_stray(self, shape: Shape, outer: frozenset[str], found: Mapping[str, Value]) -> bool:
        """Whether the object goes on after the bracket here, as the next key tells."""
        curly = self.text[self.at] == "}"
        after = _end(_SPACE_OR_COMMA if curly else _CLOSERS, self.text, self.at + 1)
        key = _KEY.match(self.text, after)
        if key is None:
            return False
        name = squash(key[1])
        if curly:
            return name not in outer and name in shape.keys and shape.by_key[name] not in found
        return bool(outer) and name not in self._root and (name in outer or name in shape.keys)

    def _value(
        self, shape: Shape | None, outer: frozenset[str], depth: int, in_list: bool = False
    ) -> Value:
        if self._at_end(_SPACE):
            return Cut("")
        char = self.text[self.at]
        if char in "{[" and depth > MAX_DEPTH:
            self._note("brackets nested too deep dropped")
            self.at = _end(_OPENERS, self.text, self.at)
            return None
        if char == "{":
            self.at += 1
            return self.members(shape or Shape(), outer, depth, in_list)
        if char == "[":
            self.at += 1
            return self._list(shape, outer, depth)
        if char in ",}]" and _STRAY.match(self.text, self.at + 1):
            self._note("stray mark dropped")
            self.at += 1
            char = self.text[self.at]
        if char in ",}]":
            self._note("missing value left empty")
            return None
        if shape is not None and self._opens(shape):
            return self.members(shape, outer, depth, in_list)
        if char in _OPENING:
            return self._string(in_list)
        return self._bare()

    def _opens(self, shape: Shape) -> bool:
        """Whether an object of the shape begins here, without its bracket."""
        key = _KEY.match(self.text, self.at)
        if key is None or squash(key[1]) not in shape.keys:
            return False
        self._note("missing bracket opened")
        return True

    def _list(self, shape: Shape | None, outer: frozenset[str], depth: int) -> list[Value]:
        items: list[Value] = []
        while not self._at_end(_SPACE_OR_COMMA):
            char = self.text[self.at]
            if char == "]":
                self.at += 1
                return items
            if char == "}":
                if not (items and isinstance(items[-1], dict)):
                    self._note("missing bracket closed")
                    return items
                self._note("stray bracket dropped")
                self.at += 1
                continue
            key = _KEY.match(self.text, self.at)
            if key is not None and squash(key[1]) in outer:
                self._note("missing bracket closed")
                return items
            before = self.at
            items.append(self._value(shape, outer, depth + 1, in_list=True))
            if self.at == before:
                self._skip_junk()
        return items

    def _string(self, in_list: bool) -> str:
        """The string that the quote here opens.

        A quote ends it only where what follows can follow a value; others are part of it.
        """
        close = _OPENING[self.text[self.at]]
        start = at = self.at + 1
        inside = 0
        to_quote = _TO_QUOTE[close]
        ends = self._grammar.ends_in_list if in_list else self._grammar.ends
        while True:
            at = _end(to_quote, self.text, at)
            if at >= len(self.text) or self.text[at] == "\\":
                self.at, self.cut = len(self.text), True
                return Cut(unescape(self.text[start:]))
            if ends.match(self.text, at + 1):
                self.at = at + 1
                return unescape(self.text[start:at])
            doubled = inside % 2 == 0 and self.text.startswith(close[0], at + 1)
            if doubled and at > start and ends.match(self.text, at + 2):
                self._note("a quote too many dropped")
                self.at = at + 2
                return unescape(self.text[start:at])
            if self._grammar.next_key.match(self.text, at):
                self._note("missing quote closed")
                self.at = at
                return unescape(self.text[start:at].rstrip(" ,\r\n\t"))
            self._note("quotes inside a string kept")
            inside += 1
            at += 1

    def _bare(self) -> Value:
        """A word or phrase without quotes: true, None, 3, close_up."""
        match = _BARE.match(self.text, self.at)
        word = (match[0] if match else "").rstrip().removesuffix("**").rstrip()
        self.at = match.end() if match else self.at
        if word.lower() in _WORDS:
            if word not in ("true", "false", "null"):
                self._note("Python's literals read")
            return _WORDS[word.lower()]
        if word[-1:] in _QUOTES and word.count(word[-1:]) % 2:
            word = word[:-1]
        if self.at >= len(self.text):
            self.cut = True
            return Cut(word)
        if not word.replace(".", "").lstrip("-").isdigit():
            self._note("missing quotes added")
        return word

    def _at_end(self, between: re.Pattern[str]) -> bool:
        """Go over what may stand between; whether that is the end, which cuts the object off."""
        commas = self.at
        self.at = _end(between, self.text, self.at)
        if self.at >= len(self.text):
            self.cut = True
            return True
        if "," in self.text[commas : self.at] and self.text[self.at] in "}]":
            self._note("trailing comma dropped")
        return False

    def _skip_junk(self) -> None:
        self._note("stray text dropped")
        self.at = _end(_JUNK, self.text, self.at)

    def _note(self, what: str) -> None:
        self.notes[what] = None


def is_empty(value: Value) -> bool:
    """Whether a value says nothing, or was cut off."""
    return value is None or isinstance(value, Cut) or value in ("", [], {})


def unescape(raw: str) -> str:
    """A JSON string's content; an escape that JSON does not know stays as it is written."""
    if "\\" not in raw:
        return raw
    text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPES.get(m[2], m[0]), raw)
    # \ud83d\ude00 is one character, written as a pair of surrogates.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
