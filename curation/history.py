"""The last frames of a source as small pictures, and how much they usually have in common."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from curation.looks import Float, Look, explained

HISTORY = 128
"""Frames looked back at, and so the longest transition."""

UNEXPLAINED = 0.4
"""A cut leaves less than this of the picture explained by what came before."""

DROP = 0.62
"""... and less than this part of what is explained between the two frames beside it, on either
side, where a whip pan or a fast subject leaves every frame unexplained,"""

STEADY = 0.5
"""... and less than this part of the median over four frames, on a side that moves."""

FLAT = 3.5
"""Grey levels of local deviation, on average, below which a picture is mostly noise."""

STILL = 0.1
"""Part of a cut's change that two frames without motion differ by at most."""


class History:
    """The last `HISTORY` frames. `next` is the number of the frame that comes next, `shot` that of
    the first frame after the last boundary."""

    def __init__(self) -> None:
        self.next = 0
        self.shot = 0
        self._looks: deque[Look] = deque(maxlen=HISTORY)
        self._tiny = np.zeros((HISTORY, Look.TINY), np.float32)

    def append(self, look: Look) -> None:
        """The next frame."""
        self._looks.append(look)
        self._tiny[self.next % HISTORY] = look.tiny
        self.next += 1

    def look(self, index: int) -> Look:
        """A remembered frame by its number."""
        return self._looks[index - self.next]

    def tiny(self, indices: NDArray[np.int_] | int) -> Float:
        """(N, 576) float32: `Look.tiny` of remembered frames; (576,) of a single one."""
        return self._tiny[indices % HISTORY]

    @property
    def oldest(self) -> int:
        """The first frame of the current shot that is still remembered."""
        return max(self.shot, self.next - len(self._looks))

    def still(self, at: int, jump: float) -> bool:
        """Whether nothing moves in the four frames before and after the change at frame `at`."""
        if at - 4 < self.oldest or at + 4 > self.next:
            return False
        pairs = [i for i in range(at - 3, at + 4) if i != at]
        return all(distance(self.look(i - 1), self.look(i)) < STILL * jump for i in pairs)

    def usual(self, frames: range, jump: float) -> float:
        """What a cut explains less than: parts of what some of these frames, nearest first, have in
        common with the frame before each.

        Where nothing moves and there is little to correlate, noise would be all that is compared.
        """
        pairs = [(self.look(i - 1), self.look(i)) for i in frames if self.oldest < i < self.next]
        if not pairs:
            return UNEXPLAINED
        still = distance(*pairs[0]) < STILL * jump
        if still and pairs[0][0].texture < FLAT:
            return UNEXPLAINED
        nearest = explained(*pairs[0])
        if still:
            return DROP * nearest
        return min(DROP * nearest, STEADY * float(np.median([explained(*pair) for pair in pairs])))


def distance(a: Look, b: Look) -> float:
    """Root mean square difference, grey levels."""
    return float(np.sqrt(np.square(a.tiny - b.tiny).mean()))
