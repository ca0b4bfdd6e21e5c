"""Rendered video with exact truth: procedural pictures, and a writer for odd files.

Everything is seeded: the same arguments give the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.clips import REPEATABLE

Rgb = NDArray[np.uint8]


def still(seed: int, width: int = 640, height: int = 360) -> Rgb:
    """A (height, width, 3) uint8 RGB picture with texture at every scale and a few solid shapes.

    The spectrum falls off as in photographs (amplitude about 1 / frequency); the palette, the
    brightness and the shapes follow from the seed.
    """
    rng = np.random.default_rng(seed)
    texture = np.zeros((height, width), np.float32)
    cells = 2
    while cells < max(width, height):
        grid = rng.standard_normal((cells * height // width + 2, cells + 2)).astype(np.float32)
        texture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.9
        cells *= 2
    texture = (texture - texture.mean()) / texture.std()

    base, tint = rng.uniform(50, 190, 3), rng.uniform(-30, 30, 3) + rng.uniform(20, 45)
    picture = base + texture[..., None] * tint
    for _ in range(int(rng.integers(4, 12))):
        shape = np.zeros((height, width), np.float32)
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(15, width // 4)), int(rng.integers(15, height // 3)))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(shape, centre, axes, angle, 0, 360, 1.0, -1, cv2.LINE_AA)
        x, y, w, h = cv2.boundingRect((shape > 0).astype(np.uint8))
        box = np.s_[y : y + h, x : x + w]
        colour = rng.uniform(10, 245, 3) + texture[*box, None] * rng.uniform(3, 15)
        part = shape[*box, None]
        picture[box] = picture[box] * (1 - part) + colour * part
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def write_video(
    path: Path,
    frames: Iterable[Rgb],
    fps: float = 25.0,
    *,
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    start: float = 0.0,
    aspect: Fraction | None = None,
    crf: int = 18,
) -> Path:
    """Write RGB frames (H, W, 3) uint8, H and W even, to a file of the format that its name says.

    `times` gives each frame's time in seconds (variable frame rate), `start` shifts all of them,
    `aspect` is the sample aspect ratio.
    """
    # MPEG-4 part 2 holds no finer clock than 16 bits.
    time_base = Fraction(1, 60_000 if codec == "mpeg4" else 90_000)
    with av.open(str(path), "w") as container:
        stream: av.VideoStream | None = None
        for i, frame in enumerate(frames):
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = cast(av.VideoStream, container.add_stream(codec, rate=rate))
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = time_base
                stream.time_base = time_base
                stream.codec_context.thread_count = 1
                if codec in ("libx264", "libx265"):
                    stream.options = {"crf": str(crf), "preset": "veryfast"}
                if codec == "libx264":
                    stream.options = {**stream.options, **REPEATABLE}
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            seconds = (times[i] if times is not None else i / fps) + start
            picture.pts = round(seconds / time_base)
            picture.time_base = time_base
            container.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("a video has at least one frame")
        container.mux(stream.encode())
    return path
