"""What two small pictures have in common, whatever moved between them and however it is lit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

WIDTH, HEIGHT = 128, 72
"""Pixels: small enough for dense optical flow in half a millisecond."""

_SIGMA = 6.0
"""Pixels of the neighbourhood that brightness and contrast are normalised over."""

_WINDOW = (9, 9)
"""Pixels over which two pictures are correlated."""

_MAX_TEXTURE = 20.0
"""Grey levels of local deviation above which a place has no more weight."""

Detail = tuple[Float, Float, NDArray[np.uint8]]
"""The locally normalised picture, its local deviation, and the former as 8-bit for the flow;
(72, 128) each."""

_GRID = np.stack(
    np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)), axis=-1
)
_NONE = np.empty(0, np.float32)


class Look:
    """A small grey version of a frame; the costlier parts are computed when asked for."""

    TINY: ClassVar[int] = 32 * 18
    """Values of `tiny`."""

    def __init__(self, bgr: NDArray[np.uint8]) -> None:
        """`bgr` is (72, 128, 3) uint8."""
        self.grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        """(72, 128) uint8."""
        tiny = np.asarray(cv2.resize(self.grey, (32, 18), interpolation=cv2.INTER_AREA), np.uint8)
        self.tiny = tiny.astype(np.float32).ravel()
        """(576,) float32 grey levels."""
        self.bars = _bars(tiny)
        inside = self.inside(tiny)
        self.contrast = float(cv2.meanStdDev(inside)[1][0, 0])
        """Standard deviation of `tiny` without black bars, grey levels."""

    @property
    def blank(self) -> bool:
        """Whether there is nothing in the picture but one even colour."""
        if self.contrast >= 3.0:
            return False
        smooth = cv2.blur(self.inside(self.grey), (3, 3))
        return int(smooth.max()) - int(smooth.min()) < 24

    def inside(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture of this shape without the black bars."""
        rows, columns = self.bars
        if not rows and not columns:
            return picture
        top, left = rows * picture.shape[0] // 18, columns * picture.shape[1] // 32
        return picture[top : picture.shape[0] - top, left : picture.shape[1] - left]

    @cached_property
    def detail(self) -> Detail:
        """Detail of the picture without its black bars, whose edges all shots of a film share."""
        return _detail(self.inside(self.grey))

    @cached_property
    def whole(self) -> Detail:
        """Detail of the picture with its bars, if it has any."""
        return _detail(self.grey) if any(self.bars) else self.detail

    @property
    def texture(self) -> float:
        """Mean local deviation, grey levels."""
        return float(self.detail[1].mean())


def _detail(grey: NDArray[np.uint8]) -> Detail:
    if grey.shape != (HEIGHT, WIDTH):
        resized = cv2.resize(grey, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        grey = np.asarray(resized, np.uint8)
    high = grey.astype(np.float32)
    high -= cv2.GaussianBlur(high, (0, 0), _SIGMA)
    deviation = np.sqrt(cv2.GaussianBlur(high * high, (0, 0), _SIGMA))
    # 4 levels keep noise and compression in flat places from looking like texture.
    normal = np.asarray(high / (deviation + 4.0), np.float32)
    weight = np.asarray(np.minimum(deviation, _MAX_TEXTURE), np.float32)
    return normal, weight, np.clip(normal * 40 + 128, 0, 255).astype(np.uint8)


def _bars(tiny: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows at the top and bottom, and columns at the sides, of an (18, 32) picture that are black
    bars or touch one."""
    found = []
    for lines in (tiny, tiny.T):
        if max(lines[0].tobytes()) > _BLACK or max(lines[-1].tobytes()) > _BLACK:
            found.append(0)
            continue
        length = len(lines)
        at = np.flatnonzero(lines.max(axis=1) > _BLACK)
        before, after = (int(at[0]), length - 1 - int(at[-1])) if len(at) else (0, 0)
        # Bars are alike on both sides; a dark floor below a bright sky is no bar.
        alike = before > 0 and abs(before - after) <= 1 and len(at) > length // 3
        found.append(max(before, after) + 1 if alike else 0)
    return found[0], found[1]


_BLACK = 24
"""Grey level up to which a bar is black: 16 in video range, and some compression noise."""


_local = threading.local()


def _flow(to: NDArray[np.uint8], source: NDArray[np.uint8]) -> Float:
    """(72, 128, 2) float32: where in `source` each pixel of `to` is found, as an offset.

    DIS (Kroeger et al. 2016); an instance of it holds buffers, so each thread has its own.
    """
    if not hasattr(_local, "flow"):
        _local.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(_local.flow.calc(to, source, None), np.float32)


def explained(before: Look, after: Look, in_place: bool = False) -> float:
    """The part of a picture, 0 to 1, that is found in the other one, moved and lit in any way.

    Dense optical flow brings `before` onto `after`; what is explained is their local correlation,
    averaged over the texture of the one or of the other, whichever gives more: a caption or a
    subject that comes in adds texture without taking away what was there.
    `in_place` compares without motion, for pictures between which there can be none.
    Two blank pictures explain each other, a blank one explains nothing else.
    """
    if before.blank or after.blank:
        return 1.0 if before.blank and after.blank else 0.0
    # In the dark, bars come and go; what is compared must be cropped alike.
    alike = before.bars == after.bars
    old, old_weight, old_eight = before.detail if alike else before.whole
    new, new_weight, new_eight = after.detail if alike else after.whole
    moved, weight = old, old_weight
    if not in_place:
        source = _GRID + _flow(new_eight, old_eight)
        both = cv2.merge([old, old_weight])
        both = cv2.remap(both, source, _NONE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        moved, weight = (np.asarray(plane, np.float32) for plane in cv2.split(both))

    mean_old, mean_new = cv2.blur(moved, _WINDOW), cv2.blur(new, _WINDOW)
    covariance = cv2.blur(moved * new, _WINDOW) - mean_old * mean_new
    var_old = cv2.blur(moved * moved, _WINDOW) - mean_old * mean_old
    var_new = cv2.blur(new * new, _WINDOW) - mean_new * mean_new
    # 0.02 is small beside the variance of texture, which is near 1 once normalised.
    same = covariance / np.sqrt(np.maximum(var_old * var_new, 0) + 0.02)
    same = np.clip(same, 0, 1)
    by_old = float((same * weight).sum() / (weight.sum() + 1e-6))
    by_new = float((same * new_weight).sum() / (new_weight.sum() + 1e-6))
    return max(by_old, by_new)


def travel(looks: Sequence[Look]) -> float:
    """How far the picture moves as a whole over frames in order, in widths or heights of it."""
    eights = [look.detail[2] for look in looks]
    steps = [np.median(_flow(b, a), axis=(0, 1)) for a, b in pairwise(eights)]
    across, down = np.abs(np.sum(steps, axis=0))
    return float(max(across / WIDTH, down / HEIGHT))


def mixture(middle: Look, old: Look, new: Look) -> bool:
    """Whether a picture is a blend of two others rather than something on the way between them.

    It must be mostly a weighted sum of the two, with a share of each, and must have lost detail or
    contrast, as the sum of two unrelated pictures has: 0.71 of each, when they are equal. Pictures
    without texture, like a clear sky, give no evidence either way, and nothing is taken for a blend
    of two of them.
    """
    if max(old.texture, new.texture) < 4 and min(old.texture, new.texture) < 2.5:
        return False
    a, b, m = (look.grey.astype(np.float32) for look in (old, new, middle))
    ends = np.stack([(a - a.mean()).ravel(), (b - b.mean()).ravel()], axis=1)
    mixed = (m - m.mean()).ravel()
    weights, *_ = np.linalg.lstsq(ends, mixed, rcond=None)
    left = float(np.square(mixed - ends @ weights).sum() / (np.square(mixed).sum() + 1e-6))
    if weights.min() < 0.12 or weights.sum() > 1.5 or left > 0.62:
        return False
    detail = [float(np.abs(x - cv2.GaussianBlur(x, (0, 0), 3)).mean()) for x in (a, b, m)]
    of_detail = 2 * detail[2] / (detail[0] + detail[1] + 1e-6)
    of_contrast = 2 * middle.contrast / (old.contrast + new.contrast + 1e-6)
    return min(of_detail, of_contrast) < 0.96 and max(of_detail, of_contrast) < 1.15
