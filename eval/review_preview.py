"""What a browser can play of a clip that it cannot: H.264 of at most 480 lines and a minute."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from captioner.containers import open_container, video_stream
from captioner.video import UnreadableVideoError
from eval.review_clips import ReviewClip

MAX_SECONDS = 60.0
MAX_HEIGHT = 480
_CLOCK = Fraction(1, 90_000)
_ONE_AT_A_TIME = threading.Lock()


class PreviewError(Exception):
    """A clip of which no preview can be made; the message says why."""


def preview(clip: ReviewClip) -> bytes:
    """The clip from its start as an MP4 file, without sound; the last few are kept in memory.

    Raises PreviewError.
    """
    with _ONE_AT_A_TIME:
        try:
            changed = clip.file.stat().st_mtime_ns
            return _encoded(clip.file, clip.start or 0.0, clip.end, changed)
        except (UnreadableVideoError, av.FFmpegError, OSError, ValueError) as error:
            raise PreviewError(f"{clip.file.name}: {error}") from None


@lru_cache(maxsize=8)
def _encoded(path: Path, start: float, end: float | None, _changed: int) -> bytes:
    target = io.BytesIO()
    first: float | None = None
    last = -1
    with av.open(target, "w", format="mp4") as output:
        stream: av.VideoStream | None = None
        for frame, aspect in _frames(path, start, start + MAX_SECONDS if end is None else end):
            first = frame.time if first is None else first
            pts = round((frame.time - first) / _CLOCK)
            if pts <= last or pts * _CLOCK > MAX_SECONDS:
                continue
            last = pts
            picture = _upright(frame, aspect)
            if stream is None:
                stream = output.add_stream("libx264", rate=25)
                stream.width, stream.height = picture.width, picture.height
                stream.pix_fmt = "yuv420p"
                stream.time_base = stream.codec_context.time_base = _CLOCK
                stream.options = {"preset": "ultrafast", "crf": "23"}
            picture.pts, picture.time_base = pts, _CLOCK
            output.mux(stream.encode(picture.reformat(stream.width, stream.height, "yuv420p")))
        if stream is None:
            raise ValueError(f"no frame from {start:.2f} s on")
        output.mux(stream.encode())
    return target.getvalue()


def _frames(path: Path, start: float, end: float) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """The frames of those seconds, each with the width of its pixels in their heights."""
    with open_container(path) as container:
        stream = video_stream(container)
        if start > 0 and stream.time_base:
            container.seek(int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is None or frame.time < start - 1e-3:
                continue
            if frame.time >= end:
                return
            yield frame, stream.sample_aspect_ratio or Fraction(1)


def _upright(frame: av.VideoFrame, aspect: Fraction) -> av.VideoFrame:
    """The frame turned as its metadata say, with square pixels, both sides even."""
    quarter_turns = round(frame.rotation / 90) % 4
    turned = np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns)
    height, width = turned.shape[:2]
    # What no real file has is no aspect but damage.
    aspect = aspect if Fraction(1, 10) <= aspect <= 10 else Fraction(1)
    wide = width * (1 / aspect if quarter_turns % 2 else aspect)
    scale = min(1.0, MAX_HEIGHT / height)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="rgb24")
    return picture.reformat(_even(float(wide) * scale), _even(height * scale))


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
