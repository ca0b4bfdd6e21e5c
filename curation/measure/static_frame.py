"""Motionless frames around the picture.

Nothing changes outside of a straight line, and across it most columns show a step or begin to
change: a flat part of the picture does not change either, but is seldom of the frame's colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.measure.bars import MIN_BAR, MIN_RISING, Area, inside_margins
from curation.measure.marks import Bool, Plane
from curation.measure.seams import STEP, STEP_FLOOR

CHANGES = 10, 18
"""Levels by which a pixel changes over time inside a picture, at least: the second where the codec
makes the frame change by more than the first."""

START, EARLY = 0.15, 0.2
"""Share of the changing columns that begin to change at one row, at least, and that may do so
sooner."""

STRAIGHT = 0.6
"""Share of them that begin to change there or show a step."""

ROWS = 3
"""Rows that are looked at on each side, those at which most columns begin to change first."""


@dataclass(frozen=True)
class _Margin:
    """What lies on one side of the frame, that side first: the `middle` values (rows, columns), and
    for each of the columns that `change` the first row in which they do."""

    middle: Plane
    starts: NDArray[np.int64]
    change: Bool

    @staticmethod
    def of(moving: Plane, middle: Plane) -> _Margin:
        """From the pixels (rows, columns) that change."""
        return _Margin(middle, moving.argmax(0), np.asarray(moving.any(0), np.bool_))

    def counts(self) -> NDArray[np.float64]:
        """Share of the columns that begin to change in each row."""
        starts = np.bincount(self.starts[self.change], minlength=len(self.middle))
        return starts / max(1, int(self.change.sum()))

    def straight(self, row: int) -> float:
        """Share of the columns that begin to change or show a step within a row of `row`."""
        low = max(0, row - 8)
        part = np.ascontiguousarray(self.middle[low : row + 9, self.change])
        steps = cv2.absdiff(part[1:], part[:-1])
        wide = cv2.boxFilter(steps, cv2.CV_32F, (1, 15), normalize=False)
        near = cv2.boxFilter(steps, cv2.CV_32F, (1, 3), normalize=False)
        marks = steps > (wide - near) * (STEP / 12) + STEP_FLOOR
        stepped = marks[max(0, row - low - 2) : row - low + 1].any(0)
        starts = self.starts[self.change]
        # What changed before is no frame.
        return float(((np.abs(starts - row) <= 1) | (stepped & (starts >= row - 1))).mean())


def inside_frame(high: Plane, low: Plane) -> Area:
    """What a motionless frame leaves, from the brightest and the darkest value (H, W) of each pixel
    over time."""
    height, width = high.shape
    change = np.asarray(cv2.subtract(high, low), np.uint8)
    middle = np.asarray(cv2.addWeighted(high, 0.5, low, 0.5, 0), np.uint8)
    whole = Area(0, 0, width, height)
    for least in CHANGES:
        _, moving = cv2.threshold(change, least, 1, cv2.THRESH_BINARY)
        area = inside_margins(_margins, np.asarray(moving, np.uint8), middle)
        if area != whole:
            return area
    return whole


def _margins(moving: Plane, middle: Plane) -> tuple[int, int]:
    """Rows of frame above and below."""
    half = len(moving) // 2
    least = max(2, round(2 * half * MIN_BAR))
    if half < 4 or max(part[:least].any(0).mean() for part in (moving, moving[::-1])) > EARLY:
        return 0, 0  # Most clips.
    both = (moving, middle), (moving[::-1], middle[::-1])
    sides = [_Margin.of(part[:half], picture[:half]) for part, picture in both]
    if min(side.change.mean() for side in sides) < MIN_RISING:
        return 0, 0
    reach = max(2, half // 50)
    shares = [side.counts() for side in sides]
    near = [np.convolve(one, np.ones(3), "same") for one in shares]
    allowed = [np.concatenate([[0, 0], np.cumsum(one)[:-2]]) <= EARLY for one in shares]
    starts = [np.where(one, two, 0.0) for one, two in zip(allowed, near)]
    weaker = np.minimum(*(cv2.dilate(one, np.ones(2 * reach + 1))[:, 0] for one in starts))
    weaker[:least] = 0
    for _ in range(ROWS):
        about = int(weaker.argmax())
        if weaker[about] < START:
            break
        low = max(least, about - reach)
        rows = [low + int(one[low : about + reach + 1].argmax()) for one in shares]
        if min(side.straight(row) for side, row in zip(sides, rows)) >= STRAIGHT:
            return rows[0], rows[1]
        weaker[max(0, about - reach) : about + reach + 1] = 0
    return 0, 0
