"""What generates: anything that turns a prompt into frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from captioner.schema import ShotCaption

Rgb = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, or (N, H, W, 3) for N of them."""


class GenerationError(Exception):
    """A prompt that came to no video; the message says why. The next prompt may do."""


@dataclass(frozen=True)
class Prompt:
    """A caption of a real clip, to be generated.

    `text` is the prose, `caption` the structured caption that the video has to adhere to, `concept`
    what the clip counts as, `seed` of the noise, 0 to 2**32 - 1.
    """

    clip_id: str
    source_sha256: str | None
    concept: str
    text: str
    caption: ShotCaption
    seed: int


@dataclass(frozen=True)
class Condition:
    """Frames of the real clip, of the video's own size, that a model is given."""

    first: Rgb
    last: Rgb | None = None


@dataclass(frozen=True)
class Generated:
    """A video: `frames` (N, H, W, 3) uint8 RGB, `fps` of them a second.

    `seconds` are those that it took, `peak_bytes` the most memory: of the GPU, or of the process
    where there is none; None where it is not known. `prompt` is what the model read, where that is
    less than what was sent. Raises ValueError for frames of another kind.
    """

    frames: Rgb
    fps: float
    seconds: float
    peak_bytes: int | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are (N, H, W, 3) uint8, not {self.frames.shape}")
        if not len(self.frames) or not self.fps > 0:
            raise ValueError(f"{len(self.frames)} frames at {self.fps} a second are no video")


class VideoModel(Protocol):
    """Makes videos of prompts."""

    @property
    def name(self) -> str:
        """What it is, in rows: changes with the weights."""
        ...

    def generate(self, prompt: Prompt, condition: Condition | None) -> Generated:
        """The video of a prompt, `prompt.text` being what the model is told.

        Raises GenerationError where this prompt comes to none.
        """
        ...
