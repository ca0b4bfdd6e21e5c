"""The positions of Qwen2.5-VL's tokens, as the model was trained with them.

What follows a video stands one place after the furthest of its tokens in time, height or width:
so the released model counts, and so does vLLM. transformers 5.3 to 5.19 leaves out time, so that
the text after a video that is longer than wide, in tokens, stands where its frames are.
"""

from __future__ import annotations

from inspect import signature
from itertools import groupby
from typing import Any

TEXT = 0
"""Kind of a token in `mm_token_type_ids`; images are 1, videos 2."""


def count_time(model: Any) -> Any:
    """Make a loaded model count so. Returns it; other architectures are left as they are."""
    if model.config.model_type != "qwen2_5_vl":
        return model
    inner = model.model
    count = inner.get_rope_index
    names = signature(count)

    def counted(*given: Any, **named: Any) -> tuple[Any, Any]:
        positions, ahead = count(*given, **named)
        told = names.bind(*given, **named).arguments
        mask = told.get("attention_mask")
        for row, kinds in enumerate(told["mm_token_type_ids"]):
            real = slice(None) if mask is None else mask[row].bool()
            moved = _after_the_furthest(positions[:, row, real], kinds[real].tolist())
            positions[:, row, real] = moved
            ahead[row] = moved.max() + 1 - moved.shape[1]
        return positions, ahead

    inner.get_rope_index = counted
    return model


def _after_the_furthest(positions: Any, kinds: list[int]) -> Any:
    """Positions (3, T) of one sequence, each text moved on past the pictures before it."""
    moved, end = positions.clone(), 0
    for kind, group in groupby(kinds):
        begin, end = end, end + len(list(group))
        if kind != TEXT and end < len(kinds):
            moved[:, end:] += moved[:, begin:end].max() + 1 - moved[0, end]
    return moved
