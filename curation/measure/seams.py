"""Straight seams between two pictures in one frame.

They are told from edges of the scene by their straightness, by staying where they are, and by what
changes on both sides of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from captioner.frames import Picture, halved
from curation.measure.bars import Area
from curation.measure.marks import Bool, Plane

SEAM_SIDE = 640
"""Pictures are halved to less than this many pixels for seams, which are straight and long."""

BESIDE = 0.06
"""Width, as a share of the frame, of the band beside a seam that is searched for movement."""

STEP, STEP_FLOOR = 2.0, 2.5
"""An edge is part of a seam where its step is this many times the mean one within 7 pixels, and
this many levels more."""

OFTEN = 0.45
"""Share of the pictures in which it must: the two sides of a seam are alike now and then."""

TOGETHER = 0.35
"""Correlation over time of the changes on both sides of a seam, from which they are one scene."""

Planes = tuple[Plane, ...]
"""Grey, U and V (h, w) of one picture."""

Pairs = list[tuple[Plane, Plane]]
"""Pairs of pictures (h, w) a moment apart, turned with the seams."""


@dataclass(frozen=True)
class Line:
    """An upright line at a share of the width, from `start` to `end`, shares of the height."""

    at: float
    start: float
    end: float


@dataclass(frozen=True)
class Seams:
    """`upright` marks pixels (pictures, h, w) of upright seams, `level` those of level ones; a seam
    at column x lies between x and x + 1. `active` (h, w) marks what changes over time."""

    upright: Bool
    level: Bool
    active: Bool

    def turned(self) -> Seams:
        """The same with rows for columns."""
        upright, level = self.level.transpose(0, 2, 1), self.upright.transpose(0, 2, 1)
        return Seams(upright, level, self.active.T)


def steps_across(plane: Plane) -> Plane:
    """(h, w) uint8: the difference of each pixel to the one on its right; 0 in the last column."""
    steps = np.zeros_like(plane)
    steps[:, :-1] = cv2.absdiff(plane[:, 1:], plane[:, :-1])
    return steps


def planes_of(picture: Picture, area: Area) -> Planes:
    """Grey, U and V of an area, halved, of one size: two pictures may be alike in one of them."""
    grey = halved(area.of(picture.grey), SEAM_SIDE)
    size = (grey.shape[1], grey.shape[0])
    if picture.u.size < 4:
        return (grey,)
    chroma = (area.scaled(plane, picture.grey) for plane in (picture.u, picture.v))
    return (grey, *(np.asarray(cv2.resize(plane, size), np.uint8) for plane in chroma))


def seam_pixels(pictures: list[Planes]) -> Bool:
    """(pictures, h, w): where the step to the right stands out from its neighbours."""
    seen = np.zeros((len(pictures), *pictures[0][0].shape), np.bool_)
    for marks, planes in zip(seen, pictures):
        steps = np.maximum.reduce([steps_across(plane) for plane in planes])
        wide = cv2.boxFilter(steps, cv2.CV_32F, (15, 1), normalize=False)
        near = cv2.boxFilter(steps, cv2.CV_32F, (3, 1), normalize=False)
        around = cv2.subtract(wide, near)
        marks[:] = steps > cv2.addWeighted(around, STEP / 12, around, 0, STEP_FLOOR)
    return seen


def mostly(marks: Bool) -> Bool:
    """(h, w): what is marked in most of (pictures, h, w)."""
    return np.asarray(marks.sum(0, dtype=np.uint8) >= max(2, OFTEN * len(marks)), np.bool_)


def transposed(pairs: Pairs) -> Pairs:
    """The same with rows for columns."""
    return [(first.T, second.T) for first, second in pairs]


def apart(pairs: Pairs, line: Line) -> float:
    """How surely the two sides of a line change each in its own time, 0 to 1.

    What passes before an edge of the scene changes both of its sides at once.
    """
    if len(pairs) < 6:
        return 1.0
    changes = []
    for first, second in pairs[:: max(1, len(pairs) // 32)]:
        height, width = first.shape
        rows = slice(round(line.start * height), max(1, round(line.end * height)))
        x, gap = round(line.at * width), max(3, width // 160)
        sides = (slice(max(0, x - 2 * gap), x - 2), slice(x + gap, x + 3 * gap))
        if not all(first[rows, side].size for side in sides):
            return 1.0
        change = [cv2.absdiff(first[rows, side], second[rows, side]) for side in sides]
        size = (1, max(1, change[0].shape[0] // 4))
        changes.append(
            [cv2.resize(part, size, interpolation=cv2.INTER_AREA)[:, 0] for part in change]
        )
    series = np.array(changes, np.float32)  # (pairs, 2, rows)
    series -= series.mean(0)
    spread = np.sqrt((series**2).mean(0))
    both = np.minimum(spread[0], spread[1]) > 2
    if both.sum() < 4:
        return 1.0
    alike = (series[:, 0] * series[:, 1]).mean(0)[both].sum() / (spread[0] * spread[1])[both].sum()
    return float(np.clip(2 - 2 * float(alike) / TOGETHER, 0, 1))
