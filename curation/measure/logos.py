"""Logos and watermarks: what stays in the corners while the picture moves."""

from __future__ import annotations

import numpy as np

from captioner.experts.boxes import Box
from curation.measure.marks import Bool, clusters, count_of, pixels, share_of
from curation.measure.stays import (
    FROZEN,
    Stays,
    Window,
    can_tell,
    in_both_ways,
    partly_at_rest,
)

MARGIN = 0.012
"""Logos keep this share of the side off the picture's edges; what is cut by them does not."""

LOGOS = 3
"""At most: more are a part of a scene at rest."""

HALF = 0.45
"""Share of the windows that must show an edge in its place."""

FAINT_SHARE, FAINT_MARKS, TIMES = 0.2, 250, 8.0
"""Share of the edges in a faint logo's box that stay, and their number, at least: the scene shows
through it, and its edges are counted as well. Around it are as many, and so many times less likely
to stay."""

THIN = 0.2, 0.15, 0.25
"""Shares of the marks in a box's fullest row, or column, that one of a logo has at least; the first
that makes a logo of it is taken."""

CORNER = 0.28
"""Share of each side that a corner spans: logos were 3 to 20 % from the edges. (SkyReels-V2 gives
its model 15 %, which cuts wide logos in two.)"""


def find_logos(windows: list[Window], stays: Stays, inside: Box) -> list[tuple[Box, float]] | None:
    """What stays in the corners while the picture moves, with a score each; None where it does
    not move, since then nobody can tell."""
    if not can_tell(windows, stays):
        return None
    if partly_at_rest(stays, lines=False):
        return []
    # What is plain in half of the windows stays as well, though its edges come and go with what is
    # behind it.
    fixed = stays.fixed | (np.mean([window.frozen for window in windows], axis=0) >= HALF)
    found = []
    for whole, _ in clusters(fixed, 0.03, longest=1.0):
        for thin in THIN:
            box = _without_lines(fixed, whole, thin)
            score = _score(box, fixed, stays, inside)
            if score > 0:
                found.append((box, score))
                break
    return found if len(found) <= LOGOS else []


def _score(box: Box, fixed: Bool, stays: Stays, inside: Box) -> float:
    """How surely what stays in a box is a logo."""
    marks = count_of(fixed, box)
    if not _cornered(box, inside) or marks < 40:
        return 0.0
    around, still = _around(stays, box)
    if around >= 20 and still > 0.4:
        return 0.0
    dense = share_of(fixed, stays.edges, box)
    faint = min(marks, around) >= FAINT_MARKS and dense >= max(FAINT_SHARE, TIMES * still)
    if not (dense >= FROZEN or faint) or not in_both_ways(stays, box):
        return 0.0
    return min(1.0, marks / 80) * min(1.0, dense / (2 * FAINT_SHARE if faint else 0.7))


def _without_lines(fixed: Bool, box: Box, thin: float) -> Box:
    """The box without rows and columns at its ends that hold next to nothing: lines of the scene
    that run into a logo, often from the picture's edge."""
    rows, columns = pixels(box, fixed.shape)
    part = fixed[rows, columns]
    ends = []
    for axis, start in ((1, rows.start), (0, columns.start)):
        marks = part.sum(axis)
        held = np.flatnonzero(marks >= thin * marks.max())
        ends.append((start + int(held[0]), start + int(held[-1]) + 1))
    (top, bottom), (left, right) = ends
    height, width = fixed.shape
    return Box(left / width, top / height, right / width, bottom / height)


def _cornered(box: Box, inside: Box) -> bool:
    """Whether a box lies in a corner of the picture and keeps off its edges."""
    width, height = max(inside.width, 1e-6), max(inside.height, 1e-6)
    left, right = (box.left - inside.left) / width, (inside.right - box.right) / width
    top, bottom = (box.top - inside.top) / height, (inside.bottom - box.bottom) / height
    x, y = (left + 1 - right) / 2, (top + 1 - bottom) / 2
    cornered = min(x, 1 - x) <= CORNER and min(y, 1 - y) <= CORNER
    return cornered and min(left, right, top, bottom) >= MARGIN


def _around(stays: Stays, box: Box) -> tuple[int, float]:
    """The number of edges around a box, and the share of them that stays as well: then the box is
    part of a scene at rest."""
    outer = Box(
        box.left - box.width, box.top - box.height, box.right + box.width, box.bottom + box.height
    ).clipped()
    around = count_of(stays.edges, outer) - count_of(stays.edges, box)
    still = count_of(stays.fixed, outer) - count_of(stays.fixed, box)
    return around, still / max(1, around)
