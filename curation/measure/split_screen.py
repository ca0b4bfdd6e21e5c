"""Split screens: a seam from edge to edge, and another camera on either side of it."""

from __future__ import annotations

import numpy as np

from curation.measure.cameras import Part, independence
from curation.measure.marks import Bool
from curation.measure.seams import BESIDE, Pairs, Seams, mostly

STEADY, IN_MOST = 0.7, 0.2
"""Share of a seam's length that shows in a picture, but for this share of the pictures: a door
before which a camera is held by hand is at one place in some of them only."""


def split_score(seams: Seams, looks: Pairs) -> float:
    """How surely an upright seam parts the picture from top to bottom."""
    width = seams.active.shape[1]
    length = _doubled(mostly(seams.upright)).mean(0)
    edge = max(8, width // 8)
    length[:edge] = length[width - edge :] = 0
    best = 0.0
    for _ in range(3):
        x = int(length.argmax())
        if length[x] < 0.5:
            break
        score = float(length[x]) * _activity(seams.active, x)
        if score > max(best, 0.3) and _steady(seams.upright[..., x : x + 2]):
            left = Part(0.0, 0.0, (x + 1) / width, 1.0)
            best = max(best, score * independence(looks, left))
        length[max(0, x - 8) : x + 9] = 0
    return min(1.0, best)


def _doubled(marks: Bool) -> Bool:
    """(h, w): what is marked in a column or the next one."""
    either = marks.copy()
    either[:, :-1] |= marks[:, 1:]
    return either


def _steady(seam: Bool) -> bool:
    """Whether a seam (pictures, h, 2) shows in its length in nearly all pictures."""
    return float(np.quantile(seam.any(2).mean(1), IN_MOST)) >= STEADY


def _activity(active: Bool, x: int) -> float:
    """How much changes close to a seam at x, 0 to 1: what counts is that one side does; a side that
    shows a flat wall takes off 0.4."""
    band = max(4, round(BESIDE * active.shape[1]))
    left, right = active[:, max(0, x - 2 - band) : x - 1], active[:, x + 3 : x + 3 + band]
    less, more = sorted((float(left.any(1).mean()), float(right.any(1).mean())))
    return min(1.0, 2.5 * more) * (0.6 + 0.4 * min(1.0, 4 * less))
