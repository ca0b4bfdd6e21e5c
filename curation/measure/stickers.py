"""Stickers: graphics that lie over the picture, in their place or leaping."""

from __future__ import annotations

import cv2
import numpy as np

from captioner.experts.boxes import Box
from curation.measure.marks import (
    Bool,
    Float,
    Plane,
    clusters,
    count_of,
    in_more_ways,
    pixels,
    share_of,
)
from curation.measure.stays import (
    Stays,
    Window,
    around_moves,
    can_tell,
    in_both_ways,
    partly_at_rest,
)

ALL_THROUGH = 0.93
"""Share of a fixed sticker's edges that stay all through, not just for a moment."""

DENSE, DENSE_LEAPING = 0.66, 0.75
"""Share of the edges in a sticker's box that stay in a window, at least: the scene shows in the
corners beside it. A leaping one must be surer, since like things stand side by side in a scene."""

SAME, MOSTLY = 16, 0.57
"""Levels that a pixel of a fixed sticker may differ by between windows, and the share of those that
must not: at the centre of a zoom the scene creeps."""

ALIKE, DENSE_THERE = 0.75, 0.5
"""Correlation of a leaping sticker with what is elsewhere in another window, and the share of the
edges that stay there, at least: like edges of the scene do not."""

LEAPING = 1.5
"""Factor for the share of the windows that show a leaping sticker."""

STICKER = (0.04, 0.45)
"""Smallest and largest side of a sticker, as a share of the frame's height; none is more than four
times as long as wide."""


def find_sticker(windows: list[Window], stays: Stays, known: list[Box]) -> float | None:
    """How surely something that is neither text nor logo is stuck over the picture: in its place
    all through, or leaping, the same here and there; None where the picture does not move."""
    if not can_tell(windows, stays):
        return None
    if partly_at_rest(stays):
        return 0.0
    moving = [window for window in windows if window.moving]
    planes = np.stack([window.plane for window in windows])
    same = planes.max(0) - planes.min(0) <= SAME
    fixed = leaping = 0
    for i, window in enumerate(moving):
        others = moving[:i] + moving[i + 1 :]
        boxes = _stuck(window, known, DENSE)
        fixed += any(_fixed_all_through(stays, same, window, box) for box in boxes)
        boxes = _stuck(window, known, DENSE_LEAPING)
        leaping += any(_elsewhere(window, others, box) for box in boxes)
    # A leap inside a window hides the thing from it.
    return max(fixed / len(moving), min(1.0, LEAPING * leaping / len(moving)))


def _stuck(window: Window, known: list[Box], least: float) -> list[Box]:
    """Boxes of whose edges at least a share stays while the picture around moves."""
    low, high = STICKER
    found = []
    for box, marks in clusters(window.frozen, 0.02):
        sides = sorted((box.width * window.plane.shape[1] / window.plane.shape[0], box.height))
        sized = low <= sides[0] and sides[1] <= min(high, 4 * sides[0])
        dense = share_of(window.frozen, window.edges, box) >= least
        free = all(box.common(one) < 0.3 * min(box.area, one.area) for one in known)
        around = around_moves(window.edges, window.frozen, box)
        free = free and in_more_ways(*_gradients(window.plane, box))
        if sized and dense and free and around and marks >= 60:
            found.append(box)
    return sorted(found, key=lambda box: -box.area)[:3]


def _gradients(plane: Plane, box: Box) -> tuple[Float, Float]:
    """Gradients of a box across and down."""
    part = np.ascontiguousarray(plane[pixels(box, plane.shape)])
    across, down = (cv2.Sobel(part, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _fixed_all_through(stays: Stays, same: Bool, window: Window, box: Box) -> bool:
    """Whether what stays in a window in a box stays in the other windows too."""
    dense = share_of(stays.fixed & window.frozen, window.frozen, box) >= ALL_THROUGH
    dense = dense and share_of(same & window.frozen, window.frozen, box) >= MOSTLY
    enough = count_of(stays.fixed, box) >= 60
    return stays.moving and dense and enough and in_both_ways(stays, box)


def _elsewhere(window: Window, others: list[Window], box: Box) -> bool:
    """Whether the thing in a box is in another window too, far from there and no longer there."""
    rows, columns = pixels(box, window.plane.shape)
    thing = window.plane[rows, columns]
    if min(thing.shape) < 8 or float(thing.std()) < 12:
        return False
    for other in others:
        match = cv2.matchTemplate(other.plane, thing, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(match)
        far = max(abs(x - columns.start), abs(y - rows.start)) > 0.5 * min(thing.shape)
        gone = match[rows.start, columns.start] < 0.5
        there = np.s_[y : y + thing.shape[0], x : x + thing.shape[1]]
        stays = other.frozen[there].sum() >= DENSE_THERE * other.edges[there].sum()
        if best >= ALIKE and far and gone and stays:
            return True
    return False
