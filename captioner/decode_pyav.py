"""Frames of a video by PyAV, from its beginning or from a frame on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.containers import open_container, reason, video_stream, why_not_opened
from captioner.frames import MAX_SIDE, Picture, Plane, halve, halved
from captioner.video import MAX_PIXELS, UnreadableVideoError, Video, VideoInfo, check_size

AnyPlane = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class Position:
    """A frame of a source: its timestamp in ticks of the stream's time base, and its number."""

    pts: int
    index: int


_SEEK_BACK = (0.0, 10.0)
"""Seconds before a frame to seek to; the second for containers that land behind where they were
asked to, by a keyframe or two: 250 frames are x264's longest distance between keyframes."""


def open_pyav(
    path: Path, threads: int = 0, *, at: Position | None = None, exact: bool = False
) -> Video:
    """Open a file with PyAV alone; its frames are `AvFrame`.

    `at` is the first frame given: it is decoded from a keyframe before it, or from the beginning of
    the source where seeking cannot be relied upon. `exact` keeps the loop filter, without which
    large pictures are decoded for looking at. Raises UnreadableVideoError, also when there is no
    frame with the timestamp of `at`.
    """
    for back in _SEEK_BACK if at is not None and at.index > 0 else ():
        video = _opened(path, threads, at, back, exact)
        if video is not None:
            return video
    video = _opened(path, threads, at, None, exact)
    if video is None:
        raise UnreadableVideoError("no frame has the timestamp to begin at")
    return video


def _opened(
    path: Path, threads: int, at: Position | None, back: float | None, exact: bool
) -> Video | None:
    """The video from frame `at` on, after a seek to `back` seconds before it where that is given;
    None where the first frame is another."""
    try:
        container = open_container(path)
    except (av.FFmpegError, UnicodeError, ValueError) as error:
        raise why_not_opened(path, error) from None
    try:
        video = _pyav_video(container, threads, at, back, exact)
    except BaseException as error:
        container.close()
        if back is not None and isinstance(error, UnreadableVideoError | av.FFmpegError | OSError):
            return None
        raise
    if at is None:
        return video
    first = video.first()
    # Only the file's own timestamps are the same wherever one begins to read.
    if isinstance(first, AvFrame) and at.pts == (first.pts if back is None else first.frame.pts):
        return video
    video.close()
    return None


def _pyav_video(
    container: av.container.InputContainer,
    threads: int,
    at: Position | None,
    back: float | None,
    exact: bool,
) -> Video:
    stream = video_stream(container)
    context = stream.codec_context
    if context is None:
        raise UnreadableVideoError("its codec is not supported")
    check_size(context.width, context.height)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    if max(context.width, context.height) >= MAX_SIDE and not exact:
        # A fifth of the CPU. Pictures of this size are halved, and then show no difference: 43 dB
        # and more on 1080p footage of 2 to 5 Mbit/s, 35 dB in the worst frame at a tenth of that.
        context.options["skip_loop_filter"] = "all"
    context.thread_count = threads
    context.thread_type = "AUTO" if threads != 1 else "NONE"

    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    fps = float(rate) if rate and 0.1 <= rate <= 1000 else 25.0
    time_base = stream.time_base or Fraction(1, 90_000)
    aspect = stream.sample_aspect_ratio
    aspect = Fraction(aspect) if aspect and Fraction(1, 10) <= aspect <= 10 else Fraction(1)

    warnings: list[str] = []
    key = None
    if at is not None and back is not None:
        key = _seek(container, stream, at.pts - round(back / time_base))
        if key.pts is None or key.pts > at.pts:
            raise UnreadableVideoError("there is no keyframe before the frame to begin at")
    frames = _pyav_frames(container, stream, fps, time_base, aspect, warnings, at, key)
    seconds = container.duration / av.time_base if container.duration else None
    info = VideoInfo(
        width=max(1, round(context.width * aspect)),
        height=context.height,
        fps=fps,
        codec=context.name,
        time_base=time_base,
        decoder="pyav",
        duration=seconds,
        frames_expected=stream.frames or None,
    )
    first = next(frames, None)
    if first is None:
        raise UnreadableVideoError("; ".join(warnings) or "no picture could be decoded")
    rotation = first.rotation
    if rotation in (90, 270):
        info = replace(info, width=info.height, height=info.width)
    info = replace(info, rotation=rotation)
    return Video(info, chain([first], frames), warnings, container.close)


def _seek(
    container: av.container.InputContainer, stream: av.VideoStream, pts: int
) -> av.Packet[av.VideoStream]:
    """The first keyframe behind where a seek to `pts` lands."""
    container.seek(pts, stream=stream)
    for packet in container.demux(stream):
        if packet.is_keyframe and packet.size:
            return packet
    raise UnreadableVideoError("there is no keyframe")


def _pyav_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    fps: float,
    time_base: Fraction,
    aspect: Fraction,
    warnings: list[str],
    at: Position | None,
    key: av.Packet[av.VideoStream] | None,
) -> Iterator[AvFrame]:
    """All frames, or those from `at` on; a packet `key` has been read already."""
    step = max(1, round(1 / (fps * time_base)))
    index, last, damaged = at.index if at is not None else 0, None, 0
    try:
        packets = container.demux(stream)
        if key is not None:
            packets = chain([key], packets)
        while damaged < _MAX_DAMAGED:
            try:
                packet = next(packets, None)
            except av.error.InvalidDataError:
                damaged += 1
                packets = container.demux(stream)  # the demuxer goes on behind the damage
                continue
            except (av.FFmpegError, OSError) as error:
                warnings.append(f"reading stopped after {index} frames: {reason(error)}")
                break
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except av.error.EOFError:
                break
            except av.error.InvalidDataError:
                damaged += 1
                continue
            except (av.FFmpegError, OSError) as error:
                warnings.append(f"decoding stopped after {index} frames: {reason(error)}")
                break
            for frame in decoded:
                if not isinstance(frame, av.VideoFrame):
                    continue
                pts = frame.pts if frame.pts is not None else frame.dts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + step
                last = pts
                if at is not None and pts < at.pts:
                    continue
                yield AvFrame(frame, index, pts, frame.duration or step, time_base, aspect)
                index += 1
    finally:
        if damaged:
            warnings.append(f"{damaged} damaged packets were left out")
        if stream.frames and index < 0.9 * stream.frames:
            warnings.append(f"{index} of the {stream.frames} frames that the file announces")


_MAX_DAMAGED = 10_000
"""Damaged packets after which a source is left."""


class AvFrame:
    """A PyAV frame seen through views of its planes."""

    def __init__(
        self,
        frame: av.VideoFrame,
        index: int,
        pts: int,
        duration: int,
        time_base: Fraction,
        aspect: Fraction,
    ) -> None:
        self.index = index
        self.pts = pts
        self.duration = duration
        self.frame = frame
        """As decoded: in its own pixel format, not turned upright."""
        self._time_base = time_base
        self.aspect = aspect
        """Width of a pixel, heights of it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as decoded."""
        return self.frame.width, self.frame.height

    @property
    def rotation(self) -> int:
        """Degrees clockwise to turn the picture upright: 0, 90, 180 or 270."""
        return round(-self.frame.rotation / 90) * 90 % 360

    def thumbnail(self, width: int, height: int) -> NDArray[np.uint8]:
        """As `Frame.thumbnail`."""
        y, u, v = self._planes
        # Four pixels of luma to one: a single one flickers where there is fine texture.
        luma = _nearest(y, (2 * width, 2 * height))
        half, bits = (width // 2, height // 2), self._bits
        i420 = np.concatenate(
            [
                cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA).ravel(),
                _nearest(u, half).ravel(),
                _nearest(v, half).ravel(),
            ]
        )
        rows = _eight_bit(i420, bits).reshape(height * 3 // 2, width)
        return np.asarray(cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_I420), np.uint8)

    def picture(self) -> Picture:
        """As `Frame.picture`."""
        return self._picture

    def luma(self) -> Plane:
        """As `Frame.luma`."""
        return self._luma

    @property
    def time(self) -> float:
        """As `Frame.time`."""
        return self.pts * self._time_base.numerator / self._time_base.denominator

    @cached_property
    def _picture(self) -> Picture:
        y, *chroma = self._planes
        u, v = (_eight_bit(plane, self._bits) for plane in chroma)
        side = max(y.shape)
        while side >= MAX_SIDE:
            u, v, side = halve(u), halve(v), side // 2
        u, v = self._upright(u), self._upright(v)
        luma, matrix = self.luma(), self.matrix
        return Picture(luma, u, v, self.time, self.pts, self.index, matrix, self.full_range)

    @cached_property
    def _luma(self) -> Plane:
        return self._upright(halved(_eight_bit(self._planes[0], self._bits), MAX_SIDE))

    @property
    def full_range(self) -> bool:
        """Whether luma covers 0 to 255 rather than 16 to 235."""
        name = self.frame.format.name
        return self.frame.color_range == _FULL_RANGE or name.startswith("yuvj")

    @property
    def matrix(self) -> str:
        """What makes RGB of it: bt601, bt709 or bt2020."""
        named = _MATRICES.get(int(self.frame.colorspace))
        # Unmarked pictures: HD is BT.709 and the rest BT.601, as players take them.
        return named or ("bt709" if self.frame.height >= 720 else "bt601")

    def _upright(self, plane: Plane) -> Plane:
        if self.aspect != 1:
            width = max(1, round(plane.shape[1] * self.aspect))
            resized = cv2.resize(plane, (width, plane.shape[0]), interpolation=cv2.INTER_LINEAR)
            plane = np.asarray(resized, np.uint8)
        turns = self.rotation // 90
        return np.ascontiguousarray(np.rot90(plane, -turns)) if turns else plane

    @cached_property
    def _bits(self) -> int:
        return _bits_in_place(self._planar.format.name) or 8

    @cached_property
    def _planar(self) -> av.VideoFrame:
        """The frame itself where its planes can be read in place, else converted to 4:2:0."""
        if _bits_in_place(self.frame.format.name) is not None:
            return self.frame
        return self.frame.reformat(format="yuv420p")

    @cached_property
    def _planes(self) -> tuple[AnyPlane, AnyPlane, AnyPlane]:
        """Views of the decoder's memory, which they keep from being used again."""
        bits = self._bits
        planes: list[AnyPlane] = []
        for plane in self._planar.planes[:3]:
            flat: AnyPlane = np.frombuffer(memoryview(plane), np.uint16 if bits > 8 else np.uint8)
            planes.append(flat.reshape(plane.height, -1)[:, : plane.width])
        if len(planes) < 3:
            grey = np.full((2, 2), 128 << (bits - 8), planes[0].dtype)
            planes = [planes[0], grey, grey]
        return planes[0], planes[1], planes[2]


@cache
def _bits_in_place(name: str) -> int | None:
    """Bits a sample of a pixel format of planes Y, U and V (or Y), or None for any other."""
    layout = av.video.format.VideoFormat(name)
    bits = int(layout.components[0].bits)
    return bits if name.startswith(_PLANAR) and not layout.is_big_endian and bits <= 16 else None


_FULL_RANGE = av.video.reformatter.ColorRange.JPEG

_PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuvj", "yuva", "gray")

_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
"""AVColorSpace as in libavutil/pixfmt.h (ITU-T H.273 table 4)."""


def _nearest(plane: AnyPlane, size: tuple[int, int]) -> AnyPlane:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST))


def _eight_bit(plane: AnyPlane, bits: int) -> Plane:
    if plane.dtype == np.uint8:
        return plane.astype(np.uint8, copy=False)
    return (plane.astype(np.uint16, copy=False) >> (bits - 8)).astype(np.uint8)
