"""One look at a clip that all experts share, so that each network sees a picture only once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.bodies import Body, Thing, find_bodies, find_objects
from captioner.experts.boxes import Box, keep_best
from captioner.experts.faces import Face, find_faces
from captioner.experts.networks import tflite
from captioner.frames import FrameBatch, Picture

Rgb = NDArray[np.uint8]

LOOKS = 8
"""Pictures searched for faces: a face takes 10 ms, and an expression is an average over them."""

CLOSE_LOOKS = 4
"""Pictures searched for people and things: 80 ms each."""

BAR_LEVEL = 24
"""Grey level at or below which an edge row is a bar: video black with some coding noise."""

MIN_INSIDE = 0.5
"""Share of a side that is left between bars; with less it is a dark picture, not bars."""


@dataclass(frozen=True)
class Look:
    """What was seen in one picture.

    `rgb` (H, W, 3) uint8 is the picture without black bars, and every box refers to it. `things`
    is None in a picture that was searched for faces only.
    """

    rgb: Rgb
    time: float
    faces: tuple[Face, ...]
    things: tuple[Thing, ...] | None = None
    bodies: tuple[Body, ...] = ()

    @property
    def people(self) -> tuple[Thing, ...]:
        """The persons among the things."""
        return tuple(thing for thing in self.things or () if thing.name == "person")


@dataclass(frozen=True)
class Sightings:
    """What was seen in a clip: `LOOKS` looks in order of time, and the mean ImageNet
    probabilities (1000,) of the `CLOSE_LOOKS` of them that were searched for things."""

    looks: tuple[Look, ...]
    classes: NDArray[np.float64]

    @property
    def close(self) -> tuple[Look, ...]:
        """The looks that were searched for things."""
        return tuple(look for look in self.looks if look.things is not None)

    @property
    def aspect(self) -> float:
        """Width over height of the picture without bars."""
        height, width = self.looks[0].rgb.shape[:2]
        return float(width / height)


def look(batch: FrameBatch) -> Sightings:
    """Faces, people, things and picture classes of a clip: about 0.6 CPU seconds."""
    pictures = batch.uniform(LOOKS)
    inside = without_bars(pictures)
    # The middles of equal parts, like the looks themselves.
    close = {int((i + 0.5) * len(pictures) / CLOSE_LOOKS) for i in range(CLOSE_LOOKS)}
    looks, classes = [], []
    for i, picture in enumerate(pictures):
        rgb = crop(picture.rgb, inside)
        if i in close:
            classes.append(classify(rgb))
            looks.append(_look_closely(rgb, picture.time))
        else:
            looks.append(Look(rgb, picture.time, find_faces(rgb)))
    return Sightings(tuple(looks), np.mean(classes, axis=0))


def classify(rgb: Rgb) -> NDArray[np.float64]:
    """(1000,) ImageNet probabilities of an (H, W, 3) uint8 picture, seen whole."""
    small = cv2.resize(rgb, (280, 280), interpolation=cv2.INTER_AREA)
    (steps,) = tflite("efficientnet_lite3.tflite")(small[None])
    return np.asarray(steps[0] / 256, np.float64)  # the softmax is quantised to 256 steps


def without_bars(pictures: list[Picture]) -> Box:
    """The part of the frame inside the black bars that all pictures share; the whole frame where
    there are none."""
    brightest = np.max([picture.grey for picture in pictures], axis=0)
    edges = []
    for axis in (1, 0):
        # A few bright pixels (a logo, coding noise) do not make a bar a picture.
        lit = np.flatnonzero(np.percentile(brightest, 90, axis=axis) > BAR_LEVEL)
        size = brightest.shape[1 - axis]
        if lit.size and (lit[-1] + 1 - lit[0]) / size >= MIN_INSIDE:
            edges.append((lit[0] / size, (lit[-1] + 1) / size))
        else:
            edges.append((0.0, 1.0))
    (top, bottom), (left, right) = edges
    return Box(float(left), float(top), float(right), float(bottom))


def crop(rgb: Rgb, box: Box) -> Rgb:
    """The part of an (H, W, 3) picture inside a box, without copying."""
    height, width = rgb.shape[:2]
    return rgb[
        round(box.top * height) : round(box.bottom * height),
        round(box.left * width) : round(box.right * width),
    ]


def _look_closely(rgb: Rgb, time: float) -> Look:
    things = find_objects(rgb)
    faces = list(find_faces(rgb))
    aspect = rgb.shape[1] / rgb.shape[0]
    bodies = find_bodies(rgb, things)
    for body in bodies:
        # A far face is too small for the detector in the whole picture, not in a closer view.
        head = body.head_area(aspect)
        if not any(body.box.holds(*face.box.centre) for face in faces):
            faces += find_faces(rgb, head)
    best = keep_best([face.box for face in faces], [face.score for face in faces], overlap=0.3)
    return Look(rgb, time, tuple(faces[i] for i in best), things, bodies)
