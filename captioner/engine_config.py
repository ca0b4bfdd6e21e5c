"""Which engine captions, and how: all that a user may say of it, checked, in one place."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from pydantic import TypeAdapter, ValidationError

from captioner.frames import FrameBatch
from captioner.handover import PackedVideo, Prepared, pack
from captioner.policies import POLICIES
from captioner.result import CaptionResult, Engine

if TYPE_CHECKING:
    from captioner.engines.vllm import VllmOptions
    from captioner.engines.vlm import Generator
    from captioner.fusion import Fusion

K = TypeVar("K")

ENGINES = ("auto", "experts", "vllm", "server", "transformers")
MODEL_ENGINES = ("vllm", "server", "transformers")
"""Engines that run a vision language model."""

SKYCAPTIONER = "Skywork/SkyCaptioner-V1"
"""The released weights, by their name on the model hub."""

AS_ASKED = "as asked"
"""Why an engine was chosen that was named."""

FUSIONS = ("template", "engine")

FUSED_AT_ONCE = 64
"""Clips whose prose the model writes in one go: what runs beside each other on a large GPU."""


class EngineOptionError(ValueError):
    """An engine, or one of its options, that cannot be; the message says what to do."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that takes clips while it answers others: no barrier between batches."""

    def stream(self, batches: Iterable[tuple[K, Any]]) -> Iterator[tuple[K, CaptionResult]]:
        """Each clip's result as it is finished, under the key that it was given with."""
        ...


@dataclass(frozen=True)
class EngineConfig:
    """An engine by name, and its options.

    `name` is one of `ENGINES`, or `module:attribute` of an engine or a
    captioner.engines.vlm.Generator of one's own (a class or function, called without arguments).
    `model` is a name on the model hub or a folder, SkyCaptioner by default; `endpoint` the URL of
    an OpenAI-compatible server. `policy` says which frames a model sees, `temperature` (0 to 2,
    None: the engine's own) how freely it answers, `merge` which fields the experts override
    (`captioner.merge`), `fusion` what writes the prose, and `window` how many seconds are captioned
    at a time. `vllm` are fields of captioner.engines.vllm.VllmOptions, each as `name=value`:
    `tensor_parallel=2`, `quantization=awq`. `questions` by name are asked of each clip besides the
    caption, of a model engine alone. `known` is the identity of an engine that was built
    elsewhere. Raises EngineOptionError, and captioner.merge.MergeRuleError.
    """

    name: str = "auto"
    model: str | None = None
    endpoint: str | None = None
    policy: str = "native"
    temperature: float | None = None
    merge: str | None = None
    fusion: Literal["template", "engine"] = "template"
    window: float | None = None
    vllm: tuple[str, ...] = ()
    questions: tuple[tuple[str, str], ...] = ()
    known: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in ENGINES and ":" not in self.name:
            raise EngineOptionError(f"engine {self.name!r} is none of {', '.join(ENGINES)}")
        if self.policy not in POLICIES:
            raise EngineOptionError(f"policy {self.policy!r} is none of {', '.join(POLICIES)}")
        if self.fusion not in FUSIONS:
            raise EngineOptionError(f"fusion {self.fusion!r} is none of {', '.join(FUSIONS)}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise EngineOptionError(f"temperature {self.temperature:g} is not within 0 to 2")
        if self.window is not None and not self.window > 0:
            raise EngineOptionError(f"window {self.window:g} s is not longer than 0 s")
        if self.name == "server" and not self.endpoint:
            raise EngineOptionError("engine server needs --endpoint, such as http://HOST:8000/v1")
        if self.endpoint and self.name != "server":
            raise EngineOptionError(f"--endpoint is for engine server, not for {self.name}")
        if self.name == "experts" and (wrong := self._model_options()):
            raise EngineOptionError(f"{', '.join(wrong)}: only for a model, name --engine vllm")
        if self.vllm and self.name not in ("auto", "vllm"):
            raise EngineOptionError(f"--vllm is for engine vllm, not for {self.name}")
        if self.merge is not None:
            from captioner.merge import parse_rules

            parse_rules(self.merge)

    @property
    def is_apart(self) -> bool:
        """Whether the engine gets a process, or a GPU, of its own: clips are handed to it."""
        return self.name not in ("auto", "experts")

    @property
    def runs_model(self) -> bool:
        """Whether the engine is a vision language model, which sees frames by a policy."""
        return self.name in MODEL_ENGINES or (
            ":" in self.name and hasattr(_imported(self.name), "generate")
        )

    @property
    def needs_experts(self) -> bool:
        """Whether the experts look at the clips, alone or beside a model."""
        return self.name in ("auto", "experts") or self.merge is not None

    def chosen(self, gpu: bool | None = None) -> tuple[EngineConfig, str]:
        """With `auto` settled, and why: vLLM where there are a GPU and vLLM, else the experts.

        `gpu` says whether there is one; None looks at this machine.
        """
        if self.name != "auto":
            return self, AS_ASKED
        if not (has_gpu() if gpu is None else gpu):
            name, why = "experts", "there is no GPU here"
        elif importlib.util.find_spec("vllm") is None:
            name, why = "experts", "vLLM is not installed: pip install 'skycaptioner[vllm]'"
        else:
            name, why = "vllm", "there is a GPU here"
        return replace(self, name=name), why

    def identity(self) -> dict[str, str]:
        """What the captions depend on, for the hash of the configuration."""
        return dict(self.known) or self.identity_of(self.build())

    def identity_of(self, engine: Engine) -> dict[str, str]:
        """The same, from an engine built by this configuration."""
        said = {name: str(v) for name in _IDENTITY if (v := getattr(self, name)) is not None}
        fused = self._fusion(engine, "t2v").identity() if self.fusion == "engine" else {}
        return {**engine.identity(), **said, **fused}

    def knowing(self, identity: Mapping[str, str]) -> EngineConfig:
        """With the identity that its engine told, so that nobody builds another to ask."""
        return replace(self, known=tuple(sorted(identity.items())))

    def build(self) -> Engine:
        """The engine. Models may load here, or at the first clip.

        Raises EngineOptionError, and what the engine raises for a model that it cannot run, each a
        ValueError of one line.
        """
        settled, _ = self.chosen()
        if settled.name == "experts":
            from captioner.engines.experts import ExpertsEngine

            return ExpertsEngine()
        if ":" in settled.name and not settled.runs_model:
            return cast(Engine, _imported(settled.name)())
        from captioner.engines.checkpoint import check_interface
        from captioner.engines.counted import CountedGenerator
        from captioner.engines.vlm import TEMPERATURE, VlmEngine

        temperature = TEMPERATURE if self.temperature is None else self.temperature
        generator = settled.generator()
        if settled.name in ("vllm", "transformers"):
            check_interface(self.model or SKYCAPTIONER, self.policy)
        questions = dict(self.questions)
        return VlmEngine(CountedGenerator(generator), self.policy, temperature, questions=questions)

    def warm_up(self, engine: Engine) -> None:
        """Load the model now, by a first answer of one token, where it would load at the first
        clip. Raises EngineOptionError when it cannot be loaded."""
        if self.name not in ("vllm", "transformers"):
            return
        from captioner.engines.vlm import Request, VlmEngine

        if isinstance(engine, VlmEngine):
            (answer,) = engine.generator.generate([Request("Hello", None, None, 0.0, 1)])
            if answer.finish == "error":
                said = (answer.error or "no reason given").strip()
                raise EngineOptionError(f"engine {self.name} cannot start: {said.splitlines()[-1]}")

    def generator(self, video: bool = True) -> Generator:
        """The bare model behind a model engine, which need not take a `video`."""
        if ":" in self.name:
            return cast("Generator", _imported(self.name)())
        if self.name == "vllm":
            from captioner.engines.vllm import VllmGenerator

            return VllmGenerator(self.model or SKYCAPTIONER, self._vllm_options(), video)
        if self.name == "transformers":
            from captioner.engines.transformers import TransformersGenerator

            return TransformersGenerator(self.model or SKYCAPTIONER, video=video)
        if self.name == "server":
            from captioner.engines.server import connect

            return connect(self.endpoint or "", self.model, video)
        raise EngineOptionError(f"engine {self.name} runs no model")

    def _vllm_options(self) -> VllmOptions:
        from captioner.engines.vllm import VllmOptions

        given = dict(option.partition("=")[::2] for option in self.vllm)
        known = {field.name for field in fields(VllmOptions)} - {"more"}
        if unknown := sorted(set(given) - known):
            raise EngineOptionError(f"--vllm {unknown[0]} is none of {', '.join(sorted(known))}")
        try:
            return TypeAdapter(VllmOptions).validate_python(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = f"{first['loc'][0]}={first['input']}"
            raise EngineOptionError(f"--vllm {where}: {first['msg'].lower()}") from None

    # --- a clip on its way: decoding side, then engine side ---------------------------------------

    def prepare(self, batch: FrameBatch, clip_id: str = "") -> Prepared:
        """What the engine needs of a clip: computed where it was decoded, without the model."""
        experts = None
        if self.merge is not None:
            from captioner.engines.experts import ExpertsEngine

            experts = ExpertsEngine().caption([batch])[0]
        parts = [batch]
        if self.window is not None:
            from captioner.windows import split

            parts = list(split(batch, self.window))
        return Prepared(tuple(self._view(part) for part in parts), experts, clip_id)

    def answers(
        self, engine: Engine, clips: Iterable[tuple[K, Prepared]]
    ) -> Iterator[tuple[K, CaptionResult]]:
        """The engine's result for each clip, as they finish: windows joined, experts merged, told
        in prose. The clips' views are unpacked.

        With `fusion` by the engine only the first `FUSED_AT_ONCE` clips are taken: the model
        cannot write their prose while it captions.
        """
        if self.fusion == "engine":
            first = dict(islice(clips, FUSED_AT_ONCE))
            yield from self._told(engine, first, dict(self._captions(engine, first.items())))
        else:
            yield from self._captions(engine, clips)

    def failed(self, reason: str) -> CaptionResult:
        """The result of a clip that the engine did not survive."""
        return CaptionResult("error", self.name, None, error=reason)

    def _captions(
        self, engine: Engine, clips: Iterable[tuple[K, Prepared]]
    ) -> Iterator[tuple[K, CaptionResult]]:
        waiting: dict[K, tuple[Prepared, dict[int, CaptionResult]]] = {}

        def views() -> Iterator[tuple[tuple[K, int], Any]]:
            for key, prepared in clips:
                waiting[key] = (prepared, {})
                for number, view in enumerate(prepared.views):
                    yield (key, number), view

        for (key, number), result in _stream(engine, views()):
            prepared, results = waiting[key]
            results[number] = result
            if len(results) == len(prepared.views):
                del waiting[key]
                yield key, self._joined(prepared, [results[i] for i in sorted(results)])

    def _told(
        self, engine: Engine, clips: Mapping[K, Prepared], results: Mapping[K, CaptionResult]
    ) -> Iterator[tuple[K, CaptionResult]]:
        """The results with prose by the model; the template's stays where that fails."""
        drafts = [(clips[k].clip_id, r.caption) for k, r in results.items() if r.caption]
        told = zip(*(self._fusion(engine, task).fuse(drafts) for task in ("t2v", "i2v")))
        for key, result in results.items():
            if result.caption is None:
                yield key, result
                continue
            t2v, i2v = next(told)
            yield (
                key,
                replace(result, t2v=t2v.text, i2v=i2v.text, t2v_by=t2v.told_by, i2v_by=i2v.told_by),
            )

    def _fusion(self, engine: Engine, task: Literal["t2v", "i2v"]) -> Fusion:
        from captioner.engines.vlm import VlmEngine
        from captioner.fusion import Fusion

        if not isinstance(engine, VlmEngine):
            raise EngineOptionError(f"--fusion engine: engine {self.name} writes no prose")
        return Fusion(engine.generator, task)

    def _view(self, batch: FrameBatch) -> PackedVideo | FrameBatch:
        if not self.runs_model:
            return batch
        from captioner import policies

        return pack(
            {"native": policies.native, "reference": policies.reference}[self.policy](batch)
        )

    def _joined(self, prepared: Prepared, results: list[CaptionResult]) -> CaptionResult:
        result = results[0]
        if len(results) > 1:
            from captioner.windows import merge_windows

            result = merge_windows(results)
        if prepared.experts is None or self.merge is None:
            return result
        from captioner.merge import merge, parse_rules

        return merge(result, prepared.experts, parse_rules(self.merge))

    def _model_options(self) -> list[str]:
        """Options given that only a model has a use for."""
        defaults = {field.name: field.default for field in fields(self)}
        names = ("model", "policy", "temperature", "merge", "window", "fusion")
        return [f"--{name}" for name in names if getattr(self, name) != defaults[name]]


_IDENTITY = ("merge", "window")
"""Options that are no part of what an engine says of itself."""


def has_gpu() -> bool:
    """Whether this machine lets a process use an NVIDIA or AMD GPU. Imports nothing heavy."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


def _imported(name: str) -> Callable[[], object]:
    module, _, attribute = name.partition(":")
    try:
        made_by: Callable[[], object] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise EngineOptionError(f"engine {name} cannot be imported: {error}") from None
    return made_by


def _stream(engine: Engine, clips: Iterable[tuple[K, Any]]) -> Iterator[tuple[K, CaptionResult]]:
    if isinstance(engine, StreamingEngine):
        yield from engine.stream(clips)
        return
    for key, clip in clips:
        yield key, engine.caption([clip])[0]
