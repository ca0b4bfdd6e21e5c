"""Captioning with a vision language model, whichever program runs it.

A `Generator` runs a model: in-process vLLM, a server, or transformers. `VlmEngine` makes an engine
of it: frames by a policy, the released instruction, the schema to which the answer is held, its
text read by `captioner.repair`, one more attempt where that may help.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from captioner import fusion, prompts
from captioner.frames import FrameBatch
from captioner.policies import POLICIES, ModelVideo
from captioner.repair import parse
from captioner.result import CaptionResult, FieldSource, Status
from captioner.schema import SHOT_FIELDS, SUBJECT_FIELDS, ShotCaption, json_schema

K = TypeVar("K")

TEMPERATURE = 0.05
"""The released script's."""

RETRY_TEMPERATURE = 0.7
"""Of the second attempt, where the first was colder; else it is `TEMPERATURE`. A model that looped
when it was cold has to leave the loop."""

LONGEST_STRING = 600
"""Characters of any string in an answer; the longest published one has 514."""

MOST_SUBJECTS = 6
"""Subjects in an answer; the published ones have up to four."""

CONTEXT = 8192
"""Tokens that a model whose generator does not tell its `context` is trusted with."""

PROMPT_TOKENS = 2560
"""Tokens kept free for frames and instruction: 8 x 195, some 420, the chat template, and slack."""


@dataclass(frozen=True)
class Request:
    """What a model is asked.

    `prompt` is the text of the user turn, after `video` (None: text alone). The answer has to fit
    `schema`, a JSON schema, where there is one and the program can hold a model to it. `max_tokens`
    ends it, as does any text of `stop`. With `choices`, words of one token each, what is asked for
    is how likely each of them is to begin the answer.
    """

    prompt: str
    video: ModelVideo | None
    schema: dict[str, Any] | None
    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What a model answered. `finish`: by itself, at the token budget, or not at all (`error`).

    `shares` are the probabilities of the request's choices beside each other, 0 to 1.
    """

    text: str
    finish: Literal["stop", "length", "error"]
    error: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    shares: tuple[float, ...] = ()


class Generator(Protocol):
    """A program that runs one model. One bad request never raises; it gets `finish` "error"."""

    @property
    def name(self) -> str:
        """vllm, server or transformers."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """An answer for each request, in their order."""
        ...

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """Each answer as it comes; a request is pulled whenever there is room for it."""
        ...

    def identity(self) -> dict[str, str]:
        """What the answers depend on."""
        ...


def answer_schema(
    longest_string: int = LONGEST_STRING, most_subjects: int = MOST_SUBJECTS
) -> dict[str, Any]:
    """The caption's JSON schema with its bounds lowered, so that a loop ends early."""
    schema = json_schema()

    def lower(node: Any) -> None:
        if isinstance(node, dict):
            for key, bound in (("maxLength", longest_string), ("maxItems", most_subjects)):
                if key in node:
                    node[key] = min(node[key], bound)
            for child in node.values():
                lower(child)

    lower(schema)
    return schema


def most_characters(schema: Mapping[str, Any]) -> int:
    """Characters of the longest answer that fits a schema, each string without escapes.

    With a token for each character, which no tokenizer needs for English, it is a token budget that
    never cuts off an answer. Raises ValueError where the schema sets no bound.
    """

    def longest(node: Mapping[str, Any]) -> int:
        if "$ref" in node:
            return longest(schema["$defs"][node["$ref"].removeprefix("#/$defs/")])
        if "enum" in node:
            return max(len(str(option)) for option in node["enum"]) + 2
        match node.get("type"):
            case "string" if "maxLength" in node:
                return int(node["maxLength"]) + 2
            case "boolean":
                return len("false")
            case "array" if "maxItems" in node:
                return int(node["maxItems"]) * (longest(node["items"]) + len(", ")) + 2
            case "object":
                members = node["properties"].items()
                return 2 + sum(len(f'"{name}": , ') + longest(child) for name, child in members)
        raise ValueError(f"no bound in {node}")

    return longest(schema)


def spellings(choice: str) -> list[str]:
    """How a model may begin an answer with a word."""
    return [blank + word for blank in ("", " ") for word in (choice, choice.capitalize())]


def shares_of(choices: Sequence[str], likely: Iterable[tuple[str, float]]) -> tuple[float, ...]:
    """The share of each choice among tokens with their natural log probabilities; none where no
    token is one of them."""
    found = dict.fromkeys(choices, 0.0)
    for token, logprob in likely:
        if (word := token.strip().lower()) in found:
            found[word] += math.exp(logprob)
    whole = sum(found.values())
    return tuple(found[choice] / whole for choice in choices) if whole > 0 else ()


def choice_ids(tokenizer: Any, choices: Sequence[str]) -> list[tuple[int, str]]:
    """The tokens that begin an answer with one of the choices, and their texts."""
    texts = [text for choice in choices for text in spellings(choice)]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [(found[0], text) for found, text in zip(ids, texts) if len(found) == 1]


YES_OR_NO = ("yes", "no")


@dataclass(frozen=True)
class _Attempt:
    """A request for a clip's caption, or one of the `question` of that name."""

    request: Request
    before: CaptionResult | None = None
    question: str | None = None


class VlmEngine:
    """An engine on top of a generator. `policy` is one of captioner.policies.POLICIES.

    An answer that is cut off, that repeats itself or that is no caption is asked for once more, at
    another temperature; the better one is the result, and its `error` says so. `max_tokens` None:
    what the bounds of the schema ask for, as far as the model's context goes. `questions` by name
    are asked of each clip besides, and answered by the share of yes (0 to 1).
    """

    def __init__(
        self,
        generator: Generator,
        policy: str = "native",
        temperature: float = TEMPERATURE,
        max_tokens: int | None = None,
        longest_string: int = LONGEST_STRING,
        most_subjects: int = MOST_SUBJECTS,
        questions: Mapping[str, str] | None = None,
    ) -> None:
        self.generator = generator
        self.name = generator.name
        self.policy = policy
        self.temperature = temperature
        self.questions = dict(questions or {})
        self.schema = answer_schema(longest_string, most_subjects)
        room = getattr(generator, "context", CONTEXT) - PROMPT_TOKENS
        self.max_tokens = max_tokens or max(1, min(most_characters(self.schema), room))

    def identity(self) -> dict[str, str]:
        """What the captions depend on: the model, the frames, the instruction, the bounds."""
        return {
            **self.generator.identity(),
            "policy": self.policy,
            "temperature": f"{self.temperature:g}",
            "max_tokens": str(self.max_tokens),
            "schema": str(most_characters(self.schema)),
            **{f"question {name}": text for name, text in self.questions.items()},
        }

    def caption(self, batches: Sequence[FrameBatch | ModelVideo]) -> list[CaptionResult]:
        """Caption every batch, in order."""
        results = dict(self.stream(enumerate(batches)))
        return [results[i] for i in range(len(batches))]

    def stream(
        self, batches: Iterable[tuple[K, FrameBatch | ModelVideo]]
    ) -> Iterator[tuple[K, CaptionResult]]:
        """Each clip's result as it is finished; clips are pulled as the model has room for them."""
        flow = _Flow(self, batches)
        while True:
            for (key, attempt), generation in self.generator.stream(flow.requests()):
                yield from flow.refused()
                if attempt.question is not None:
                    yield from flow.answered(key, attempt.question, generation)
                    continue
                result = self._result(generation, attempt)
                if attempt.before is None and _may_improve(result):
                    flow.again(key, replace(attempt, before=result))
                else:
                    yield from flow.captioned(key, result)
            yield from flow.refused()
            if not flow.has_more():
                return

    def request(self, clip: FrameBatch | ModelVideo) -> Request:
        """What the model is asked for a clip."""
        video = clip if isinstance(clip, ModelVideo) else POLICIES[self.policy](clip)
        return Request(prompts.STRUCTURED, video, self.schema, self.temperature, self.max_tokens)

    def asked(self, request: Request) -> Iterator[_Attempt]:
        """The questions about a clip whose caption is requested: the frames are the same, and a
        program that keeps what it has read of a prompt reads them once."""
        for name, text in self.questions.items():
            yield _Attempt(
                Request(
                    f"{text} Answer yes or no.", request.video, None, 1.0, 1, choices=YES_OR_NO
                ),
                question=name,
            )

    def _result(self, generation: Generation, attempt: _Attempt) -> CaptionResult:
        result = self._read(generation)
        if attempt.before is None:
            return result
        first, second = _said(attempt.before), _said(result)
        better = result if _rank(result) < _rank(attempt.before) else attempt.before
        at = f"again at temperature {attempt.request.temperature:g}"
        return replace(better, error=f"at first {first}; {at}: {second}")

    def _read(self, generation: Generation) -> CaptionResult:
        """A model's answer as a result."""
        if generation.finish == "error":
            return CaptionResult("error", self.name, None, error=generation.error or "no reason")
        parsed = parse(generation.text, finished=generation.finish == "stop")
        notes = "; ".join(parsed.notes) or None
        if parsed.caption is None:
            status: Status = "invalid"
            return CaptionResult(status, self.name, None, raw=generation.text, error=notes)
        return CaptionResult(
            parsed.status,
            self.name,
            parsed.caption,
            sources=_sources(parsed.caption, self.name),
            raw=generation.text,
            t2v=fusion.t2v(parsed.caption),
            i2v=fusion.i2v(parsed.caption),
            error=notes,
        )


@dataclass
class _Open:
    """A clip of which not everything is answered."""

    missing: int
    result: CaptionResult | None = None
    answers: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Flow:
    """Clips on their way to the generator: those to be asked again before new ones."""

    engine: VlmEngine
    batches: Iterable[tuple[Any, FrameBatch | ModelVideo]]
    _again: deque[tuple[Any, _Attempt]] = field(default_factory=deque)
    _refused: deque[tuple[Any, CaptionResult]] = field(default_factory=deque)
    _open: dict[Any, _Open] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._new = iter(self.batches)

    def requests(self) -> Iterator[tuple[tuple[Any, _Attempt], Request]]:
        """Until there is nothing to be asked at this moment."""
        while (asked := self._next()) is not None:
            key, attempt = asked
            yield (key, attempt), attempt.request

    def again(self, key: Any, attempt: _Attempt) -> None:
        """Ask once more, at another temperature."""
        cold = attempt.request.temperature < RETRY_TEMPERATURE
        temperature = RETRY_TEMPERATURE if cold else TEMPERATURE
        request = replace(attempt.request, temperature=temperature)
        self._again.append((key, replace(attempt, request=request)))

    def captioned(self, key: Any, result: CaptionResult) -> Iterator[tuple[Any, CaptionResult]]:
        """Take a caption; yields the clip's result when all is answered."""
        self._open[key].result = result
        yield from self._closed(key)

    def answered(
        self, key: Any, question: str, generation: Generation
    ) -> Iterator[tuple[Any, CaptionResult]]:
        """Take an answer; yields the clip's result when all is answered."""
        if generation.shares:
            self._open[key].answers[question] = generation.shares[0]
        else:
            told = (generation.error or "neither yes nor no").strip().splitlines()[-1]
            self._open[key].notes.append(f"question {question} is not answered: {told}")
        yield from self._closed(key)

    def _closed(self, key: Any) -> Iterator[tuple[Any, CaptionResult]]:
        clip = self._open[key]
        clip.missing -= 1
        if clip.missing or clip.result is None:
            return
        del self._open[key]
        notes = "; ".join([clip.result.error, *clip.notes] if clip.result.error else clip.notes)
        yield key, replace(clip.result, answers=clip.answers, error=notes or None)

    def refused(self) -> Iterator[tuple[Any, CaptionResult]]:
        """The results of clips that no request could be made of."""
        while self._refused:
            yield self._refused.popleft()

    def has_more(self) -> bool:
        """Whether some wait to be asked again."""
        return bool(self._again)

    def _next(self) -> tuple[Any, _Attempt] | None:
        if self._again:
            return self._again.popleft()
        for key, clip in self._new:
            try:
                request = self.engine.request(clip)
                questions = list(self.engine.asked(request))
                self._again.extend((key, question) for question in questions)
                self._open[key] = _Open(1 + len(questions))
                return key, _Attempt(request)
            except Exception:
                error = traceback.format_exc()
                self._refused.append(
                    (key, CaptionResult("error", self.engine.name, None, error=error))
                )
        return None


_LOOPS = ("repetition loop cut", "repeated subjects dropped")
"""What `captioner.repair` notes of an answer that repeats itself."""

_ORDER: tuple[Status, ...] = ("ok", "repaired", "truncated", "invalid", "error")


def _rank(result: CaptionResult) -> tuple[int, int]:
    """The better, the lower; of two of one status the one of which less had to be mended."""
    return _ORDER.index(result.status), len(result.error or "")


def _may_improve(result: CaptionResult) -> bool:
    """Whether another attempt may give a better answer: an engine's error comes again."""
    looped = any(sign in (result.error or "") for sign in _LOOPS)
    return result.status in ("truncated", "invalid") or (result.status == "repaired" and looped)


def _said(result: CaptionResult) -> str:
    return f"{result.status} ({result.error})" if result.error else result.status


def _sources(caption: ShotCaption, source: str) -> dict[str, FieldSource]:
    """The model as the source of each field that is not empty."""
    flat = [
        {
            "TYPES_type": subject.types.type,
            "TYPES_sub_type": subject.types.sub_type,
            **subject.model_dump(exclude={"types"}),
        }
        for subject in caption.subjects
    ]
    filled = {name for name in SHOT_FIELDS if getattr(caption, name)}
    filled |= {name for name in SUBJECT_FIELDS if any(subject[name] for subject in flat)}
    return {name: FieldSource(source) for name in (*SHOT_FIELDS, *SUBJECT_FIELDS) if name in filled}
