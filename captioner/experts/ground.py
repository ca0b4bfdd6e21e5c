"""Where the camera is, from people standing on one ground at different distances.

Seen by a level or tilted camera, people of one height H on flat ground are as high in the picture
as their feet are below the horizon, times H over the camera's height (similar triangles; Criminisi,
Reid and Zisserman, Single View Metrology). A line through (feet, height) gives both unknowns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from captioner.experts.boxes import Box

MIN_PEOPLE = 4
"""Two give a line; these give its uncertainty too."""

MIN_SPREAD = 0.15
"""Range of the feet, in fractions of the frame's height, below which all are equally far."""

MIN_TALL = 1.5
"""Height over width of a person who stands or walks."""

EDGE = 0.015
"""Nearer than this to the frame's top or bottom, a figure may be cut."""


@dataclass(frozen=True)
class Camera:
    """`height` lies between `lowest` and `highest` in heights of the people (95 %), and `horizon`
    is a fraction of the frame's height from the top, negative above the frame."""

    lowest: float
    highest: float
    horizon: float


def camera_over_ground(boxes: Sequence[Box], aspect: float) -> Camera | None:
    """The camera that sees people in these boxes, or None where they do not tell.

    `aspect` is the frame's width over its height.
    """
    standing = [
        box
        for box in boxes
        if box.top > EDGE and box.bottom < 1 - EDGE and box.height > MIN_TALL * box.width * aspect
    ]
    if len(standing) < MIN_PEOPLE:
        return None
    feet = np.array([box.bottom for box in standing])
    heights = np.array([box.height for box in standing])
    if np.ptp(feet) < MIN_SPREAD:
        return None
    slope, offset = np.polyfit(feet, heights, 1)
    left = heights - (slope * feet + offset)
    error = math.sqrt(float(left @ left) / (len(feet) - 2)) / (float(feet.std()) * len(feet) ** 0.5)
    low, high = slope - 2 * error, slope + 2 * error
    if low <= 0:
        return None  # nearer people do not look larger: not one ground, or too few
    return Camera(float(1 / high), float(1 / low), float(-offset / slope))
