"""Decode a video file once, frame by frame, with whichever decoder can read it.

PyAV first; decord and OpenCV when PyAV cannot open the file or gets no frame out of it. Files are
untrusted: only formats that are whole in one file are opened, over the local file protocol, so
that a playlist named .mp4 cannot make the decoder read anything else; resolution and length are
bounded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
import av.logging
import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.frames import MAX_SIDE, ClipSampler, FrameBatch, Picture, Plane, halve

AnyPlane = NDArray[np.uint8 | np.uint16]

MAX_PIXELS = 8192 * 8192
"""Pictures larger than this are refused: twice the area of 8K, 100 MB a frame."""

MAX_SOURCE_FRAMES = 10_000_000
"""Frames after which a source is left, with a warning: 92 hours at 30 frames a second."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,ogg,asf,gif,"
    "yuv4mpegpipe,mxf,dv,ivf,h264,hevc,m4v,rm,nut,wtv,obu,av1"
)
"""FFmpeg demuxers that read one file and nothing beside it: no hls, concat, dash or image2."""

_MAGIC: tuple[tuple[int, bytes], ...] = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip"),
    (0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"FLV"), (0, b"OggS"), (0, b"\x30\x26\xb2\x75"),
    (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"), (0, b"\x47"), (0, b"GIF8"),
)  # fmt: skip
"""Container signatures. decord and OpenCV take no list of formats, so they are only given files
that begin like a container."""


class UnreadableVideoError(Exception):
    """No decoder gives a picture of this file; the message says what each of them found."""


class _NoVideoError(UnreadableVideoError):
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


class Frame(Protocol):
    """A decoded frame, converted only as far as it is asked for."""

    index: int
    pts: int
    duration: int
    """Ticks of the time base for which the frame is shown."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as decoded."""
        ...

    def thumbnail(self, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR from every k-th pixel: for comparing, not for looking.

        `width` and `height` are multiples of 4.
        """
        ...

    def picture(self) -> Picture:
        """The frame upright, with square pixels, halved until both sides are below `MAX_SIDE`."""
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

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def open_video(path: Path, threads: int = 0) -> Video:
    """Open a file with the first decoder that gets a frame out of it.

    `threads` decoding threads, 0 for as many as the decoder likes. Raises UnreadableVideoError.
    """
    if not path.is_file():
        raise UnreadableVideoError("no such file" if not path.exists() else "not a regular file")
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise UnreadableVideoError(f"cannot be read: {error.strerror}") from None
    if not header:
        raise UnreadableVideoError("the file is empty")

    if header.startswith(b"version https:/"):
        raise UnreadableVideoError("a Git LFS pointer, not the video itself: run `git lfs pull`")
    if _is_text(header):
        raise UnreadableVideoError(
            f"text, not a video (it begins with {header.decode()!r}); playlists are not followed"
        )
    found: list[str] = []
    for name, opener in _DECODERS.items():
        if name != "pyav" and not _looks_like_container(header):
            break
        try:
            video = opener(path, threads)
        except _NoVideoError:
            raise
        except UnreadableVideoError as error:
            found.append(f"{name}: {error}")
            continue
        first = next(video._frames, None)
        if first is None:
            video._close()
            found.append(f"{name}: no picture could be decoded")
            continue
        video._frames = _chain(first, video._frames)
        return video
    raise UnreadableVideoError("; ".join(found))


def read_clip(path: Path, threads: int = 0) -> FrameBatch:
    """The whole video as one clip. Raises UnreadableVideoError."""
    with open_video(path, threads) as video:
        sampler = ClipSampler(video.info.fps)
        start = end = 0
        for frame in video.frames():
            start = frame.pts if sampler.seen == 0 else start
            end = frame.pts + frame.duration
            if sampler.wants():
                sampler.offer(frame.picture())
            else:
                sampler.skip()
        base = video.info.time_base
        return sampler.batch(float(start * base), float(end * base))


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _is_text(header: bytes) -> bool:
    return header.isascii() and not set(header) & _BINARY and not header.startswith(b"YUV4MPEG2")


_BINARY = frozenset(range(32)) - frozenset(b"\t\n\r")


def _looks_like_container(header: bytes) -> bool:
    return any(header[at : at + len(magic)] == magic for at, magic in _MAGIC)


def _begins_like_container(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _looks_like_container(file.read(16))
    except OSError:
        return False


# --- PyAV ---------------------------------------------------------------------------------------


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
        raise _explained(path, error) from None
    try:
        video = _pyav_video(container, threads, at, back, exact)
    except BaseException as error:
        container.close()
        if back is not None and isinstance(error, UnreadableVideoError | av.FFmpegError | OSError):
            return None
        raise
    if at is None:
        return video
    first = next(video._frames)
    video._frames = _chain(first, video._frames)
    # Only the file's own timestamps are the same wherever one begins to read.
    pts = first.pts if back is None or not isinstance(first, AvFrame) else first.frame.pts
    if pts != at.pts:
        container.close()
        return None
    return video


def _open_pyav(path: Path, threads: int) -> Video:
    return open_pyav(path, threads)


def open_container(path: Path) -> av.container.InputContainer:
    """A local file of one of `FORMATS`. Raises av.FFmpegError, UnicodeError or ValueError."""
    return av.open(
        f"file:{path.absolute()}",
        options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
        metadata_errors="ignore",
    )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _NoVideoError(f"a picture of {width}x{height} is over the limit of {MAX_PIXELS}")


def _explained(path: Path, error: BaseException) -> UnreadableVideoError:
    """Why a file was not opened: FFmpeg's own last line says more than its error code."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # What FFmpeg says of one file it would not say again of the next.
    av.logging.set_skip_repeated(False)
    try:
        with (
            av.logging.Capture() as lines,
            contextlib.suppress(av.FFmpegError, UnicodeError, ValueError),
        ):
            open_container(path).close()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    said = [" ".join(text.split()) for _, _, text in lines if text.strip()]
    if any("moov atom not found" in line for line in said):
        if not _begins_like_container(path):  # taken for an MP4 by its name alone
            return UnreadableVideoError(f"{_reason(error)} (not a video?)")
        return _NoVideoError("its index (moov atom) is missing: the file is cut short")
    if any("not on whitelist" in line for line in said):
        return _NoVideoError("a playlist or another format that refers to other files")
    return UnreadableVideoError(f"{_reason(error)} ({said[-1] if said else 'not a video?'})")


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that is decoded. Raises UnreadableVideoError when there is none."""
    # A cover picture is a video stream too, of one frame: never prefer it.
    streams = [s for s in container.streams.video if not s.disposition & _ATTACHED_PICTURE]
    if not streams:
        raise _NoVideoError("there is no video stream in it")
    return streams[0]


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
    _check_size(context.width, context.height)
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
    return Video(info, _chain(first, frames), warnings, container.close)


_ATTACHED_PICTURE = av.stream.Disposition.attached_pic


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
                warnings.append(f"reading stopped after {index} frames: {_reason(error)}")
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
                warnings.append(f"decoding stopped after {index} frames: {_reason(error)}")
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
        y, u, v = (_eight_bit(plane, self._bits) for plane in self._planes)
        while max(y.shape) >= MAX_SIDE:
            y, u, v = halve(y), halve(u), halve(v)
        y, u, v = (self._upright(plane) for plane in (y, u, v))
        time = self.pts * self._time_base.numerator / self._time_base.denominator
        return Picture(y, u, v, time, self.pts, self.index, self.matrix, self.full_range)

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


def _reason(error: BaseException) -> str:
    """The error in words, without the path that FFmpeg adds."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())


# --- decord and OpenCV --------------------------------------------------------------------------


class _RgbFrame:
    """A frame that its decoder has already turned into RGB, upright."""

    def __init__(self, rgb: NDArray[np.uint8], index: int, pts: int, duration: int, time: float):
        self.index = index
        self.pts = pts
        self.duration = duration
        self._rgb = rgb
        self._time = time

    @property
    def size(self) -> tuple[int, int]:
        return int(self._rgb.shape[1]), int(self._rgb.shape[0])

    def thumbnail(self, width: int, height: int) -> NDArray[np.uint8]:
        small = cv2.resize(self._rgb, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), np.uint8)

    def picture(self) -> Picture:
        return replace(Picture.from_rgb(self._rgb, self._time, self.index), pts=self.pts)


_MILLISECONDS = Fraction(1, 1000)


def _open_decord(path: Path, threads: int) -> Video:
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
    _check_size(width, height)
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


def _open_opencv(path: Path, threads: int) -> Video:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # libavutil/log.h: AV_LOG_QUIET
    level = cv2.utils.logging.setLogLevel(0)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise UnreadableVideoError("not opened")
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    _check_size(width, height)

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


_DECODERS: dict[str, Callable[[Path, int], Video]] = {
    "pyav": _open_pyav,
    "decord": _open_decord,
    "opencv": _open_opencv,
}
