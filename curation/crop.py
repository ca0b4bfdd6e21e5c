"""The largest clean rectangle of a picture: no bars, no text, no logo inside (SkyReels-V2, A1).

Pure arithmetic on boxes: no frame is looked at. Bars do not count as lost picture: what is left is
compared, in area and in aspect, with the picture inside its bars, since cutting bars away loses
nothing and a film of 2.39:1 would else never pass. `CropConfig(compare="frame")` compares with the
whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box

Rectangle = tuple[int, int, int, int]
"""x, y, width and height, in pixels (or cells)."""


@dataclass(frozen=True)
class CropConfig:
    """When a crop is worth keeping.

    `min_area` is the share of the picture that it must hold, 0 to 1 (the paper's 80 %).
    `aspect_tolerance` is how much wider or taller, relatively, its shape may be (0.1: 16:9 may
    become anything from 1.62:1 to 1.96:1; the paper says "close" and no number: own choice, the
    least that lets a line of subtitles go). `min_width` and `min_height` are in pixels of the
    source (own choice: half of the lowest tier's 256). `compare` says what it is compared with:
    the picture inside its bars ("content") or the whole frame ("frame").

    Raises ValueError for values out of range.
    """

    min_area: float = 0.8
    aspect_tolerance: float = 0.1
    min_width: int = 128
    min_height: int = 128
    compare: Literal["content", "frame"] = "content"

    def __post_init__(self) -> None:
        if not 0 <= self.min_area <= 1:
            raise ValueError(f"min_area must be from 0 to 1, not {self.min_area}")
        if not self.aspect_tolerance >= 0:
            raise ValueError(f"aspect_tolerance must not be negative, not {self.aspect_tolerance}")
        if min(self.min_width, self.min_height) < 0:
            raise ValueError("min_width and min_height must not be negative")
        if self.compare not in ("content", "frame"):
            raise ValueError(f"compare must be content or frame, not {self.compare!r}")


def crop(
    box: Box, occlusions: Sequence[Box], width: int, height: int, config: CropConfig
) -> Rectangle | str:
    """The largest rectangle inside `box` that touches none of `occlusions`, or why there is none.

    Boxes are in fractions of the frame, `width` x `height` in pixels of the source. All four
    numbers of the rectangle are even, as 4:2:0 video needs. Where its shape is off by more than
    the tolerance, its longer side is trimmed evenly on both ends until it is not.
    """
    edges = _inside(box, width, height)
    across, down = edges[2] - edges[0], edges[3] - edges[1]
    if across <= 0 or down <= 0:
        return f"the picture inside the borders is {max(0, across)}x{max(0, down)}"
    whole = (width, height) if config.compare == "frame" else (across, down)
    largest = _largest_clean(edges, [_around(one, width, height) for one in occlusions])
    x, y, w, h = _even(_trimmed(largest, whole, config.aspect_tolerance))
    share = w * h / (whole[0] * whole[1])
    # Evenness alone may cost up to three rows and columns.
    least = config.min_area - 3 / min(whole)
    if share < least:
        return f"clean rectangle {w}x{h} is {share:.0%} of the picture, under {config.min_area:.0%}"
    if w < config.min_width or h < config.min_height:
        return f"clean rectangle {w}x{h} is under {config.min_width}x{config.min_height}"
    return x, y, w, h


def largest_rectangle(mask: NDArray[np.bool_]) -> Rectangle:
    """x, y, w, h of the largest rectangle of True cells in an (H, W) mask; (0, 0, 0, 0) if none.

    A monotonic stack over the heights of each row's columns: every cell is pushed and popped once.
    """
    height, width = mask.shape
    return _largest(mask.tolist(), range(width + 1), range(height + 1))


def _largest(mask: Sequence[Sequence[bool]], xs: Sequence[int], ys: Sequence[int]) -> Rectangle:
    """The same where column i reaches from xs[i] to xs[i + 1], row j from ys[j] to ys[j + 1].

    Of plain lists: masks of boxes have a few cells, over which arrays would cost ten times more.
    """
    best: Rectangle = (0, 0, 0, 0)
    tops = [ys[0]] * (len(xs) - 1)
    for row, bottom in zip(mask, ys[1:]):
        tops = [top if clean else bottom for clean, top in zip(row, tops)]
        stack: list[tuple[int, int]] = []  # left edge and height, heights rising
        for right, high in zip(xs, [*(bottom - top for top in tops), 0]):
            left = right
            while stack and stack[-1][1] >= high:
                left, tall = stack.pop()
                if (right - left) * tall > best[2] * best[3]:
                    best = (left, bottom - tall, right - left, tall)
            stack.append((left, high))
    return best


def _largest_clean(
    inside: tuple[int, int, int, int], over: Sequence[tuple[int, int, int, int]]
) -> Rectangle:
    """The largest rectangle by edges (left, top, right, bottom); only their edges can bound it, so
    the mask has a cell between each two of them."""
    if not over:
        return inside[0], inside[1], inside[2] - inside[0], inside[3] - inside[1]
    xs = _edges(inside[0], inside[2], [x for one in over for x in (one[0], one[2])])
    ys = _edges(inside[1], inside[3], [y for one in over for y in (one[1], one[3])])
    mask = [
        [not any(a <= x < c and b <= y < d for a, b, c, d in over) for x in xs[:-1]]
        for y in ys[:-1]
    ]
    return _largest(mask, xs, ys)


def _edges(low: int, high: int, between: Sequence[int]) -> list[int]:
    return sorted({low, high, *(min(max(one, low), high) for one in between)})


def _trimmed(rectangle: Rectangle, like: tuple[int, int], tolerance: float) -> Rectangle:
    """The rectangle with its longer side cut to the shape of `like` times 1 + tolerance."""
    x, y, w, h = rectangle
    if not w or not h:
        return rectangle
    shape = like[0] / like[1]
    across = min(w, math.floor(h * shape * (1 + tolerance)))
    down = min(h, math.floor(w / shape * (1 + tolerance)))
    return x + (w - across) // 2, y + (h - down) // 2, across, down


def _even(rectangle: Rectangle) -> Rectangle:
    """The largest rectangle inside of which every number is even."""
    x, y, w, h = rectangle
    left, top = x + x % 2, y + y % 2
    right, bottom = (x + w) // 2 * 2, (y + h) // 2 * 2
    return left, top, max(0, right - left), max(0, bottom - top)


def _inside(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Edges of the whole pixels inside the box; a rounding error is no pixel."""
    box = box.clipped()
    return (
        math.ceil(box.left * width - 0.01),
        math.ceil(box.top * height - 0.01),
        math.floor(box.right * width + 0.01),
        math.floor(box.bottom * height + 0.01),
    )


def _around(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Edges of the pixels that the box touches."""
    box = box.clipped()
    return (
        math.floor(box.left * width + 0.01),
        math.floor(box.top * height + 0.01),
        math.ceil(box.right * width - 0.01),
        math.ceil(box.bottom * height - 0.01),
    )
