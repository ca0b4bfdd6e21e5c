"""Pictures in the picture: a rectangle of seams, and another camera inside it."""

from __future__ import annotations

import cv2
import numpy as np

from curation.measure.bars import Area
from curation.measure.cameras import Part, independence
from curation.measure.marks import Bool
from curation.measure.seams import BESIDE, Line, Pairs, Seams, apart, mostly, transposed

INSET = 0.15
"""Shortest side of a picture in picture, as a share of the frame's."""

INSET_SUPPORT = 0.55
"""Share of each side of an inset that must be a seam."""


def find_inset(seams: Seams, pairs: Pairs, looks: Pairs) -> tuple[float, Part | None]:
    """How surely a rectangle inside the picture is a picture of its own, and the one that most
    surely is."""
    height, width = seams.active.shape
    upright, level = mostly(seams.upright), mostly(seams.level)
    lines = _segments(upright, max(8, round(INSET * height)))
    turned = transposed(pairs)
    best, inset = 0.0, None
    for i, (a, top_a, bottom_a) in enumerate(lines):
        for b, top_b, bottom_b in lines[i + 1 :]:
            top, bottom = max(top_a, top_b), min(bottom_a, bottom_b)
            union = max(bottom_a, bottom_b) - min(top_a, top_b)
            if b - a < INSET * width or bottom - top < 0.7 * union:
                continue
            score = _rectangle_score(upright, level, seams.active, Area(a, top, b, bottom))
            if score > max(best, 0.3):
                x, y = (a / width, b / width), (top / height, bottom / height)
                sides = [apart(pairs, Line(at, *y)) for at in x]
                sides += [apart(turned, Line(at, *x)) for at in y]
                part = Part(x[0], y[0], x[1], y[1])
                score *= float(np.mean(sides)) * independence(looks, part)
                if score > best:
                    best, inset = score, part
    return best, inset


def _segments(upright: Bool, least: int) -> list[tuple[int, int, int]]:
    """(x, top, bottom) of the longest upright lines of at least `least` pixels that do not reach
    from edge to edge, in order of x."""
    height = upright.shape[0]
    marks = cv2.dilate(upright.astype(np.uint8), np.ones((1, 2), np.uint8))
    # Closing would join what is near the frame's edge to it.
    marks = cv2.copyMakeBorder(marks, least, least, 0, 0, cv2.BORDER_CONSTANT, value=(0,))
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((least // 2 * 2 + 1, 1), np.uint8))
    marks = cv2.morphologyEx(marks, cv2.MORPH_OPEN, np.ones((least, 1), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(marks[least:-least])
    found = [(int(x + w // 2), int(y), int(y + h)) for x, y, w, h, _ in stats[1:] if w <= 8]
    found = [line for line in found if line[2] - line[1] < 0.95 * height]
    return sorted(sorted(found, key=lambda line: line[1] - line[2])[:24])


def _rectangle_score(upright: Bool, level: Bool, active: Bool, area: Area) -> float:
    """The weakest side of a rectangle, times the movement inside and around it."""
    height, width = active.shape
    sides = []
    for x in (area.left, area.right):
        strip = upright[area.top : area.bottom, max(0, x - 3) : x + 4]
        sides.append(float(strip.any(1).mean()))
    for y in (area.top, area.bottom):
        # Ends of upright lines are blunt.
        strips = level[max(0, y - 6) : y + 7, area.left + 2 : area.right - 1]
        sides.append(float(_best_line(strips)))
    if min(sides) < INSET_SUPPORT:
        return 0.0
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
    return min(1.0, float(np.mean(sides)) * min(1.0, 2.5 * inside, 2.5 * around))


def _active_in(active: Bool, area: Area) -> Bool:
    """The part of a map inside an area."""
    return active[area.top : area.bottom, area.left : area.right]


def _best_line(strips: Bool) -> float:
    """The largest share of marks that two neighbouring rows hold together."""
    if len(strips) < 2:
        return 0.0
    return float((strips[1:] | strips[:-1]).mean(1).max())
