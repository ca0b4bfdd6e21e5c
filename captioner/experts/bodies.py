"""People and things: where they are (SSD MobileNet v2, COCO) and how a body stands (MoveNet)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.experts.networks import tensorflow, tflite

Rgb = NDArray[np.uint8]

MIN_SCORE = 0.5
MIN_POINT = 0.3
"""MoveNet's model card calls a keypoint seen above 0.2 to 0.4."""

MAX_BODIES = 2
"""Persons a picture whose keypoints are taken, the largest ones."""

PERSON_MARGIN = 1.25
"""MoveNet wants the person with some room around: its own tracker crops 1.2 to 1.9 times."""

# COCO's class numbers (they have gaps) that the experts use; the rest are indoor things.
COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train",
    8: "truck", 9: "boat", 16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow",
    22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe", 35: "skis", 36: "snowboard",
    37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 52: "banana", 53: "apple", 54: "sandwich",
    55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza", 60: "donut",
    61: "cake", 64: "potted plant",
}  # fmt: skip

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""MoveNet's 17 points in its order; left and right are the person's own."""


@dataclass(frozen=True)
class Thing:
    """An object in one picture: a COCO name, where, and a score from 0 to 1."""

    name: str
    box: Box
    score: float


@dataclass(frozen=True)
class Body:
    """A person in one picture. `points` holds (x, y, score) a keypoint, in fractions of the frame;
    points outside the frame are never seen."""

    box: Box
    score: float
    points: tuple[tuple[float, float, float], ...]

    def seen(self, name: str) -> tuple[float, float] | None:
        """(x, y) of a keypoint in fractions of the frame, or None where it is not seen."""
        x, y, score = self.points[KEYPOINTS.index(name)]
        return (x, y) if score >= MIN_POINT and 0 <= x <= 1 and 0 <= y <= 1 else None

    @property
    def torso(self) -> float | None:
        """Fraction of the frame's height from the shoulders' middle down to the hips', or None
        where a shoulder or a hip is not seen."""
        shoulders = [self.seen("left_shoulder"), self.seen("right_shoulder")]
        hips = [self.seen("left_hip"), self.seen("right_hip")]
        tops = [point[1] for point in shoulders if point is not None]
        ends = [point[1] for point in hips if point is not None]
        if not tops or not ends:
            return None
        length = sum(ends) / len(ends) - sum(tops) / len(tops)
        return length if length > 0 else None

    @property
    def shows_feet(self) -> bool:
        """Whether an ankle is seen inside the frame."""
        return self.seen("left_ankle") is not None or self.seen("right_ankle") is not None

    def head_area(self, aspect: float) -> Box:
        """A box around the head, about three head widths wide; `aspect` is that of the frame."""
        found = [p for p in map(self.seen, KEYPOINTS[:5]) if p is not None]
        # A head is a seventh of a standing body, and half of one whose shoulders fill the box.
        side = max(self.box.height / 2.5, min(self.box.height, self.box.width * aspect) * 0.6)
        x = sum(p[0] for p in found) / len(found) if found else self.box.centre[0]
        y = sum(p[1] for p in found) / len(found) if found else self.box.top + side / 4
        half = side / 2
        return Box(x - half / aspect, y - half, x + half / aspect, y + half).clipped()

    def score_of(self, *names: str) -> float:
        """The mean score of keypoints, 0 to 1."""
        return sum(self.points[KEYPOINTS.index(name)][2] for name in names) / len(names)


def find_objects(rgb: Rgb) -> tuple[Thing, ...]:
    """Things in an (H, W, 3) uint8 picture, best first."""
    blob = cv2.dnn.blobFromImage(rgb, size=(300, 300))
    (found,) = tensorflow("ssd_mobilenet_v2.pb", "ssd_mobilenet_v2.pbtxt")(blob)
    return tuple(
        Thing(COCO[int(number)], Box(*(float(v) for v in box)), float(score))
        for _, number, score, *box in sorted(found[0, 0].tolist(), key=lambda row: -row[2])
        if score >= MIN_SCORE and int(number) in COCO
    )


def find_bodies(rgb: Rgb, things: tuple[Thing, ...]) -> tuple[Body, ...]:
    """The keypoints of the largest persons among the things found in a picture."""
    people = sorted((t for t in things if t.name == "person"), key=lambda t: -t.box.area)
    return tuple(find_body(rgb, person) for person in people[:MAX_BODIES])


def find_body(rgb: Rgb, person: Thing) -> Body:
    """The keypoints of a person found in an (H, W, 3) uint8 picture."""
    height, width = rgb.shape[:2]
    box = person.box
    side = PERSON_MARGIN * max(box.width * width, box.height * height, 1.0)
    x, y = box.centre
    left, top = x * width - side / 2, y * height - side / 2
    scale = 192 / side
    crop = cv2.warpAffine(
        rgb,
        np.array([[scale, 0, -left * scale], [0, scale, -top * scale]]),
        (192, 192),
        flags=cv2.INTER_AREA,
    )
    (points,) = tflite("movenet_lightning.tflite")(crop[None])
    return Body(
        box,
        person.score,
        tuple(
            ((left + px * side) / width, (top + py * side) / height, float(score))
            for py, px, score in points[0, 0].tolist()
        ),
    )
