"""Frames of a video by decord or OpenCV, for files that PyAV does not read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.frames import Picture, Plane
from captioner.video import Frame, UnreadableVideoError, Video, VideoInfo, check_size


class _RgbFrame:
    """A frame that its decoder has already turned into RGB, upright."""

    def __init__(self, rgb: NDArray[np.uint8], index: int, pts: int, duration: int, time: float):
        self.index = index
        self.pts = pts
        self.duration = duration
        self.time = time
        self._rgb = rgb

    @property
    def size(self) -> tuple[int, int]:
        return int(self._rgb.shape[1]), int(self._rgb.shape[0])

    def thumbnail(self, width: int, height: int) -> NDArray[np.uint8]:
        small = cv2.resize(self._rgb, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), np.uint8)

    def luma(self) -> Plane:
        return self._picture.y

    def picture(self) -> Picture:
        return self._picture

    @cached_property
    def _picture(self) -> Picture:
        return replace(Picture.from_rgb(self._rgb, self.time, self.index), pts=self.pts)


_MILLISECONDS = Fraction(1, 1000)


def open_decord(path: Path, threads: int) -> Video:
    """As `captioner.decode.open_video`, with decord."""
    try:
        import decord
    except ImportError:
        raise UnreadableVideoError("not installed") from None

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=threads)
        height, width = reader[0].shape[:2]
        fps = float(reader.get_avg_fps()) or 25.0
    except Exception as error:  # decord raises its own error types, none of them documented
        raise UnreadableVideoError(str(error).strip().splitlines()[-1][-200:]) from None
    check_size(width, height)
    warnings: list[str] = []

    def frames() -> Iterator[Frame]:
        for index in range(len(reader)):
            try:
                rgb = reader[index].asnumpy()
                start, end = reader.get_frame_timestamp(index)
            except Exception as error:
                warnings.append(f"decoding stopped after {index} frames: {str(error)[-200:]}")
                return
            pts = round(float(start) * 1000)
            duration = max(1, round(float(end - start) * 1000))
            yield _RgbFrame(rgb, index, pts, duration, pts / 1000)

    info = VideoInfo(width, height, fps, "unknown", _MILLISECONDS, "decord")
    return Video(info, frames(), warnings, lambda: None)


def open_opencv(path: Path, threads: int) -> Video:
    """As `captioner.decode.open_video`, with OpenCV."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # libavutil/log.h: AV_LOG_QUIET
    level = cv2.utils.logging.setLogLevel(0)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise UnreadableVideoError("not opened")
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    check_size(width, height)

    def frames() -> Iterator[Frame]:
        index, last = 0, -1
        while True:
            ok, bgr = capture.read()
            if not ok:
                return
            pts = max(last + 1, round(capture.get(cv2.CAP_PROP_POS_MSEC)))
            rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            yield _RgbFrame(rgb, index, pts, max(1, round(1000 / fps)), pts / 1000)
            index, last = index + 1, pts

    info = VideoInfo(width, height, fps, "unknown", _MILLISECONDS, "opencv")
    return Video(info, frames(), [], capture.release)
