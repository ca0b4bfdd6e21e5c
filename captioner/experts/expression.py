"""The expression of the main face: one of seven classes, averaged over the clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.faces import Face
from captioner.experts.networks import tflite
from captioner.experts.sightings import Look, Sightings

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""The network's outputs in its order, by the names that SkyCaptioner's expression expert uses."""

MIN_FACE_PIXELS = 48
"""Least height of a face in pixels: the network was trained on 48 x 48 faces (FER2013)."""

MAX_YAW = 40.0
"""Degrees beyond which half of the face is hidden."""

MIN_CONFIDENCE = 0.6
MIN_RARE = 0.75
"""For the classes that a talking mouth is mistaken for: all but happiness and neutral."""

MIN_FACES = 2
"""Fewer than these make no average."""


@dataclass(frozen=True)
class Expression:
    """A class of `CLASSES` and its mean probability over the faces that were looked at."""

    name: str
    confidence: float


def main_expression(sightings: Sightings) -> Expression | None:
    """The main face's expression, or None where no face is near enough or the mean is unsure."""
    faces = [(seen, face) for seen in sightings.looks if (face := main_face(seen)) is not None]
    near = [
        probabilities(seen.rgb, face)
        for seen, face in faces
        if face.height * seen.rgb.shape[0] >= MIN_FACE_PIXELS and abs(face.yaw) <= MAX_YAW
    ]
    return average(near)


def average(each: list[NDArray[np.float64]]) -> Expression | None:
    """The mean over faces of (7,) probabilities as an answer, or None where it is unsure."""
    if len(each) < MIN_FACES:
        return None
    mean = np.mean(each, axis=0)
    best = int(mean.argmax())
    confidence = float(mean[best])
    enough = MIN_CONFIDENCE if CLASSES[best] in ("happiness", "neutral") else MIN_RARE
    return Expression(CLASSES[best], confidence) if confidence >= enough else None


def main_face(seen: Look) -> Face | None:
    """The largest face."""
    return max(seen.faces, key=lambda face: face.height, default=None)


def probabilities(rgb: NDArray[np.uint8], face: Face) -> NDArray[np.float64]:
    """(7,) probabilities of `CLASSES` for one face of an (H, W, 3) uint8 picture."""
    height, width = rgb.shape[:2]
    x, y = face.box.centre
    # FER2013 shows the face from the hairline to below the chin, upright.
    side = 1.25 * max(face.box.width * width, face.box.height * height)
    scale = 64 / side
    # The face's centre lies a little below the chip's.
    left, top = x * width * scale - 32, y * height * scale - 37
    onto = np.array([[scale, 0, -left], [0, scale, -top]])
    chip = cv2.warpAffine(
        cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), onto, (64, 64),
        flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    (found,) = tflite("emotion.tflite")(chip[None, :, :, None].astype(np.float32) / 127.5 - 1)
    return np.asarray(found[0], np.float64)
