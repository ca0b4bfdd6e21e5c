"""Lighting in a phrase: what the brightness and colour of the pictures say, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.sightings import crop as crop_to
from captioner.experts.sightings import without_bars
from captioner.frames import FrameBatch

PICTURES = 4

BLACK = 8.0
FLAT = 3.0
"""A median grey level and a spread (5th to 95th percentile) below which nothing is lit."""

DARK, BRIGHT = 60.0, 150.0
"""Median grey level: video's mid-grey (18 % reflectance) is at 110 to 120 after gamma; these are
about one and a half stops below and one above."""

HARD, SOFT = 190.0, 110.0
"""Spread between the 5th and the 95th percentile of grey, of 255."""

GREY = 8.0
"""Mean CIELAB chroma below which a picture is black and white."""

TINT = 10.0
"""Mean CIELAB b* beyond which the picture as a whole is warm (yellow) or cool (blue)."""

CHANGE = 40.0
"""Difference of the median grey levels of first and last picture that is seen as a change."""


@dataclass(frozen=True)
class Lighting:
    """`kind` is low_key, high_key or balanced; `phrase` a sentence; `confidence` 0 to 1."""

    kind: str
    phrase: str
    confidence: float


def lighting(batch: FrameBatch) -> Lighting | None:
    """The lighting of a clip, or None where the pictures are black or of a single tone."""
    pictures = batch.uniform(PICTURES)
    inside = without_bars(pictures)
    small = [
        cv2.resize(crop_to(picture.rgb, inside), (160, 90), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    return describe([np.asarray(picture, np.uint8) for picture in small])


def describe(pictures: list[NDArray[np.uint8]]) -> Lighting | None:
    """The lighting of small RGB pictures (h, w, 3) uint8, in order of time."""
    grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    low, median, high = np.percentile(grey, [5, 50, 95])
    if high <= BLACK or high - low <= FLAT:
        return None
    lab = np.stack(
        [cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for picture in pictures]
    )
    chroma = float(np.hypot(lab[..., 1], lab[..., 2]).mean())
    tint = float(lab[..., 2].mean())
    spread = float(high - low)

    kind = "low_key" if median < DARK else "high_key" if median > BRIGHT else "balanced"
    tone = {"low_key": "Dim, low-key", "high_key": "Bright", "balanced": "Moderate, even"}[kind]
    if kind == "balanced" and spread > SOFT:
        tone = "Moderate"
    words = [f"{tone} lighting"]
    if spread > HARD:
        words.append("strong contrast")
    elif spread < SOFT:
        words.append("soft contrast")
    if chroma < GREY:
        words.append("black-and-white tones" if chroma < GREY / 4 else "muted colors")
    elif abs(tint) > TINT:
        words.append("a warm tone" if tint > 0 else "a cool tone")
    phrase = words[0] + (" with " + " and ".join(words[1:]) if words[1:] else "")
    change = float(np.median(grey[-1])) - float(np.median(grey[0]))
    if abs(change) > CHANGE:
        phrase += ", growing brighter" if change > 0 else ", growing darker"
    distance = min(abs(float(median) - DARK), abs(float(median) - BRIGHT))
    return Lighting(kind, phrase + ".", min(1.0, 0.5 + distance / 60))
