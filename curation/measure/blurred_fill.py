"""Blurred fill beside the picture: soft, like an enlarged copy of it, and parted by a seam."""

from __future__ import annotations

import cv2
import numpy as np

from captioner.frames import halved
from curation.measure.bars import Area
from curation.measure.marks import Plane
from curation.measure.seams import SEAM_SIDE, mostly, seam_pixels, steps_across

SOFT, SOFTER = 0.5, 0.9
"""Sharpness of blurred fill over that of the picture, at most; the second where the fill is as
like the picture as `SURE_COPY`, since pictures are soft as well now and then."""

FILL_SEAM = 0.5
"""Share of the height in which a seam must part the fill from the picture."""

COPY, SURE_COPY = 0.5, 0.9
"""Correlation of blurred fill with the enlarged picture, at least."""


def inside_fill(greys: list[Plane]) -> Area:
    """What blurred fill, left and right or above and below, leaves of the frame."""
    height, width = greys[0].shape
    small = [halved(grey, SEAM_SIDE) for grey in greys[:: max(1, len(greys) // 4)]]
    scale = width / small[0].shape[1]
    depth = round(_fill(small) * scale)
    if depth:
        return Area(depth, 0, width - depth, height)
    depth = round(_fill([np.ascontiguousarray(plane.T) for plane in small]) * scale)
    return Area(0, depth, width, height - depth)


def _fill(planes: list[Plane]) -> int:
    """Columns of blurred fill on each side; 0 for none."""
    width = planes[0].shape[1]
    sharp = np.mean([steps_across(plane)[:, :-1].mean(0) for plane in planes], axis=0)
    sharp = (sharp + sharp[::-1]) / 2  # by half: fill is centred
    band = max(4, width // 16)
    total = np.concatenate([[0.0], np.cumsum(sharp)])
    depths = np.arange(band + 2, width // 2 - band - 2)
    if not len(depths):
        return 0
    # The seam itself is left out on both sides.
    outer = (total[depths - 2] - total[depths - 2 - band]) / band
    inner = (total[depths + 2 + band] - total[depths + 2]) / band
    soft = outer / np.maximum(inner, 0.5)
    seam = np.maximum(sharp[depths - 1], sharp[depths])
    allowed = (soft <= SOFTER) & (seam > 1.3 * inner)
    if not allowed.any():
        return 0
    best = int(np.where(allowed, seam / np.maximum(outer, 0.5), 0).argmax())
    depth = int(depths[best])
    depth += int(sharp[depth - 2 : depth + 3].argmax()) - 1
    beyond = total[depth - 2] / (depth - 2)
    within = (total[width // 2] - total[depth + 2]) / (width // 2 - depth - 2)
    copied = _copied(planes, depth)
    if beyond > SOFTER * within or copied < (COPY if beyond <= SOFT * within else SURE_COPY):
        return 0
    seams = mostly(seam_pixels([(plane,) for plane in planes]))
    either = seams[:, :-1] | seams[:, 1:]
    lengths = [either[:, max(0, x - 2) : x + 1].any(1).mean() for x in (depth, width - depth)]
    return depth if min(lengths) >= FILL_SEAM else 0


def _copied(planes: list[Plane], depth: int) -> float:
    """Correlation of the margins with the picture between them, enlarged to cover the frame."""
    height, width = planes[0].shape
    size = (64, max(8, round(64 * height / width)))
    edge = max(1, round(depth * 64 / width) - 1)
    part = max(2, round(height * (width - 2 * depth) / width))
    top = (height - part) // 2
    found = []
    for plane in planes:
        fill = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        for rows in (slice(top, top + part), slice(0, height)):
            inner = plane[rows, depth : width - depth]
            copy = cv2.blur(cv2.resize(inner, size, interpolation=cv2.INTER_AREA), (5, 5))
            sides = [np.delete(p, np.s_[edge:-edge], axis=1).ravel() for p in (fill, copy)]
            spread = min(float(side.std()) for side in sides)
            found.append(float(np.corrcoef(sides[0], sides[1])[0, 1]) if spread > 1 else 0.0)
    return max(float(np.mean(found[::2])), float(np.mean(found[1::2])))
