"""What lies over the picture: subtitles and other burned-in text, logos, stickers, mosaic.

What is burned in stays where it is while the picture moves; text of the scene moves with it. Both
are looked at in the content box, without the bars. Thresholds were chosen on rendered overlays.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.experts.text import MIN_READ_SCORE, find_text, read_line
from captioner.frames import FrameBatch, Picture, halve
from curation.measure.columns import Columns, column

Plane = NDArray[np.uint8]
Bool = NDArray[np.bool_]

SIDE = 480
"""Pictures are halved until both sides are below this many pixels."""

PICTURES = 8
"""Pictures compared for what stays."""

READ = 3
"""Pictures given to the text detector, where anything looks like text."""

EDGE = 48
"""Sobel magnitude of an edge, in grey levels."""

STAYS = 6.0
"""Standard deviation over time, in grey levels, below which a place stays as it is."""

MOVES = 10.0
"""Standard deviation over time of a picture that moves, median over its pixels."""

LINE = 0.15
"""Share of the frame that a line of text is lower, or narrower, than."""

SAME_PLACE = 0.6
"""Overlap, intersection over union, of one line of text in two pictures."""

LOGO_AREA = (0.0004, 0.03)
"""Share of the frame that a logo takes."""

CORNER = 0.25
"""Share of the width and of the height that a corner has."""


class Overlays(Columns):
    """What lies over the picture."""

    text_area: float | None = column("share of the frame under burned-in text", "", 0, 1)
    text_scene_area: float | None = column("share of the frame with text of the scene", "", 0, 1)
    text_subtitle: float | None = column(
        "share of the looked-at pictures with burned-in text in the lower 40 %", "", 0, 1
    )
    text_boxes: list[list[float]] | None = column(
        "left, top, right, bottom of burned-in lines, fractions of the frame, y down", "", 0, 1
    )
    overlay_logo: float | None = column(
        "how surely something stays in a corner while the picture moves", "", 0, 1
    )
    overlay_logo_boxes: list[list[float]] | None = column(
        "left, top, right, bottom of what stays there", "", 0, 1
    )
    overlay_sticker: float | None = column("not measured yet", "", 0, 1)
    overlay_mosaic: float | None = column("not measured yet", "", 0, 1)


def measure(batch: FrameBatch, inside: Box) -> Overlays:
    """Overlays of a clip whose picture, without bars, is `inside`."""
    pictures = batch.uniform(PICTURES)
    small = [_small(picture) for picture in pictures]
    if min(small[0].shape) < 64:
        return Overlays()
    stack = np.stack(small).astype(np.float32)
    spread = stack.std(axis=0)
    moving = float(np.median(spread)) >= MOVES
    burned, scene, subtitled = _text(batch, small, moving)
    logos = _logos(stack, spread, inside) if moving and len(small) >= 4 else None
    return Overlays(
        text_area=_area(burned),
        text_scene_area=_area(scene),
        text_subtitle=subtitled,
        text_boxes=[_edges(box) for box in burned],
        overlay_logo=None if logos is None else float(bool(logos)),
        overlay_logo_boxes=None if logos is None else [_edges(box) for box in logos],
    )


def _small(picture: Picture) -> Plane:
    plane = picture.grey
    while max(plane.shape) >= SIDE:
        plane = halve(plane)
    return plane


def _looks_like_text(grey: Plane) -> bool:
    """Whether strokes stand close together in a row somewhere."""
    strokes = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > EDGE
    joined = cv2.morphologyEx(strokes.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, 9), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(joined)
    height, width = grey.shape
    wide, tall, area = boxes[1:, 2], boxes[1:, 3], boxes[1:, 4]
    lines = (wide > 2.2 * tall) & (tall >= 4) & (tall < 0.15 * height) & (wide > 0.04 * width)
    return bool((lines & (area > 0.5 * wide * tall)).any())


def _text(
    batch: FrameBatch, small: list[Plane], moving: bool
) -> tuple[list[Box], list[Box], float]:
    """Burned-in lines, lines of the scene, and the share of pictures with a subtitle."""
    if not any(_looks_like_text(grey) for grey in small[1::2]):
        return [], [], 0.0
    seen = [_lines(picture) for picture in batch.uniform(READ)]
    burned: list[Box] = []
    scene: list[Box] = []
    subtitled = 0
    for here, boxes in enumerate(seen):
        others = [box for there, lines in enumerate(seen) if there != here for box in lines]
        found = [box for box in boxes if _is_burned(box, others, moving)]
        scene += [box for box in boxes if box not in found]
        burned += [box for box in found if all(box.overlap(b) < SAME_PLACE for b in burned)]
        subtitled += any(box.top > 0.6 for box in found)
    return burned, scene, subtitled / len(seen)


def _lines(picture: Picture) -> list[Box]:
    """Lines of text that can be read."""
    height, width = picture.y.shape
    found = []
    for corners in find_text(picture.rgb):
        left, top = (corners.min(0) / (width, height)).clip(0, 1).tolist()
        right, bottom = (corners.max(0) / (width, height)).clip(0, 1).tolist()
        if bottom - top > LINE and right - left > LINE:
            continue
        text, score = read_line(picture.rgb, corners)
        if len(text) > 1 and score >= MIN_READ_SCORE:
            found.append(Box(left, top, right, bottom))
    return found


def _is_burned(box: Box, others: list[Box], moving: bool) -> bool:
    """Whether a line stays in place while the picture moves, or stands where subtitles do."""
    stays = any(box.overlap(other) >= SAME_PLACE for other in others)
    middle = abs((box.left + box.right) / 2 - 0.5) < 0.05
    subtitle = box.top > 0.7 and middle and box.bottom - box.top < 0.12
    return (stays and moving) or subtitle


def _logos(stack: NDArray[np.float32], spread: NDArray[np.float32], inside: Box) -> list[Box]:
    """Places in the corners whose edges stay while what is around them changes."""
    height, width = spread.shape
    across = np.stack([cv2.Sobel(one, cv2.CV_32F, 1, 0) for one in stack])
    down = np.stack([cv2.Sobel(one, cv2.CV_32F, 0, 1) for one in stack])
    always = np.hypot(across, down).min(axis=0)
    kept = ((always > 0.6 * EDGE) & (spread < STAYS)).astype(np.uint8)
    rows = slice(round(inside.top * height) + 2, round(inside.bottom * height) - 2)
    columns = slice(round(inside.left * width) + 2, round(inside.right * width) - 2)
    only = np.zeros_like(kept)
    only[rows, columns] = kept[rows, columns]
    joined = cv2.dilate(only, np.ones((7, 7), np.uint8))
    _, _, boxes, centres = cv2.connectedComponentsWithStats(joined)
    found = []
    for (x, y, w, h, _), (cx, cy) in zip(boxes[1:].tolist(), centres[1:].tolist()):
        corner = min(cx, width - cx) < CORNER * width and min(cy, height - cy) < CORNER * height
        share = w * h / (width * height)
        place = np.s_[y : y + h, x : x + w]
        strokes = only[place] > 0
        if not corner or not LOGO_AREA[0] <= share <= LOGO_AREA[1] or strokes.sum() < 12:
            continue
        # An edge along which the camera pans stays too; a logo has edges in every direction.
        ways = [float(np.abs(g).mean(axis=0)[place][strokes].sum()) for g in (across, down)]
        if min(ways) < 0.4 * max(ways):
            continue
        around = spread[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w]
        if float(np.median(around)) > MOVES:
            found.append(Box(x / width, y / height, (x + w) / width, (y + h) / height))
    return found


def _area(boxes: list[Box]) -> float:
    """Share of the frame that the boxes cover together."""
    mask = np.zeros((100, 200), np.bool_)
    for box in boxes:
        mask[
            round(box.top * 100) : max(round(box.top * 100) + 1, round(box.bottom * 100)),
            round(box.left * 200) : max(round(box.left * 200) + 1, round(box.right * 200)),
        ] = True
    return float(mask.mean())


def _edges(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]
