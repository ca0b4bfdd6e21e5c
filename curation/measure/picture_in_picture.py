"""Pictures in the picture: a rectangle of seams, and another camera inside it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.measure.bars import Area
from curation.measure.cameras import Part, independence
from curation.measure.marks import Bool
from curation.measure.seams import BESIDE, Line, Pairs, Seams, apart, mostly, transposed

INSET = 0.15
"""Shortest side of a picture in picture, as a share of the frame's."""

INSET_SUPPORT = 0.55
"""Share of each side of an inset that must be a seam."""

LINES, TRIED = 24, 4
"""Longest lines each way that are looked at, and rectangles of them."""

NEAR = 4
"""Pixels: closer lines are one, and what is closer to the frame's edge is none."""

Places = NDArray[np.int64]
"""Columns or rows of a picture."""


def find_inset(seams: Seams, pairs: Pairs, looks: Pairs) -> tuple[float, Part | None]:
    """How surely a rectangle inside the picture is a picture of its own, and the one that most
    surely is."""
    height, width = seams.active.shape
    turned = transposed(pairs)
    best, inset = 0.0, None
    for area, support in _rectangles(mostly(seams.upright), mostly(seams.level)):
        x, y = (area.left / width, area.right / width), (area.top / height, area.bottom / height)
        sides = [apart(pairs, Line(at, *y)) for at in x]
        sides += [apart(turned, Line(at, *x)) for at in y]
        score = support * _movement(seams.active, area) * float(np.mean(sides))
        if score > max(best, 0.3):
            part = Part(x[0], y[0], x[1], y[1])
            score *= independence(looks, part)
            if score > best:
                best, inset = score, part
    return best, inset


def _rectangles(upright: Bool, level: Bool) -> list[tuple[Area, float]]:
    """Up to `TRIED` rectangles whose sides are seams, and the mean share of a side that is one;
    the best first.

    Each side is judged between the corners alone: a seam often goes on in an edge of the scene.
    """
    height, width = upright.shape
    least = max(8, round(INSET * width)), max(8, round(INSET * height))
    x, along_x = _lines(upright, least[1])
    y, along_y = _lines(np.ascontiguousarray(level.T), least[0])
    left, right = _far_pairs(x, least[0])
    top, bottom = _far_pairs(y, least[1])
    uprights = (along_x[:, y[bottom]] - along_x[:, y[top]]) / (y[bottom] - y[top])
    levels = (along_y[:, x[right]] - along_y[:, x[left]]) / (x[right] - x[left])
    sides = np.stack([uprights[left], uprights[right], levels[top].T, levels[bottom].T])
    mean = np.where(sides.min(0) < INSET_SUPPORT, 0, sides.mean(0))
    found = np.flatnonzero(mean)
    found = found[np.argsort(-mean.flat[found], kind="stable")[:TRIED]]
    across, down = np.unravel_index(found, mean.shape)
    edges = np.stack([x[left[across]], y[top[down]], x[right[across]], y[bottom[down]]], 1)
    return [(Area(*edge), score) for edge, score in zip(edges.tolist(), mean.flat[found].tolist())]


def _lines(upright: Bool, least: int) -> tuple[Places, Places]:
    """Columns (n,) that hold upright lines of at least `least` pixels, in order, and for each how
    many of its pixels above each row (n, height + 1) are a seam."""
    height = len(upright)
    marks = cv2.dilate(upright.astype(np.uint8), np.ones((1, 2), np.uint8))
    # Closing would join what is near the frame's edge to it.
    runs = cv2.copyMakeBorder(marks, least, least, 0, 0, cv2.BORDER_CONSTANT, value=(0,))
    runs = cv2.morphologyEx(runs, cv2.MORPH_CLOSE, np.ones((least // 2 * 2 + 1, 1), np.uint8))
    runs = cv2.morphologyEx(runs, cv2.MORPH_OPEN, np.ones((least, 1), np.uint8))
    length = cv2.bitwise_and(marks, runs[least:-least]).sum(0, dtype=np.int64)
    length[:NEAR] = length[-NEAR:] = 0
    found: list[int] = []
    for _ in range(LINES):
        x = int(length.argmax())
        if not length[x]:
            break
        found.append(x)
        length[max(0, x - NEAR + 1) : x + NEAR] = 0
    places = np.array(sorted(found), np.int64)
    above = np.zeros((len(places), height + 1), np.int64)
    above[:, 1:] = marks.T[places].cumsum(1)
    return places, above


def _far_pairs(places: Places, least: int) -> tuple[Places, Places]:
    """Indices of all pairs of places that lie at least so far apart, the lower first."""
    first, second = np.triu_indices(len(places), 1)
    far = places[second] - places[first] >= least
    return first[far], second[far]


def _movement(active: Bool, area: Area) -> float:
    """The movement inside a rectangle and around it, 0 to 1."""
    height, width = active.shape
    inside = float(_active_in(active, area).mean())
    band = max(4, round(BESIDE * width))
    outer = Area(
        max(0, area.left - band), max(0, area.top - band),
        min(width, area.right + band), min(height, area.bottom + band),
    )  # fmt: skip
    ring = _active_in(active, outer)
    around = (float(ring.sum()) - inside * (area.right - area.left) * (area.bottom - area.top)) / (
        ring.size - (area.right - area.left) * (area.bottom - area.top)
    )
    return min(1.0, 2.5 * inside, 2.5 * around)


def _active_in(active: Bool, area: Area) -> Bool:
    """The part of a map inside an area."""
    return active[area.top : area.bottom, area.left : area.right]
