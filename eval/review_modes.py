"""The three ways to look at clips: label them, rule on their captions, check a sample of a batch.

A mode says what the page asks about a clip (`Row`), makes a line of the file out of what comes
back, and tells how things stand. The form of `label` and the rows of `verdict` follow from
`captioner.schema` and `eval.testset.Labels`.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from captioner.schema import (
    FIELDS,
    MAX_SUBJECTS,
    SHOT_FIELDS,
    SUBJECT_FIELDS,
    SUBJECT_TYPES,
    ShotCaption,
    options,
)
from eval.agreement import Agreement, between_raters, cohen_kappa
from eval.camera_text import AXES, CameraMove, read_camera
from eval.fields import subject_value, wilson
from eval.review_answers import Answers, CheckAnswer, LabelAnswer, VerdictAnswer, slot
from eval.review_clips import ReviewClip
from eval.sample_check import CATEGORIES, Category, Outcome, Phase, outcome, together
from eval.testset import CANNOT_TELL, SHOT_LABELS, Clip, Labels, Line, SubjectLabel, TestsetError

KEYS = "123456789qwertyi"
"""Keys of a row's options, in their order: none of those that the page uses itself."""

LABEL_ROWS = (*SHOT_LABELS, "subjects")


@dataclass(frozen=True)
class Option:
    """An answer to choose by its key. Choosing it takes back those that it `clears`."""

    value: str
    label: str
    key: str
    clears: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One question. `value` is what the rater answered, None before that.

    `kind` "choice" has a list of options' values, of which there is `pick` one, one with more as an
    exception ("some"), or any number ("many"); "text" has a string, or the list [cannot_tell];
    "subjects" has {"main_subject_only": bool, "subjects": [...]}. `suggestion`, of the same form,
    is a value of the caption to start from; `shown` is the text that is ruled on.
    """

    id: str
    title: str
    kind: Literal["choice", "text", "subjects"]
    value: Any = None
    suggestion: Any = None
    options: tuple[Option, ...] = ()
    pick: Literal["one", "some", "many"] = "one"
    hint: str = ""
    shown: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Table:
    """How things stand. `tone` colours the headline: good, bad, or neither."""

    headline: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    tone: Literal["good", "bad", ""] = ""


class Reply(BaseModel):
    """What the page sends: a rater's new value of a row of a clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clip_id: str
    rater: str
    row: str
    value: Any


class ReplyError(ValueError):
    """A reply that fits no question."""


class Mode(Protocol):
    """What the server needs of a mode."""

    name: str
    about: str
    clips: Mapping[str, ReviewClip]

    def rows(self, clip: ReviewClip, rater: str) -> list[Row]:
        """What is asked about a clip, with what this rater answered."""
        ...

    def answered(self, clip: ReviewClip, rater: str) -> bool:
        """Whether this rater has answered all of it."""
        ...

    def keep(self, reply: Reply) -> None:
        """Keep a reply. Raises ReplyError (pydantic's ValidationError is one more), OSError."""
        ...

    def standing(self) -> Table:
        """Agreement of the raters, or what becomes of the batch."""
        ...


_CANNOT_TELL = Option(CANNOT_TELL, "cannot tell", "0")


def _choices(values: Sequence[str]) -> tuple[Option, ...]:
    named = [Option(value, value.replace("_", " "), key) for value, key in zip(values, KEYS)]
    return (*named, _CANNOT_TELL)


# --- label ----------------------------------------------------------------------------------------

STATIC = CameraMove(static=True).name
HANDHELD = CameraMove(handheld=True).name


def camera_options() -> tuple[Option, ...]:
    """The camera moves: both ways of each axis, which rule each other out, static and handheld."""
    pairs = []
    for axis in range(len(AXES)):
        signs = [[0] * len(AXES), [0] * len(AXES)]
        signs[0][axis], signs[1][axis] = -1, 1
        pairs.append([CameraMove(tuple(one)).name for one in signs])
    # Pans, tilts and moves in and out are what most moving shots have.
    pairs.sort(key=lambda pair: ("pan" not in pair[0], "tilt" not in pair[0], "pu" not in pair[0]))
    moves = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    clears = {
        STATIC: (HANDHELD, *moves),
        HANDHELD: (STATIC,),
        **{move: (STATIC, other) for move, other in moves.items()},
    }
    plain = _choices(list(clears))
    return tuple([Option(o.value, o.label, o.key, clears.get(o.value, ())) for o in plain])


CAMERA = camera_options()

_HINTS = {
    "camera_motion": "every move that there is",
    "environment": "where the shot takes place",
    "lighting": "light and colour",
    "subjects": "the main subject first; leave empty what you were not asked",
}


class LabelMode:
    """Label clips, blind or starting from their captions.

    `given` are lines of other raters, for the agreement; their labels are never shown.
    """

    name = "label"

    def __init__(
        self,
        clips: Mapping[str, ReviewClip],
        answers: Answers[LabelAnswer],
        given: Sequence[Line] = (),
        fields: Sequence[str] = LABEL_ROWS,
        prefill: bool = False,
    ) -> None:
        self.clips = clips
        self.fields = tuple(fields)
        self.prefill = prefill
        self._answers = answers
        self._given = given
        self.about = "prefilled: a label may lean to the caption" if prefill else "blind"

    def rows(self, clip: ReviewClip, rater: str) -> list[Row]:
        """What is asked about a clip, with what this rater answered."""
        return [self._row(clip, rater, field) for field in self.fields]

    def answered(self, clip: ReviewClip, rater: str) -> bool:
        """Whether this rater has answered all of it; free text may be left out."""
        closed = [field for field in self.fields if field not in _FREE] or self.fields
        return all(self._value(clip.clip_id, field, rater) is not None for field in closed)

    def keep(self, reply: Reply) -> None:
        """Keep a label. Raises ReplyError, ValidationError, OSError."""
        clip = self.clips[reply.clip_id]
        if reply.row not in self.fields:
            raise ReplyError(f"no field {reply.row!r} is asked")
        prefilled = self.prefill and _suggestion(clip.caption, reply.row) is not None
        self._answers.add(
            LabelAnswer(
                clip_id=clip.clip_id,
                rater=reply.rater,
                time=_now(),
                labels=Labels.model_validate(_labels(reply.row, reply.value)),
                prefilled=prefilled,
            )
        )

    def standing(self) -> Table:
        """Kappa of each field over the clips that two or more raters labelled."""
        found = between_raters(self.lines())
        rows = tuple([(field.replace("_", " "), *_figures(one)) for field, one in found.items()])
        return Table(_AGREEMENT if rows else _NO_AGREEMENT, _KAPPA_COLUMNS, rows, _KAPPA_NOTE)

    def lines(self) -> list[Line]:
        """The test set's lines with the answers in them: one a clip and rater. An answer replaces
        what the same rater said before; clips that nobody labelled keep their bare line."""
        labels: defaultdict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        for line in self._given:
            if line.clip.clip_id in self.clips and line.clip.labels != Labels():
                said = line.clip.labels.model_dump(exclude_unset=True)
                labels[line.clip.clip_id, line.clip.rater or ""] |= said
        for answer in self._answers.all():
            if answer.clip_id in self.clips:
                said = answer.labels.model_dump(exclude_unset=True)
                labels[answer.clip_id, answer.rater] |= said
        labelled = {clip_id for clip_id, _ in labels}
        return [
            *(self._line(clip_id, rater or None, one) for (clip_id, rater), one in labels.items()),
            *(self._line(name, None, {}) for name in self.clips if name not in labelled),
        ]

    def _line(self, clip_id: str, rater: str | None, said: Mapping[str, Any]) -> Line:
        told = {name: value for name, value in said.items() if value is not None}
        if "subjects" not in told:
            told.pop("main_subject_only", None)
        update = {"rater": rater, "labels": Labels.model_validate(told)}
        clip = self.clips[clip_id]
        return Line(clip.reference.model_copy(update=update), "", Path())

    def _value(self, clip_id: str, field: str, rater: str) -> Any:
        answer = self._answers.of(clip_id, field).get(rater)
        return None if answer is None else _page_value(field, answer.labels)

    def _row(self, clip: ReviewClip, rater: str, field: str) -> Row:
        kind: Literal["choice", "text", "subjects"] = "choice"
        choice: tuple[Option, ...] = ()
        if field == "subjects":
            kind = "subjects"
        elif field == "camera_motion":
            choice = CAMERA
        elif options(field):
            choice = _choices(options(field))
        else:
            kind, choice = "text", (_CANNOT_TELL,)
        return Row(
            id=field,
            title=field.replace("_", " "),
            kind=kind,
            value=self._value(clip.clip_id, field, rater),
            suggestion=_suggestion(clip.caption, field) if self.prefill else None,
            options=choice,
            pick="one" if kind == "text" else "many" if field == "camera_motion" else "some",
            hint=_HINTS.get(field, ""),
        )


_FREE = tuple(name for name in SHOT_LABELS if not options(name) and name != "camera_motion")


def subject_form() -> dict[str, Any]:
    """The parts of a subject with how each is asked, from `SubjectLabel`."""
    kinds = {"type": "select", "is_main_subject": "flag"}
    return {
        "most": MAX_SUBJECTS,
        "types": SUBJECT_TYPES,
        "parts": [
            {"id": name, "title": name.replace("_", " "), "kind": kinds.get(name, "text")}
            for name in SubjectLabel.model_fields
        ],
    }


def _labels(field: str, value: Any) -> dict[str, Any]:
    """The part of a line's `labels` that a row's value stands for. Raises ReplyError."""
    if value is None or value in ([], ""):
        return {field: None}
    if field == "subjects":
        if not isinstance(value, dict) or set(value) != {"subjects", "main_subject_only"}:
            raise ReplyError("subjects come as a list and whether it is the main one alone")
        return value
    if isinstance(value, str) and field in _FREE:
        return {field: value}
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ReplyError(f"{field} is a list of options")
    if value == [CANNOT_TELL]:
        return {field: CANNOT_TELL}
    if field == "camera_motion":
        return {field: _camera_name(value)}
    return {field: value[0] if len(value) == 1 else value}


def _camera_name(moves: Sequence[str]) -> str:
    """The moves as one name. Raises ReplyError where they are not those of one camera."""
    move = read_camera("+".join(moves))
    if move is None or move.elements != set(moves):
        raise ReplyError(f"{' and '.join(moves)} are no motion of one camera")
    return move.name


def _page_value(field: str, labels: Labels) -> Any:
    """A label as the page has it: the other way round."""
    value = getattr(labels, field)
    if value is None:
        return None
    if field == "subjects":
        subjects = [one.model_dump(exclude_none=True) for one in value]
        return {"main_subject_only": labels.main_subject_only, "subjects": subjects}
    if field == "camera_motion" and value != CANNOT_TELL:
        move = read_camera(value) if isinstance(value, str) else None
        return sorted(move.elements) if move else None
    if field in _FREE and value != CANNOT_TELL:
        return value
    return [value] if isinstance(value, str) else list(value)


def _suggestion(caption: ShotCaption | None, field: str) -> Any:
    """What the caption says of a row, in the page's form; None where it says nothing."""
    if caption is None:
        return None
    if field == "subjects":
        said = [
            {
                "type": one.types.type if one.types.type in SUBJECT_TYPES else "",
                **{name: subject_value(one, f"TYPES_{name}") for name in ("sub_type",)},
                **{name: getattr(one, name) for name in _SAME_NAMES},
            }
            for one in caption.subjects
        ]
        some = [{name: value for name, value in one.items() if value != ""} for one in said]
        return {"main_subject_only": False, "subjects": some} if some else None
    value = str(getattr(caption, field))
    if field == "camera_motion":
        move = read_camera(value)
        listed = {option.value for option in CAMERA}
        return sorted(move.elements & listed) or None if move else None
    if field in _FREE:
        return value or None
    return [value] if value else None


_SAME_NAMES = tuple(name for name in SubjectLabel.model_fields if name in SUBJECT_FIELDS)


# --- verdict --------------------------------------------------------------------------------------

_VERDICTS = (Option("right", "right", "1"), Option("wrong", "wrong", "2"), _CANNOT_TELL)


class VerdictMode:
    """Rule on each field of a caption, the paper's manual protocol.

    A shot field that was left empty is ruled on too (it is right where there is nothing to say), an
    empty field of a subject is not: the schema leaves most of them empty on purpose.
    """

    name = "verdict"
    about = "is what the caption says right?"

    def __init__(self, clips: Mapping[str, ReviewClip], answers: Answers[VerdictAnswer]) -> None:
        self.clips = clips
        self._answers = answers

    def rows(self, clip: ReviewClip, rater: str) -> list[Row]:
        """What the caption says, with what this rater ruled on these very words."""
        return [
            Row(
                id=slot(field, subject),
                title=field.removeprefix("TYPES_").replace("_", " "),
                kind="choice",
                value=self._value(clip.clip_id, field, subject, text, rater),
                options=_VERDICTS,
                shown=text,
                group=group,
            )
            for field, subject, text, group in _said(clip.caption)
        ]

    def answered(self, clip: ReviewClip, rater: str) -> bool:
        """Whether this rater has ruled on all of it."""
        return all(
            self._value(clip.clip_id, field, subject, text, rater)
            for field, subject, text, _ in _said(clip.caption)
        )

    def keep(self, reply: Reply) -> None:
        """Keep a verdict. Raises ReplyError, ValidationError, OSError."""
        clip = self.clips[reply.clip_id]
        said = {slot(one[0], one[1]): one for one in _said(clip.caption)}
        if reply.row not in said:
            raise ReplyError(f"the caption has no field {reply.row!r}")
        if not isinstance(reply.value, list) or len(reply.value) != 1:
            raise ReplyError("a verdict is right, wrong or cannot_tell")
        field, subject, text, _ = said[reply.row]
        self._answers.add(
            VerdictAnswer(
                clip_id=clip.clip_id,
                field=field,
                subject=subject,
                verdict=reply.value[0],
                answer=text,
                rater=reply.rater,
                time=_now(),
            )
        )

    def standing(self) -> Table:
        """Share of right verdicts a field, over all raters, and their kappa."""
        given: defaultdict[str, list[str]] = defaultdict(list)
        pairs: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        by_slot: defaultdict[tuple[str, str, str | None], list[VerdictAnswer]] = defaultdict(list)
        for answer in self._answers.all():
            if answer.clip_id in self.clips:
                given[answer.field].append(answer.verdict)
                by_slot[answer.clip_id, answer.slot, answer.answer].append(answer)
        for answers in by_slot.values():
            ordered = sorted(answers, key=lambda one: one.rater)
            pairs[ordered[0].field] += [
                (one.verdict, other.verdict) for one, other in combinations(ordered, 2)
            ]
        rows = []
        for field in FIELDS:
            if field in given:
                counts = Counter(given[field])
                decided = counts["right"] + counts["wrong"]
                low, high = wilson(counts["right"], decided)
                share = f"{counts['right'] / decided:.0%}" if decided else "-"
                kappa = cohen_kappa([a for a, _ in pairs[field]], [b for _, b in pairs[field]])
                figures = _figures(kappa)[:2] if kappa.n else ("-", "-")
                tally = (str(counts[name]) for name in ("right", "wrong", CANNOT_TELL))
                name = field.removeprefix("TYPES_").replace("_", " ")
                rows.append((name, *tally, share, f"{low:.0%} to {high:.0%}", *figures))
        columns = ("field", "right", "wrong", "cannot tell", "share", "95 %", "kappa", "95 %")
        headline = f"{sum(map(len, given.values()))} verdicts"
        return Table(headline, columns, tuple(rows), _KAPPA_NOTE)

    def _value(
        self, clip_id: str, field: str, subject: int | None, text: str, rater: str
    ) -> list[str] | None:
        answer = self._answers.of(clip_id, slot(field, subject)).get(rater)
        return [answer.verdict] if answer and answer.answer == text else None


def _said(caption: ShotCaption | None) -> list[tuple[str, int | None, str, str]]:
    """Field, subject, text, and the heading of what is ruled on."""
    if caption is None:
        return []
    said: list[tuple[str, int | None, str, str]] = [
        (field, None, str(getattr(caption, field)), "shot") for field in SHOT_FIELDS
    ]
    return said + [
        (field, number, text, f"subject {number + 1}")
        for number, subject in enumerate(caption.subjects)
        for field in SUBJECT_FIELDS
        if (text := subject_value(subject, field))
    ]


# --- check ----------------------------------------------------------------------------------------

_GOOD = "good"


class CheckMode:
    """Mark the bad clips of a sample of a batch of `batch` clips, and decide on the batch."""

    name = "check"

    def __init__(
        self,
        clips: Mapping[str, ReviewClip],
        answers: Answers[CheckAnswer],
        phase: Phase,
        batch: int,
    ) -> None:
        self.clips = clips
        self.phase = phase
        self.batch = batch
        self._answers = answers
        self.about = f"{len(clips)} of {batch:,} clips, {phase.name} limits"
        good = Option(_GOOD, "good", KEYS[0], tuple(CATEGORIES))
        bad = (
            Option(name, f"{name.replace('_', ' ')}: {meaning}", key, (_GOOD,))
            for (name, meaning), key in zip(CATEGORIES.items(), KEYS[1:])
        )
        self._options = (good, *bad, _CANNOT_TELL)

    def rows(self, clip: ReviewClip, rater: str) -> list[Row]:
        """One question, with what this rater answered."""
        answer = self._answers.of(clip.clip_id, "check").get(rater)
        value = None
        if answer:
            value = [CANNOT_TELL] if answer.bad is None else [*map(str, answer.bad)] or [_GOOD]
        hint = "good, or every kind of bad that it is"
        return [Row("check", "this clip is", "choice", value, None, self._options, "many", hint)]

    def answered(self, clip: ReviewClip, rater: str) -> bool:
        """Whether this rater has looked at it."""
        return rater in self._answers.of(clip.clip_id, "check")

    def keep(self, reply: Reply) -> None:
        """Keep what a clip is. Raises ReplyError, ValidationError, OSError."""
        value = reply.value
        if reply.row != "check" or not isinstance(value, list) or not value:
            raise ReplyError("a clip is good, or bad in some category")
        lone = [one for one in value if one in (_GOOD, CANNOT_TELL)]
        if lone and len(value) > 1:
            raise ReplyError(f"a clip that is {lone[0]} has no category")
        bad = None if value == [CANNOT_TELL] else tuple([one for one in value if one != _GOOD])
        self._answers.add(
            CheckAnswer(clip_id=reply.clip_id, rater=reply.rater, time=_now(), bad=bad)
        )

    def outcome(self) -> Outcome:
        """What becomes of the batch. Raters of one clip count together: see `together`."""
        judged: list[Collection[Category]] = []
        for name in self.clips:
            given = [one.bad for one in self._answers.of(name, "check").values()]
            told = [one for one in given if one is not None]
            if told:
                judged.append(together(told))
        return outcome(self.phase, self.batch, len(self.clips), judged)

    def standing(self) -> Table:
        """What becomes of the batch, with its intervals."""
        found = self.outcome()
        rows = tuple(
            (
                one.name.replace("_", " "),
                f"{one.bad} of {one.checked}",
                "-" if math.isnan(one.share) else f"{one.share:.1%}",
                f"{one.interval[0]:.1%} to {one.interval[1]:.1%}",
                f"under {one.limit:.1%}",
                ("within" if one.is_within else "over") + ("" if one.is_sure else ", not sure")
                if one.checked
                else "-",
            )
            for one in found.shares
        )
        columns = ("bad clips", "sample", "share", "95 %, batch", "limit", "")
        tone: Literal["good", "bad", ""] = ""
        if found.is_sure:
            tone = "good" if found.accepted else "bad"
        note = " ".join(filter(None, [found.warning, self._agreement()]))
        return Table(found.in_words, columns, rows, note, tone)

    def _agreement(self) -> str:
        """Kappa of good against bad over all pairs of raters; empty where there are none."""
        pairs = []
        for name in self.clips:
            given = sorted(self._answers.of(name, "check").values(), key=lambda one: one.rater)
            told = [bool(one.bad) for one in given if one.bad is not None]
            pairs += list(combinations(told, 2))
        if not pairs:
            return ""
        found = cohen_kappa([a for a, _ in pairs], [b for _, b in pairs])
        return f"Raters on good or bad: {found.in_words}."


_AGREEMENT = "agreement of the raters"
_NO_AGREEMENT = "no clip has been labelled by two raters yet"
_KAPPA_COLUMNS = ("field", "kappa", "95 %", "alike", "pairs")
_KAPPA_NOTE = "kappa is Cohen's, over all pairs of raters of a clip: 1 alike, 0 as by chance."


def _figures(one: Agreement) -> tuple[str, str, str, str]:
    kappa = "-" if math.isnan(one.kappa) else f"{one.kappa:.2f}"
    low, high = one.interval
    interval = "-" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    return kappa, interval, f"{one.observed:.0%}", str(one.n)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def exported(mode: LabelMode, output: Path) -> list[Clip]:
    """The labels as the clips of a test set that is written to `output`. Raises TestsetError when
    there are none."""
    lines = mode.lines()
    if not any(line.clip.labels != Labels() for line in lines):
        raise TestsetError([f"{output}: no answers to write"])
    ordered = sorted(lines, key=lambda one: (one.clip.clip_id, one.clip.rater or ""))
    return [
        line.clip.model_copy(update={"path": _beside(mode.clips[line.clip.clip_id], output)})
        for line in ordered
    ]


def _beside(clip: ReviewClip, output: Path) -> str:
    """The path of a clip's file relative to the file that names it, where there is such a path."""
    if "://" in clip.reference.path:
        return clip.reference.path
    try:
        return os.path.relpath(clip.origin, output.parent)
    except ValueError:  # another drive
        return str(clip.origin.resolve())
