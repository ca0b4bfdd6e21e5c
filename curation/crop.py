"""The largest clean rectangle of a picture: no bars, no text, no logo inside (SkyReels-V2, A1).

Pure arithmetic on boxes, of many clips at once: no frame is looked at. Bars do not count as lost
picture: what is left is compared, in area and in aspect, with the picture inside its bars, since
cutting bars away loses nothing and a film of 2.39:1 would else never pass.
`CropConfig(compare="frame")` compares with the whole frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box

Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Rectangle = tuple[int, int, int, int]
"""x, y, width and height, in pixels."""

CELLS = 4_000_000
"""Cells of masks that are worked on at a time, to bound memory."""


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
    """The largest rectangle inside `box` that touches none of `occlusions`, or why there is none:
    `crops` of one clip."""
    boxes, over = (
        np.array([[one.left, one.top, one.right, one.bottom] for one in some], float).reshape(-1, 4)
        for some in ([box], occlusions)
    )
    sizes = np.array([[width, height]])
    found, reasons = crops(boxes, over, np.zeros(len(over), np.int64), sizes, config)
    x, y, w, h = found[0].tolist()
    return reasons.get(0, (x, y, w, h))


def crops(
    boxes: Floats, over: Floats, owner: Ints, sizes: Ints, config: CropConfig
) -> tuple[Ints, dict[int, str]]:
    """For each of N clips the largest rectangle, (N, 4) pixels x, y, w, h, inside its box that
    touches nothing over it, and by number of the clip why some have none.

    `boxes` (N, 4) and `over` (M, 4) are left, top, right, bottom in fractions of the frame, `owner`
    (M,) the clip that each of `over` lies on, in order; `sizes` (N, 2) width and height in pixels
    of the source. All four numbers of a rectangle are even, as 4:2:0 video needs. Where its shape
    is off by more than the tolerance, its longer side is trimmed evenly on both ends until it is
    not.
    """
    edges = _pixels(boxes, sizes, inwards=True)
    content = np.maximum(edges[:, 2:] - edges[:, :2], 0)
    whole = sizes if config.compare == "frame" else content
    clean = _largest_clean(edges, _pixels(over, sizes[owner], inwards=False), owner)
    empty = (content == 0).any(axis=1)
    clean[empty] = 0
    found = _even(_trimmed(clean, whole, config.aspect_tolerance))
    area = whole.prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = found[:, 2:].prod(axis=1) / area
        # Evenness alone may cost up to three rows and columns.
        short = share < config.min_area - 3 / whole.min(axis=1)
    tiny = (found[:, 2:] < (config.min_width, config.min_height)).any(axis=1)
    reasons = {}
    for i in np.flatnonzero(empty | short | tiny).tolist():
        (across, down), (w, h) = content[i].tolist(), found[i, 2:].tolist()
        if empty[i]:
            reasons[i] = f"the picture inside the borders is {across}x{down}"
        elif short[i]:
            reasons[i] = (
                f"clean rectangle {w}x{h} is {share[i]:.0%} of the picture, "
                f"under {config.min_area:.0%}"
            )
        else:
            reasons[i] = f"clean rectangle {w}x{h} is under {config.min_width}x{config.min_height}"
    return found, reasons


def _largest_clean(inside: Ints, over: Ints, owner: Ints) -> Ints:
    """(N, 4) the largest rectangles inside of edges (N, 4) that no edges of `over` reach into."""
    clean = np.concatenate([inside[:, :2], inside[:, 2:] - inside[:, :2]], axis=1)
    counts = np.bincount(owner, minlength=len(inside))
    first = np.cumsum(counts) - counts
    for count in np.unique(counts[counts > 0]).tolist():
        rows = np.flatnonzero(counts == count)
        block = max(1, CELLS // (2 * count + 1) ** 2)
        for start in range(0, len(rows), block):
            some = rows[start : start + block]
            on_it = over[first[some, None] + np.arange(count)]
            clean[some] = _largest(inside[some], on_it)
    return np.asarray(clean, np.int64)


def _largest(inside: Ints, over: Ints) -> Ints:
    """The same of N clips (N, 4) with K boxes (N, K, 4) over each.

    Only their edges can bound the rectangle, so the mask has a cell between each two of them. For
    each row of cells as the lowest, and each as the highest, the clean run that ends at each column
    is followed from left to right. Of equally large ones the one counts that ends furthest up, then
    the one that ends furthest left.
    """
    # (2 K + 2, N) edges and (rows, columns, N) cells: the clips are last, so that numpy's loops run
    # over them.
    xs, ys = (
        np.sort(
            np.concatenate(
                [
                    inside[:, [axis, axis + 2]],
                    np.clip(
                        over[:, :, [axis, axis + 2]].reshape(len(over), -1),
                        inside[:, [axis]],
                        inside[:, [axis + 2]],
                    ),
                ],
                axis=1,
            )
        ).T.copy()
        for axis in (0, 1)
    )
    hidden = np.zeros((len(ys) - 1, len(xs) - 1, len(inside)), np.bool_)
    for left, top, right, bottom in over.transpose(1, 2, 0):
        across = (left <= xs[:-1]) & (xs[:-1] < right)
        hidden |= ((top <= ys[:-1]) & (ys[:-1] < bottom))[:, None] & across
    best = np.zeros((4, len(inside)), np.int64)
    most = np.zeros(len(inside), np.int64)
    for low in range(1, len(ys)):
        # Whether anything is hidden from each row of cells as the highest down to the lowest.
        hides = np.logical_or.accumulate(hidden[low - 1 :: -1], axis=0)[::-1]
        tall = ys[low] - ys[:low]
        left = np.broadcast_to(xs[0], tall.shape)
        for column in range(len(xs) - 1):
            right = xs[column + 1]
            left = np.where(hides[:, column], right, left)
            areas = (right - left) * tall
            highest = areas.argmax(axis=0)
            at = highest, np.arange(len(most))
            more = areas[at] > most
            most = np.where(more, areas[at], most)
            found = np.stack([left[at], ys[highest, at[1]], right - left[at], tall[at]])
            best = np.where(more, found, best)
    return best.T


def _trimmed(rectangles: Ints, like: Ints, tolerance: float) -> Ints:
    """The rectangles with their longer sides cut to the shapes of `like` times 1 + tolerance."""
    x, y, w, h = rectangles.T
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = like[:, 0] / like[:, 1]
        across = np.minimum(w, np.floor(h * shape * (1 + tolerance)))
        down = np.minimum(h, np.floor(w / shape * (1 + tolerance)))
    there = (w > 0) & (h > 0)
    across = np.where(there, across, w).astype(np.int64)
    down = np.where(there, down, h).astype(np.int64)
    return np.stack([x + (w - across) // 2, y + (h - down) // 2, across, down], axis=1)


def _even(rectangles: Ints) -> Ints:
    """The largest rectangles inside of which every number is even."""
    at, size = rectangles[:, :2], rectangles[:, 2:]
    low, high = at + at % 2, (at + size) // 2 * 2
    return np.concatenate([low, np.maximum(0, high - low)], axis=1)


def _pixels(boxes: Floats, sizes: Ints, inwards: bool) -> Ints:
    """Edges of the whole pixels inside of each box, or of all that it touches; a rounding error is
    no pixel."""
    edges = np.clip(boxes, 0.0, 1.0) * np.tile(sizes, 2)
    low, high = edges[:, :2], edges[:, 2:]
    slack = 0.01
    if inwards:
        low, high = np.ceil(low - slack), np.floor(high + slack)
    else:
        low, high = np.floor(low + slack), np.ceil(high - slack)
    return np.concatenate([low, high], axis=1).astype(np.int64)
