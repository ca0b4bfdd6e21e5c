"""What each source claims of a clip, field by field: whose claim is taken, and where they differ.

A source is of one of three kinds: people (`human`), the sub-experts (`experts`) and a model that
writes whole captions (`teacher`). `resolve` takes, for each field, the claim of the kind that comes
first in the field's precedence; `Disagreement` counts how often two kinds claim different things.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

from captioner.engines.experts import EXPRESSIONS
from captioner.experts.camera import AXES, MOVES, CameraMotion, phrase
from captioner.merge import PAPER
from captioner.result import FieldSource
from captioner.schema import (
    FIELDS,
    SHOT_FIELDS,
    SUBJECT_FIELDS,
    ShotCaption,
    Subject,
    SubjectTypes,
    options,
)
from eval.fields import SCORERS, match, subject_label, subject_value
from eval.testset import SHOT_LABELS, Answer, SubjectLabel, Truth, answers

Kind = Literal["human", "experts", "teacher"]

KINDS: tuple[Kind, ...] = ("human", "experts", "teacher")

PRECEDENCE: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    dict.fromkeys(FIELDS, ("human", "teacher", "experts"))
    | dict.fromkeys(PAPER, ("human", "experts", "teacher"))
)
"""Who is believed of each field, the first one first. The paper's sub-experts are better than its
teacher in the shot's type, angle and position, in expression and in camera motion, and take these
fields over; people's labels stand above both (SkyReels-V2, skycaptioner_v1/README.md). Of the other
fields our experts say less than a teacher, so they fill what it leaves empty."""


@dataclass(frozen=True)
class Claim:
    """What a source says in a field, and who that was. "" is a claim of people alone: they saw
    that there is nothing to say."""

    text: str
    by: FieldSource


@dataclass(frozen=True)
class Claims:
    """All that one source says of a clip.

    `shot`: claims by field. `subjects`: as they were said, and in the same order the `about`
    claims by field (of `SUBJECT_FIELDS`). `main_only`: the one subject is the main one, and says
    nothing of whether there are others.
    """

    shot: Mapping[str, Claim] = field(default_factory=dict)
    subjects: tuple[Subject, ...] = ()
    about: tuple[Mapping[str, Claim], ...] = ()
    main_only: bool = False

    @property
    def main(self) -> int | None:
        """The number of the main subject: the first one that is marked, or the only one."""
        marked = [i for i, one in enumerate(self.subjects) if one.is_main_subject]
        return marked[0] if marked else 0 if len(self.subjects) == 1 else None


@dataclass(frozen=True)
class Question:
    """A field of the shot, or of one subject: each kind's claim, and the kind that won, if any."""

    field: str
    claims: Mapping[Kind, Claim]
    won: Kind | None

    @property
    def answer(self) -> Claim | None:
        """The claim that is taken."""
        return self.claims[self.won] if self.won else None


@dataclass(frozen=True)
class Resolved:
    """The questions of a shot and of each subject. `unplaced` counts the subjects, of the sources
    whose list was not taken, that are like none of the list."""

    shot: tuple[Question, ...]
    subjects: tuple[tuple[Question, ...], ...]
    unplaced: int = 0

    def caption(self) -> dict[str, Any]:
        """The values of a ShotCaption, which may not fit it: people and models write anything."""
        said = {q.field: q.answer.text for q in self.shot if q.answer}
        return {**said, "subjects": [_subject(one) for one in self.subjects]}

    def sources(self) -> dict[str, FieldSource]:
        """Who said each field that has an answer; of several subjects' all of them."""
        by: dict[str, list[FieldSource]] = {}
        for question in self.questions():
            if question.answer:
                by.setdefault(question.field, []).append(question.answer.by)
        return {name: _together(sources) for name, sources in by.items()}

    def questions(self) -> Iterator[Question]:
        """All of them."""
        yield from self.shot
        for subject in self.subjects:
            yield from subject


def resolve(
    claims: Mapping[Kind, Claims], precedence: Mapping[str, Sequence[Kind]] = PRECEDENCE
) -> Resolved:
    """Take each field from the first kind, in the field's precedence, that claims anything.

    Who is in the shot, and which of them is the main subject, comes as one list, of the first kind
    in the precedence of `is_main_subject` that names all subjects. The others' subjects are paired
    with it (`paired`) and claim their fields of it. A sub-type goes with its type: it is taken of
    those alone who name no other type than the one that is taken.
    """
    shot = tuple(_asked(name, _of_shot(claims, name), precedence) for name in SHOT_FIELDS)
    base = _base(claims, precedence["is_main_subject"])
    if base is None:
        return Resolved(shot, ())
    listed = claims[base]
    about: list[dict[Kind, Mapping[str, Claim]]] = [{base: one} for one in listed.about]
    unplaced = 0
    for kind in (kind for kind in KINDS if kind in claims and kind != base):
        pairs = paired(listed, claims[kind])
        for number, (theirs, same) in pairs.items():
            told = claims[kind].about[theirs]
            about[number][kind] = told if same else {n: c for n, c in told.items() if n in _WHO}
        unplaced += len(claims[kind].subjects) - sum(same for _, same in pairs.values())
    return Resolved(shot, tuple(_of_subject(one, base, precedence) for one in about), unplaced)


_WHO = ("TYPES_type", "TYPES_sub_type")
"""What two main subjects that have nothing in common still can be compared in."""


def paired(listed: Claims, other: Claims) -> dict[int, tuple[int, bool]]:
    """Subjects of the list by number, each with the other source's subject that is the same.

    As the scorer pairs them (`eval.fields.match`: the assignment of the greatest likeness); where
    `other` has the main subject alone, that is the list's main one. Two main subjects that are left
    over are paired as not the same (False): the sources disagree on what the shot is of.
    """
    main = listed.main
    if other.main_only:
        return {} if main is None or not other.subjects else {main: (0, True)}
    found = match([subject_label(one) for one in other.subjects], listed.subjects)
    pairs = {number: (theirs, True) for theirs, number in found.items()}
    if main is None or main in pairs or other.main is None or other.main in found:
        return pairs
    return {**pairs, main: (other.main, False)}


def _base(claims: Mapping[Kind, Claims], order: Sequence[Kind]) -> Kind | None:
    """Whose subjects there are: the first that names all, else the first that names any."""
    naming = [kind for kind in order if kind in claims and claims[kind].subjects]
    return next((kind for kind in naming if not claims[kind].main_only), next(iter(naming), None))


def _of_shot(claims: Mapping[Kind, Claims], name: str) -> dict[Kind, Claim]:
    return {kind: one.shot[name] for kind, one in claims.items() if name in one.shot}


def _of_subject(
    about: Mapping[Kind, Mapping[str, Claim]],
    base: Kind,
    precedence: Mapping[str, Sequence[Kind]],
) -> tuple[Question, ...]:
    questions = []
    taken: dict[str, Claim | None] = {}
    for name in SUBJECT_FIELDS:
        told = {kind: one[name] for kind, one in about.items() if name in one}
        order: Sequence[Kind] = precedence[name]
        if name == "is_main_subject":
            order = (base, *order)
        if name == "TYPES_sub_type":
            order = [kind for kind in order if not _of_other_type(about, kind, taken)]
        question = _asked(name, told, {name: order})
        taken[name] = question.answer
        questions.append(question)
    return tuple(questions)


def _of_other_type(
    about: Mapping[Kind, Mapping[str, Claim]], kind: Kind, taken: Mapping[str, Claim | None]
) -> bool:
    """Whether a kind names another type than the one that is taken."""
    theirs, chosen = about.get(kind, {}).get("TYPES_type"), taken["TYPES_type"]
    if theirs is None or chosen is None:
        return False
    normal = SCORERS["TYPES_type"].normal
    return normal(theirs.text) != normal(chosen.text)


def _asked(
    name: str, told: Mapping[Kind, Claim], precedence: Mapping[str, Sequence[Kind]]
) -> Question:
    won = next((kind for kind in precedence[name] if kind in told), None)
    return Question(name, told, won)


def _subject(questions: Sequence[Question]) -> dict[str, Any]:
    said = {q.field: q.answer.text for q in questions if q.answer}
    kind = {name: said.pop(f"TYPES_{name}", "") for name in ("type", "sub_type")}
    is_main = said.pop("is_main_subject", "") == "true"
    return {"TYPES": kind, **said, "is_main_subject": is_main}


def _together(by: Sequence[FieldSource]) -> FieldSource:
    """Sources of one field as one: their names, and the least of their confidences."""
    known = [one.confidence for one in by if one.confidence is not None]
    names = dict.fromkeys(one.source for one in by)
    return FieldSource(" + ".join(names), min(known, default=None))


# --- who claims what ------------------------------------------------------------------------------


def of_machine(row: Mapping[str, Any], confidence: Mapping[str, float]) -> Claims:
    """What an engine claims of a clip, in the columns of the ledger.

    A field with an entry in `confidence` is claimed only by a source that is surer than it. Raises
    ValidationError where the caption does not fit the schema.
    """
    caption = ShotCaption.model_validate(row["caption"])
    known = row["caption_sources"] or {}
    by = {}
    for name in FIELDS:
        seen = known.get(name) or {"source": row["caption_engine"], "confidence": None}
        if name not in confidence or (seen["confidence"] or 0.0) > confidence[name]:
            by[name] = FieldSource(seen["source"] or "unknown", seen["confidence"])

    def claims(values: Mapping[str, str]) -> dict[str, Claim]:
        return {name: Claim(said, by[name]) for name, said in values.items() if said and name in by}

    return Claims(
        shot=claims({name: getattr(caption, name) for name in SHOT_FIELDS}),
        subjects=caption.subjects,
        about=tuple(
            claims({name: subject_value(one, name) for name in SUBJECT_FIELDS})
            for one in caption.subjects
        ),
    )


def of_people(truth: Truth, raters: Sequence[str]) -> Claims:
    """What people claim of a clip: for each field the answer that most of them gave; none where
    as many gave another, and none where nobody could tell. Of several right answers the first."""
    by = FieldSource(f"human ({', '.join(raters)})" if raters else "human")
    shot: dict[str, Claim] = {}
    for name in SHOT_LABELS:
        if name not in truth.disputed:
            shot |= _told(name, getattr(truth.labels, name), by)
    about = [_about(one, by) for one in truth.labels.subjects or ()]
    main_only = truth.labels.main_subject_only
    return Claims(
        shot=shot,
        subjects=tuple(_seen(one, main_only) for one in about),
        about=tuple(about),
        main_only=main_only,
    )


def _about(label: SubjectLabel, by: FieldSource) -> dict[str, Claim]:
    told: dict[str, Claim] = {}
    for name in SUBJECT_FIELDS:
        if name != "is_main_subject":
            told |= _told(name, getattr(label, name.removeprefix("TYPES_")), by)
    if label.is_main_subject is not None:
        told["is_main_subject"] = Claim(str(label.is_main_subject).lower(), by)
    return told


def _told(name: str, value: Answer, by: FieldSource) -> dict[str, Claim]:
    told = answers(value)
    return {name: Claim(in_words(name, told[0]), by)} if told else {}


def _seen(about: Mapping[str, Claim], main_only: bool) -> Subject:
    """A labelled subject as pairing wants it; its texts may be longer than the schema allows."""
    said = {name: claim.text for name, claim in about.items()}
    kind = {name: said.pop(f"TYPES_{name}", "") for name in ("type", "sub_type")}
    said["is_main_subject"] = main_only or said.get("is_main_subject") == "true"  # type: ignore[assignment]
    types = SubjectTypes().model_copy(update=kind)
    return Subject().model_copy(update={**said, "types": types})


def in_words(name: str, label: str) -> str:
    """A label as captions say it: `pan_left+handheld` and `happiness` become the experts' phrases,
    what is in words already stays."""
    if name == "expression" and label in EXPRESSIONS:
        return f"The expression is {EXPRESSIONS[label]}."
    moves = tuple(label.split("+"))
    if name == "camera_motion" and set(moves) <= {*MOVES, "tracking"}:
        return phrase(
            CameraMotion(
                **dict.fromkeys(AXES, 0.0),
                static="static" in moves,
                handheld="handheld" in moves,
                tracking="tracking" in moves,
                confidence=1.0,
                moves=tuple(move for move in moves if move != "tracking"),
            )
        )
    return label


# --- how often they differ ------------------------------------------------------------------------

_TABLED = frozenset(
    (*(name for name in SHOT_FIELDS if options(name)), "camera_motion", "expression", "TYPES_type")
)
"""Fields of few answers, whose pairs of answers are counted."""


@dataclass
class Pair:
    """Two kinds of source in a field: how often `both` claimed something, and whether it was the
    `same` or they `differ`, as the scorer compares the field; the rest is prose, in which words
    alone do not tell. `confusion` counts (first's, second's) answers in the scorer's words."""

    both: int = 0
    same: int = 0
    differ: int = 0
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)


class Disagreement:
    """Counts over the clips that it is shown, each field of each subject once.

    `won` counts by field the kinds whose claim was taken, None where nobody claimed anything;
    `pairs` has the counts by field and two kinds, in the order of `KINDS`.
    """

    def __init__(self) -> None:
        self.won: defaultdict[str, Counter[Kind | None]] = defaultdict(Counter)
        self.pairs: defaultdict[tuple[str, Kind, Kind], Pair] = defaultdict(Pair)
        self.unplaced = 0

    def add(self, resolved: Resolved) -> None:
        """Count a clip."""
        self.unplaced += resolved.unplaced
        for question in resolved.questions():
            self.won[question.field][question.won] += 1
            for first, second in combinations([k for k in KINDS if k in question.claims], 2):
                one, other = question.claims[first], question.claims[second]
                _count(self.pairs[question.field, first, second], question.field, one, other)

    def report(self) -> dict[str, Any]:
        """The counts as JSON has them."""
        return {
            "fields": {
                name: {
                    "won": {kind or "nobody": self.won[name][kind] for kind in (*KINDS, None)},
                    "pairs": {
                        f"{first} / {second}": {
                            "both": pair.both,
                            "same": pair.same,
                            "differ": pair.differ,
                            "confusion": [[*both, n] for both, n in _descending(pair.confusion)],
                        }
                        for first, second in combinations(KINDS, 2)
                        if (pair := self.pairs.get((name, first, second)))
                    },
                }
                for name in FIELDS
                if name in self.won
            },
            "unplaced_subjects": self.unplaced,
        }

    def table(self) -> str:
        """A line a field: whose claims were taken, and how often two kinds differ, of how many
        that can be compared by their words."""
        head = "".join(f"{name:>9}" for name in (*KINDS, "nobody"))
        couples = list(combinations(KINDS, 2))
        beside = "".join(f"{f'{first}/{second}':>18}" for first, second in couples)
        lines = [f"{'field':<16}{head}{beside}"]
        for name in (name for name in FIELDS if name in self.won):
            counts = "".join(f"{self.won[name][kind]:>9}" for kind in (*KINDS, None))
            differ = "".join(
                f"{_share(self.pairs.get((name, first, second))):>18}" for first, second in couples
            )
            lines.append(f"{name:<16}{counts}{differ}")
        return "\n".join(lines)

    def confusions(self, most: int = 5) -> list[str]:
        """The commonest answers in which two kinds differ, a line each, the fields in order."""
        lines = []
        for name in FIELDS:
            for first, second in combinations(KINDS, 2):
                pair = self.pairs.get((name, first, second), Pair())
                differing = [one for one in _descending(pair.confusion) if one[0][0] != one[0][1]]
                lines += [
                    f"{name}: {first} {said or '-'}, {second} {other or '-'}: {count}"
                    for (said, other), count in differing[:most]
                ]
        return lines


def _count(pair: Pair, name: str, one: Claim, other: Claim) -> None:
    item = SCORERS[name].item("", -1, -1, (one.text,), other.text)
    pair.both += 1
    pair.same += item.verdict == "right"
    pair.differ += item.verdict == "wrong"
    if name in _TABLED and item.classes:
        pair.confusion[item.classes[0], item.answer_class] += 1


def _descending(confusion: Counter[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    return sorted(confusion.items(), key=lambda one: (-one[1], one[0]))


def _share(pair: Pair | None) -> str:
    if pair is None or not pair.same + pair.differ:
        return "-"
    ruled = pair.same + pair.differ
    return f"{pair.differ} of {ruled} {100 * pair.differ / ruled:3.0f} %"
