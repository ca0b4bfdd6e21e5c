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

DENSE, DENSE_LEAPING = 0.66, 0.55
"""Share of the edges in a sticker's box that stay in a window, at least: the scene shows in the
corners beside it. Of a leaping one, which must be found elsewhere too, fewer will do."""

SAME, MOSTLY = 16, 0.57
"""Levels that a pixel of a fixed sticker may differ by between windows, and the share of those that
must not: at the centre of a zoom the scene creeps."""

FAR = 0.5
"""Share of its smaller side by which a sticker leaps, at least."""

ALIKE, STAYS_THERE, GONE = 0.8, 0.6, 0.5
"""Share of a leaping sticker's edges that differ by no more than `SAME` from what is elsewhere in
another window, and that stay there, at least; and that are the same in the old place, at most."""

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
    """Whether the thing in a box is in another window too, far from there and no longer there.

    Only its edges are compared: what shows beside it is another part of the scene.
    """
    here = pixels(box, window.plane.shape)
    thing, edges = window.plane[here], window.frozen[here]
    height, width = thing.shape
    if min(height, width) < 8 or float(thing.std()) < 12:
        return False
    # An edge along the camera's path stays as well, and is as far along it in another window.
    if not in_more_ways(*(way[edges] for way in _gradients(window.plane, box))):
        return False
    for other in others:
        if _alike(thing, other.plane[here], edges) > GONE:
            continue
        match = cv2.matchTemplate(other.plane, thing, cv2.TM_CCOEFF_NORMED)
        x, y = cv2.minMaxLoc(match)[3]
        far = max(abs(x - here[1].start), abs(y - here[0].start)) > FAR * min(height, width)
        there = np.s_[y : y + height, x : x + width]
        stays = float(other.frozen[there][edges].mean()) >= STAYS_THERE
        if far and stays and _alike(thing, other.plane[there], edges) >= ALIKE:
            return True
    return False


def _alike(a: Plane, b: Plane, where: Bool) -> float:
    """Share of the marked pixels that are the same in both."""
    return float((cv2.absdiff(a, b)[where] <= SAME).mean())
