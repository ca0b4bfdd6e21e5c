"""How likely a clip shows nudity or sex, by Yahoo's open_nsfw network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.networks import onnx
from captioner.experts.sightings import crop, without_bars
from captioner.frames import FrameBatch
from curation.measure.columns import Columns, column

LOOKS = 2
"""Pictures looked at: the network takes 20 ms each."""

SMALL = 640
"""Pictures are halved until both sides are below this many pixels before anything else."""

SIDE = 224
RESIZED = 256
"""The network sees the middle 224 x 224 pixels of the picture resized to 256 x 256, aspect ratio
aside, as in github.com/yahoo/open_nsfw, classify_nsfw.py."""

MEAN_BGR = np.array([104, 117, 123], np.float32)
"""Levels taken off each channel, as in the same file."""


class Safety(Columns):
    """What may not be shown to everyone."""

    safety_nsfw: float | None = column(
        "probability of nudity or sex, the highest of two pictures", low=0.0, high=1.0
    )


def measure(batch: FrameBatch) -> Safety:
    """The score of a clip: below 0.2 is safe and above 0.8 not, by the network's authors."""
    pictures = [picture.halved(SMALL) for picture in batch.uniform(LOOKS)]
    inside = without_bars(pictures)
    return Safety(safety_nsfw=max(_score(crop(picture.rgb, inside)) for picture in pictures))


def _score(rgb: NDArray[np.uint8]) -> float:
    """0 to 1, of an (H, W, 3) uint8 picture."""
    shrinks = min(rgb.shape[:2]) >= RESIZED
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    whole = cv2.resize(rgb, (RESIZED, RESIZED), interpolation=how)
    edge = (RESIZED - SIDE) // 2
    middle = whole[edge : edge + SIDE, edge : edge + SIDE]
    (scores,) = onnx("open-nsfw.onnx")(middle[None, :, :, ::-1] - MEAN_BGR)
    return float(np.clip(scores[0, 1], 0.0, 1.0))
