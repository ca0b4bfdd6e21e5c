"""Repetition loops in a model's prose: the repeated run is kept once.

A model that gets into a loop says the same words until its token budget ends (SkyReels-V2 issue
84). Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

COPIES = 3
"""A run that stands fewer times than this is no loop: people do say "very, very good"."""

WORDS = 12
"""A loop has this many words and marks at least, over all its copies."""

# A word (long ones in parts whose length 1, 2, 3, 4 and 6 divide, so that "hahaha..." repeats), a
# mark, or one character of a script that is written without spaces.
_TOKEN = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|\w{1,12}|[^\w\s]")
_SAME = re.compile(r"(\D)\1{15,}")
_STOPS = frozenset(".!?。！？")
_SEED = 3


def cut_loops(text: str, unfinished: bool = False) -> str:
    """The text with every loop said once; the same object where there is none.

    Where the text is `unfinished` and a loop runs to its end, nothing is left after the first copy.
    """
    short = _SAME.sub(r"\1", text) if len(text) >= WORDS else text
    words = _TOKEN.findall(short)
    # Each further copy of a run repeats its triples of words, so few doubles mean no loop.
    if len(words) - len(set(zip(words, words[1:], words[2:]))) < (COPIES - 1) * WORDS // COPIES:
        return short
    ends = [match.end() for match in _TOKEN.finditer(short)]
    kept: list[str] = []
    at = 0
    for loop in _loops(words):
        first = loop.start + loop.period
        if unfinished and loop.end >= len(words) - 1:
            first += words[first - 1] not in _STOPS and words[first] in _STOPS
            return "".join([*kept, short[at : ends[first - 1]]])
        kept.append(short[at : ends[first - 1]])
        at = ends[first + (loop.end - first) // loop.period * loop.period - 1]
    return "".join([*kept, short[at:]])


@dataclass(frozen=True)
class _Loop:
    """Words from `start` to `end`, exclusive, that repeat themselves every `period` words."""

    start: int
    end: int
    period: int


def _loops(words: Sequence[str]) -> list[_Loop]:
    """The loops, in order.

    Walks once over the words, at each comparing with the word one period before. The period is the
    distance to where the last three words stood before.
    """
    loops: list[_Loop] = []
    seen: dict[tuple[str, ...], int] = {}
    period = run = 0
    for i in range(len(words) + 1):
        if i < len(words) and period and words[i] == words[i - period]:
            run += 1
        else:
            if period and run + period >= max(COPIES * period, WORDS):
                start = i - run - period
                floor = loops[-1].end if loops else 0
                while start > floor and words[start - 1] == words[start - 1 + period]:
                    start -= 1
                loops.append(_Loop(max(start, floor), i, period))
            before = seen.get(tuple(words[i - _SEED + 1 : i + 1])) if i < len(words) else None
            period, run = (i - before, _SEED) if before is not None else (0, 0)
        if i >= _SEED - 1:
            seen[tuple(words[i - _SEED + 1 : i + 1])] = i
    return [loop for loop in loops if loop.end - loop.start >= COPIES * loop.period]
