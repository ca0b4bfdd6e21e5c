"""On-screen text: PP-OCRv6 finds and reads it (Apache-2.0, run straight by onnxruntime).

The detector gives a map of text cores (differentiable binarisation, arXiv 1911.08947); the
recogniser a character a column (CTC). Numbers are those of PaddleOCR's own post-processing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.experts.networks import onnx, onnx_metadata
from captioner.frames import FrameBatch

Rgb = NDArray[np.uint8]
Corners = NDArray[np.float32]

PICTURES = 3
DETECTOR_SIDE = 512
"""Longer side for the detector: subtitles are read exactly from 480 on; 512 costs 120 ms and 640,
which finds only still smaller print, 190 ms."""

CORE_LEVEL = 0.3
MIN_CORE_SCORE = 0.6
UNCLIP = 1.6
"""Text is larger than its core by area x UNCLIP / perimeter on each side."""

READER_HEIGHT = 48
MIN_READ_SCORE = 0.8
"""Mean probability of the characters: below it, textures are read as letters."""

MIN_LETTERS = 2
MAX_LINES = 12
"""Lines read a picture, the largest first: more is a page, not a caption."""

SAME_TEXT = 0.6
"""Share of characters that two readings of one line have in common, as difflib's ratio."""

SAME_PLACE = 0.3
"""Overlap of two boxes, intersection over union, from which they are one line."""


@dataclass(frozen=True)
class TextLine:
    """A line of text: `box` in fractions of the frame, `share` of the looked-at pictures that
    show it and `confidence`, both 0 to 1."""

    text: str
    box: Box
    share: float
    confidence: float


def read_text(batch: FrameBatch) -> tuple[TextLine, ...]:
    """The lines of text in a clip, the longest seen first.

    A line is read once where it stays in place; what is read with little confidence or is shorter
    than two characters is dropped.
    """
    pictures = batch.uniform(PICTURES)
    lines: list[TextLine] = []
    for picture in pictures:
        for corners in find_text(picture.rgb):
            box = _bounds(corners, picture.rgb.shape)
            text, score = read_line(picture.rgb, corners)
            if len(text.replace(" ", "")) < MIN_LETTERS or score < MIN_READ_SCORE:
                continue
            _add(lines, TextLine(text, box, 1 / len(pictures), score))
    return tuple(sorted(lines, key=lambda line: (-line.share, line.box.top, line.box.left)))


def find_text(rgb: Rgb) -> list[Corners]:
    """Corners (4, 2) in pixels, clockwise from top left, of lines of text, largest first."""
    height, width = rgb.shape[:2]
    scale = min(1.0, DETECTOR_SIDE / max(height, width))
    # The network halves five times.
    size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    # BGR, from -1 to 1.
    x = (small[:, :, ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    (found,) = onnx("ppocr_det.onnx")(np.ascontiguousarray(x))
    back = np.array([width / size[0], height / size[1]], np.float32)
    lines = [core * back for core in text_cores(found[0, 0])]
    return sorted(lines, key=lambda c: -float(cv2.contourArea(c)))[:MAX_LINES]


def text_cores(probability: NDArray[np.float32]) -> list[Corners]:
    """Corners (4, 2) of the lines in a map (h, w) of probabilities, in its pixels."""
    mask = (probability > CORE_LEVEL).astype(np.uint8)
    contours, _ = cv2.findContours(
        cv2.dilate(mask, np.ones((2, 2), np.uint8)), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
    )
    lines = []
    for contour in contours:
        centre, (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < 3 or _mean_inside(probability, contour) < MIN_CORE_SCORE:
            continue
        grow = w * h * UNCLIP / (2 * (w + h))
        corners = cv2.boxPoints((centre, (w + 2 * grow, h + 2 * grow), angle))
        lines.append(_from_top_left(np.asarray(corners, np.float32)))
    return lines


def read_line(rgb: Rgb, corners: Corners) -> tuple[str, float]:
    """The text inside the corners (4, 2) of an (H, W, 3) uint8 picture, and its mean
    probability."""
    width = float(np.linalg.norm(corners[1] - corners[0]))
    height = float(np.linalg.norm(corners[3] - corners[0]))
    if min(width, height) < 2:
        return "", 0.0
    across = max(READER_HEIGHT, math.ceil(READER_HEIGHT * width / height / 8) * 8)
    target = np.array(
        [[0, 0], [across, 0], [across, READER_HEIGHT], [0, READER_HEIGHT]], np.float32
    )
    strip = cv2.warpPerspective(
        rgb, cv2.getPerspectiveTransform(corners, target), (across, READER_HEIGHT),
        flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    x = (strip[:, :, ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    (columns,) = onnx("ppocr_rec.onnx")(np.ascontiguousarray(x))
    return decode(columns[0], characters())


@cache
def characters() -> tuple[str, ...]:
    """The recogniser's classes: blank, the characters inside the model file, space."""
    return ("", *onnx_metadata("ppocr_rec.onnx")["character"].split("\n"), " ")


def decode(columns: NDArray[np.float32], names: tuple[str, ...]) -> tuple[str, float]:
    """CTC's best path through (columns, classes) probabilities, class 0 being the blank: the text
    and the mean probability of its characters (0 for no text)."""
    best = columns.argmax(1)
    new = (best != 0) & (best != np.concatenate([[0], best[:-1]]))
    if not new.any():
        return "", 0.0
    return "".join(names[i] for i in best[new]).strip(), float(columns.max(1)[new].mean())


def _mean_inside(probability: NDArray[np.float32], contour: cv2.typing.MatLike) -> float:
    x, y, w, h = cv2.boundingRect(contour)
    inside = cv2.fillPoly(np.zeros((h, w), np.uint8), [np.asarray(contour) - (x, y)], 1)
    return float(cv2.mean(probability[y : y + h, x : x + w], inside)[0])


def _from_top_left(corners: Corners) -> Corners:
    """Clockwise from top left; a column of text (taller than 1.5 widths) is turned to lie down."""
    by_sum = corners.sum(1)
    start = int(by_sum.argmin())
    ordered = np.roll(corners, -start, axis=0)
    # Clockwise in pictures (y down) is positive area.
    a, b = ordered[1] - ordered[0], ordered[3] - ordered[0]
    if a[0] * b[1] - a[1] * b[0] < 0:
        ordered = ordered[[0, 3, 2, 1]]
    width = np.linalg.norm(ordered[1] - ordered[0])
    height = np.linalg.norm(ordered[3] - ordered[0])
    return np.roll(ordered, -1, axis=0) if height > 1.5 * width else ordered


def _bounds(corners: Corners, shape: tuple[int, ...]) -> Box:
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return Box(left / shape[1], top / shape[0], right / shape[1], bottom / shape[0]).clipped()


def _add(lines: list[TextLine], new: TextLine) -> None:
    """Count a line that was there before, keeping its surer reading; append another one."""
    for i, line in enumerate(lines):
        if line.box.overlap(new.box) >= SAME_PLACE and _alike(line.text, new.text):
            surer = max(line, new, key=lambda one: one.confidence)
            lines[i] = replace(surer, share=min(1.0, line.share + new.share))
            return
    lines.append(new)


def _alike(a: str, b: str) -> bool:
    """Whether two readings can be of one line."""
    return SequenceMatcher(None, a.lower(), b.lower()).ratio() >= SAME_TEXT
