"""Motion: how much of the camera and of what it looks at, and the ways in which it is bad.

The background's motion is that of `captioner.experts.camera`, tracked once for both; stillness and
jumps are seen in tiny pictures besides, which need nothing to track. Numbers without another
source were chosen on rendered defects (`eval.defects`, seeds 1 and 2) while looking at real clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.camera import Background, Step, track_background
from captioner.frames import FrameBatch, MotionPair, Plane, one_thread
from curation.looks import HEIGHT, WIDTH, Look, explained
from curation.measure.columns import Columns, column

Points = NDArray[np.complex128]
Tiny = NDArray[np.float32]

_TINY = 48  # cells along the longer side of a tiny picture
_CHANGED = 4.0  # grey levels that a cell changes by at least
_STILL = 0.004  # share of the cells that may change where nothing moves
_REST = 0.008  # frame widths a second: what tracks of a resting camera seem to move at most
_APART = 1.5  # pixels off the background's motion that a track of something else is at least
_JUMP = 0.3  # share of the cells that change from one still to the next
_SHOWN = 2  # pairs, 1/4 s, that a still of a slide-show is shown at least
_TURN = 4  # pairs, 1/2 s, that a slide-show takes at most from one still to the next
_HELD = 6  # pairs, 3/4 s, that a speed lasts at least
_EVEN = 1.5  # fastest over slowest of what counts as one speed
_MOVING = 0.012  # frame widths a second: slower than that is no speed
_SAME_VIEW = 0.25  # peak of the phase correlation: 0.36 and more of a moved view, 0.1 of another
_FAR = 0.07  # frame widths from a picture to the next: what moves less can be tracked
_CANDIDATES = 8  # largest changes that are looked at for a cut
_UNLIKE = 0.3  # of what is usual: pictures that have more in common are not looked at further
_USUAL = 7  # neighbours that say how much pictures of this clip have in common

_HANN = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)


class Motion(Columns):
    """How a clip moves; speeds are in frame widths a second."""

    motion_camera_amount: float | None = column("mean speed of the background", "frame widths/s", 0)
    motion_subject_amount: float | None = column(
        "mean speed of what moves apart from the background, times the area it takes",
        "frame widths/s",
        0,
    )
    motion_shake: float | None = column("irregular part of the camera's speed", "frame widths/s", 0)
    motion_abrupt: float | None = column(
        "largest sudden change of the camera's speed", "frame widths/s", 0
    )
    motion_slideshow: float | None = column(
        "share of the clip in stills with jumps between", "", 0, 1
    )
    motion_speed_ramp: float | None = column("fastest over slowest speed held for 3/4 s", "", 1)
    motion_transition: float | None = column(
        "how little two neighbouring pictures have in common, beside the others", "", 0, 1
    )
    motion_static: float | None = column(
        "share of the clip in which neither the camera nor anything else moves", "", 0, 1
    )


class _Views:
    """The clip's pictures in order, each once, and what is known of each and the next."""

    def __init__(self, pairs: Sequence[MotionPair], steps: Sequence[Step | None]) -> None:
        self.pairs = pairs
        self.steps = steps
        self.pictures = [pairs[0].first]
        self.followed: list[bool] = []
        """(n - 1): whether the background is followed from each picture to the next."""
        self.ends: list[int] = []
        """Place of each pair's second picture; the first is right before it."""
        for pair, step in zip(pairs, steps):
            if pair.first is not self.pictures[-1]:
                self.pictures.append(pair.first)
                self.followed.append(False)
            self.ends.append(len(self.pictures))
            self.pictures.append(pair.second)
            self.followed.append(step is not None and step.trusted)
        self.tiny = [_tiny(picture) for picture in self.pictures]
        self.changes = np.array([_changed(a, b) for a, b in pairwise(self.tiny)])
        """(n - 1): share of the cells that change from each picture to the next."""
        self._looks: dict[int, Look] = {}

    def common(self, i: int, j: int) -> float:
        """The part of one picture that is found in another, 0 to 1."""
        return explained(self._look(self.pictures[i]), self._look(self.pictures[j]))

    def leap(self, first: Plane, second: Plane) -> complex | None:
        """How far the view moves, in frame widths; None where it is not the same view."""
        # Copies: OpenCV 4.14 applies the window in place.
        a, b = self._look(first).detail[0].copy(), self._look(second).detail[0].copy()
        (x, y), response = cv2.phaseCorrelate(a, b, _HANN)
        # With texture nowhere the answer is not a number, which no comparison holds for.
        return complex(x, y) / WIDTH if response > _SAME_VIEW else None

    def _look(self, picture: Plane) -> Look:
        if id(picture) not in self._looks:
            small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            self._looks[id(picture)] = Look(np.asarray(cv2.merge([small] * 3), np.uint8))
        return self._looks[id(picture)]


def measure(batch: FrameBatch, background: Background | None = None) -> Motion:
    """How a clip moves; never raises. None where there is nothing to tell it by.

    `background` is what `track_background` says of the same batch, if it is known already.
    The camera's columns, and the subject's, are None where less than half of the clip shows a
    background to follow. Parallax counts as a subject's motion. The sampled pictures are 1/8 s
    apart: leftovers of another shot that are shorter may fall between them.
    """
    if not batch.pairs:
        return Motion()
    with one_thread():
        background = background or track_background(batch)
        steps = background.steps if background else (None,) * len(batch.pairs)
        width = background.size[0] if background else 1
        views = _Views(batch.pairs, steps)
        followed = [step for step in steps if step is not None and step.trusted]
        known = len(followed) >= max(2, len(steps) / 2)
        before, now, after = _threes(views, width)
        still = [
            _still(step, width, views.changes[end - 1]) for step, end in zip(steps, views.ends)
        ]
        return Motion(
            motion_camera_amount=_mean([_speed(s, width) for s in followed]) if known else None,
            motion_subject_amount=_mean([_apart(s, width) for s in followed]) if known else None,
            motion_shake=_shake(before, now, after) if known else None,
            motion_abrupt=_abrupt(before, now, after) if known else None,
            motion_slideshow=_slideshow(views),
            motion_speed_ramp=_speed_ramp(steps, width),
            motion_transition=_transition(views, background),
            motion_static=_mean(still),
        )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# --- from tracks --------------------------------------------------------------------------------


def _speed(step: Step, width: int) -> float:
    """Mean speed of the background over the places of the tracks, frame widths a second."""
    moved = np.abs((step.turn - 1) * step.start + step.shift)
    return float(moved.mean()) / width / step.seconds


def _apart(step: Step, width: int) -> float:
    """Mean speed, over all tracks, of those that do not go with the background."""
    off = np.abs(step.end - step.turn * step.start - step.shift)
    return float(np.where(off > _APART, off, 0).mean()) / width / step.seconds


def _threes(views: _Views, width: int) -> tuple[Points, Points, Points]:
    """Velocities in the middle of the frame of every three pairs in a row, frame widths a second.

    A move too fast to be tracked is found by phase correlation; what neither finds is left out.
    """
    velocities: list[complex | None] = []
    for pair, step in zip(views.pairs, views.steps):
        if step is not None and step.trusted:
            velocities.append(step.shift / width / step.seconds)
        else:
            leap = views.leap(pair.first, pair.second)
            far = leap is not None and abs(leap) > _FAR
            velocities.append(leap / (pair.end - pair.start) if leap and far else None)
    rows = [row for row in zip(velocities, velocities[1:], velocities[2:]) if None not in row]
    before, now, after = np.array(rows, np.complex128).reshape(-1, 3).T
    return before, now, after


def _shake(before: Points, now: Points, after: Points) -> float | None:
    """How much the velocity differs from the mean of its neighbours', in a quarter of the clip."""
    return float(np.percentile(np.abs(now - (before + after) / 2), 75)) if len(now) else None


def _abrupt(before: Points, now: Points, after: Points) -> float | None:
    """The largest change of velocity that lasts for two steps: one alone may be a wrong one."""
    comes = np.minimum(np.abs(now - before), np.abs(after - before))
    goes = np.minimum(np.abs(now - after), np.abs(before - after))
    return float(max(comes.max(), goes.max())) if len(now) else None


def _speed_ramp(steps: Sequence[Step | None], width: int) -> float | None:
    """Fastest over slowest of the speeds that are held; None where nothing moves for so long.

    Of all tracks, the subject's with the background's: a change of playing speed changes both.
    A camera that sets out or comes to rest passes through many speeds and holds none.
    """
    speeds = [
        float(np.abs(step.end - step.start).mean()) / width / step.seconds
        for step in steps
        if step is not None
    ]
    if len(speeds) < _HELD + 2:
        return None
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(speeds, 3), axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(smooth, _HELD)
    held = windows[(windows.min(1) > _MOVING) & (windows.max(1) < _EVEN * windows.min(1))].mean(1)
    return float(held.max() / held.min()) if len(held) else None


def _still(step: Step | None, width: int, change: float) -> bool:
    """Whether nothing moves between two pictures; `change` is the share of the cells that do."""
    if step is not None and step.trusted and _speed(step, width) > _REST:
        return False
    return change <= _STILL


# --- from tiny pictures -------------------------------------------------------------------------


def _tiny(picture: Plane) -> Tiny:
    """Means of `_TINY` cells along the longer side: noise is averaged away."""
    height, width = picture.shape
    scale = min(1.0, _TINY / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _changed(a: Tiny, b: Tiny) -> float:
    """Share of the cells that change by more than the light does."""
    a, b = a - a.mean(), b - b.mean()
    gain = float((a * b).sum() / max(float((a * a).sum()), 1.0))
    return float(np.mean(np.abs(b - np.clip(gain, 0.5, 2.0) * a) > _CHANGED))


def _slideshow(views: _Views) -> float:
    """Share of the clip in stills that follow each other by a jump or a quick dissolve."""
    still = views.changes <= _STILL
    edges = np.flatnonzero(np.diff(still)) + 1
    runs = list(pairwise([0, *edges.tolist(), len(still)]))
    shown = [bool(still[a]) and b - a >= _SHOWN for a, b in runs]
    part = np.zeros(len(still), bool)
    for i in range(1, len(runs) - 1):
        start, end = runs[i]
        turns = shown[i - 1] and shown[i + 1] and end - start <= _TURN
        if turns and _changed(views.tiny[start], views.tiny[end]) >= _JUMP:
            part[runs[i - 1][0] : runs[i + 1][1]] = True
    return float(part.mean())


def _transition(views: _Views, background: Background | None) -> float:
    """See the column; 0 where the view is followed all the time.

    A flash is no transition: the pictures around it are alike.
    """
    last = len(views.changes) - 1
    unsure = [int(i) for i in np.argsort(-views.changes, kind="stable") if not views.followed[i]]
    if not unsure:
        return 0.0
    shared = {i: _shared(views, i) for i in unsure[:_CANDIDATES]}
    # What is usual is 1 at most, and takes longer to find out than all the rest.
    if all(1 - part <= _UNLIKE for part in shared.values()):
        return 0.0
    places = np.unique(np.linspace(0, last, _USUAL).astype(int))
    usual = max(1e-6, float(np.median([views.common(i, i + 1) for i in places])))
    most = 0.0
    for i, part in shared.items():
        new = 1 - part / usual
        if new > max(most, _UNLIKE) and not _one_view(
            views.pictures[i], views.pictures[i + 1], views, background
        ):
            most = new
    return min(1.0, most)


def _shared(views: _Views, i: int) -> float:
    """The largest part that two pictures around a change have in common, or one that is enough."""
    most = 0.0
    for a, b in ((i, i + 1), (i - 1, i + 1), (i, i + 2)):
        if a >= 0 and b < len(views.pictures) and 1 - most > _UNLIKE:
            most = max(most, views.common(a, b))
    return most


def _one_view(first: Plane, second: Plane, views: _Views, background: Background | None) -> bool:
    """Whether one picture shows the view of the other, moved."""
    if views.leap(first, second) is not None:
        return True
    step = background.views.step(first, second, 0.0, 1.0) if background else None
    return step is not None and step.trusted
