"""What crosses from the process that decodes to the one that captions.

The decoding side does all that needs no model: it picks and scales the frames of a clip (a policy
of `captioner.policies`) and packs them as JPEG. Measured on the clips of a 1080p trailer (16 frames
of 532 x 280 each, one thread): raw 6.37 MB a clip and 6 ms of CPU to write and read; JPEG of
quality 95 0.41 MB and 6 + 8 ms, 0.7 levels of 255 away on average. So JPEG: for 8 ms more, beside
the 2,000 ms that scanning and measuring a clip takes, 15 times as many clips fit into a queue, a
pipe or Ray's object store: 1,000 clips in flight are 0.4 GB instead of 6.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.frames import FrameBatch
from captioner.policies import ModelVideo
from captioner.result import CaptionResult

JPEG_QUALITY = 95
"""Percent; see above for what it costs."""


@dataclass(frozen=True)
class PackedVideo:
    """A ModelVideo whose frames are JPEG files."""

    frames: tuple[bytes, ...]
    times: tuple[float, ...]
    fps: float
    total_frames: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """A clip on its way to an engine: one view, or several where it is captioned by windows.

    `clip_id` seeds what is random about its prose.
    A view is what the engine takes: a model's frames, or the whole sample. `experts` is what the
    experts saw on the decoding side, where the engine's caption is to be merged with theirs.
    """

    views: tuple[PackedVideo | ModelVideo | FrameBatch, ...]
    experts: CaptionResult | None = None
    clip_id: str = ""

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a clip has at least one view")


def pack(video: ModelVideo) -> PackedVideo:
    """The video with its (N, H, W, 3) uint8 RGB frames as N JPEG files."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    frames = tuple(
        cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
        for frame in video.frames
    )
    return PackedVideo(frames, video.times, video.fps, video.total_frames, video.indices)


def unpack(packed: PackedVideo) -> ModelVideo:
    """The video again, its pixels within what JPEG changes."""
    frames = np.stack([_rgb(frame) for frame in packed.frames])
    return ModelVideo(frames, packed.times, packed.fps, packed.total_frames, packed.indices)


def unpacked(prepared: Prepared) -> Prepared:
    """The clip with its frames as the engine takes them."""
    views = (unpack(view) if isinstance(view, PackedVideo) else view for view in prepared.views)
    return replace(prepared, views=tuple(views))


def _rgb(jpeg: bytes) -> NDArray[np.uint8]:
    # Turning BGR around afterwards, with OpenCV's threads, takes longer than decoding.
    rgb = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if rgb is None:
        raise ValueError("a packed frame is no JPEG file")
    return np.asarray(rgb, np.uint8)
