"""What the language model that writes the prose is told: an instruction, and what it is shown.

The two instructions and the choice of fields are those of SkyReels-V2
(skycaptioner_v1/scripts/vllm_fusion_caption.py at abed76f), the instructions word for word: they
are the interface that its fused captions were made with. The sentences about length and language
are our own, added at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from captioner.schema import ShotCaption, Subject

Task = Literal["t2v", "i2v"]
LengthName = Literal["short", "medium", "dense"]

_PLACE = "{structured_input}"

FUSION_I2V = """
You are an expert in video captioning. You are given a structured video caption and you need to compose it to be more natural and fluent in English.

## Structured Input
{structured_input}

## Notes
1. If there has an empty field, just ignore it and do not mention it in the output.
2. Do not make any semantic changes to the original fields. Please be sure to follow the original meaning.
3. If the action field is not empty, eliminate the irrelevant information in the action field that is not related to the timing action(such as wearings, background and environment information) to make a pure action field.

## Output Principles and Orders
1. First, eliminate the static information in the action field that is not related to the timing action, such as background or environment information.
2. Second, describe each subject with its pure action and expression if these fields exist.

## Output
Please directly output the final composed caption without any additional information.
"""  # noqa: E501

FUSION_T2V = """
You are an expert in video captioning. You are given a structured video caption and you need to compose it to be more natural and fluent in English.

## Structured Input
{structured_input}

## Notes
1. According to the action field information, change its name field to the subject pronoun in the action.
2. If there has an empty field, just ignore it and do not mention it in the output.
3. Do not make any semantic changes to the original fields. Please be sure to follow the original meaning.

## Output Principles and Orders
1. First, declare the shot_type, then declare the shot_angle and the shot_position fields.
2. Second, eliminate information in the action field that is not related to the timing action, such as background or environment information if action is not empty.
3. Third, describe each subject with its pure action, appearance, expression, position if these fields exist.
4. Finally, declare the environment and lighting if the environment and lighting fields are not empty.

## Output
Please directly output the final composed caption without any additional information.
"""  # noqa: E501

FUSION_PROMPTS: dict[Task, str] = {"t2v": FUSION_T2V, "i2v": FUSION_I2V}


@dataclass(frozen=True)
class Length:
    """A length that is asked for: the sentence that asks, and the tokens an answer may have."""

    sentence: str
    max_tokens: int


RELEASED_MAX_TOKENS = 512
"""Of the released script, which asks for no length."""

LENGTHS: dict[LengthName, Length] = {
    "short": Length("Write one or two sentences, 40 words at most.", 160),
    "medium": Length("Write one paragraph of up to 80 words.", 320),
    "dense": Length("Write one paragraph of up to 180 words that keeps every detail given.", 720),
}
"""Own choice. Four tokens for a word leave room for languages other than English; "up to", since a
longer text than the input can fill would have to be invented."""


def instruction(
    task: Task,
    structured_input: str,
    length: LengthName | None = None,
    language: str | None = None,
) -> str:
    """The whole instruction for one caption. Without length and language it is the released one."""
    text = FUSION_PROMPTS[task].replace(_PLACE, structured_input)
    added = [LENGTHS[length].sentence] if length else []
    if language:
        added.append(f"Write the caption in {language}, not in English.")
    return text + "".join(f"{sentence}\n" for sentence in added)


def instruction_lines() -> frozenset[str]:
    """Lines that only an instruction has, in lower case: in an answer they are a leak."""
    texts = [*FUSION_PROMPTS.values(), *(length.sentence for length in LENGTHS.values())]
    lines = (line.strip("#0123456789. ").lower() for text in texts for line in text.splitlines())
    return frozenset(line for line in lines if len(line) > len(_PLACE))


# --- what the model is shown ----------------------------------------------------------------------

DROPPED_SUBJECT_FIELDS = ("appearance", "position")
"""What the released script leaves out of some subjects for T2V, and of all for I2V."""


def drawn(caption: ShotCaption, clip_id: str, seed: int, rate: float) -> frozenset[str]:
    """The fields to leave out, such as `subjects[0].position` and `lighting`, each with
    probability `rate` (0 to 1) and by itself: whatever else the caption says, the same clip and
    seed leave out the same."""

    def draw(path: str) -> float:
        said = repr((seed, clip_id, path)).encode()
        return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) / 2**64

    return frozenset(path for path in _paths(caption) if draw(path) < rate)


def _paths(caption: ShotCaption) -> list[str]:
    """The fields that may be left out, where they say something."""
    return [
        f"subjects[{number}].{field}"
        for number, subject in enumerate(caption.subjects)
        for field in DROPPED_SUBJECT_FIELDS
        if getattr(subject, field)
    ] + (["lighting"] if caption.lighting else [])


def without(caption: ShotCaption, paths: Collection[str]) -> ShotCaption:
    """The caption with these fields empty, and the expressions of what has none."""
    subjects = tuple(
        subject.model_copy(
            update={
                "expression": _expression(subject),
                **{
                    field: ""
                    for field in DROPPED_SUBJECT_FIELDS
                    if f"subjects[{number}].{field}" in paths
                },
            }
        )
        for number, subject in enumerate(caption.subjects)
    )
    lighting = "" if "lighting" in paths else caption.lighting
    return caption.model_copy(update={"subjects": subjects, "lighting": lighting})


def _expression(subject: Subject) -> str:
    """The expression, which people and animals have and a person's accessory has not."""
    kind = subject.types
    if kind.type not in ("Human", "Animal") or (kind.type, kind.sub_type) == ("Human", "Accessory"):
        return ""
    return subject.expression


def _in_words(option: str) -> str:
    return "" if option.lower() == "other" else option.replace("_", " ")


def says(value: object) -> bool:
    """Whether there is a text in what the model would be shown."""
    if isinstance(value, dict):
        return any(map(says, value.values()))
    if isinstance(value, list):
        return any(map(says, value))
    return isinstance(value, str) and bool(value.strip())


def structured_input(
    caption: ShotCaption, task: Task, dropped: Collection[str] = (), spelled: bool = False
) -> dict[str, Any]:
    """What the model is shown of a caption, by the released rules.

    T2V: all but camera motion and the fields `dropped` (such as `subjects[0].position`); I2V: the
    name, action and expression of the subjects that have one of these two. `spelled`: options as
    the schema spells them, and `other` among them, instead of words.
    """
    spell = str if spelled else _in_words
    subjects = []
    for number, subject in enumerate(caption.subjects):
        action, expression = subject.action.strip(), _expression(subject)
        if task == "i2v" and not (action or expression):
            continue
        told = {
            "appearance": subject.appearance,
            "action": action,
            "expression": expression,
            "position": subject.position,
        }
        if name := spell(subject.types.sub_type):
            told["name"] = name
        for field in DROPPED_SUBJECT_FIELDS:
            if task == "i2v" or f"subjects[{number}].{field}" in dropped:
                del told[field]
        subjects.append(told)
    if task == "i2v":
        return {"num_subjects": len(subjects), "subjects": subjects}
    payload = {
        "num_subjects": len(subjects),
        "subjects": subjects,
        "shot_type": spell(caption.shot_type),
        "shot_angle": spell(caption.shot_angle),
        "shot_position": spell(caption.shot_position),
        "environment": caption.environment,
        "lighting": caption.lighting,
    }
    return {name: value for name, value in payload.items() if name not in dropped}
