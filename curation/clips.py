"""Write kept clips to files of their own: the one further decode, of what is kept and no more.

A clip holds the frames whose timestamps lie within its bounds, all of them and no other. Nothing is
taken on trust: the first frame must have the timestamp, and all together the number, that the
ledger says; where a seek gives anything else, the source is decoded from its beginning. A clip that
is kept as a range of its source needs none of this: source, bounds and crop are in its row.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from captioner.containers import open_container, video_stream
from captioner.decode_pyav import AvFrame, Position, open_pyav
from captioner.video import UnreadableVideoError, Video
from curation.ledger import Row, replacing

Box = tuple[int, int, int, int]
Timed = tuple[AvFrame, int, int]
"""A frame, and when and for how long it is shown, in ticks."""

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]

_VERSION = 2
"""Changes with anything that makes other files of the same configuration."""

_NEAR = 10.0
"""Seconds up to which frames between two clips are decoded rather than skipped: a seek would land
up to 250 frames early, x264's longest distance between keyframes."""

_AUDIO_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""Hz, of AAC (ISO/IEC 14496-3 table 1.18)."""

_PREROLL = Fraction(1, 2)
"""Seconds of sound decoded before a clip: own choice, many times what a codec overlaps."""

_MATRICES = {"bt709": 1, "bt601": 6, "bt2020": 9}
"""AVColorSpace as in libavutil/pixfmt.h (ITU-T H.273 table 4)."""


@dataclass(frozen=True)
class ClipConfig:
    """How clips are written: H.264 in MP4, 8-bit 4:2:0, at constant quality.

    `crf` is x264's constant rate factor, 0 (lossless) to 51; 18 is near to what cannot be
    told from the source. Without `fps` each frame keeps its timestamp; with it frames are left out
    or shown again to get that many a second. A picture higher than `height` pixels is reduced to
    it; none is enlarged. `audio` takes over the first audio stream, as AAC of `audio_bitrate` bits
    a second. More encoding `threads` than one make other bytes, so they are part of this.
    """

    crf: int = 18
    preset: Preset = "veryfast"
    fps: float | None = None
    height: int | None = None
    audio: bool = False
    audio_bitrate: int = 128_000
    threads: int = 1

    def __post_init__(self) -> None:
        if self.preset not in get_args(Preset):
            raise ValueError(f"preset {self.preset!r} is none of {', '.join(get_args(Preset))}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf is 0 to 51, not {self.crf}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps is over 0 and at most 1000, not {self.fps}")
        if self.height is not None and (self.height < 2 or self.height % 2):
            raise ValueError(f"height is an even number from 2 on, not {self.height}")
        if not 8_000 <= self.audio_bitrate <= 512_000:
            raise ValueError(f"audio_bitrate is 8000 to 512000, not {self.audio_bitrate}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")


@dataclass(frozen=True)
class ClipRange:
    """A clip as its row has it: `frames` frames from `start_pts` up to `end_pts`, in ticks of
    `time_base`, the first one number `first_frame` of its source.

    `crop` is x, y, width and height in upright square pixels of the source, all even. Raises
    ValueError for what no row has.
    """

    clip_id: str
    start_pts: int
    end_pts: int
    time_base: Fraction
    first_frame: int
    frames: int
    crop: Box | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,100}", self.clip_id):
            raise ValueError(f"clip_id {self.clip_id!r} makes no file name")
        if self.start_pts >= self.end_pts or self.frames < 1 or self.first_frame < 0:
            raise ValueError(f"clip {self.clip_id} is empty")
        if self.crop is not None:
            x, y, width, height = self.crop
            if min(x, y) < 0 or min(width, height) < 2 or any(side % 2 for side in self.crop):
                raise ValueError(f"crop {self.crop} of clip {self.clip_id} is not even or is empty")

    @property
    def seconds(self) -> float:
        """How long it is shown."""
        return float((self.end_pts - self.start_pts) * self.time_base)


def clip_range(row: Row) -> ClipRange:
    """The clip of a row."""
    return ClipRange(
        clip_id=row.clip_id,
        start_pts=row.start_pts or 0,
        end_pts=row.end_pts or 0,
        time_base=Fraction(row.time_base or 1),
        first_frame=row.first_frame or 0,
        frames=row.frames or 0,
        crop=(row.crop[0], row.crop[1], row.crop[2], row.crop[3]) if row.crop else None,
    )


@dataclass(frozen=True)
class Written:
    """What became of a clip: the file at `path`, or `error`.

    `frames`, `width` and `height` in pixels and `bytes` are the file's; `made` is false where it
    was there already, of the same configuration and crop, and else took `cpu_seconds`. `warning`
    says what is missing from its sound.
    """

    clip_id: str
    path: Path
    frames: int = 0
    width: int = 0
    height: int = 0
    bytes: int = 0
    made: bool = False
    warning: str | None = None
    error: str | None = None
    cpu_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Cut:
    """New clips: how many, how long in seconds, how large, and the CPU-seconds that they took."""

    clips: int
    seconds: float
    bytes: int
    cpu_seconds: float


NOTHING_CUT = Cut(0, 0.0, 0, 0.0)


class _OtherFramesError(Exception):
    """The frames within a clip's bounds are not those that its row counts."""


def write_clips(
    source: Path, clips: Sequence[ClipRange], folder: Path, config: ClipConfig, threads: int = 1
) -> list[Written]:
    """Write clips of one source into `folder`, in one pass; results in the order of `clips`.

    A clip's file has the name of its clip_id. It is there whole or not at all. What is wrong with a
    clip or with the source is in its result; `threads` are for decoding, 0 for as many as it likes.
    """
    reader = _Reader(source, threads)
    results: dict[ClipRange, Written] = {}
    try:
        for clip in sorted(clips, key=lambda clip: (clip.start_pts, clip.end_pts)):
            path = clip_path(folder, clip.clip_id)
            started = time.process_time()
            written = present(clip, path, config) or _written(reader, clip, path, config)
            results[clip] = replace(written, cpu_seconds=time.process_time() - started)
    finally:
        reader.close()
    return [results[clip] for clip in clips]


def clip_path(folder: Path, clip_id: str) -> Path:
    """Where a clip is written."""
    return folder / f"{clip_id}.mp4"


def _mark(clip: ClipRange, config: ClipConfig) -> str:
    """What a file says in its comment: with the clip_id, all that it was made from."""
    identity = json.dumps([_VERSION, asdict(config), clip.crop], sort_keys=True)
    return f"skycaptioner clip {hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def present(clip: ClipRange, path: Path, config: ClipConfig) -> Written | None:
    """The clip's file, where there is one of this configuration."""
    if not path.is_file():
        return None
    try:
        with open_container(path) as container:
            if container.metadata.get("comment") != _mark(clip, config):
                return None
            stream = video_stream(container)
            size = stream.codec_context.width, stream.codec_context.height
            return Written(clip.clip_id, path, stream.frames, *size, path.stat().st_size)
    except (av.FFmpegError, UnreadableVideoError, UnicodeError, ValueError, OSError):
        return None


def _written(reader: _Reader, clip: ClipRange, path: Path, config: ClipConfig) -> Written:
    try:
        try:
            return _encode(reader, clip, path, config)
        except _OtherFramesError:
            if not reader.seeks:
                raise
        reader.stop_seeking()
        return _encode(reader, clip, path, config)
    except (_OtherFramesError, UnreadableVideoError, av.FFmpegError, OSError, ValueError) as error:
        return Written(clip.clip_id, path, error=f"{type(error).__name__.strip('_')}: {error}")


class _Reader:
    """Gives the frames of one clip after another, in order of time."""

    def __init__(self, source: Path, threads: int) -> None:
        self.source = source
        self.seeks = True
        self._threads = threads
        self._video: Video | None = None
        self._frames: Iterator[Any] = iter(())
        self._next: AvFrame | None = None
        self._last_pts: int | None = None

    def close(self) -> None:
        """Close the file; it is opened again when frames are asked for."""
        if self._video is not None:
            self._video.__exit__()
        self._video = self._next = self._last_pts = None

    def stop_seeking(self) -> None:
        """Decode in sequence from now on, as the scan did that found the clips."""
        self.close()
        self.seeks = False

    def open(self, clip: ClipRange) -> Video:
        """Go to the clip's first frame or before it. Raises UnreadableVideoError."""
        if self._video is None or not self._near(clip):
            self.close()
            at = Position(clip.start_pts, clip.first_frame) if self.seeks else None
            self._video = open_pyav(self.source, self._threads, at=at, exact=True)
            self._frames = self._video.frames()
            self._advance()
        if self._video.info.time_base != clip.time_base:
            raise UnreadableVideoError(
                f"the source's time base is {self._video.info.time_base}, not {clip.time_base}"
            )
        return self._video

    def frames(self, clip: ClipRange) -> Iterator[AvFrame]:
        """The frames within the clip's bounds. Raises _OtherFramesError."""
        count = 0
        while self._next is not None and self._next.pts < clip.end_pts:
            if self._next.pts >= clip.start_pts:
                if count == 0 and self._next.pts != clip.start_pts:
                    break
                count += 1
                yield self._next
            self._advance()
        if count != clip.frames:
            raise _OtherFramesError(
                f"{count} frames from timestamp {clip.start_pts} on, not {clip.frames}"
            )

    def _near(self, clip: ClipRange) -> bool:
        """Whether the clip is best reached by going on."""
        if self._next is None:
            return self._last_pts is not None and self._last_pts < clip.start_pts
        ahead = (clip.start_pts - self._next.pts) * clip.time_base
        return ahead >= 0 and (ahead <= _NEAR or not self.seeks)

    def _advance(self) -> None:
        self._next = next(self._frames, None)
        if self._next is not None:
            self._last_pts = self._next.pts


# --- encoding -----------------------------------------------------------------------------------


def _encode(reader: _Reader, clip: ClipRange, path: Path, config: ClipConfig) -> Written:
    """Write one clip. Raises _OtherFramesError, UnreadableVideoError, av.FFmpegError, OSError, and
    ValueError where the crop is not within the picture."""
    info = reader.open(clip).info
    shown = _shown(reader.frames(clip), clip)
    time_base, rate = clip.time_base, Fraction(info.fps).limit_denominator(1001)
    if config.fps is not None:
        rate = Fraction(config.fps).limit_denominator(1001)
        shown, time_base = _at_rate(shown, clip, rate), 1 / rate
    with replacing(path) as part:
        options = {"movflags": "+faststart"}
        with av.open(str(part), "w", format="mp4", options=options) as output:
            output.metadata["comment"] = _mark(clip, config)
            stream: av.VideoStream | None = None
            sound = _Sound([], None)
            waiting: deque[av.Packet[Any]] = deque()
            durations: dict[int, int] = {}
            count = 0
            for frame, at, duration in shown:
                picture = _picture(frame, clip.crop, config.height)
                if stream is None:
                    stream = _video_stream(output, frame, picture, rate, time_base, config)
                    sound = _sound(reader.source, clip, output, config)
                    waiting.extend(sound.packets)
                picture.pts, picture.time_base = at, time_base
                picture.pict_type = av.video.frame.PictureType.NONE
                durations[at] = duration
                count += 1
                for packet in stream.encode(picture):
                    _mux(output, packet, durations, waiting)
            if stream is None:
                raise _OtherFramesError("no frame within the bounds")
            for packet in stream.encode(None):
                _mux(output, packet, durations, waiting)
            output.mux(list(waiting))
            size = stream.width, stream.height
    return Written(
        clip.clip_id, path, count, *size, path.stat().st_size, made=True, warning=sound.warning
    )


def _shown(frames: Iterator[AvFrame], clip: ClipRange) -> Iterator[Timed]:
    """Each frame from its timestamp in the clip up to the next one's."""
    held: AvFrame | None = None
    for frame in frames:
        if held is not None:
            yield held, held.pts - clip.start_pts, frame.pts - held.pts
        held = frame
    if held is not None:
        yield held, held.pts - clip.start_pts, clip.end_pts - held.pts


def _at_rate(shown: Iterator[Timed], clip: ClipRange, rate: Fraction) -> Iterator[Timed]:
    """What is shown at each tick of a constant rate."""
    ticks = max(1, round((clip.end_pts - clip.start_pts) * clip.time_base * rate))
    tick = 0
    for frame, at, duration in shown:
        last = at + duration >= clip.end_pts - clip.start_pts
        end = (at + duration) * clip.time_base * rate
        while tick < ticks and (tick < end or last):
            yield frame, tick, 1
            tick += 1


def _mux(
    output: av.container.OutputContainer,
    packet: av.Packet[Any],
    durations: dict[int, int],
    waiting: deque[av.Packet[Any]],
) -> None:
    """Write a packet of video after the sound that comes before it."""
    if packet.pts is not None:
        packet.duration = durations.pop(packet.pts)
    while waiting and _time(waiting[0]) <= _time(packet):
        output.mux(waiting.popleft())
    output.mux(packet)


def _time(packet: av.Packet[Any]) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base)


def _video_stream(
    output: av.container.OutputContainer,
    frame: AvFrame,
    picture: av.VideoFrame,
    rate: Fraction,
    time_base: Fraction,
    config: ClipConfig,
) -> av.VideoStream:
    parameters = ":".join((_SKIPPABLE, *REPEATABLE.values()))
    options = {"crf": str(config.crf), "preset": config.preset, "x264-params": parameters}
    stream = output.add_stream("libx264", rate=rate, options=options)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
    context.sample_aspect_ratio = Fraction(1)
    context.time_base = stream.time_base = time_base
    context.thread_count = config.threads
    # Players guess by the size where a file does not say, and the size may have changed.
    context.colorspace = _MATRICES[frame.matrix]
    context.color_range = ColorRange.MPEG
    context.color_primaries = int(frame.frame.color_primaries)
    context.color_trc = int(frame.frame.color_trc)
    return stream


_AVX512 = 256
"""CV_CPU_AVX512_SKX in opencv2/core/cvdef.h, which has no name in Python."""

REPEATABLE = {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX512) else {}
"""x264 165 with AVX-512 gives other bytes each time (its macroblock tree does; 60 dB apart)."""

_SKIPPABLE = "b-adapt=0:b-pyramid=none"
"""Three of four frames are such that no other refers to them, and a loader that wants few frames
need not decode the rest: a quarter less CPU for 16 frames of real clips of 110 frames, for files
1 to 2 % larger at crf 18 and 0.5 dB lower."""


# --- pictures -----------------------------------------------------------------------------------


def _picture(frame: AvFrame, crop: Box | None, height: int | None) -> av.VideoFrame:
    """The frame upright, with square pixels, cropped and reduced; yuv420p in video range.

    Raises ValueError where the crop is not within the picture.
    """
    picture = _square(frame)
    turns = frame.rotation // 90
    width, tall = picture.width, picture.height
    if turns % 2:
        width, tall = tall, width
    x, y, w, h = crop or (0, 0, max(2, width // 2 * 2), max(2, tall // 2 * 2))
    if x + w > width or y + h > tall:
        raise ValueError(f"a crop to {x}, {y}, {w}, {h} is not within {width}x{tall} pixels")
    if turns or (w, h) != (picture.width, picture.height):
        picture = _cut_out(picture, turns, (x, y, w, h))
    if height is not None and h > height:
        reduced = max(2, 2 * round(w * height / h / 2))
        picture = picture.reformat(width=reduced, height=height, interpolation="BICUBIC")
    return picture


def _square(frame: AvFrame) -> av.VideoFrame:
    """As decoded, but yuv420p in video range, with square pixels and at least 2 of them a side."""
    source = frame.frame
    colours = source.format.is_rgb or source.format.has_palette
    matrix = Colorspace.ITU709 if frame.matrix == "bt709" else Colorspace.ITU601
    full = ColorRange.JPEG if frame.full_range else ColorRange.MPEG
    return source.reformat(
        width=max(2, round(source.width * frame.aspect)),
        height=max(2, source.height),
        format="yuv420p",
        interpolation="BICUBIC",
        dst_colorspace=matrix if colours else None,
        src_color_range=None if colours else full,
        dst_color_range=ColorRange.MPEG,
    )


def _cut_out(picture: av.VideoFrame, turns: int, box: Box) -> av.VideoFrame:
    """A yuv420p picture turned clockwise by quarter turns, and of that the box."""
    x, y, w, h = box
    parts = []
    for k, plane in zip((1, 2, 2), picture.planes):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        upright = np.rot90(rows[:, : plane.width], -turns)
        parts.append(upright[y // k : (y + h) // k, x // k : (x + w) // k].ravel())
    i420 = np.concatenate(parts).reshape(h * 3 // 2, w)
    return av.VideoFrame.from_ndarray(i420, format="yuv420p")


# --- sound --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sound:
    packets: list[av.Packet[Any]]
    warning: str | None


def _sound(
    source: Path, clip: ClipRange, output: av.container.OutputContainer, config: ClipConfig
) -> _Sound:
    """The clip's sound as AAC, silence where there is none; no packets where the source is mute."""
    if not config.audio:
        return _Sound([], None)
    with open_container(source) as container:
        if not container.streams.audio:
            return _Sound([], None)
        track = container.streams.audio[0]
        rate = track.rate if track.rate in _AUDIO_RATES else 48_000
        layout = "mono" if track.channels == 1 else "stereo"
        stream = output.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = config.audio_bitrate
        start, end = clip.start_pts * clip.time_base, clip.end_pts * clip.time_base
        samples = _Samples(start, round((end - start) * rate), rate, layout)
        packets: list[av.Packet[Any]] = []
        for frame in samples.of(container, track):
            packets += stream.encode(frame)
        packets += stream.encode(None)
        missing = samples.silent / max(1, samples.total)
        warning = f"{missing:.0%} of the sound is missing" if missing > 0.01 else None
        return _Sound(packets, warning)


class _Samples:
    """Sound from `start` seconds on, `total` samples of it, without gaps: silence fills them."""

    def __init__(self, start: Fraction, total: int, rate: int, layout: str) -> None:
        self.total = total
        self.silent = 0
        self._start = start
        self._rate = rate
        self._layout = layout
        self._channels = 1 if layout == "mono" else 2
        self._at = 0

    def of(
        self, container: av.container.InputContainer, track: av.AudioStream
    ) -> Iterator[av.AudioFrame]:
        """Frames of floating-point samples, one after the other."""
        for frame in self._decoded(container, track):
            if frame.pts is None or frame.time_base is None:
                continue
            begin = round((frame.pts * frame.time_base - self._start) * self._rate)
            if begin > self._at:
                yield from self._silence(min(begin, self.total))
            if begin + frame.samples > self._at and begin < self.total:
                samples = np.asarray(frame.to_ndarray(), np.float32)
                yield self._frame(samples[:, self._at - begin : self.total - begin])
            if self._at >= self.total:
                return
        yield from self._silence(self.total)

    def _decoded(
        self, container: av.container.InputContainer, track: av.AudioStream
    ) -> Iterator[av.AudioFrame]:
        tick = track.time_base or Fraction(1, self._rate)
        # Where it fails, the sound before the clip is decoded as well, and left out.
        with contextlib.suppress(av.FFmpegError):
            container.seek(round((self._start - _PREROLL) / tick), stream=track)
        resampler = av.AudioResampler("fltp", self._layout, self._rate)
        for packet in container.demux(track):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                yield from resampler.resample(frame)

    def _silence(self, until: int) -> Iterator[av.AudioFrame]:
        self.silent += max(0, until - self._at)
        while self._at < until:
            n = min(until - self._at, self._rate)
            yield self._frame(np.zeros((self._channels, n), np.float32))

    def _frame(self, samples: NDArray[np.float32]) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", self._layout)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._at
        self._at += frame.samples
        return frame
