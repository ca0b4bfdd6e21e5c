"""Boxes, and the pixels that are marked in them."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box

Plane = NDArray[np.uint8]
Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

BOTH_WAYS = 0.15
"""Smaller over larger eigenvalue of the structure tensor of a drawing, at least."""


def pixels(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a box in a picture."""
    box = box.clipped()
    rows = slice(round(box.top * shape[0]), round(box.bottom * shape[0]))
    return rows, slice(round(box.left * shape[1]), round(box.right * shape[1]))


def count_of(marks: Bool, box: Box) -> int:
    """Marks in a box."""
    return int(marks[pixels(box, marks.shape)].sum())


def share(marks: Bool, box: Box) -> float:
    """Share of a box that is marked."""
    part = marks[pixels(box, marks.shape)]
    return float(part.mean()) if part.size else 0.0


def share_of(marks: Bool, total: Bool, box: Box) -> float:
    """Marks in a box over what could be marked."""
    return count_of(marks, box) / max(1, count_of(total, box))


def bounds(corners: Float, shape: tuple[int, ...]) -> Box:
    """The box around corners (4, 2) in pixels, x before y."""
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return Box(left / shape[1], top / shape[0], right / shape[1], bottom / shape[0]).clipped()


def union(a: Box, b: Box) -> Box:
    """The box around two."""
    return Box(
        min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom)
    )


def edges_of(box: Box) -> list[float]:
    """Left, top, right and bottom, within the frame."""
    box = box.clipped()
    return [box.left, box.top, box.right, box.bottom]


def area(boxes: Iterable[Box]) -> float:
    """Share of the frame that boxes cover together, to a four-hundredth of its sides."""
    covered = np.zeros((400, 400), np.bool_)
    for box in boxes:
        covered[pixels(box, covered.shape)] = True
    return float(covered.mean())


def clusters(marks: Bool, reach: float, longest: float = 0.6) -> list[tuple[Box, int]]:
    """Boxes of marks that lie within `reach` (a share of the width) of each other, and the number
    of marks in each; lines, specks and what is longer than `longest` of a side are left out."""
    height, width = marks.shape
    size = max(3, round(reach * width))
    speckless = without_specks(marks)
    # Room on all sides, since closing joins what is near the picture's edge to it.
    roomy = cv2.copyMakeBorder(
        speckless, size, size, size, size, cv2.BORDER_CONSTANT, value=(0,)
    )  # fmt: skip
    joined = cv2.morphologyEx(roomy, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    joined = np.ascontiguousarray(joined[size:-size, size:-size])
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    inside = np.bincount(labels[speckless > 0], minlength=count)
    found = []
    for label, (x, y, w, h, _) in enumerate(stats.tolist()):
        if label and min(w, h) >= 0.03 * height and max(w / width, h / height) <= longest:
            box = Box(x / width, y / height, (x + w) / width, (y + h) / height)
            found.append((box, int(inside[label])))
    return found


def without_specks(marks: Bool) -> Plane:
    """The marks without those in groups of fewer than 6."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= 6
    large[0] = False
    return np.asarray(large[labels], np.uint8) if count > 1 else marks.astype(np.uint8)


def in_more_ways(across: Float, down: Float) -> bool:
    """Whether gradients point in more than one direction, by the eigenvalues of the structure
    tensor: an edge that lies along the camera's path stays as well."""
    if across.size < 3:
        return False
    xx, xy, yy = float((across**2).sum()), float((across * down).sum()), float((down**2).sum())
    less, more = np.linalg.eigvalsh(np.array([[xx, xy], [xy, yy]]))
    return bool(less >= BOTH_WAYS * more)
