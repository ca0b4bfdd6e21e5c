"""A long clip by windows: each is captioned by itself, then the captions are made one.

A model looks at a fixed number of frames, so the longer a clip, the more of what happens falls
between them.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from captioner import fusion
from captioner.frames import FrameBatch, MotionPair
from captioner.merge import filled, longest
from captioner.result import CaptionResult, FieldSource, Status
from captioner.schema import (
    MAX_SUBJECTS,
    SHOT_FIELDS,
    ShotCaption,
    Subject,
    SubjectTypes,
    options,
)

MIN_PICTURES = 16
"""Pictures a window has at least: SkyCaptioner looks at 16 (skycaptioner_v1/scripts/
vllm_struct_caption.py)."""

SAME_WORDS = 0.2
"""Share of the shorter appearance's words that the other must have, for two subjects of one type to
be one: own choice. Windows word one appearance each in their way; others share hardly a word."""

NEW_WORDS = 0.5
"""Share of a text's words that must be new, for it to be told beside another: own choice."""


def split(batch: FrameBatch, seconds: float) -> tuple[FrameBatch, ...]:
    """The clip as windows of about `seconds` each, one after the other without a gap.

    Every picture and pair of the clip is in one window, in order. Windows hold as many pictures as
    each other (to within one) and at least `MIN_PICTURES`: where the clip's sample has too few,
    there are fewer windows and each is longer. Raises ValueError unless `seconds` is positive.
    """
    if not seconds > 0:
        raise ValueError(f"a window of {seconds:g} s is not longer than 0 s")
    pictures = batch.pictures
    wanted = math.ceil(round(batch.duration / seconds, 6))
    count = max(1, min(wanted, len(pictures) // MIN_PICTURES))
    edges = [len(pictures) * i // count for i in range(count + 1)]
    bounds = [batch.start, *(pictures[edge].time for edge in edges[1:-1]), batch.end]
    return tuple(
        FrameBatch(
            pictures[first:last],
            tuple(_within(batch.pairs, bounds, number)),
            bounds[number],
            bounds[number + 1],
            batch.fps,
        )
        for number, (first, last) in enumerate(itertools.pairwise(edges))
    )


def merge_windows(results: Sequence[CaptionResult]) -> CaptionResult:
    """One result from those of a clip's windows, given in their order.

    Options are decided by majority among the windows that saw one, the earliest among equals;
    camera motion and actions are told in order; subjects are the same where type, sub-type and the
    words of their appearance agree. The status is the worst of all, so one window without a
    caption leaves the clip without: a text for half a clip is no label for the whole. `raw` keeps
    every window's text. A measured camera is of one window alone and is left out. Raises
    ValueError for no result.
    """
    if not results:
        raise ValueError("a clip has at least one window")
    if len(results) == 1:
        return results[0]
    caption = None
    status = worst(result.status for result in results)
    captions = [result.caption for result in results if result.caption]
    if len(captions) == len(results):
        caption = _caption(captions)
    lines = tuple(dict.fromkeys(line for result in results for line in result.screen_text))
    raws = [result.raw for result in results if result.raw]
    return CaptionResult(
        status,
        " + ".join(dict.fromkeys(result.engine for result in results)),
        caption,
        sources={name: _source(name, results) for name in filled(caption)} if caption else {},
        raw="\n".join(raws) if raws else None,
        t2v=fusion.t2v(caption, lines) if caption else "",
        i2v=fusion.i2v(caption) if caption else "",
        error=_errors(results),
        screen_text=lines,
        answers=_answers(results),
    )


def _answers(results: Sequence[CaptionResult]) -> dict[str, float]:
    """Of each question the mean over the windows that answered it."""
    names = dict.fromkeys(name for result in results for name in result.answers)
    told = {name: [r.answers[name] for r in results if name in r.answers] for name in names}
    return {name: sum(values) / len(values) for name, values in told.items()}


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses. Associative and commutative."""
    return max(statuses, key=_WORSE.index)


def motions_in_order(motions: Iterable[str]) -> str:
    """Camera motions as one: `the camera pans right, then the camera tilts up`.

    The same motion twice in a row is said once. Associative while the text fits the schema: what
    has no room at the end is left out.
    """
    moves = (move.strip(" .") for text in motions for move in text.split(_THEN))
    once = (move for move, _ in itertools.groupby(filter(None, moves)))
    return _fitting(once, _THEN, longest("camera_motion"))


def sentences_in_order(texts: Iterable[str], limit: int) -> str:
    """The sentences of all texts, each said once, as many as have room in `limit` characters.

    Associative while the text fits.
    """
    parts = (part.strip() for text in texts for part in _SENTENCE.split(text))
    ended = (
        part if part.endswith(_STOPS) or len(part) >= limit else f"{part}."
        for part in parts
        if part
    )
    return _fitting(dict.fromkeys(ended), " ", limit)


_WORSE: tuple[Status, ...] = ("ok", "repaired", "truncated", "invalid", "error")
_THEN = ", then "
_STOPS = (*'.!?"”', *"。！？」』")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_WORD = re.compile(r"\w+")
_PLAIN = frozenset({"a", "an", "and", "at", "in", "is", "its", "of", "on", "the", "to", "with"})
_VAGUE = ("", "Other")


def _within(pairs: Iterable[MotionPair], bounds: Sequence[float], number: int) -> list[MotionPair]:
    """The pairs that begin in a window; in the first also those before it, in the last after it."""
    inner = bounds[1:-1]
    return [pair for pair in pairs if bisect.bisect_right(inner, pair.start) == number]


def _fitting(parts: Iterable[str], link: str, limit: int) -> str:
    said = ""
    for part in parts:
        longer = f"{said}{link}{part}" if said else part
        if len(longer) > limit:
            break
        said = longer
    return said


def _caption(captions: Sequence[ShotCaption]) -> ShotCaption:
    decided = {
        name: _majority(getattr(caption, name) for caption in captions)
        for name in SHOT_FIELDS
        if options(name)
    }
    return ShotCaption.model_validate(
        {
            **decided,
            "subjects": _subjects(captions),
            "camera_motion": motions_in_order(c.camera_motion for c in captions),
            "environment": _told_once((c.environment for c in captions), longest("environment")),
            "lighting": _told_once((c.lighting for c in captions), longest("lighting")),
        }
    )


def _majority(values: Iterable[str]) -> str:
    """The commonest value that is not empty, the earliest of several; empty if there is none."""
    counts = Counter(filter(None, values))
    return max(counts, key=counts.__getitem__, default="")


def _told_once(texts: Iterable[str], limit: int) -> str:
    """The texts that say something new each, as many as have room."""
    known: set[str] = set()
    new: list[str] = []
    for text in filter(None, (text.strip() for text in texts)):
        words = _words(text)
        if not new or len(words - known) > NEW_WORDS * len(words):
            new.append(text)
        known |= words
    return new[0] if len(new) == 1 else sentences_in_order(new, limit)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _PLAIN


# --- subjects -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Track:
    """One subject through the windows: what each window that shows it says of it."""

    seen: tuple[Subject, ...]

    @property
    def times_main(self) -> int:
        return sum(subject.is_main_subject for subject in self.seen)

    @cached_property
    def words(self) -> set[str]:
        return set().union(*(_words(subject.appearance) for subject in self.seen))

    def likeness(self, other: Subject) -> tuple[float, bool] | None:
        """How like a subject of the next window is; None where it is another."""
        mine, theirs = _types(self.seen), other.types
        named = {mine.sub_type, theirs.sub_type} - set(_VAGUE)
        if mine.type != theirs.type or len(named) > 1:
            return None
        words = _words(other.appearance)
        both_main = bool(self.times_main) and other.is_main_subject
        if not words or not self.words:
            return 0.0, both_main
        share = len(words & self.words) / min(len(words), len(self.words))
        return (share, both_main) if share >= SAME_WORDS or both_main else None

    def subject(self, is_main: bool) -> Subject:
        return Subject(
            TYPES=_types(self.seen),
            appearance=_told_once((s.appearance for s in self.seen), longest("appearance")),
            action=sentences_in_order((s.action for s in self.seen), longest("action")),
            expression=sentences_in_order((s.expression for s in self.seen), longest("expression")),
            position=next((s.position for s in self.seen if s.position), ""),
            is_main_subject=is_main,
        )


def _types(seen: Sequence[Subject]) -> SubjectTypes:
    """The type of one subject, with the commonest sub-type that says what it is."""
    named = _majority(s.types.sub_type for s in seen if s.types.sub_type not in _VAGUE)
    return SubjectTypes(
        type=seen[0].types.type, sub_type=named or _majority(s.types.sub_type for s in seen)
    )


def _subjects(captions: Sequence[ShotCaption]) -> tuple[Subject, ...]:
    """Every subject once, in the order of their coming, at most as many as the schema takes: the
    main one, then those that most windows show."""
    tracks: list[_Track] = []
    for caption in captions:
        tracks = _followed(tracks, caption.subjects)
    main = max(range(len(tracks)), key=lambda i: (tracks[i].times_main, -i), default=0)
    ranked = sorted(range(len(tracks)), key=lambda i: (i != main, -len(tracks[i].seen), i))
    return tuple(
        tracks[i].subject(i == main and tracks[i].times_main > 0)
        for i in sorted(ranked[:MAX_SUBJECTS])
    )


def _followed(tracks: Sequence[_Track], subjects: Sequence[Subject]) -> list[_Track]:
    """The tracks with the subjects of the next window: the likest pairs first, the rest new."""
    pairs = [
        (likeness, -i, -j)
        for i, track in enumerate(tracks)
        for j, subject in enumerate(subjects)
        if (likeness := track.likeness(subject)) is not None
    ]
    found: dict[int, int] = {}
    for _, i, j in sorted(pairs, reverse=True):
        if -i not in found and -j not in found.values():
            found[-i] = -j
    longer = [
        _Track((*track.seen, subjects[found[i]])) if i in found else track
        for i, track in enumerate(tracks)
    ]
    new = [_Track((s,)) for j, s in enumerate(subjects) if j not in found.values()]
    return longer + new


# --- how it came about ----------------------------------------------------------------------------


def _source(name: str, results: Sequence[CaptionResult]) -> FieldSource:
    """Who said a field: all of its sources, as sure as the least sure of them."""
    seen = [result.sources[name] for result in results if name in result.sources]
    named = dict.fromkeys(source.source for source in seen)
    sure = [source.confidence for source in seen if source.confidence is not None]
    return FieldSource(
        " + ".join(named or dict.fromkeys(result.engine for result in results)),
        min(sure) if sure and len(sure) == len(seen) else None,
    )


def _errors(results: Sequence[CaptionResult]) -> str | None:
    said = [
        f"window {number} of {len(results)}: {result.error}"
        for number, result in enumerate(results, 1)
        if result.error
    ]
    return "; ".join(said) or None
