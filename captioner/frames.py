"""Pictures, and the bounded sample of a clip that every filter, expert and captioner reads.

A clip's length is not known while it is being decoded, so the samplers here keep a bounded,
evenly spaced set of whatever has gone by: when the set is full, every other one is dropped and
the spacing doubles.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

MAX_SIDE = 1280
"""Pictures are halved until both sides are below this many pixels: 1080p becomes 960x540, 720p
640x360. Halving is the one exact reduction that OpenCV does at memory speed, and what is left
still holds more pixels than SkyCaptioner's 360 x 420 a frame."""

MOTION_SIDE = 640
"""Motion pictures are halved until both sides are below this many pixels."""

MAX_FRAMES = 32
"""Frames kept a clip at most. Never fewer than half of it once the clip is that long, so the 16
that SkyCaptioner takes are always there."""

WAITING_PIXELS = 1 << 25
"""Pixels of frames that wait as they were decoded, 50 MB as 8-bit 4:2:0: 16 of 1080p, which are as
many as ever wait, or 4 of 4K."""

MAX_MOTION_PAIRS = 64
MOTION_FPS = 8.0
"""Rate at which neighbouring pictures are paired for motion."""

# Luma weights of red and blue, ITU-R BT.601-7 section 2.5.1 and BT.709-6 section 3.2.
_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}

_FULL_RANGE_LUMA = np.clip((np.arange(256) - 16) * 255 / 219 + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """One decoded picture, upright and with square pixels, as 8-bit Y, U and V planes.

    `y` is (H, W); `u` and `v` have the same shape or are subsampled. `time` is the presentation
    time in seconds, `pts` the same in the stream's time base, `index` the number of the frame in
    its source. RGB is computed only when asked for: most pictures are looked at in grey.
    """

    y: Plane
    u: Plane
    v: Plane
    time: float
    pts: int = 0
    index: int = 0
    matrix: str = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        if self.y.ndim != 2 or self.u.shape != self.v.shape:
            raise ValueError(f"planes {self.y.shape}, {self.u.shape}, {self.v.shape} do not fit")
        if self.matrix not in _LUMA_WEIGHTS:
            raise ValueError(f"matrix {self.matrix!r} is none of {sorted(_LUMA_WEIGHTS)}")

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.y.shape[0])

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        size = (self.width, self.height)
        u, v = (
            p if p.shape == self.y.shape else cv2.resize(p, size, interpolation=cv2.INTER_LINEAR)
            for p in (self.u, self.v)
        )
        return np.asarray(cv2.transform(cv2.merge([self.y, u, v]), self._to_rgb()), np.uint8)

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """(H, W) uint8 luma over the full range 0 to 255."""
        if self.full_range:
            return self.y
        return np.asarray(cv2.LUT(self.y, _FULL_RANGE_LUMA), np.uint8)

    def _to_rgb(self) -> NDArray[np.float64]:
        """The 3 x 4 affine map from (Y, U, V) to (R, G, B)."""
        red, blue = _LUMA_WEIGHTS[self.matrix]
        green = 1 - red - blue
        y_gain, c_gain, y_zero = (
            (1.0, 1.0, 0.0) if self.full_range else (255 / 219, 255 / 224, 16.0)
        )
        chroma = np.array(
            [
                [0.0, 2 * (1 - red)],
                [-2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
                [2 * (1 - blue), 0.0],
            ]
        )
        linear = np.hstack([np.full((3, 1), y_gain), chroma * c_gain])
        offset = -linear @ np.array([y_zero, 128.0, 128.0])
        return np.hstack([linear, offset[:, None]])

    @staticmethod
    def from_rgb(rgb: NDArray[np.uint8], time: float, index: int = 0) -> Picture:
        """A picture from an (H, W, 3) uint8 RGB array; `rgb` gives it back to within 2 levels."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"an RGB frame is (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
        red, blue = _LUMA_WEIGHTS["bt601"]
        to_y = np.array([red, 1 - red - blue, blue])
        to_u = (np.array([0, 0, 1.0]) - to_y) / (2 * (1 - blue))
        to_v = (np.array([1.0, 0, 0]) - to_y) / (2 * (1 - red))
        forward = np.hstack([np.stack([to_y, to_u, to_v]), [[0.0], [128.0], [128.0]]])
        y, u, v = cv2.split(cv2.transform(np.ascontiguousarray(rgb), forward))
        y, u, v = (np.asarray(plane, np.uint8) for plane in (y, u, v))
        picture = Picture(y, u, v, time, index=index, full_range=True)
        return picture.halved(MAX_SIDE)

    def luma(self) -> Plane:
        """(H, W) uint8: as of a `DecodedFrame`."""
        return self.y

    def halved(self, below: int) -> Picture:
        """The picture halved until both sides are below `below` pixels."""
        y, u, v = self.y, self.u, self.v
        while max(y.shape) >= below:
            y, u, v = halve(y), halve(u), halve(v)
        if y is self.y:
            return self
        return Picture(y, u, v, self.time, self.pts, self.index, self.matrix, self.full_range)


class DecodedFrame(Protocol):
    """A frame as it was decoded, converted only as far as it is asked for."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as decoded."""
        ...

    @property
    def time(self) -> float:
        """Presentation time, seconds."""
        ...

    def luma(self) -> Plane:
        """(H, W) uint8: the `y` of its picture alone."""
        ...

    def picture(self) -> Picture:
        """The frame upright, with square pixels, halved until both sides are below `MAX_SIDE`."""
        ...


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV without its threads: on small pictures they cost more CPU than they save time."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def halve(plane: Plane) -> Plane:
    """The plane at half its width and height (at least 1), each pixel the mean of four."""
    height, width = plane.shape
    if height < 2 or width < 2:
        return plane[: max(1, height // 2), : max(1, width // 2)]
    even = plane[: height // 2 * 2, : width // 2 * 2]
    return np.asarray(
        cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8
    )


def halved(plane: Plane, below: int) -> Plane:
    """The plane halved until both sides are below `below` pixels."""
    while max(plane.shape) >= below:
        plane = halve(plane)
    return plane


@dataclass(frozen=True)
class MotionPair:
    """Two grey pictures a moment apart: (h, w) uint8 each, at `start` and `end` seconds."""

    first: Plane
    second: Plane
    start: float
    end: float


@dataclass(frozen=True)
class FrameBatch:
    """What is kept of one clip: pictures spread evenly over it, and pairs of neighbours.

    `pictures` holds up to `MAX_FRAMES` pictures in order of time, all of one size; `pairs` up to
    `MAX_MOTION_PAIRS` pairs of small grey pictures about 1 / `MOTION_FPS` seconds apart, in order
    of time and, while the clip is short, end to end. `start` and `end` are the clip's bounds in
    seconds, `fps` its frame rate (frames a second, averaged over the clip).
    """

    pictures: tuple[Picture, ...]
    pairs: tuple[MotionPair, ...]
    start: float
    end: float
    fps: float

    def __post_init__(self) -> None:
        if not self.pictures:
            raise ValueError("a clip has at least one frame")
        if len({picture.y.shape for picture in self.pictures}) > 1:
            raise ValueError("the frames of one clip have one size")
        if any(a.time > b.time for a, b in zip(self.pictures, self.pictures[1:])):
            raise ValueError("frames are given in order of time")

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return self.end - self.start

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds."""
        return np.array([picture.time for picture in self.pictures])

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(N, H, W, 3) uint8 RGB."""
        return np.stack([picture.rgb for picture in self.pictures])

    def uniform(self, n: int) -> list[Picture]:
        """`n` pictures (or all, if there are fewer) at the centres of `n` equal parts."""
        if n >= len(self.pictures):
            return list(self.pictures)
        return [self.pictures[int((i + 0.5) * len(self.pictures) / n)] for i in range(n)]

    @staticmethod
    def from_rgb(frames: Sequence[NDArray[np.uint8]], fps: float) -> FrameBatch:
        """A batch from RGB frames (N of (H, W, 3) uint8) at a constant rate in frames a second.

        Raises ValueError when there is no frame, when shapes differ or when `fps` is not positive.
        """
        if not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        sampler = ClipSampler(fps)
        for i, frame in enumerate(frames):
            sampler.offer(Picture.from_rgb(np.asarray(frame), i / fps, i))
        return sampler.batch(0.0, sampler.seen / fps)


class ClipSampler:
    """Keeps an even, bounded sample of the frames offered to it, in order, one at a time.

    Every other one of them is dropped when there are more, so these are converted only if they are
    still there in the end. With `window`, in seconds, it keeps `MAX_FRAMES` for each window of the
    clip, which a model then sees one after another.
    """

    def __init__(self, fps: float, window: float | None = None) -> None:
        self._fps, self._window = fps, window
        self._kept: list[Picture | DecodedFrame] = []
        self._pairs: list[MotionPair] = []
        self._gap = max(1, round(fps / MOTION_FPS))
        self._stride = 1
        self._pair_stride = self._gap
        self._pair_start: tuple[Plane, float] | None = None
        self.seen = 0

    def offer(self, frame: Picture | DecodedFrame) -> None:
        """Keep the frame's picture where the spacing asks for it."""
        if self._wants_motion():
            self._pair(frame)
        if self.seen % self._stride == 0:
            self._keep(frame)
        self.seen += 1

    def batch(self, start: float, end: float) -> FrameBatch:
        """What was kept between `start` and `end` seconds; ValueError when nothing was."""
        kept = [frame for frame in self._kept if start <= frame.time < end] or self._kept[:1]
        inside = [_picture(frame) for frame in kept]
        pairs = [p for p in self._pairs if start <= p.start and p.end < end]
        seconds = end - start
        fps = self.seen / seconds if seconds > 0 else 0.0
        return FrameBatch(tuple(inside), tuple(pairs), start, end, fps)

    def _keep(self, frame: Picture | DecodedFrame) -> None:
        dropped_next = len(self._kept) % 2 == 1
        self._kept.append(frame if dropped_next and self._may_wait(frame) else _picture(frame))
        if len(self._kept) > self._most():
            del self._kept[1::2]
            self._stride *= 2

    def _may_wait(self, frame: Picture | DecodedFrame) -> bool:
        """Whether there is memory to hold the frame as it was decoded."""
        if isinstance(frame, Picture):
            return True
        waiting = sum(not isinstance(kept, Picture) for kept in self._kept)
        return (waiting + 1) * frame.size[0] * frame.size[1] <= WAITING_PIXELS

    def _most(self) -> int:
        """Pictures kept at most: `MAX_FRAMES`, a window where there are windows."""
        if self._window is None or self._fps <= 0:
            return MAX_FRAMES
        return MAX_FRAMES * max(1, math.ceil(self.seen / self._fps / self._window))

    def _wants_motion(self) -> bool:
        phase = self.seen % self._pair_stride
        return phase == 0 or phase == self._gap

    def _pair(self, frame: Picture | DecodedFrame) -> None:
        small, now = halved(frame.luma(), MOTION_SIDE), frame.time
        phase = self.seen % self._pair_stride
        ends = self._pair_start is not None and (
            phase == self._gap or self._pair_stride == self._gap
        )
        if ends and self._pair_start is not None:
            first, time = self._pair_start
            self._pairs.append(MotionPair(first, small, time, now))
            self._pair_start = None
            if len(self._pairs) > MAX_MOTION_PAIRS:
                del self._pairs[1::2]
                self._pair_stride = self._pair_stride * 2
                phase = self.seen % self._pair_stride
        if phase == 0:
            self._pair_start = (small, now)


def _picture(frame: Picture | DecodedFrame) -> Picture:
    return frame if isinstance(frame, Picture) else frame.picture()
