"""Whether two parts of a picture are moved by two cameras."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from curation.measure.marks import Bool, Float, Plane
from curation.measure.seams import Pairs

MOVED = 0.0008
"""Share of the longer side by which a point must move between neighbours to have moved."""

LK = (11, 11), 2
"""Window and pyramid levels of the optical flow: enough for moves of a tenth."""

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


def independence(pairs: Pairs, part: Part) -> float:
    """How surely a part of the picture and the rest of it are moved by two cameras, 0 to 1.

    One affine motion that most points of both follow is one camera's; where neither moves there is
    no telling, and the score stays under one half.
    """
    shares: list[float] = []
    moves: list[list[float]] = []
    for first, second in pairs[:: max(1, len(pairs) // 6)][:8]:
        found = _flow(first, second)
        if found is None:
            continue
        start, end = found
        scale = np.array([first.shape[1], first.shape[0]], np.float32)
        inside = part.holds(start / scale)
        if min(inside.sum(), (~inside).sum()) < 8:
            continue
        _, fits = cv2.estimateAffine2D(
            start, end, method=cv2.RANSAC, maxIters=200,
            ransacReprojThreshold=0.3 + 0.0005 * float(max(scale)),
        )  # fmt: skip
        if fits is None:
            continue
        fit = np.asarray(fits[:, 0], np.bool_)
        shares.append(min(float(fit[inside].mean()), float(fit[~inside].mean())))
        moved = np.abs(end - start).max(1) > MOVED * max(scale)
        moves.append([float(moved[side].mean()) for side in (inside, ~inside)])
    if not shares or np.median(moves, axis=0).max() < 0.7:
        return UNMOVED
    return float(np.clip((0.55 - np.quantile(shares, 0.85)) / 0.25, 0, 1))


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
