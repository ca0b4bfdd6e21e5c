"""Chosen frames of a clip, decoded and brought to size, with as little decoding as that takes.

The packets of a clip are read first, without decoding: their timestamps tell exactly which frames
there are, whatever the frame rate does. Then only the groups of pictures are decoded that hold a
chosen frame, no further than to the last one, and without the frames between that no other frame
refers to. What is chosen comes out as a full decode would have given it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from captioner.containers import open_container, video_stream
from captioner.video import MAX_PIXELS, UnreadableVideoError

Frames = NDArray[np.uint8]
"""(T, H, W, 3) RGB."""

Video = Path | bytes
"""A file, or the content of an MP4."""

Box = tuple[int, int, int, int]

MAX_PACKET_BYTES = 1 << 30
"""Compressed video of one clip that is held at most: a minute at 140 Mbit/s."""


@dataclass(frozen=True)
class Range:
    """A part of a longer video: from `start_pts` up to `end_pts`, in ticks of `time_base`, and of
    the picture `crop`: x, y, width and height in pixels."""

    start_pts: int
    end_pts: int
    time_base: Fraction
    crop: Box | None = None


@dataclass(frozen=True)
class _Look:
    """How pictures come out: `size` (width, height) or as large as they are, of `crop`, and
    `aspect`, the width of a pixel in heights of it."""

    size: tuple[int, int] | None
    crop: Box | None
    aspect: Fraction


@dataclass(frozen=True)
class Choice:
    """Which frames of a clip: `frames` of them.

    With `fps` they are 1 / `fps` seconds apart and `offset` (0 to 1) says where in what is left
    over they begin; a clip too short repeats its last frame. Without, they are spread over the
    clip, at the centres of equal parts.
    """

    frames: int
    fps: float | None = None
    offset: float = 0.0

    def of(self, times: NDArray[np.float64], end: float) -> NDArray[np.intp]:
        """Indices (T,) of the frames shown at the wanted moments. `times` (N,) are the moments at
        which frames begin, ascending, `end` that at which the last one ends, all in seconds."""
        start = times[0]
        if self.fps is None:
            wanted = start + (np.arange(self.frames) + 0.5) * (end - start) / self.frames
        else:
            spare = max(0.0, end - start - self.frames / self.fps)
            # The middle of each interval: rounding cannot then give one frame twice.
            wanted = start + self.offset * spare + (np.arange(self.frames) + 0.5) / self.fps
        found = np.searchsorted(times, wanted + 1e-9, side="right") - 1
        return np.asarray(np.clip(found, 0, len(times) - 1), np.intp)


def read_frames(
    video: Video, choice: Choice, size: tuple[int, int] | None = None, part: Range | None = None
) -> Frames:
    """The chosen frames of a clip, `size` (width, height) pixels, or as large as they are.

    A picture of another aspect ratio is reduced until it covers `size` and cut at its centre.
    Raises UnreadableVideoError.
    """
    container = _opened(video)
    try:
        stream = video_stream(container)
        context = stream.codec_context
        if context is None:
            raise UnreadableVideoError("its codec is not supported")
        if context.width * context.height > MAX_PIXELS:
            raise UnreadableVideoError(
                f"a picture of {context.width}x{context.height} is too large"
            )
        context.thread_count, context.thread_type = 1, "NONE"
        packets = _packets(container, stream, part)
        shown = _shown(packets, part)
        base = stream.time_base or Fraction(1, 90_000)
        times = np.array([packet.pts for packet in shown], np.float64) * float(base)
        last = shown[-1]
        end = float(((last.pts or 0) + _duration(last, shown)) * base)
        if part is not None:
            end = min(end, float(part.end_pts * base))
        indices = choice.of(times, end).tolist()
        wanted = {shown[i].pts or 0 for i in indices}
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        look = _Look(size, part.crop if part else None, aspect if aspect > 0 else Fraction(1))
        pictures = _decoded(context, packets, wanted, look)
        if len(pictures) < len(wanted):  # a packet was more or less than one frame
            context.flush_buffers()
            pictures = _decoded(context, packets, wanted, look, leave_out=False)
        if missing := wanted - pictures.keys():
            raise UnreadableVideoError(f"{len(missing)} of {len(wanted)} frames did not decode")
        if len({picture.shape for picture in pictures.values()}) > 1:
            raise UnreadableVideoError("its frames have more than one size")
        out = np.empty((len(indices), *pictures[shown[indices[0]].pts or 0].shape), np.uint8)
        for i, index in enumerate(indices):
            out[i] = pictures[shown[index].pts or 0]
        return out
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableVideoError(f"{type(error).__name__}: {error}") from None
    finally:
        container.close()


def _opened(video: Video) -> av.container.InputContainer:
    try:
        if isinstance(video, Path):
            return open_container(video)
        # What a row holds is an MP4 that the clip writer made; no other format is tried.
        return av.open(
            io.BytesIO(video),
            "r",
            format="mp4",
            options={"protocol_whitelist": ""},
            metadata_errors="ignore",
            buffer_size=1 << 18,
        )
    except (av.FFmpegError, UnicodeError, ValueError, OSError) as error:
        raise UnreadableVideoError(f"{type(error).__name__}: {error}") from None


Packets = list["av.Packet[av.VideoStream]"]


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, part: Range | None
) -> Packets:
    """The packets that the clip is decoded from, in the order of decoding."""
    if part is not None and part.start_pts > 0:
        container.seek(part.start_pts, stream=stream)
    packets: Packets = []
    held = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            break
        if part is not None and packet.dts is not None and packet.dts >= part.end_pts:
            break  # decoding comes before showing: nothing of the clip can follow
        if packet.pts is None:
            packet.pts = packet.dts
        held += packet.size
        if held > MAX_PACKET_BYTES:
            raise UnreadableVideoError(f"a clip of more than {MAX_PACKET_BYTES:,} bytes")
        packets.append(packet)
    return packets


def _shown(packets: Packets, part: Range | None) -> Packets:
    """The packets of the clip's frames, in the order in which they are shown."""
    shown = sorted(
        (
            packet
            for packet in packets
            if packet.pts is not None
            and not packet.is_discard
            and (part is None or part.start_pts <= packet.pts < part.end_pts)
        ),
        key=lambda packet: packet.pts or 0,
    )
    if not shown:
        raise UnreadableVideoError("there is no frame in it")
    if part is not None and shown[0].pts != part.start_pts:
        raise UnreadableVideoError(
            f"no frame has the timestamp {part.start_pts} to begin at: the source has changed"
        )
    return shown


def _duration(last: av.Packet[av.VideoStream], shown: Packets) -> int:
    if last.duration:
        return int(last.duration)
    if len(shown) < 2:
        return 1
    return max(1, ((last.pts or 0) - (shown[0].pts or 0)) // (len(shown) - 1))


def _decoded(
    context: av.VideoCodecContext,
    packets: Packets,
    wanted: set[int],
    look: _Look,
    leave_out: bool = True,
) -> dict[int, NDArray[np.uint8]]:
    """The wanted frames as RGB pictures, by timestamp."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    for group in _groups(packets):
        here = {packet.pts for packet in group} & wanted
        if leave_out and not here:
            continue
        fed = _needed(group, here) if leave_out else group
        for packet in fed:
            if leave_out:
                context.skip_frame = "DEFAULT" if packet.pts in here else "NONREF"
            _take(context.decode(packet), wanted, pictures, look)
        if leave_out:
            _take(context.decode(None), wanted, pictures, look)
            context.flush_buffers()
        if len(pictures) == len(wanted):
            return pictures
    if not leave_out:
        _take(context.decode(None), wanted, pictures, look)
    return pictures


def _groups(packets: Packets) -> Iterator[Packets]:
    """Runs of packets that begin with a keyframe and, as far as shown frames tell, need no other.

    Frames shown before the keyframe that they follow (of an open group) may refer to the group
    before: both are then one run.
    """
    group: Packets = []
    at = 0
    while at < len(packets):
        end = at + 1
        while end < len(packets) and not packets[end].is_keyframe:
            end += 1
        first = packets[at].pts or 0
        opened = any((packet.pts or 0) < first for packet in packets[at + 1 : end])
        if group and not opened:
            yield group
            group = []
        group += packets[at:end]
        at = end
    if group:
        yield group


def _needed(group: Packets, here: set[int | None]) -> Sequence[av.Packet[av.VideoStream]]:
    """The packets of a group up to the last one that is wanted."""
    last = max(i for i, packet in enumerate(group) if packet.pts in here)
    return group[: last + 1]


def _take(
    frames: Sequence[av.VideoFrame],
    wanted: set[int],
    pictures: dict[int, NDArray[np.uint8]],
    look: _Look,
) -> None:
    for frame in frames:
        if frame.pts in wanted and frame.pts not in pictures:
            pictures[frame.pts] = _picture(frame, look)


def _picture(frame: av.VideoFrame, look: _Look) -> NDArray[np.uint8]:
    """A frame as RGB (H, W, 3), upright, cropped, covering the size and cut at its centre."""
    turns = round(-frame.rotation / 90) % 4
    square, size, crop = round(frame.width * look.aspect), look.size, look.crop
    have = (square, frame.height) if turns % 2 == 0 else (frame.height, square)
    x, y, w, h = crop or (0, 0, *have)
    if x + w > have[0] or y + h > have[1]:
        raise UnreadableVideoError(f"a crop to {crop} is not within {have[0]}x{have[1]} pixels")
    width, height = size or (w, h)
    scale = max(width / w, height / h) if size else 1.0
    whole = max(1, round(have[0] * scale)), max(1, round(have[1] * scale))
    if turns % 2:
        whole = whole[1], whole[0]
    matrix = _matrix(frame)
    if whole != (frame.width, frame.height) and frame.format.name.startswith("yuv"):
        frame = _scaled(frame, whole)
    rgb = _converted(frame, whole, matrix)
    if turns:
        rgb = np.rot90(rgb, -turns)
    left = min(round(x * scale) + max(0, round((w * scale - width) / 2)), rgb.shape[1] - width)
    top = min(round(y * scale) + max(0, round((h * scale - height) / 2)), rgb.shape[0] - height)
    left, top = max(0, left), max(0, top)
    return np.asarray(rgb[top : top + height, left : left + width], np.uint8)


def _scaled(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """A frame of planes Y, U and V at another size, its colours not subsampled.

    Scaled as planes, and then made RGB, a frame is 49 dB and more from the picture; swscale's way
    to RGB of another size at once takes as long, and is 1 to 2 levels too dark: 38 to 43 dB.
    """
    return _swscale("planes").reformat(
        frame,
        width=size[0],
        height=size[1],
        format="yuv444p",
        interpolation="BICUBIC" if size[0] > frame.width else "AREA",
        threads=1,
    )


def _converted(frame: av.VideoFrame, size: tuple[int, int], matrix: Colorspace | None) -> Frames:
    """A frame as RGB of a size."""
    large, small = size[0] > frame.width, size[0] < frame.width
    rgb = _swscale("rgb").reformat(
        frame,
        width=size[0],
        height=size[1],
        format="rgb24",
        interpolation="BICUBIC" if large else "AREA" if small else "BILINEAR",
        src_colorspace=matrix,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return rgb.to_ndarray()  # type: ignore[return-value]


_THREAD = threading.local()


def _swscale(name: str) -> VideoReformatter:
    """One that keeps its tables and is not for two threads at a time: a new one for each frame,
    with a thread for each core, takes longer than its work."""
    kept: dict[str, VideoReformatter] = _THREAD.__dict__
    return kept.setdefault(name, VideoReformatter())


def _matrix(frame: av.VideoFrame) -> Colorspace | None:
    """Unmarked pictures: HD is BT.709 and the rest BT.601, as players take them."""
    if int(frame.colorspace) in (1, 4, 5, 6, 7, 9, 10):
        return None
    return Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
