"""Which frames of a clip a model sees, how large, and when it is told that they are.

`reference` follows the released script (SkyReels-V2, skycaptioner_v1/scripts/
vllm_struct_caption.py), so that published behaviour can be reproduced: frames round(i (N - 1) / 16)
of N, which leave out the last sixteenth, squashed to 360 x 420 and told as 2 frames a second.
`native` spreads its frames over the whole clip, keeps the shape of the picture and tells true
times, within the same number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.decode import open_video
from captioner.frames import FrameBatch, Picture
from captioner.video import UnreadableVideoError

FRAMES = 16
"""Frames a model sees, as in the released script."""

REFERENCE_WIDTH, REFERENCE_HEIGHT = 360, 420
"""Pixels, whatever the shape of the picture."""

REFERENCE_FPS = 2.0
"""What the model is told: frames without times count as this many a second (transformers,
Qwen2.5-VL's processor), as does the `fps` in the released message."""

CELL = 28
"""Pixels of the side of what becomes one token: a patch is 14, and 2 x 2 of them are merged
(Qwen2.5-VL)."""

CELLS = 15 * 13
"""Tokens of a pair of frames of 360 x 420, which the processor makes 364 x 420."""

TEMPORAL_PATCH = 2
"""Frames that share their tokens (Qwen2.5-VL)."""


@dataclass(frozen=True)
class ModelVideo:
    """The frames that a model sees, and what it is told of them.

    `frames` is (N, H, W, 3) uint8 RGB, `times` when each is shown, in seconds from the clip's
    start. They are the frames number `indices` of a clip of `total_frames` frames at `fps` frames
    a second. Raises ValueError where these do not fit.
    """

    frames: NDArray[np.uint8]
    times: tuple[float, ...]
    fps: float
    total_frames: int
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"frames are (N, H, W, 3) uint8, not {self.frames.shape} {self.frames.dtype}"
            )
        if not len(self.frames) == len(self.times) == len(self.indices) > 0:
            raise ValueError(
                f"{len(self.frames)} frames, {len(self.times)} times, {len(self.indices)} indices"
            )
        if not self.fps > 0:
            raise ValueError(f"fps must be positive, not {self.fps}")
        if not all(0 <= index < self.total_frames for index in self.indices):
            raise ValueError(f"frames {self.indices} of a clip of {self.total_frames}")

    @property
    def second_per_grid_ts(self) -> float:
        """Seconds that one step of the model's time takes: two frames share their tokens."""
        return TEMPORAL_PATCH * self.total_frames / (len(self.frames) * self.fps)


def native(batch: FrameBatch) -> ModelVideo:
    """Up to 16 frames at the centres of equal parts of the clip, at their true times.

    Both sides are multiples of 28 pixels, the shape of the picture is kept as well as these allow,
    and nothing is enlarged but to these multiples.
    """
    pictures = batch.uniform(FRAMES)
    height, width = native_size(pictures[0].height, pictures[0].width)
    total = _total_frames(batch)
    first = batch.pictures[0].index
    return ModelVideo(
        _scaled(pictures, width, height),
        tuple(picture.time - batch.start for picture in pictures),
        total / batch.duration if batch.duration > 0 else REFERENCE_FPS,
        total,
        tuple(min(picture.index - first, total - 1) for picture in pictures),
    )


def native_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, multiples of `CELL` with at most `CELLS` cells, at least two each way."""
    scale = min(1.0, math.sqrt(CELLS * CELL * CELL / (height * width)))
    rows = max(2, round(height * scale / CELL))
    columns = max(2, round(width * scale / CELL))
    while rows * columns > CELLS:
        if rows > columns:
            rows -= 1
        else:
            columns -= 1
    return rows * CELL, columns * CELL


def reference(batch: FrameBatch) -> ModelVideo:
    """The frames of the released script, or the nearest to each that the batch has kept.

    A batch keeps 16 to 32 pictures of a long clip; `read_reference` reads the exact frames.
    """
    first = batch.pictures[0].index
    kept = np.array([picture.index - first for picture in batch.pictures])
    wanted = reference_indices(_total_frames(batch))
    return _told([batch.pictures[int(np.abs(kept - index).argmin())] for index in wanted])


def read_reference(path: Path) -> ModelVideo:
    """Exactly the frames of the released script; decodes twice, to know how many there are.

    Raises UnreadableVideoError.
    """
    with open_video(path) as video:
        total = sum(1 for _ in video.frames())
    wanted = reference_indices(total)
    pictures: dict[int, Picture] = {}
    with open_video(path) as video:
        for number, frame in enumerate(video.frames()):
            if number in wanted:
                pictures[number] = frame.picture()
            if number >= wanted[-1]:
                break
    if missing := set(wanted) - set(pictures):
        raise UnreadableVideoError(f"frames {sorted(missing)} came once, and not again")
    return _told([pictures[number] for number in wanted])


def reference_indices(total: int) -> tuple[int, ...]:
    """Frame numbers of the released script for a clip of `total` frames; a short one repeats some.

    Halves are rounded to even, as NumPy does.
    """
    return tuple(round(i * ((total - 1) / FRAMES)) for i in range(FRAMES))


POLICIES: Mapping[str, Callable[[FrameBatch], ModelVideo]] = {
    "native": native,
    "reference": reference,
}


def _total_frames(batch: FrameBatch) -> int:
    """Frames of the clip, those that were not kept too."""
    spanned = batch.pictures[-1].index - batch.pictures[0].index + 1
    return max(spanned, len(batch), round(batch.fps * batch.duration))


def _told(pictures: list[Picture]) -> ModelVideo:
    """Squashed, and told as `REFERENCE_FPS` frames a second."""
    return ModelVideo(
        _scaled(pictures, REFERENCE_WIDTH, REFERENCE_HEIGHT),
        tuple(i / REFERENCE_FPS for i in range(len(pictures))),
        REFERENCE_FPS,
        len(pictures),
        tuple(range(len(pictures))),
    )


def _scaled(pictures: list[Picture], width: int, height: int) -> NDArray[np.uint8]:
    """(N, height, width, 3) uint8 RGB."""
    size = (width, height)
    frames = [cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack([np.asarray(frame, np.uint8) for frame in frames])
