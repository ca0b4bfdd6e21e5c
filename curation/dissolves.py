"""Find dissolves: where the picture half way is the mean of the pictures around it, although these
have nothing in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.history import HISTORY, UNEXPLAINED, History, distance
from curation.looks import Float, Look, explained, mixture, travel

Span = tuple[int, int]

SPANS = np.array([2, 3, 4, 6, 8, 11, 15, 20, 27])
"""Half lengths of the dissolves that are looked for, in frames."""

CHANGE = 9.0
"""Grey levels, root mean square, between the two sides of a dissolve at least."""

OFF_MEAN = 0.3
"""Distance of a dissolve's middle from the mean of its ends at most, as a part of that between the
ends: 0.5 at a cut, 0.87 where the three pictures have nothing in common, as in a pan."""

LESS = 1.02
"""Contrast of a dissolve's middle, as a part of the mean of its ends, at most: 0.71 where the two
pictures are unrelated and alike in contrast."""

UNEVEN = 3.5
"""Times the mean step of a dissolve that its largest one is at most."""

NOTHING_COMMON = 0.3
"""Less than this is explained across a dissolve; stricter than for a cut, as more time goes by."""

PAUSE = 6
"""Frames after a check that found no dissolve until the next one: short of the shortest dissolve
that is looked for, with the frames on either side of it from which it can be seen."""

FAINT = 4.0
"""Contrast below which a picture is about to be blank, or has just been: part of a fade."""

PANNED = 0.4
"""Part of the picture's width or height that a camera may move by during a dissolve."""


class Dissolves:
    """Looks for the end of a dissolve each time that `past` has grown by a frame."""

    def __init__(self, past: History) -> None:
        self._past = past
        self._within: Span | None = None
        """First and last frame of a span within a dissolve that is going on."""
        self._next_check = 0

    def forget(self) -> None:
        """Leave what was being followed: it turned out to be something else."""
        self._within = None

    def step(self) -> Span | None:
        """The first frame of a dissolve that has just ended, and the first after it."""
        if self._within is None or self._within[0] < self._past.oldest:
            self._within = self._mixing()
        return self._mixed(*self._within) if self._within is not None else None

    def _mixing(self) -> Span | None:
        """The first and the last frame of a span whose middle is the mean of its ends, where the
        ends have nothing in common."""
        past = self._past
        now = past.next - 1
        if now < self._next_check:
            return None
        self._next_check = now + 2
        spans = SPANS[: np.searchsorted(SPANS, (now - past.oldest) // 2, side="right")]
        first = past.tiny(now - 2 * spans)
        apart = past.tiny(now) - first
        change = _mean_square(apart)
        # Where the picture has hardly changed there is no need to look at what lies between.
        changed = change > CHANGE**2
        if not changed.any():
            return None
        spans, change = spans[changed], change[changed]
        rest = _mean_square(past.tiny(now - spans) - first[changed] - apart[changed] / 2)
        fits = rest < OFF_MEAN**2 * change
        if not fits.any():
            return None
        span = int(spans[fits][np.argmax(change[fits])])
        old, mid, new = (past.look(now - span * i) for i in (2, 1, 0))
        if 2 * mid.contrast > LESS * (old.contrast + new.contrast):
            return None
        # Flow is the costliest thing here, and in a long pan every frame would come this far.
        self._next_check = now + PAUSE
        return (now - 2 * span, now) if explained(old, new) < UNEXPLAINED else None

    def _mixed(self, first: int, last: int) -> Span | None:
        """Follow a dissolve that has been seen between two frames to its two ends."""
        past = self._past
        now, oldest = past.next - 1, past.oldest
        frames = np.arange(oldest, now + 1)
        tiny, (old, new) = past.tiny(frames), past.tiny(np.array([first, last]))
        towards = (new - old) / np.square(new - old).sum()
        share = (tiny - old) @ towards
        step = np.diff(share, prepend=share[0])
        typical = 1 / (last - first)
        moving = step > 0.25 * typical
        middle = (first + last) // 2 - oldest
        # Two frames in a row that do not move on end it; in 24 frames a second shown at 30 one
        # in five stands still.
        start = middle
        while start > 1 and moving[start - 2 : start].any():
            start -= 1
        end = middle
        while end < len(step) - 1 and moving[end + 1 : end + 3].any():
            end += 1
        if end + 2 >= len(step) and now - first < HISTORY // 2:
            return None
        self._within = None
        while start < middle and not moving[start]:
            start += 1
        start, end = start + oldest, end + oldest
        if end <= start or not self._is_mix(start, end, step[start - oldest : end - oldest + 1]):
            return None
        return start, end

    def _is_mix(self, start: int, end: int, steps: NDArray[np.float32]) -> bool:
        """Whether frames `start` to `end` - 1 mix the pictures on either side of them."""
        past = self._past
        if steps.max() > UNEVEN * steps.sum() / len(steps):
            return False
        old, new = past.look(start - 1), past.look(end)
        if min(old.contrast, new.contrast) < FAINT:
            return False
        change = distance(old, new)
        # The cheaper first: the flow between many pictures costs more than all the rest.
        if change < CHANGE or not mixture(past.look((start + end - 1) // 2), old, new):
            return False
        common = explained(old, new)
        if common >= NOTHING_COMMON:
            return False
        if common >= past.usual(range(start - 1, start - 5, -1), change):
            return False
        if common >= past.usual(range(end + 1, end + 5), change):
            return False
        # A pan over something smooth passes for a blend, but gets there by moving.
        path = [past.look(i) for i in range(start - 1, end, 3)]
        return travel([*path, new]) <= PANNED


def _mean_square(rows: NDArray[np.float32 | np.float64]) -> Float:
    return np.asarray(np.einsum("ij,ij->i", rows, rows) / Look.TINY, np.float32)
