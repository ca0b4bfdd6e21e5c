"""Decode a video file once, frame by frame, with whichever decoder can read it.

PyAV first; decord and OpenCV when PyAV cannot open the file or gets no frame out of it. Resolution
and length are bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captioner.containers import is_text, looks_like_container
from captioner.decode_pyav import open_pyav
from captioner.decode_rgb import open_decord, open_opencv
from captioner.frames import ClipSampler, FrameBatch
from captioner.video import NoVideoError, UnreadableVideoError, Video


def open_video(path: Path, threads: int = 0) -> Video:
    """Open a file with the first decoder that gets a frame out of it.

    `threads` decoding threads, 0 for as many as the decoder likes. Raises UnreadableVideoError.
    """
    header = _header(path)
    found: list[str] = []
    for name, opener in _DECODERS.items():
        if name != "pyav" and not looks_like_container(header):
            break
        try:
            video = opener(path, threads)
        except NoVideoError:
            raise
        except UnreadableVideoError as error:
            found.append(f"{name}: {error}")
            continue
        if video.first() is None:
            video.close()
            found.append(f"{name}: no picture could be decoded")
            continue
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
            sampler.offer(frame)
        base = video.info.time_base
        return sampler.batch(float(start * base), float(end * base))


def _header(path: Path) -> bytes:
    """How the file begins. Raises UnreadableVideoError where that alone rules a video out."""
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
    if is_text(header):
        raise UnreadableVideoError(
            f"text, not a video (it begins with {header.decode()!r}); playlists are not followed"
        )
    return header


def _open_pyav(path: Path, threads: int) -> Video:
    return open_pyav(path, threads)


_DECODERS: dict[str, Callable[[Path, int], Video]] = {
    "pyav": _open_pyav,
    "decord": open_decord,
    "opencv": open_opencv,
}
