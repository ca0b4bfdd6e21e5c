"""A clip and its caption as the model is trained on them: the tokens of inference, then the answer.

The prompt, the frames and the tokens before the answer are made by the code that the transformers
engine asks with (`captioner.engines.transformers.model_inputs`), and the loss is on the answer and
the token that ends it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captioner import prompts
from captioner.engines.transformers import model_inputs
from captioner.engines.vlm import Request
from captioner.policies import ModelVideo
from finetune.frames import Shape

IGNORED = -100
"""Label of a token that the loss leaves out (torch.nn.functional.cross_entropy)."""

END = "<|im_end|>"
"""Ends an answer, in the chat templates of Qwen2.5-VL and its successors."""


class TooLongError(ValueError):
    """An example that does not fit into the context."""


@dataclass(frozen=True)
class Encoder:
    """Makes examples with a checkpoint's processor; `context` is the most tokens of one."""

    processor: Any
    context: int
    _prompts: dict[Shape, int] = field(default_factory=dict)

    def tokens(self, shape: Shape, answer: str) -> int:
        """Tokens of an example whose frames have this shape: what they show makes no difference."""
        if shape not in self._prompts:
            inputs = model_inputs(self.processor, question(_blank(shape)))
            self._prompts[shape] = int(inputs["input_ids"].shape[1])
        return self._prompts[shape] + len(self.processor.tokenizer(answer + END)["input_ids"])

    def encode(self, video: ModelVideo, answer: str) -> dict[str, Any]:
        """One example: what the processor gives (a batch of one), and `labels` (1, T) int64.

        Raises TooLongError.
        """
        import torch

        inputs = dict(model_inputs(self.processor, question(video)))
        told = self.processor.tokenizer(answer + END, return_tensors="pt").input_ids
        asked = inputs["input_ids"]
        if asked.shape[1] + told.shape[1] > self.context:
            raise TooLongError(
                f"{asked.shape[1]} tokens of prompt and {told.shape[1]} of answer do not fit into "
                f"a context of {self.context}"
            )
        inputs["input_ids"] = torch.cat([asked, told], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(told)], 1)
        inputs["labels"] = torch.cat([torch.full_like(asked, IGNORED), told], 1)
        return inputs

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Examples as one batch: padded on the right to the longest, patches one after another."""
        import torch

        longest = max(example["input_ids"].shape[1] for example in examples)
        padding = {
            "input_ids": self.processor.tokenizer.pad_token_id or 0,
            "attention_mask": 0,
            "mm_token_type_ids": 0,
            "labels": IGNORED,
        }
        batch: dict[str, Any] = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            if name in padding:
                values = [_padded(value, longest, padding[name]) for value in values]
            if isinstance(values[0], torch.Tensor):
                batch[name] = torch.cat(values)
            else:
                batch[name] = [one for value in values for one in value]
        return batch


def question(video: ModelVideo) -> Request:
    """What inference asks of a clip's frames (`captioner.engines.vlm.VlmEngine.request`)."""
    return Request(prompts.STRUCTURED, video, None, 0.0, 1)


def _blank(shape: Shape) -> ModelVideo:
    count = shape[0]
    frames = np.zeros((*shape, 3), np.uint8)
    return ModelVideo(frames, tuple(map(float, range(count))), 1.0, count, tuple(range(count)))


def _padded(value: Any, length: int, by: int) -> Any:
    import torch

    return torch.nn.functional.pad(value, (0, length - value.shape[1]), value=by)
