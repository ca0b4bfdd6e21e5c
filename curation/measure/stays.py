"""What stays in its place while the picture moves: what overlays are told from the scene by.

In short windows (three pictures in a row) the edges that do not change are set against all edges;
over the whole clip the mean of the gradient keeps what is fixed, faint or not, and loses what moves
(T. Dekel and others, On the effectiveness of visible watermarks, CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from captioner.experts.boxes import Box
from captioner.frames import FrameBatch, Picture, halved
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

WINDOWS, IN_WINDOW = 6, 3
"""Windows over the clip, and neighbouring pictures in each: own choice, by cost."""

SIDE = 641
"""Pictures are halved to less than this many pixels; strokes of subtitles are still 2 wide."""

EDGE = 28
"""Levels of 255 between the darkest and the brightest pixel of 3 x 3 at an edge."""

STAY = 12
"""Levels that a pixel of an overlay may change by in a window: H.264 at crf 28 stays below."""

MOVING = 0.55
"""Share of the edges that must change in a window, or around a thing, to call the picture moving;
a passer-by before a camera at rest changes less, a slow pan more."""

FROZEN = 0.5
"""Share of a line's edges that stay while the picture moves, in burned-in text."""

THERE, FAINT = 0.45, 8.0
"""Share of the time that an edge must be there to stay, and its least size in levels a pixel."""

STRONG = 16.0
"""Levels a pixel of the edges by which the scene is told to move: grain makes weak ones."""

ENOUGH = 0.75, 0.6
"""Share of the edges that must change over the clip, and within a typical window, before what
stays in a corner can be told from the scene. Chosen on real clips: passers-by before a camera at
rest stay below."""

THINGS = 4
"""Things of any kind that stay, at most: more are a part of a scene at rest."""

AT_REST = 0.2
"""Share of the frame: what stays and is larger is a part of the scene."""


@dataclass(frozen=True)
class Window:
    """A moment: its middle picture, in grey `plane` (h, w), the `edges` of it, those that stay
    over the window (`frozen`), and the share of the edges that do not (`motion`)."""

    picture: Picture
    plane: Plane
    edges: Bool
    frozen: Bool
    motion: float

    @property
    def moving(self) -> bool:
        """Whether the scene moves."""
        return self.motion >= MOVING


def moments(batch: FrameBatch) -> list[list[Picture]]:
    """Groups of up to `IN_WINDOW` neighbouring pictures, spread over the clip."""
    count = len(batch.pictures)
    size = min(IN_WINDOW, count)
    groups = max(1, min(WINDOWS, count // IN_WINDOW))
    starts = [int((i + 0.5) * count / groups - size / 2) for i in range(groups)]
    return [list(batch.pictures[max(0, start) : max(0, start) + size]) for start in starts]


def small(picture: Picture) -> Plane:
    """(h, w): the grey plane, halved until both sides are below `SIDE`."""
    return halved(picture.grey, SIDE)


def _colours(picture: Picture, shape: tuple[int, ...]) -> list[Plane]:
    """U and V at the size (h, w) of the small grey plane; none where the picture is too small."""
    if picture.u.size < 4:
        return []
    size = (shape[1], shape[0])
    return [np.asarray(cv2.resize(plane, size), np.uint8) for plane in (picture.u, picture.v)]


def inner(shape: tuple[int, ...], inside: Box) -> Bool:
    """(h, w): what lies inside the borders, two pixels off their edges, which never move."""
    mask = np.zeros(shape, np.bool_)
    rows, columns = pixels(inside, shape)
    off = [2 if edge else 0 for edge in (rows.start, shape[0] - rows.stop)]
    aside = [2 if edge else 0 for edge in (columns.start, shape[1] - columns.stop)]
    rows = slice(rows.start + off[0], rows.stop - off[1])
    mask[rows, columns.start + aside[0] : columns.stop - aside[1]] = True
    return mask


def window_of(pictures: list[Picture], planes: list[Plane], mask: Bool) -> Window:
    """What a moment shows, from its pictures and the small grey plane (h, w) of each."""
    middle = planes[len(planes) // 2]
    edges = (contrast(middle) > EDGE) & mask
    stack = np.stack(planes)
    still = stack.max(0) - stack.min(0) <= STAY
    frozen = edges & still if len(planes) > 1 else np.zeros_like(edges)
    total = int(edges.sum())
    motion = 1 - float(frozen.sum()) / total if total and len(planes) > 1 else 0.0
    return Window(pictures[len(planes) // 2], middle, edges, frozen, motion)


def contrast(plane: Plane) -> Plane:
    """(h, w): levels between the darkest and the brightest pixel of 3 x 3."""
    return np.asarray(cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, np.ones((3, 3))), np.uint8)


@dataclass(frozen=True)
class Stays:
    """What stays over the whole clip: `across` and `down` are the mean gradients (3, h, w) of Y, U
    and V in levels a pixel, `edges` marks where there is any to speak of, `fixed` where it is the
    same all the time, `motion` is the share of the edges that do not stay; `mean` is the mean
    picture."""

    across: Float
    down: Float
    edges: Bool
    fixed: Bool
    motion: float
    mean: Plane

    @staticmethod
    def of(pictures: Sequence[Picture], greys: Sequence[Plane], mask: Bool) -> Stays:
        """From all pictures looked at, and the small grey plane (h, w) of each.

        The squared mean gradient over the mean squared one is the share of the time that an edge
        is there: small where an edge only passes, however straight. Colour counts as much as grey:
        a logo may be as bright as the scene.
        """
        shape = greys[0].shape
        gradients = np.zeros((2, 3, *shape), np.float32)
        power, strong, mean = (np.zeros(shape, np.float32) for _ in range(3))
        for picture, grey in zip(pictures, greys):
            for channel, plane in enumerate((grey, *_colours(picture, shape))):
                for way in (0, 1):
                    steps = cv2.Sobel(plane, cv2.CV_32F, 1 - way, way, scale=0.25)
                    cv2.accumulate(steps, gradients[way, channel])
                    cv2.accumulateSquare(steps, power)
                    if channel == 0:
                        cv2.accumulateSquare(steps, strong)
            cv2.accumulate(grey, mean)
        n = np.float32(len(greys))
        gradients, power, strong = gradients / n, power / n, strong / n
        edges = (power > FAINT**2) & mask
        there = (gradients**2).sum((0, 1)) > THERE * power
        fixed = edges & there if len(greys) > 2 else np.zeros(shape, np.bool_)
        sharp = edges & (strong > STRONG**2)
        total = int(sharp.sum())
        motion = 1 - float((fixed & sharp).sum()) / total if total and len(greys) > 2 else 0.0
        across, down = gradients
        return Stays(across, down, edges, fixed, motion, np.asarray(mean / n, np.uint8))

    @property
    def moving(self) -> bool:
        """Whether the scene moves."""
        return self.motion >= MOVING


def can_tell(windows: list[Window], stays: Stays) -> bool:
    """Whether the picture moves enough to tell what lies over it."""
    typical = float(np.median([window.motion for window in windows]))
    return stays.motion >= ENOUGH[0] and typical >= ENOUGH[1]


def partly_at_rest(stays: Stays, lines: bool = True) -> bool:
    """Whether so much stays that it is a part of the scene; `lines` says whether what has edges in
    one direction only counts, as lines along the camera's path do."""
    things = [box for box, _ in clusters(stays.fixed, 0.03)]
    dense = [box for box in things if share_of(stays.fixed, stays.edges, box) >= FROZEN]
    count = sum(lines or in_both_ways(stays, box) for box in dense)
    return count > THINGS or max((box.area for box in things), default=0.0) > AT_REST


def in_both_ways(stays: Stays, box: Box) -> bool:
    """Whether what stays in a box has edges in more than one direction."""
    rows, columns = pixels(box, stays.fixed.shape)
    fixed = stays.fixed[rows, columns]
    across, down = (way[:, rows, columns][:, fixed] for way in (stays.across, stays.down))
    return in_more_ways(across, down)


def around_moves(edges: Bool, staying: Bool, box: Box) -> bool:
    """Whether the edges around a box move."""
    margin = max(0.03, min(0.1, box.height))
    outer = Box(
        box.left - margin, box.top - margin, box.right + margin, box.bottom + margin
    ).clipped()
    around = count_of(edges, outer) - count_of(edges, box)
    still = count_of(staying, outer) - count_of(staying, box)
    return around >= 30 and 1 - still / around >= MOVING
