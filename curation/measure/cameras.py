"""Whether two parts of a picture are moved by two cameras."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from captioner.frames import MotionPair
from curation.measure.marks import Bool, Float, Plane
from curation.measure.seams import Pairs

MOVED = 0.0008
"""Share of the longer side by which a point must move between neighbours to have moved."""

LOOK = 0.375
"""Seconds between the two pictures of a look: within an eighth, a slow zoom moves no point by more
than flow is off. Most points are still in sight."""

LOOKS = 8
"""Looks taken at most, spread over the clip."""

LK = (11, 11), 3
"""Window and pyramid levels of the optical flow: enough for moves of a fifth."""

ONE, TWO = 0.27, 0.12
"""Mean share of the points of one part that follow the motion of the other, from which both are one
camera's, and up to which they are not: beside a figure that fills a part, some of the scene is
seen."""

UNMOVED = 0.45
"""Factor of the score where nothing moves but the subjects: two cameras at rest look like one."""


@dataclass(frozen=True)
class Part:
    """A part of the picture, edges in shares of its sides."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, points: Float) -> Bool:
        """(n,): which of the points (n, 2), x and y in shares of the sides, lie inside."""
        low, high = (self.left, self.top), (self.right, self.bottom)
        return np.asarray(((points >= low) & (points <= high)).all(1), np.bool_)


def long_looks(pairs: list[MotionPair]) -> Pairs:
    """Up to `LOOKS` pairs of pictures that are `LOOK` seconds apart, or as near to that as the
    clip has them."""
    planes = [(one.start, one.first) for one in pairs] + [(one.end, one.second) for one in pairs]
    starts = [one for one in pairs if one.start + LOOK <= pairs[-1].end + 0.01] or pairs
    return [
        (one.first, min(planes, key=lambda later: abs(later[0] - one.start - LOOK))[1])
        for one in starts[:: max(1, -(-len(starts) // LOOKS))]
    ]


def independence(looks: Pairs, part: Part) -> float:
    """How surely a part of the picture and the rest of it are moved by two cameras, 0 to 1.

    The affine motion of most points on one side is followed by those of the scene on the other
    side where there is one camera, and by none where there are two; where neither moves, or most
    looks show too few points on a side, there is no telling, and the score stays under one half.
    """
    shares: list[float] = []
    moves: list[list[float]] = []
    for first, second in looks:
        found = _flow(first, second)
        if found is None:
            continue
        start, end = found
        scale = np.array([first.shape[1], first.shape[0]], np.float32)
        inside = part.holds(start / scale)
        if min(inside.sum(), (~inside).sum()) < 8:
            continue
        within = 0.3 + 0.0005 * float(max(scale))
        sides = ((inside, ~inside), (~inside, inside))
        shares.append(max(_followed(start, end, *two, within) for two in sides))
        moved = np.abs(end - start).max(1) > MOVED * max(scale)
        moves.append([float(moved[side].mean()) for side in (inside, ~inside)])
    told = bool(shares) and 2 * len(shares) >= len(looks)
    if not told or np.median(moves, axis=0).max() < 0.7:
        return UNMOVED
    return float(np.clip((ONE - np.mean(shares)) / (ONE - TWO), 0, 1))


def _followed(start: Float, end: Float, by: Bool, other: Bool, within: float) -> float:
    """Share of the `other` points (n,) that move as most of the points `by` do, to so many
    pixels."""
    motion, _ = cv2.estimateAffine2D(
        start[by], end[by], method=cv2.RANSAC, maxIters=200, ransacReprojThreshold=within
    )
    if motion is None:
        return 0.0
    off = start[other] @ motion[:, :2].T + motion[:, 2] - end[other]
    return float((np.hypot(off[:, 0], off[:, 1]) <= within).mean())


def _flow(first: Plane, second: Plane) -> tuple[Float, Float] | None:
    """Where up to 160 corners (n, 2) are in both pictures, in pixels; None for too few."""
    a, b = np.ascontiguousarray(first), np.ascontiguousarray(second)
    corners = cv2.goodFeaturesToTrack(a, 160, 0.005, max(4, max(a.shape) // 60), blockSize=5)
    if corners is None or len(corners) < 12:
        return None
    end, there, _ = cv2.calcOpticalFlowPyrLK(
        a, b, corners, np.zeros_like(corners), winSize=LK[0], maxLevel=LK[1]
    )
    back, again, _ = cv2.calcOpticalFlowPyrLK(
        b, a, end, np.zeros_like(corners), winSize=LK[0], maxLevel=LK[1]
    )
    # A corner that does not come back to where it was has slid along an edge.
    close = np.abs(back - corners).max((1, 2)) < 0.3
    found = (there[:, 0] > 0) & (again[:, 0] > 0) & close
    return np.asarray(corners[found, 0], np.float32), np.asarray(end[found, 0], np.float32)
