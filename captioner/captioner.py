"""The public API: `Captioner().caption("clip.mp4")`."""

from __future__ import annotations

from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from captioner.decode import read_clip
from captioner.engine_config import ENGINES, EngineConfig
from captioner.frames import FrameBatch
from captioner.result import CaptionResult, Engine

__all__ = ["ENGINES", "Captioner", "Clip"]

Clip = str | Path | FrameBatch | NDArray[np.uint8]


class Captioner:
    """Captions clips with one engine.

    `engine` is a name of `ENGINES`, a configuration, or an engine of one's own; `auto` takes the
    best that this machine can run. Raises captioner.engine_config.EngineOptionError for a name or
    an option that cannot be.
    """

    def __init__(self, engine: str | EngineConfig | Engine = "auto") -> None:
        config = EngineConfig(engine) if isinstance(engine, str) else engine
        self.engine = config.build() if isinstance(config, EngineConfig) else config

    @overload
    def caption(self, clips: Clip, fps: float = ...) -> CaptionResult: ...
    @overload
    def caption(self, clips: list[Clip], fps: float = ...) -> list[CaptionResult]: ...
    def caption(
        self, clips: Clip | list[Clip], fps: float = 24.0
    ) -> CaptionResult | list[CaptionResult]:
        """Caption one clip, or several in their order: a result for each, whatever happens.

        A clip is a video file (taken as one shot: split raw video with `curation.scan`), a
        FrameBatch, or RGB frames (N, H, W, 3) uint8 at `fps` frames a second. Raises
        captioner.decode.UnreadableVideoError for a file that no decoder reads, ValueError for
        frames of another shape.
        """
        if isinstance(clips, str | Path | FrameBatch | np.ndarray):
            return self.engine.caption([_batch(clips, fps)])[0]
        return self.engine.caption([_batch(clip, fps) for clip in clips])


def _batch(clip: Clip, fps: float) -> FrameBatch:
    if isinstance(clip, FrameBatch):
        return clip
    if isinstance(clip, np.ndarray):
        return FrameBatch.from_rgb(list(clip), fps)
    return read_clip(Path(clip))
