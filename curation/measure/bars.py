"""Flat bars around the picture.

Bars are told from dark scenes by looking at the brightest and the darkest value that each pixel
takes over time, and by a straight edge: nearly every column must leave the bar at the same row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.measure.marks import Plane

LEVEL = 10
"""Levels of 255 that a pixel of a bar may be off its colour: ringing beside an edge of H.264 at
crf 28 stays below."""

MIN_BAR = 0.006
"""Share of the side: thinner lines are damage of a scan, and cost less than they are worth."""

MIN_RISING = 0.2
"""Share of the columns that must leave the bar at all: a title on black has no bars."""

STRAIGHT, STRAIGHT_ALONE = 0.3, 0.85
"""Share of the rising columns that leave the bar at one row: where a like bar is on the opposite
side, and where there is none (a night sky over a roof)."""

EARLY, EARLY_ALONE = 0.4, 0.08
"""Share of the columns that may leave the bar sooner: subtitles are often put into bars."""


@dataclass(frozen=True)
class Area:
    """Rows top to bottom and columns left to right of a picture, ends exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, plane: Plane) -> Plane:
        """The part of a plane (..., H, W)."""
        return plane[..., self.top : self.bottom, self.left : self.right]

    def scaled(self, plane: Plane, like: Plane) -> Plane:
        """The part of a plane that shows the same as `like`, which the area is of, in another
        size."""
        y, x = plane.shape[0] / like.shape[0], plane.shape[1] / like.shape[1]
        rows = slice(round(self.top * y), round(self.bottom * y))
        return plane[rows, round(self.left * x) : round(self.right * x)]


@dataclass(frozen=True)
class _Edge:
    """Where the columns of a picture leave its flat margin, from one side on.

    `counts` holds, for each row, the number of columns that leave the margin there, of `rising`
    columns in all; `level` is the margin's grey.
    """

    counts: NDArray[np.int64]
    rising: int
    level: int

    def at(self, row: int, reach: int = 1) -> float:
        """Share of the columns that leave within `reach` rows of `row`."""
        return float(self.counts[max(0, row - reach) : row + reach + 1].sum()) / self.rising

    def before(self, row: int) -> float:
        """Share of the columns that leave more than a row before."""
        return float(self.counts[: max(0, row - 1)].sum()) / self.rising

    def strongest(self, low: int, high: int) -> int:
        """The row from `low` to `high` (exclusive) at which most columns leave."""
        return low + int(self.counts[low:high].argmax())


def extremes(planes: list[Plane]) -> tuple[Plane, Plane]:
    """(H, W) the brightest and the darkest value of each pixel over time."""
    stack = np.stack(planes)
    return stack.max(0), stack.min(0)


def inside_bars(high: Plane, low: Plane) -> Area:
    """What flat bars leave of the frame."""
    return inside_margins(_bars, high, low)


def inside_margins(margins: Callable[[Plane, Plane], tuple[int, int]], a: Plane, b: Plane) -> Area:
    """What `margins`, which tells the rows above and below of two planes (H, W), leaves of them;
    twice, as margins on two sides hide those on the others."""
    height, width = a.shape
    area = Area(0, 0, width, height)
    for _ in range(2):
        top, bottom = margins(area.of(a), area.of(b))
        area = Area(area.left, area.top + top, area.right, area.bottom - bottom)
        left, right = margins(area.of(a).T, area.of(b).T)
        area = Area(area.left + left, area.top, area.right - right, area.bottom)
    return area


def _bars(high: Plane, low: Plane) -> tuple[int, int]:
    """Rows of bar above and below."""
    half = len(high) // 2
    first = _edge(high[:half], low[:half])
    last = _edge(high[::-1][:half], low[::-1][:half])
    if first is None or last is None:
        return 0, 0
    both = _matching(first, last)
    if both is not None and abs(first.level - last.level) <= LEVEL:
        return both
    return _alone(first), _alone(last)


def _edge(high: Plane, low: Plane) -> _Edge | None:
    """The edge of the margin above; None where too few columns leave it."""
    if not len(high):
        return None
    level = int(np.median(high[: 1 + (len(high) > 1)]))
    inside = (high > level + LEVEL) | (low < level - LEVEL)
    rising = inside.any(0)
    if rising.mean() < MIN_RISING:
        return None
    counts = np.bincount(inside.argmax(0)[rising], minlength=len(inside))
    return _Edge(counts, int(rising.sum()), level)


def _matching(first: _Edge, last: _Edge) -> tuple[int, int] | None:
    """The depth of two margins of about one size, or None."""
    least = max(2, round(2 * len(first.counts) * MIN_BAR))
    reach = max(2, len(first.counts) // 50)
    window = np.ones(2 * reach + 1)
    near = [np.convolve(edge.counts / edge.rising, window, "same") for edge in (first, last)]
    weaker = np.minimum(*near)
    weaker[:least] = 0
    about = int(weaker.argmax())
    rows = [edge.strongest(max(0, about - reach), about + reach + 1) for edge in (first, last)]
    for edge, row in zip((first, last), rows):
        if row < least or edge.at(row) < STRAIGHT or edge.before(row) > EARLY:
            return None
    return rows[0], rows[1]


def _alone(edge: _Edge) -> int:
    """The depth of a black margin that has no counterpart; 0 for none."""
    row = edge.strongest(0, len(edge.counts))
    enough = row >= max(2, round(2 * len(edge.counts) * MIN_BAR))
    straight = edge.at(row) >= STRAIGHT_ALONE and edge.before(row) <= EARLY_ALONE
    return row if enough and straight and edge.level <= LEVEL else 0
