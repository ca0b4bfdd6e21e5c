"""A video that is open: what its container says, and its frames in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from captioner.frames import DecodedFrame

MAX_PIXELS = 8192 * 8192
"""Pictures larger than this are refused: twice the area of 8K, 100 MB a frame."""

MAX_SOURCE_FRAMES = 10_000_000
"""Frames after which a source is left, with a warning: 92 hours at 30 frames a second."""


class UnreadableVideoError(Exception):
    """No decoder gives a picture of this file; the message says what each of them found."""


class NoVideoError(UnreadableVideoError):
    """What PyAV found rules out that another decoder reads the file."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says, with `width` and `height` as displayed (upright, square pixels).

    `fps` is the average rate in frames a second, `duration` seconds or None where the container
    has none, `time_base` seconds a pts tick, `rotation` degrees clockwise that the pictures were
    turned by (0, 90, 180, 270), `decoder` pyav, decord or opencv.
    """

    width: int
    height: int
    fps: float
    codec: str
    time_base: Fraction
    decoder: str
    duration: float | None = None
    rotation: int = 0
    frames_expected: int | None = None


class Frame(DecodedFrame, Protocol):
    """A decoded frame with its place in the video."""

    index: int
    pts: int
    duration: int
    """Ticks of the time base for which the frame is shown."""

    def thumbnail(self, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR from every k-th pixel: for comparing, not for looking.

        `width` and `height` are multiples of 4.
        """
        ...


class Video:
    """An open video: `info`, and `frames()` once. `warnings` fills up while frames are read."""

    def __init__(
        self,
        info: VideoInfo,
        frames: Iterator[Frame],
        warnings: list[str],
        close: Callable[[], None],
    ) -> None:
        self.info = info
        self.warnings = warnings
        self._frames = frames
        self._close = close

    def frames(self) -> Iterator[Frame]:
        """The frames in order of presentation; never raises for damage, which `warnings` tells."""
        for count, frame in enumerate(self._frames):
            if count == MAX_SOURCE_FRAMES:
                self.warnings.append(f"left after {MAX_SOURCE_FRAMES} frames, the limit")
                return
            yield frame

    def first(self) -> Frame | None:
        """The first frame, which `frames` gives as well; None where there is none."""
        frame = next(self._frames, None)
        if frame is not None:
            self._frames = chain([frame], self._frames)
        return frame

    def close(self) -> None:
        """Close the file."""
        self._close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_size(width: int, height: int) -> None:
    """Raises UnreadableVideoError for a picture of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise NoVideoError(f"a picture of {width}x{height} is over the limit of {MAX_PIXELS}")
