"""Structured caption to prose, for text-to-video (T2V) and image-to-video (I2V) training.

By template (`t2v`, `i2v`), where nothing is said that the structured caption does not say, or by a
language model (`Fusion`). The order and the choice of fields are those of the released script
(SkyReels-V2, skycaptioner_v1/scripts/vllm_fusion_caption.py): T2V tells shot, subjects, environment
and lighting; I2V, where the first frame shows all that, only what moves; camera motion always
closes the text.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from captioner.fusion_prompts import (
    FUSION_PROMPTS,
    LENGTHS,
    RELEASED_MAX_TOKENS,
    LengthName,
    Task,
    drawn,
    instruction,
    instruction_lines,
    says,
    structured_input,
    without,
)
from captioner.loops import cut_loops
from captioner.schema import FIELDS, ShotCaption, Subject, options

if TYPE_CHECKING:
    from captioner.engines.vlm import Generation, Generator, Request

_SHOT = {
    "long_shot": "long shot",
    "full_shot": "full shot",
    "medium_shot": "medium shot",
    "close_up": "close-up",
    "extreme_close_up": "extreme close-up",
}
_ANGLE = {
    "eye_level": "at eye level",
    "high_angle": "from a high angle",
    "low_angle": "from a low angle",
}
_POSITION = {
    "front_view": "seen from the front",
    "back_view": "seen from behind",
    "side_view": "seen from the side",
    "over_the_shoulder": "over the shoulder",
    "overhead_view": "from straight above",
    "point_of_view": "from a point of view",
    "aerial_view": "from the air",
    "overlooking_view": "overlooking the scene",
}


def t2v(caption: ShotCaption, screen_text: tuple[str, ...] = ()) -> str:
    """Prose for text-to-video: all that the caption says. `screen_text` is text in the picture."""
    view = [_ANGLE.get(caption.shot_angle, ""), _POSITION.get(caption.shot_position, "")]
    shot = _SHOT.get(caption.shot_type, "shot" if any(view) else "")
    main = caption.main_subject
    opening = " ".join(filter(None, [shot and _article(shot), *view]))
    if main:
        opening = f"{opening} of {_name(main)}" if opening else _name(main)
    sentences = [opening]
    for subject in caption.subjects:
        if subject is not main and subject.types.type:
            sentences.append(_name(subject))
        sentences += [subject.action, subject.appearance, subject.expression, subject.position]
    sentences += [caption.environment, caption.lighting]
    if screen_text:
        sentences.append("Text on screen: " + "; ".join(f'"{line}"' for line in screen_text))
    return _join([*sentences, caption.camera_motion])


def i2v(caption: ShotCaption) -> str:
    """Prose for image-to-video: who acts and how, and how the camera moves."""
    sentences = []
    for subject in caption.subjects:
        if subject.action or subject.expression:
            sentences += [_name(subject), subject.action, subject.expression]
    return _join([*sentences, caption.camera_motion])


def _name(subject: Subject) -> str:
    """`a woman`; `text` and scenery take no article."""
    if subject.types.type == "Human" and subject.types.sub_type in ("", "Other"):
        return "a person"
    name = (subject.types.sub_type or subject.types.type).replace("_", " ").lower()
    if name in ("", "other"):
        name = subject.types.type.lower() or "a subject"
    return name if subject.types.type in ("Text", "Scenery", "Food", "Sport") else _article(name)


def _article(noun: str) -> str:
    return (
        noun if noun.startswith(("a ", "an ")) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    )


def _join(sentences: list[str]) -> str:
    """The sentences that say something, each with its capital and its full stop."""
    ended = []
    for sentence in sentences:
        if text := sentence.strip().rstrip("."):
            stop = "" if text.endswith(("!", "?", '."')) else "."
            ended.append(text[0].upper() + text[1:] + stop)
    return " ".join(ended)


# --- by a language model --------------------------------------------------------------------------

FUSION_VERSION = "1"
"""Raised when what the model is asked, or what is taken from its answer, changes."""

TEMPERATURE = 0.1
STOP = ("\n\n",)
DROPOUT = 0.1
"""TEMPERATURE, STOP (an answer is one paragraph) and DROPOUT are those of the released script."""

CHARACTERS_A_TOKEN = 8
"""More a token, over a whole text, than any language has (English: 4 to 5): where an engine takes
no heed of its token budget, a text beyond it has run away."""


class FusionOptionError(ValueError):
    """An option of the fusion that cannot be; the message says what to do."""


@dataclass(frozen=True)
class Fused:
    """A clip's prose, and how it came about.

    ok: as asked. template: the model failed, `error` says how, and the template wrote the text.
    error: neither has a text. `engine` is what wrote it: the generator's name, or `template`.
    `dropped` are the fields that said something and were left out by the seeded drop-out. `again`:
    the engine failed, not the model, so that asking once more may help.
    """

    clip_id: str
    text: str
    status: Literal["ok", "template", "error"]
    engine: str
    error: str | None = None
    dropped: tuple[str, ...] = ()
    again: bool = False

    @property
    def told_by(self) -> str:
        """What wrote the text, and why the template had to."""
        return f"{self.engine}: {self.error}" if self.error else self.engine


@dataclass(frozen=True)
class _Draft:
    """A clip's caption as it is to be told; `prompt` is None where there is nothing to ask for."""

    clip_id: str
    caption: ShotCaption
    prompt: str | None
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Fusion:
    """Prose by a language model; the paper's is Qwen2.5-32B-Instruct.

    The fields that are told follow the released script's rules, and camera motion never goes
    through the model: it closes the text word for word (in English, whatever `language` the rest
    is in). `length` is short, medium, dense or None (none is asked for), `language` a language's
    English name. `dropout` is the probability, 0 to 1, of leaving out a field for T2V; the clip and
    `seed` decide which. `reference`: also the script's spellings (`close_up`) and capitals, and its
    silence on scenes without subjects, for which it writes "-"; the one difference left is that
    the instruction is a user's turn, where the script's is the system's. Raises FusionOptionError.
    """

    generator: Generator
    task: Task = "t2v"
    length: LengthName | None = None
    seed: int = 0
    dropout: float = DROPOUT
    language: str | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        if self.task not in FUSION_PROMPTS:
            raise FusionOptionError(f"fusion task {self.task!r} is none of t2v, i2v")
        if self.length is not None and self.length not in LENGTHS:
            raise FusionOptionError(f"length {self.length!r} is none of {', '.join(LENGTHS)}")
        if not 0 <= self.dropout <= 1:
            raise FusionOptionError(f"drop-out {self.dropout:g} is not within 0 to 1")
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise FusionOptionError(
                f"language {self.language!r} is no name: write it in English, such as French"
            )
        if self.reference and (self.length or self.language):
            raise FusionOptionError("the reference asks for no length and no language: leave both")

    def fuse(self, captions: Sequence[tuple[str, ShotCaption]]) -> list[Fused]:
        """The prose of each (clip id, caption), in their order."""
        found = dict(self._stream(captions))
        return [found[number] for number in range(len(captions))]

    def stream(self, captions: Iterable[tuple[str, ShotCaption]]) -> Iterator[Fused]:
        """The prose of each (clip id, caption) as it is finished; pulls when there is room."""
        for _, fused in self._stream(captions):
            yield fused

    def identity(self) -> dict[str, str]:
        """What the texts depend on, for the hash of the configuration."""
        said = {name: getattr(self, name) for name in _IDENTITY}
        return {
            "fusion_version": FUSION_VERSION,
            **{f"fusion_{name}": str(value) for name, value in said.items() if value is not None},
            **{f"fusion_by_{name}": value for name, value in self.generator.identity().items()},
        }

    @property
    def max_tokens(self) -> int:
        """The token budget of an answer."""
        return LENGTHS[self.length].max_tokens if self.length else RELEASED_MAX_TOKENS

    def _stream(self, captions: Iterable[tuple[str, ShotCaption]]) -> Iterator[tuple[int, Fused]]:
        asked: dict[int, _Draft] = {}
        unasked: deque[tuple[int, Fused]] = deque()

        def requests() -> Iterator[tuple[int, Request]]:
            for number, (clip_id, caption) in enumerate(captions):
                draft = self._draft(clip_id, caption)
                if draft.prompt is None:
                    unasked.append((number, self._only_motion(draft)))
                else:
                    asked[number] = draft
                    yield number, self._request(draft.prompt)

        for number, generation in self.generator.stream(requests()):
            while unasked:
                yield unasked.popleft()
            yield number, self._fused(asked.pop(number), generation)
        yield from unasked
        if asked:
            raise RuntimeError(f"{self.generator.name} left {len(asked)} requests unanswered")

    def _request(self, prompt: str) -> Request:
        from captioner.engines.vlm import Request

        return Request(prompt, None, None, TEMPERATURE, self.max_tokens, STOP)

    def _draft(self, clip_id: str, caption: ShotCaption) -> _Draft:
        rate = self.dropout if self.task == "t2v" else 0.0
        left_out = drawn(caption, clip_id, self.seed, rate)
        told = without(caption, left_out)
        payload = structured_input(told, self.task, left_out, spelled=self.reference)
        prompt = None
        if payload["num_subjects"] if self.reference else says(payload):
            text = json.dumps(payload, indent=4, ensure_ascii=False)
            prompt = instruction(self.task, text, self.length, self.language)
        return _Draft(clip_id, told, prompt, tuple(sorted(left_out)))

    def _only_motion(self, draft: _Draft) -> Fused:
        motion = self._motion(draft.caption)
        text = f"- {motion}".strip() if self.reference else motion
        return Fused(draft.clip_id, text, "ok", "template", dropped=draft.dropped)

    def _fused(self, draft: _Draft, generation: Generation) -> Fused:
        prose = generation.text.strip().split(STOP[0])[0].strip()
        if fault := _fault(generation, prose, self.max_tokens):
            text = t2v(draft.caption) if self.task == "t2v" else i2v(draft.caption)
            status: Literal["template", "error"] = "template" if text else "error"
            again = generation.finish == "error"
            return Fused(draft.clip_id, text, status, "template", fault, draft.dropped, again)
        if not self.reference:
            prose = " ".join(prose.split())
            prose += "" if prose.endswith(_ENDS) else "."
        text = f"{prose} {self._motion(draft.caption)}".strip()
        return Fused(draft.clip_id, text, "ok", self.generator.name, dropped=draft.dropped)

    def _motion(self, caption: ShotCaption) -> str:
        if self.reference:
            return f"{caption.camera_motion}.".capitalize() if caption.camera_motion else ""
        return _join([caption.camera_motion])


_LANGUAGE = re.compile(r"[^\W\d_][\w ()-]{1,39}")
_IDENTITY = ("task", "length", "seed", "dropout", "language", "reference")
_ENDS = (*'.!?"”)', *"。！？」』）")
_CHAT = re.compile(r"(sure|certainly|here (is|are)|here's|i'm sorry|i can(no|')t|as an ai)\b")
_LINES = instruction_lines()
_JSON = re.compile(r"[{}]|\"\w+\"\s*:|<[|/a-z]|##")
_OPTIONS = (option for field in ShotCaption.model_fields for option in options(field))
_SPELLED = {name for name in (*FIELDS, *_OPTIONS, "num_subjects", "sub_type") if "_" in name}
_NAMES = re.compile(rf"\b({'|'.join(sorted(_SPELLED))})\b")


def _fault(generation: Generation, prose: str, max_tokens: int) -> str | None:
    """Why an answer cannot be a clip's prose, in words; None where it can."""
    if generation.finish == "error":
        return generation.error or "the engine gave no reason"
    if not prose:
        return "the model said nothing"
    if cut_loops(prose) != prose:
        return "the model repeated itself"
    if generation.finish == "length":
        return f"the model came to no end in {generation.tokens or max_tokens} tokens"
    if len(prose) > CHARACTERS_A_TOKEN * max_tokens:
        return f"the model wrote {len(prose)} characters where {max_tokens} tokens were asked for"
    if "\ufffd" in prose:
        return "the model wrote broken characters"
    lower = prose.lower()
    if leak := _JSON.search(prose) or _NAMES.search(lower):
        return f"the model leaked its input: {leak[0]!r}"
    if any(line in lower for line in _LINES):
        return "the model leaked its instruction"
    if _CHAT.match(lower):
        return "the model spoke to its user"
    return None
