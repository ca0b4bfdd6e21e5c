"""Captioning with a vision language model, whichever program runs it.

A `Generator` runs a model: in-process vLLM, a server, or transformers. `VlmEngine` makes an engine
of it: frames by a policy, the released instruction, the schema to which the answer is held, its
text read by `captioner.repair`, one more attempt where that may help.
"""

from __future__ import annotations

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
    ends it, as does any text of `stop`.
    """

    prompt: str
    video: ModelVideo | None
    schema: dict[str, Any] | None
    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What a model answered. `finish`: by itself, at the token budget, or not at all (`error`)."""

    text: str
    finish: Literal["stop", "length", "error"]
    error: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0


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


@dataclass(frozen=True)
class _Attempt:
    request: Request
    before: CaptionResult | None = None


class VlmEngine:
    """An engine on top of a generator. `policy` is one of captioner.policies.POLICIES.

    An answer that is cut off, that repeats itself or that is no caption is asked for once more, at
    another temperature; the better one is the result, and its `error` says so. `max_tokens` None:
    what the bounds of the schema ask for, as far as the model's context goes.
    """

    def __init__(
        self,
        generator: Generator,
        policy: str = "native",
        temperature: float = TEMPERATURE,
        max_tokens: int | None = None,
        longest_string: int = LONGEST_STRING,
        most_subjects: int = MOST_SUBJECTS,
    ) -> None:
        self.generator = generator
        self.name = generator.name
        self.policy = policy
        self.temperature = temperature
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
                result = self._result(generation, attempt)
                if attempt.before is None and _may_improve(result):
                    flow.again(key, replace(attempt, before=result))
                else:
                    yield key, result
            yield from flow.refused()
            if not flow.has_more():
                return

    def request(self, clip: FrameBatch | ModelVideo) -> Request:
        """What the model is asked for a clip."""
        video = clip if isinstance(clip, ModelVideo) else POLICIES[self.policy](clip)
        return Request(prompts.STRUCTURED, video, self.schema, self.temperature, self.max_tokens)

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
class _Flow:
    """Clips on their way to the generator: those to be asked again before new ones."""

    engine: VlmEngine
    batches: Iterable[tuple[Any, FrameBatch | ModelVideo]]
    _again: deque[tuple[Any, _Attempt]] = field(default_factory=deque)
    _refused: deque[tuple[Any, CaptionResult]] = field(default_factory=deque)

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
                return key, _Attempt(self.engine.request(clip))
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
