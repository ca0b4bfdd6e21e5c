"""Videos that the tests render: the odd and the broken ones of this world."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from eval.synth import Rgb, still, write_video


def panning(seed: int, frames: int = 25, width: int = 320, height: int = 180) -> list[Rgb]:
    """A slow pan over one picture: a shot in which every frame differs."""
    picture = still(seed, width + 2 * frames, height)
    return [picture[:, 2 * i : 2 * i + width] for i in range(frames)]


def two_shots(path: Path, seed: int = 0, fps: float = 25.0) -> Path:
    """25 frames of one shot and 25 of another."""
    return write_video(path, panning(seed) + panning(seed + 1), fps)


def rotated(path: Path, degrees: int) -> Path:
    """A video with rotation metadata: its left half is red as stored, before rotation."""
    upright = path.with_name(f"upright-{path.name}")
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[:, :80, 0] = 255
    write_video(upright, [frame] * 5)
    content = bytearray(upright.read_bytes())
    # The display matrix of an MP4's video track, ISO/IEC 14496-12 section 8.3.2: 16.16 fixed
    # point, a b u / c d v / x y w; the last column is 2.30.
    one, identity = 1 << 16, (1, 0, 0, 1)
    turn = {0: identity, 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]

    def matrix(a: int, b: int, c: int, d: int) -> bytes:
        cells = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        return b"".join((cell & 0xFFFFFFFF).to_bytes(4, "big") for cell in cells)

    header = content.index(b"tkhd")
    at = content.index(matrix(*identity), header)
    content[at : at + 36] = matrix(*turn)
    path.write_bytes(bytes(content))
    upright.unlink()
    return path


def audio_only(path: Path) -> Path:
    """A second of silence in an MP4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), "fltp", "mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bit_flipped(path: Path, seed: int = 0) -> Path:
    """A video with one byte in 2,000 of its picture data changed."""
    write_video(path, panning(seed, 60))
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data = path.read_bytes().index(b"mdat") + 4
    end = path.read_bytes().index(b"moov") - 4
    rng = np.random.default_rng(seed)
    at = rng.integers(data, end, max(1, (end - data) // 2000))
    content[at] ^= rng.integers(1, 256, len(at)).astype(np.uint8)
    path.write_bytes(content.tobytes())
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    """The first bytes of a Matroska file, whose index is not needed to begin reading."""
    write_video(path, panning(3, 100))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def one_pixel(path: Path) -> Path:
    """A 1 x 1 picture, which only lossless codecs store."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 1, 1, "yuv444p"
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((1, 1, 3), 50 * i, np.uint8), "rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv444p")))
        container.mux(stream.encode())
    return path
