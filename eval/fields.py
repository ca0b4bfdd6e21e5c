"""Right or wrong, field by field: a small scorer for each of the 13 fields.

A caption is compared with what is true of a clip (`compare`): closed lists after normalisation,
camera motion by its signed axes, subjects after they are paired one to one. Free text is left for a
judge (`eval.judge`). An empty field, a missing and an invalid caption are wrong answers.

Below are the figures for one closed field (`score_field`), as the experts are measured: there an
empty answer is no error but costs coverage.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from captioner.schema import FIELDS, SUBJECT_FIELDS, SUBJECT_TYPES, ShotCaption, Subject, options
from curation import interval
from eval.camera_text import read_camera
from eval.testset import SHOT_LABELS, Answer, Labels, SubjectLabel, answers

Verdict = Literal["right", "wrong", "cannot_tell", "unjudged"]


@dataclass(slots=True)
class Item:
    """One answer to one question: what a caption says in a field, and whether that is right.

    `subject` counts the subjects of the truth and `predicted` those of the caption, -1 for shot
    fields and where there is none. `truth` holds every right answer and is empty where people
    ruled without labels; `classes` and `answer_class` are what the right ones and this one count
    as in a closed field, none where equality does not decide. `verdict` is None until a judge has
    ruled; `why` says what is wrong beyond the answer itself.
    """

    clip_id: str
    field: str
    subject: int
    predicted: int
    truth: tuple[str, ...]
    answer: str
    classes: tuple[str, ...]
    answer_class: str
    verdict: Verdict | None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """The items of a clip, and how many subjects of the truth were found, and of the caption are
    of no subject of the truth (0 where only the main subject is labelled)."""

    items: list[Item]
    matched: int
    extra: int


@dataclass(frozen=True)
class Scorer:
    """How a field is compared. `normal` brings spellings of one answer to one; a field is `closed`
    where equality after that decides, otherwise a judge does."""

    field: str
    normal: Callable[[str], str]
    closed: bool

    def item(
        self, clip_id: str, subject: int, predicted: int, truth: tuple[str, ...], answer: str
    ) -> Item:
        """The answer, ruled on as far as the words alone decide."""
        said = self.normal(answer)
        right = tuple([self.normal(one) for one in truth])
        closed = self.closed or (self.field == "expression" and _EMOTION_NAMES.issuperset(right))
        verdict: Verdict | None = None
        if said in right:
            verdict = "right"
        elif closed or not answer or not any(truth):
            verdict = "wrong"
        classes, said = (right, said) if closed else ((), "")
        return Item(clip_id, self.field, subject, predicted, truth, answer, classes, said, verdict)


def compare(clip_id: str, labels: Labels, caption: ShotCaption | None, why: str = "") -> Comparison:
    """Every labelled field of a clip with what the caption says; `why` there is none, if so."""
    items = []
    why = "" if caption else why or "no caption"
    for name in SHOT_LABELS:
        value: Answer = getattr(labels, name)
        if value is None:
            continue
        said = getattr(caption, name) if caption else ""
        items.append(_item(clip_id, name, -1, -1, value, said, why))
    asked = labels.subjects or ()
    given = caption.subjects if caption else ()
    pairs = _main_only(asked, given) if labels.main_subject_only else match(asked, given)
    for number, subject in enumerate(asked):
        found = pairs.get(number, -1)
        for name in SUBJECT_FIELDS:
            wanted = _wanted(subject, name)
            if wanted is None or (labels.main_subject_only and name == "is_main_subject"):
                continue
            said = subject_value(given[found], name) if found >= 0 else ""
            lost = why or ("" if found >= 0 else "no such subject in the caption")
            items.append(_item(clip_id, name, number, found, wanted, said, lost))
    extra = 0 if labels.main_subject_only else len(given) - len(pairs)
    return Comparison(items, len(pairs), extra if labels.subjects is not None else 0)


def _item(
    clip_id: str, field: str, subject: int, predicted: int, wanted: Answer, said: str, why: str
) -> Item:
    truth = answers(wanted)
    if not truth:
        return Item(clip_id, field, subject, predicted, (), said, (), "", "cannot_tell")
    lost = bool(why) and not said
    item = SCORERS[field].item(clip_id, subject, predicted, truth, said)
    if lost:
        # Even where the right answer is none: it was not given.
        item.verdict, item.why = "wrong", why
    return item


def _wanted(subject: SubjectLabel, field: str) -> Answer:
    if field == "is_main_subject":
        return None if subject.is_main_subject is None else str(subject.is_main_subject).lower()
    value: Answer = getattr(subject, field.removeprefix("TYPES_"))
    return value


def subject_value(subject: Subject, field: str) -> str:
    """A subject's field by the paper's name for it, as text."""
    if field == "is_main_subject":
        return str(subject.is_main_subject).lower()
    if field.startswith("TYPES_"):
        return str(getattr(subject.types, field.removeprefix("TYPES_")))
    return str(getattr(subject, field))


# --- one answer spelt in several ways -------------------------------------------------------------


@lru_cache(maxsize=65536)
def plain(text: str) -> str:
    """Lower case, words joined by "_": "Close-Up" and "close up" are close_up."""
    return re.sub(r"[\s_\-]+", "_", text.strip().strip(".").casefold())


_TYPE_WORDS = {
    **{plain(name): name for name in SUBJECT_TYPES},
    **{plain(name).removesuffix("s"): name for name in SUBJECT_TYPES},
    **{plain(name) + "s": name for name in SUBJECT_TYPES},
    **dict.fromkeys(("person", "people", "man", "woman"), "Human"),
    "foods": "Food", "landscape": "Scenery",
}  # fmt: skip

_OPTION_WORDS = {
    "closeup": "close_up",
    "extreme_closeup": "extreme_close_up",
    "pov": "point_of_view",
}

_SAME_WORDS = {
    "female": "woman", "lady": "woman", "women": "woman", "male": "man", "men": "man",
    "gentleman": "man", "boat": "ship", "automobile": "car", "bike": "bicycle", "plane": "airplane",
    "aeroplane": "airplane", "motorbike": "motorcycle", "soccer": "football",
}  # fmt: skip
"""Words for one kind of subject; a child is no man and no woman, so it stays apart."""

_EMOTIONS = {
    "happiness": r"happ\w+|smil\w+|joy\w*|cheer\w*|laugh\w*|delight\w*|pleased|amus\w+|grin\w*",
    "sadness": r"sad\w*|sorrow\w*|tear(?:s|ful)|cry(?:ing)?|cries|melanchol\w+|griev\w+|grief",
    "anger": r"ang(?:er|ry|rily)|furious\w*|rage|enraged|irritat\w+|annoyed",
    "fear": r"fear\w*|afraid|scared|terrif\w+|frighten\w+|horrified",
    "surprise": r"surpris\w+|astonish\w+|amaz\w+|shock\w*",
    "disgust": r"disgust\w*|revulsion|repuls\w+",
    "neutral": r"neutral\w*|calm\w*|expressionless|composed|blank",
}
"""The paper's seven classes of expression, and words that name them."""

_EMOTION = re.compile("|".join(f"(?P<{name}>\\b(?:{w})\\b)" for name, w in _EMOTIONS.items()))
_EMOTION_NAMES = frozenset(_EMOTIONS)


@lru_cache(maxsize=65536)
def _option(text: str) -> str:
    name = plain(text)
    return _OPTION_WORDS.get(name, name)


@lru_cache(maxsize=65536)
def _type(text: str) -> str:
    return _TYPE_WORDS.get(plain(text), text.strip())


@lru_cache(maxsize=65536)
def _sub_type(text: str) -> str:
    name = plain(text)
    if name in _SAME_WORDS:
        return _SAME_WORDS[name]
    single = name.removesuffix("s") if not name.endswith("ss") else name
    return _SAME_WORDS.get(single, single)


@lru_cache(maxsize=65536)
def _camera(text: str) -> str:
    move = read_camera(text)
    return move.name if move else plain(text)


@lru_cache(maxsize=65536)
def _expression(text: str) -> str:
    """The class that is named first, or the words where none is."""
    named = _EMOTION.search(text.casefold())
    return named.lastgroup or "" if named else plain(text)


_NORMAL: Mapping[str, tuple[Callable[[str], str], bool]] = MappingProxyType(
    {
        **{name: (_option, True) for name in SHOT_LABELS if options(name)},
        "camera_motion": (_camera, True),
        "expression": (_expression, False),
        "TYPES_type": (_type, True),
        "TYPES_sub_type": (_sub_type, True),
        "is_main_subject": (plain, True),
    }
)

SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {name: Scorer(name, *_NORMAL.get(name, (str.strip, False))) for name in FIELDS}
)
"""The scorer of each of the paper's 13 fields."""


# --- whose subject is whose -----------------------------------------------------------------------

_TYPE, _SUB_TYPE, _TEXT, _MAIN, _SAME = 4.0, 3.0, 2.0, 1.0, 0.01
"""What a shared type, sub-type, each shared text and an equal main flag speak for two subjects
being one: own choice. The flag alone is no reason to pair them. Every text that is the same, even
none, decides between pairs that are else alike."""


def labels_of(caption: ShotCaption) -> Labels:
    """What a caption asks for, as labels: fields that say nothing are not asked."""
    shot: dict[str, Any] = {name: getattr(caption, name) or None for name in SHOT_LABELS}
    if read_camera(caption.camera_motion) is None:
        shot["camera_motion"] = None
    subjects = tuple(map(subject_label, caption.subjects)) or None
    return Labels.model_validate({**shot, "subjects": subjects})


def subject_label(subject: Subject) -> SubjectLabel:
    """What a caption says of a subject, likewise."""
    kind = subject.types.type
    return SubjectLabel(
        type=kind if kind in SUBJECT_TYPES else None,
        sub_type=subject.types.sub_type or None,
        appearance=subject.appearance or None,
        action=subject.action or None,
        expression=subject.expression or None,
        position=subject.position or None,
        is_main_subject=subject.is_main_subject,
    )


def match(truth: Sequence[SubjectLabel], caption: Sequence[Subject]) -> dict[int, int]:
    """Subjects of the truth by number, each with the one of the caption that is most like it.

    The assignment, one to one, has the greatest sum of likenesses that there is (what the Hungarian
    algorithm finds); subjects that share neither type nor sub-type nor a word are not paired. The
    order of the subjects makes no difference.
    """
    if not truth or not caption:
        return {}
    rows = sorted(range(len(truth)), key=lambda i: _said_of(truth[i]))
    columns = sorted(range(len(caption)), key=lambda i: _content(caption[i]))
    likeness = [[_likeness(truth[i], caption[j]) for j in columns] for i in rows]
    return {rows[i]: columns[j] for i, j in assign(likeness).items()}


def assign(likeness: Sequence[Sequence[float]]) -> dict[int, int]:
    """Rows with their columns, one to one, at the greatest sum; pairs of 0 are left out.

    Exact, by dynamic programming over sets of columns: n 2^m steps for n rows and m columns, of
    which the schema allows 8.
    """
    greedy = [max(range(len(row)), key=row.__getitem__) for row in likeness]
    if len(set(greedy)) == len(greedy):  # every row can have its best
        return {i: j for i, j in enumerate(greedy) if likeness[i][j] > 0}
    best: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    for i, row in enumerate(likeness):
        after = dict(best)
        for used, (total, pairs) in best.items():
            for j, value in enumerate(row):
                taken = used | 1 << j
                if value > 0 and taken != used:
                    better = total + value
                    if taken not in after or better > after[taken][0]:
                        after[taken] = better, (*pairs, (i, j))
        best = after
    return dict(max(best.values(), key=lambda one: one[0])[1])


def _said_of(truth: SubjectLabel) -> tuple[str, ...]:
    return tuple([str(value) for _, value in truth])


def _content(subject: Subject) -> tuple[str | bool, ...]:
    kind = subject.types
    said = (subject.appearance, subject.action, subject.expression, subject.position)
    return (kind.type, kind.sub_type, *said, subject.is_main_subject)


def _main_only(truth: Sequence[SubjectLabel], caption: Sequence[Subject]) -> dict[int, int]:
    main = next((i for i, one in enumerate(caption) if one.is_main_subject), None)
    return {} if main is None or not truth else {0: main}


def _likeness(truth: SubjectLabel, subject: Subject) -> float:
    kind = subject.types
    total = same = 0.0
    if _type(kind.type) in map(_type, answers(truth.type)):
        total += _TYPE
    if _sub_type(kind.sub_type) in map(_sub_type, answers(truth.sub_type)):
        total += _SUB_TYPE
    for true, said in (
        (truth.appearance, subject.appearance),
        (truth.position, subject.position),
        (truth.action, subject.action),
        (truth.expression, subject.expression),
    ):
        if said in answers(true):
            same += _SAME
        if true and said:
            total += _TEXT * max([_shared(one, said) for one in answers(true)], default=0)
    if total and truth.is_main_subject == subject.is_main_subject:
        total += _MAIN
    return total + same if total else 0.0


def _shared(first: str, second: str) -> float:
    """Shared words over all words."""
    one, other = words(first), words(second)
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0


SMALL_WORDS = frozenset(
    ("a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "have", "in", "into", "is",
     "it", "its", "of", "on", "or", "that", "the", "their", "there", "to", "was", "while", "with")
)  # fmt: skip


@lru_cache(maxsize=65536)
def words(text: str) -> frozenset[str]:
    """The words of a text that mean something, in lower case."""
    return frozenset(re.findall(r"[^\W_]+", text.casefold())) - SMALL_WORDS


# --- the figures of one closed field --------------------------------------------------------------


@dataclass(frozen=True)
class FieldScore:
    """How a field was answered: `asked` clips have a label, `answered` of them an answer and
    `right` a right one. `majority` is the accuracy of the commonest label over all that were
    asked, `majority_answered` that of the same label over those answered. `confusion` counts
    (label, answer) pairs in descending order, an empty answer being "".
    """

    field: str
    asked: int
    answered: int
    right: int
    majority: float
    majority_answered: float
    confusion: tuple[tuple[str, str, int], ...]

    @property
    def accuracy(self) -> float:
        """Share of the answers that are right; nan without an answer."""
        return self.right / self.answered if self.answered else math.nan

    @property
    def share_answered(self) -> float:
        """Share of the labelled clips that have an answer; nan without a label."""
        return self.answered / self.asked if self.asked else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.right, self.answered)


def score_field(field: str, labels: Sequence[str], answers: Sequence[str]) -> FieldScore:
    """Score answers (empty: none) against labels (empty: the clip is not asked).

    A label may allow several answers, separated by "|": the first one stands for it in the
    baseline and the confusion table. Raises ValueError when the lengths differ.
    """
    pairs = [(label.split("|"), answer) for label, answer in zip(labels, answers, strict=True)]
    asked = [(allowed, answer) for allowed, answer in pairs if allowed != [""]]
    answered = [(allowed, answer) for allowed, answer in asked if answer]
    common = Counter(allowed[0] for allowed, _ in asked).most_common(1)
    name = common[0][0] if common else ""
    shown = Counter(
        (answer if answer in allowed else allowed[0], answer) for allowed, answer in asked
    )
    return FieldScore(
        field=field,
        asked=len(asked),
        answered=len(answered),
        right=sum(answer in allowed for allowed, answer in answered),
        majority=_share([name in allowed for allowed, _ in asked]),
        majority_answered=_share([name in allowed for allowed, _ in answered]),
        confusion=tuple(
            (label, answer, count)
            for (label, answer), count in sorted(shown.items(), key=lambda p: (-p[1], p[0]))
        ),
    )


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion; (0, 1) without trials.

    Raises ValueError unless 0 <= right <= total.
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no proportion")
    return interval.wilson(right / total if total else 0.0, total)


def table(scores: Sequence[FieldScore]) -> str:
    """The scores as an aligned text table."""
    lines = [
        f"{'field':<16}{'right':>7}{'answered':>10}{'asked':>7}{'accuracy':>10}{'95 %':>14}"
        f"{'majority':>10}{'on answered':>13}"
    ]
    for score in scores:
        low, high = score.interval
        lines.append(
            f"{score.field:<16}{score.right:>7}{score.answered:>10}{score.asked:>7}"
            f"{score.accuracy:>10.2f}{f'{low:.2f}-{high:.2f}':>14}"
            f"{score.majority:>10.2f}{score.majority_answered:>13.2f}"
        )
    return "\n".join(lines)


def confusion_table(score: FieldScore) -> str:
    """Rows are labels, columns answers; "-" is a field left empty."""
    labels = sorted({label for label, _, _ in score.confusion})
    answers = sorted(
        {answer for _, answer, _ in score.confusion}, key=lambda name: (not name, name)
    )
    counts = {(label, answer): count for label, answer, count in score.confusion}
    wide = max([len(name) for name in (*labels, score.field)], default=0) + 2
    head = "".join(f"{name or '-':>{max(8, len(name) + 2)}}" for name in answers)
    lines = [f"{score.field:<{wide}}{head}"]
    for label in labels:
        cells = "".join(
            f"{counts.get((label, answer), 0):>{max(8, len(answer) + 2)}}" for answer in answers
        )
        lines.append(f"{label:<{wide}}{cells}")
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else math.nan
