"""Split screens: a seam from edge to edge, and another camera on either side of it."""

from __future__ import annotations

from curation.measure.cameras import Part, independence
from curation.measure.marks import Bool
from curation.measure.seams import Pairs, Seams

BESIDE = 0.06
"""Width, as a share of the frame, of the band beside a seam that is searched for movement."""


def split_score(seams: Seams, pairs: Pairs) -> float:
    """How surely an upright seam parts the picture from top to bottom."""
    width = seams.upright.shape[1]
    either = seams.upright.copy()
    either[:, :-1] |= seams.upright[:, 1:]
    length = either.mean(0)
    edge = max(8, width // 8)
    length[:edge] = length[width - edge :] = 0
    best = 0.0
    for _ in range(3):
        x = int(length.argmax())
        if length[x] < 0.5:
            break
        score = float(length[x]) * _activity(seams.active, x)
        if score > max(best, 0.3):
            left = Part(0.0, 0.0, (x + 1) / width, 1.0)
            best = max(best, score * independence(pairs, left))
        length[max(0, x - 8) : x + 9] = 0
    return min(1.0, best)


def _activity(active: Bool, x: int) -> float:
    """How much changes close to a seam at x, 0 to 1: what counts is that one side does; a side that
    shows a flat wall takes off 0.4."""
    band = max(4, round(BESIDE * active.shape[1]))
    left, right = active[:, max(0, x - 2 - band) : x - 1], active[:, x + 3 : x + 3 + band]
    less, more = sorted((float(left.any(1).mean()), float(right.any(1).mean())))
    return min(1.0, 2.5 * more) * (0.6 + 0.4 * min(1.0, 4 * less))
