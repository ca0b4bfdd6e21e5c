"""Which files are opened at all, and why others are not.

Files are untrusted: only formats that are whole in one file are opened, over the local file
protocol, so that a playlist named .mp4 cannot make the decoder read anything else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import av
import av.logging

from captioner.video import NoVideoError, UnreadableVideoError

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


def open_container(path: Path) -> av.container.InputContainer:
    """A local file of one of `FORMATS`. Raises av.FFmpegError, UnicodeError or ValueError."""
    return av.open(
        f"file:{path.absolute()}",
        options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
        metadata_errors="ignore",
    )


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that is decoded. Raises UnreadableVideoError when there is none."""
    # A cover picture is a video stream too, of one frame: never prefer it.
    streams = [s for s in container.streams.video if not s.disposition & _ATTACHED_PICTURE]
    if not streams:
        raise NoVideoError("there is no video stream in it")
    return streams[0]


_ATTACHED_PICTURE = av.stream.Disposition.attached_pic


def is_text(header: bytes) -> bool:
    """Whether a file that begins with these bytes is text."""
    return header.isascii() and not set(header) & _BINARY and not header.startswith(b"YUV4MPEG2")


_BINARY = frozenset(range(32)) - frozenset(b"\t\n\r")


def looks_like_container(header: bytes) -> bool:
    """Whether a file that begins with these bytes, 12 or more, has a container's signature."""
    return any(header[at : at + len(magic)] == magic for at, magic in _MAGIC)


def _begins_like_container(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return looks_like_container(file.read(16))
    except OSError:
        return False


def why_not_opened(path: Path, error: BaseException) -> UnreadableVideoError:
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
            return UnreadableVideoError(f"{reason(error)} (not a video?)")
        return NoVideoError("its index (moov atom) is missing: the file is cut short")
    if any("not on whitelist" in line for line in said):
        return NoVideoError("a playlist or another format that refers to other files")
    return UnreadableVideoError(f"{reason(error)} ({said[-1] if said else 'not a video?'})")


def reason(error: BaseException) -> str:
    """The error in words, without the path that FFmpeg adds."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())
