"""Mosaic: parts that were hidden in large blocks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from curation.measure.marks import Bool, Float, Plane, pixels

Ints = NDArray[np.int32]

BLOCKS = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32)
"""Sides of a mosaic's blocks that are tried, in pixels of the picture as sampled."""

TOOTH, TEETH, BETWEEN = 2.5, 6.0, 1.8
"""Step between neighbouring blocks of a mosaic, each and on average, at least, and mean step
inside them at most, in levels."""

SMEARED = 1.5
"""Codecs smear a tooth over its neighbours: they are left out, where with them no more than this
many times as much is between."""

SECOND = 0.3
"""The largest step inside blocks over that between them, at most: a window has two sides."""

CODEC_GRID, CODEC_BLOCKS, CODEC_TEETH = 4, (8, 16, 32), 18.0
"""Codecs work in blocks of 8 and more, 4 and more after halving: on that grid steps must be larger
than theirs, which were up to 14 levels. Blocks of other sizes have steps of the codec inside."""


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
    sums, turned = (np.asarray(cv2.integral(steps), np.int32) for steps in (across, down))
    return max(_in_blocks(sums, turned, block) for block in BLOCKS)


def _in_blocks(across: Ints, down: Ints, block: int) -> float:
    """How surely some squares of 3 x 3 blocks are a mosaic, from the integrals of the steps across
    and, turned, down."""
    tile = 3 * block
    strength, on_grid = _comb(_profiles(across, tile), block)
    if strength.max(initial=0.0) < TEETH:
        return 0.0
    turned, turned_on_grid = _comb(_profiles(down, tile), block)
    strength, on_grid = np.minimum(strength, turned.T), on_grid & turned_on_grid.T
    hits = int((strength >= np.where(on_grid, CODEC_TEETH, TEETH)).sum())
    # One square may be chance; two are not.
    return min(1.0, hits / 2)


def _profiles(integral: Ints, tile: int) -> Float:
    """(tiles down, tiles across, tile): mean steps a column of each square tile, in whole
    levels, from the integral (h + 1, w + 1) of the steps."""
    height, width = ((side - 1) // tile for side in integral.shape)
    corners = integral[: height * tile + 1 : tile, : width * tile + 1]
    sums = np.diff(np.diff(corners, axis=0), axis=1).astype(np.float32)
    levels = np.rint(sums * np.float32(1 / tile))
    return np.asarray(levels.reshape(height, width, tile), np.float32)


def _comb(profiles: Float, block: int) -> tuple[Float, Bool]:
    """From (..., tile), (...) each: the mean of a tile's three teeth, 0 where one of them is low
    or something between them is high; and whether they lie on the grid of codecs."""
    folded = profiles.reshape(*profiles.shape[:-1], 3, block)
    three = folded[..., 0, :] + folded[..., 1, :] + folded[..., 2, :]
    phase = three.argmax(-1)
    on_grid = (block in CODEC_BLOCKS) & ((phase + 1) % CODEC_GRID == 0)
    teeth = three.max(-1, initial=0.0)
    rest = (three.sum(-1) - teeth) / (3 * block - 3)
    # Few tiles are left to be looked at tooth by tooth.
    some = (teeth > 3 * TOOTH) & (rest < SMEARED * BETWEEN)
    folded, three, phase, teeth = folded[some], three[some], phase[some], teeth[some]
    each = np.take_along_axis(folded, phase[:, None, None], -1)[..., 0]
    off = (np.arange(block) - phase[:, None]) % block
    within = np.where((off > 1) & (off < block - 1), three, 0)
    sure = (each.min(-1, initial=255.0) > TOOTH) & (within.sum(-1) < BETWEEN * (3 * block - 9))
    sure &= within.max(-1, initial=0.0) <= SECOND * teeth
    strength = np.zeros(some.shape, np.float32)
    strength[some] = np.where(sure, each.mean(-1), 0)
    return strength, np.asarray(on_grid, np.bool_)
