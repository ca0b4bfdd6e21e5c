"""Mosaic: parts that were hidden in large blocks."""

from __future__ import annotations

import cv2
import numpy as np

from captioner.experts.boxes import Box
from curation.measure.marks import Bool, Float, Plane, pixels

BLOCKS = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32)
"""Sides of a mosaic's blocks that are tried, in pixels of the picture as sampled."""

TOOTH, TEETH, BETWEEN = 2.5, 6.0, 1.8
"""Step between neighbouring blocks of a mosaic, each and on average, at least, and mean step
inside them at most, in levels."""

CODEC_GRID, CODEC_TEETH = 4, 24.0
"""Codecs work in blocks of 8 and 16, 4 and 8 after halving: on that grid steps must be larger than
theirs, which were up to 14 levels."""


def find_mosaic(grey: Plane, inside: Box) -> float:
    """How surely part of a picture is in blocks: steps only at even distances, both ways."""
    rows, columns = pixels(inside, grey.shape)
    # The grid of the codec begins at the frame's corner.
    top, left = (-(-edge.start // CODEC_GRID) * CODEC_GRID for edge in (rows, columns))
    part = np.ascontiguousarray(grey[top : rows.stop, left : columns.stop])
    if min(part.shape) < 64:
        return 0.0
    across = np.asarray(cv2.absdiff(part[:, 1:], part[:, :-1])[:-1], np.uint8)
    down = np.ascontiguousarray(cv2.absdiff(part[1:], part[:-1])[:, :-1].T, np.uint8)
    return max(_in_blocks(across, down, block) for block in BLOCKS)


def _in_blocks(across: Plane, down: Plane, block: int) -> float:
    """How surely some squares of 3 x 3 blocks are a mosaic, from the steps across and, turned,
    down."""
    tile = 3 * block
    both = np.stack([_profiles(across, tile), _profiles(down, tile).transpose(1, 0, 2)])
    teeth, aligned = _comb(both, block)
    strength, on_grid = teeth.min(0), aligned.all(0)
    hits = int((strength >= np.where(on_grid, CODEC_TEETH, TEETH)).sum())
    # One square may be chance; two are not.
    return min(1.0, hits / 2)


def _profiles(steps: Plane, tile: int) -> Float:
    """(tiles down, tiles across, tile): mean steps a column of each square tile."""
    height, width = (side // tile for side in steps.shape)
    if not height or not width:
        return np.zeros((height, width, tile), np.float32)
    cut = steps[: height * tile, : width * tile]
    rows = cv2.resize(cut, (width * tile, height), interpolation=cv2.INTER_AREA)
    return rows.reshape(height, width, tile).astype(np.float32)


def _comb(profiles: Float, block: int) -> tuple[Float, Bool]:
    """From (..., tile), (...) each: the mean of a tile's three teeth, 0 where one of them is low
    or something between them is high; and whether they lie on the grid of codecs."""
    folded = profiles.reshape(*profiles.shape[:-1], 3, block)
    phase = folded.sum(-2).argmax(-1)
    index = np.broadcast_to(phase[..., None, None], (*folded.shape[:-1], 1))
    teeth = np.take_along_axis(folded, index, -1)[..., 0]
    rest = (profiles.sum(-1) - teeth.sum(-1)) / (3 * block - 3)
    sound = (teeth.min(-1, initial=255.0) > TOOTH) & (rest < BETWEEN)
    on_grid = (block % CODEC_GRID == 0) & ((phase + 1) % CODEC_GRID == 0)
    return np.where(sound, teeth.mean(-1), np.float32(0)), np.asarray(on_grid, np.bool_)
