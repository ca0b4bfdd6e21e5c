"""Expert fields beside a model's: which of the two a caption says, field by field.

SkyCaptioner's training labels are made so: a large model writes the caption, and sub-experts the
fields that they know (SkyReels-V2, skycaptioner_v1/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from captioner import fusion
from captioner.result import CaptionResult, FieldSource
from captioner.schema import FIELDS, SHOT_FIELDS, ShotCaption, Subject, SubjectTypes, options


class MergeRuleError(ValueError):
    """A merge rule that cannot be; the message names field and rule and says what to write."""


@dataclass(frozen=True)
class Rule:
    """Who says a field.

    vlm: the model. expert: the expert where it saw something, with a confidence greater than
    `above` (0 to 1) where that is given, else the model. both: the expert's text and then the
    model's; of an option, which has room for one, the expert's.
    """

    kind: Literal["vlm", "expert", "both"]
    above: float | None = None

    def takes(self, seen: FieldSource | None) -> bool:
        """Whether what an expert saw is to be said."""
        if seen is None or self.kind == "vlm":
            return False
        return self.above is None or (seen.confidence is not None and seen.confidence > self.above)


PAPER: Mapping[str, Rule] = MappingProxyType(
    dict.fromkeys(
        ("shot_type", "shot_angle", "shot_position", "camera_motion", "expression"), Rule("expert")
    )
)
"""Those of the paper's three sub-experts: its shot, expression and camera-motion captioners."""

PRESETS: Mapping[str, Mapping[str, Rule]] = {"paper": PAPER}

UNSEEN = ("action", "environment")
"""Fields that no expert looks at."""


def parse_rules(text: str) -> dict[str, Rule]:
    """Rules from `camera_motion=expert>0.8,lighting=both`, or `paper`, or `paper,lighting=vlm`.

    A field without a rule is the model's. Raises MergeRuleError.
    """
    rules: dict[str, Rule] = {}
    named: set[str] = set()
    for item in filter(None, (item.strip() for item in text.split(","))):
        field, equals, rule = (part.strip() for part in item.partition("="))
        if not equals and field in PRESETS:
            rules = {**PRESETS[field], **rules}
        elif not equals:
            raise MergeRuleError(
                f"merge rule {item!r} is no preset: write {', '.join(PRESETS)} or FIELD=RULE"
            )
        elif field in named:
            raise MergeRuleError(f"merge rule {item!r}: {field} has a rule already")
        else:
            rules[field] = _rule(field, rule)
            named.add(field)
    if not rules:
        raise MergeRuleError(f"merge rules {text!r} name no field: write paper or FIELD=RULE")
    return rules


def merge(vlm: CaptionResult, experts: CaptionResult, rules: Mapping[str, Rule]) -> CaptionResult:
    """The model's result with the experts' fields that the rules ask for.

    Status, engine and `raw` stay the model's; `sources` names who said each field, the measured
    camera and the text on screen are the experts', the prose is the template's. Of the subjects,
    the experts' main one is matched with the model's by type and sub-type; where none fits, the
    model's are left alone. Experts that failed are named in `error`.
    """
    beside = replace(
        vlm,
        camera=vlm.camera or experts.camera,
        screen_text=vlm.screen_text or experts.screen_text,
        error=vlm.error or (f"experts: {experts.error}" if experts.error else None),
    )
    if vlm.caption is None or experts.caption is None:
        return beside
    pair = _Pair(vlm, experts, rules)
    shot = {
        name: pair.chosen(name, getattr(vlm.caption, name), getattr(experts.caption, name))
        for name in SHOT_FIELDS
    }
    subjects, changed = _subjects(pair, vlm.caption.subjects, experts.caption.main_subject)
    said = {name: chosen.text for name, chosen in shot.items()}
    caption = ShotCaption.model_validate({**said, "subjects": subjects})
    changed |= {name: chosen.source for name, chosen in shot.items() if chosen.source}
    return replace(
        beside,
        caption=caption,
        sources={name: changed.get(name) or pair.model(name) for name in filled(caption)},
        t2v=fusion.t2v(caption, beside.screen_text),
        i2v=fusion.i2v(caption),
    )


def filled(caption: ShotCaption) -> tuple[str, ...]:
    """The scored fields that say something, of the shot or of any subject."""

    def says(name: str) -> bool:
        if name in SHOT_FIELDS:
            return bool(getattr(caption, name))
        if name.startswith("TYPES_"):
            return any(getattr(s.types, name.removeprefix("TYPES_")) for s in caption.subjects)
        return any(getattr(subject, name) for subject in caption.subjects)

    return tuple(name for name in FIELDS if says(name))


def longest(field: str) -> int:
    """The characters that a free-text field of a caption or a subject takes at most."""
    model = ShotCaption if field in ShotCaption.model_fields else Subject
    metadata = model.model_fields[field].metadata
    return next(int(part.max_length) for part in metadata if hasattr(part, "max_length"))


_EXPERT = re.compile(r"expert\s*(?:>\s*(\d*\.?\d+))?")


def _rule(field: str, text: str) -> Rule:
    where = f"merge rule {f'{field}={text}'!r}"
    if field not in FIELDS:
        raise MergeRuleError(f"{where}: no field {field!r}; the fields are {', '.join(FIELDS)}")
    if text == "vlm":
        return Rule("vlm")
    expert = _EXPERT.fullmatch(text)
    if not expert and text != "both":
        raise MergeRuleError(f"{where}: no rule {text!r}; write vlm, expert, expert>0.8 or both")
    if field in UNSEEN:
        raise MergeRuleError(f"{where}: no expert looks at {field}; leave it to the model")
    if not expert:
        return Rule("both")
    above = float(expert[1]) if expert[1] else None
    if above is not None and above >= 1:
        raise MergeRuleError(
            f"{where}: a confidence is within 0 to 1, and none is above {expert[1]}"
        )
    return Rule("expert", above)


_TEXTS = ("appearance", "action", "expression", "position")
_CLOSED = tuple(name for name in SHOT_FIELDS if options(name))
_MODEL = Rule("vlm")


@dataclass(frozen=True)
class _Chosen:
    """What a field says; `source` is None where it is still all the model's."""

    text: str
    source: FieldSource | None = None


@dataclass(frozen=True)
class _Pair:
    """The two results of one clip, and the rules."""

    vlm: CaptionResult
    experts: CaptionResult
    rules: Mapping[str, Rule]

    def takes(self, name: str) -> bool:
        """Whether what the experts saw of a field is to be said."""
        return self.rules.get(name, _MODEL).takes(self.experts.sources.get(name))

    def expert(self, name: str) -> FieldSource:
        return self.experts.sources.get(name) or FieldSource(self.experts.engine)

    def model(self, name: str) -> FieldSource:
        return self.vlm.sources.get(name) or FieldSource(self.vlm.engine)

    def beside(self, name: str) -> FieldSource:
        """The source of a field that both say."""
        seen = self.expert(name)
        return FieldSource(f"{seen.source} + {self.model(name).source}", seen.confidence)

    def chosen(self, name: str, said: str, seen: str) -> _Chosen:
        """The text of a field, from the model's and the experts'."""
        if not seen or not self.takes(name):
            return _Chosen(said)
        by = self.expert(name)
        if not said or self.rules[name].kind == "expert":
            return _Chosen(seen, by)
        if said.strip(" .").lower() == seen.strip(" .").lower():
            return _Chosen(seen, self.beside(name))
        text = f"{seen.rstrip(' .')}{', ' if name == 'camera_motion' else '. '}{said}"
        if name not in _CLOSED and len(text) <= longest(name):
            return _Chosen(text, self.beside(name))
        kept = said if name in _CLOSED else "in raw"
        return _Chosen(
            seen, FieldSource(f"{by.source} ({self.model(name).source}: {kept})", by.confidence)
        )


def _subjects(
    pair: _Pair, said: Sequence[Subject], seen: Subject | None
) -> tuple[list[Subject], dict[str, FieldSource]]:
    """The model's subjects with what the experts saw of their main one; the sources that change."""
    subjects = list(said)
    at = _match(seen, subjects) if seen else None
    if seen and at is None and pair.takes("TYPES_type"):
        subjects = subjects or [Subject(is_main_subject=True)]
        at = next((i for i, subject in enumerate(subjects) if subject.is_main_subject), 0)
    if seen is None or at is None:
        return subjects, {}
    subjects[at], changed = _subject(pair, subjects[at], seen)
    rest = subjects[:at] + subjects[at + 1 :]
    shared = set(filled(ShotCaption(subjects=tuple(rest))))
    if pair.takes("is_main_subject"):
        subjects = [
            subject.model_copy(update={"is_main_subject": i == at})
            for i, subject in enumerate(subjects)
        ]
        changed["is_main_subject"] = pair.expert("is_main_subject")
        shared.discard("is_main_subject")
    return subjects, changed | {name: pair.beside(name) for name in changed if name in shared}


def _subject(pair: _Pair, said: Subject, seen: Subject) -> tuple[Subject, dict[str, FieldSource]]:
    """The model's subject with what the experts saw of it, and the sources that change."""
    chosen = {name: pair.chosen(name, getattr(said, name), getattr(seen, name)) for name in _TEXTS}
    changed = {name: text.source for name, text in chosen.items() if text.source}
    other = pair.takes("TYPES_type") and said.types.type != seen.types.type
    kind, sub_type = said.types.type, said.types.sub_type
    if pair.takes("TYPES_type"):
        kind, changed["TYPES_type"] = seen.types.type, pair.expert("TYPES_type")
    # A sub-type is one of its type: it goes along with another type, and never alone.
    if other or (pair.takes("TYPES_sub_type") and seen.types.sub_type):
        sub_type = seen.types.sub_type
        if sub_type:
            changed["TYPES_sub_type"] = pair.expert("TYPES_sub_type")
    merged = Subject(
        TYPES=SubjectTypes(type=kind, sub_type=sub_type),
        appearance=chosen["appearance"].text,
        action=chosen["action"].text,
        expression=chosen["expression"].text,
        position=chosen["position"].text,
        is_main_subject=said.is_main_subject,
    )
    return merged, changed


def _match(seen: Subject, subjects: Sequence[Subject]) -> int | None:
    """Which subject the experts' is: of its type, best of its sub-type, else the main one."""

    def likeness(i: int) -> tuple[bool, bool, int]:
        subject = subjects[i]
        return subject.types.sub_type == seen.types.sub_type, subject.is_main_subject, -i

    same = [i for i, subject in enumerate(subjects) if subject.types.type == seen.types.type]
    return max(same, key=likeness, default=None)
