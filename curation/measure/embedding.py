"""What a clip looks like: a vector for likeness, and perceptual hashes that find its copies."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.networks import tflite_inner
from captioner.experts.sightings import crop, without_bars
from captioner.frames import FrameBatch
from curation.measure.columns import Columns, column

Hashes = NDArray[np.uint64]

LOOKS = 2
"""Pictures that the embedding is the mean of: the network takes 15 ms each."""

DIMENSIONS = 256
"""Length of the embedding. The network gives 1280 numbers; a random projection to 256 keeps a
cosine to within about 0.06 (1 / sqrt(256)), and a million rows in 1 GB."""

HASH_LOOKS = 16
"""Pictures hashed at most: 0.3 s apart in a clip of 5 s."""

SMALL = 320
"""Everything is seen in pictures halved until both sides are below this many pixels."""

COARSE = 112
"""Pixels a side that the network's picture is brought down to, and then up again: without fine
detail a copy in poor quality stays alike. Chosen on copies of real clips (JPEG quality 25, crop,
subtitle, colour): levelled and coarse, their median cosine rises from 0.70 to 0.86, the highest
hundredth of other clips from 0.56 to 0.63."""

CONTRAST, MIDDLE = 55.0, 118.0
"""Spread and mean, in levels, that its pixels are brought to: about those of ImageNet."""

SIDE = 80
INSET = 8
"""Pixels of the hashed square, and those that a view of 0.9 of its side leaves out."""

VIEWS = (
    (0, 0, SIDE),
    (INSET // 2, INSET // 2, SIDE - INSET),
    (0, 0, SIDE - INSET),
    (0, INSET, SIDE - INSET),
    (INSET, 0, SIDE - INSET),
    (INSET, INSET, SIDE - INSET),
)
"""Top, left and side of the six views that are hashed of a picture: the whole, and 0.9 of it in
the middle and at each corner. The whole of a cropped copy is near a view of its original."""

FLAT = 2.0
"""Standard deviation in levels below which a picture shows nothing: its hashes are 0."""

STILL = 0.02
"""Root mean square, in levels, of the waves' change over a clip below which nothing moves. Stills
and title cards in real files measure at most 0.005, even re-encoded; people who hardly move 0.06
and more."""

_POOLED = "efficientnet-lite3/model/head/Squeeze1"
_ZERO_POINT = 128
_NETWORK_SIDE = 280
_WAVES = 10
_BIT = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))


class Embedding(Columns):
    """What a clip looks like."""

    embedding: list[float] | None = column(
        f"what it looks like: {DIMENSIONS} numbers of unit length, alike where the cosine is high",
        low=-1.0,
        high=1.0,
    )
    hash_sequence: list[int] | None = column(
        f"perceptual hashes of 64 bits, {len(VIEWS)} views for each of hash_times; 0 where flat",
        low=0,
        high=2**64 - 1,
    )
    hash_changes: list[int] | None = column(
        "in the same order: hashes of how each picture differs from the clip's mean; 0 where still",
        low=0,
        high=2**64 - 1,
    )
    hash_times: list[float] | None = column("when the hashed pictures are, from the start", "s", 0)


def measure(batch: FrameBatch) -> Embedding:
    """The embedding of a clip, (256,) of unit length, and its hashes."""
    pictures = [picture.halved(SMALL) for picture in batch.uniform(HASH_LOOKS)]
    inside = without_bars(pictures)
    greys = [crop(picture.grey, inside) for picture in pictures]
    hashes, changes = hash_views(np.stack([_square(grey, SIDE) for grey in greys]))
    looks = [pictures[int((i + 0.5) * len(pictures) / LOOKS)] for i in range(LOOKS)]
    return Embedding(
        embedding=embed([crop(picture.rgb, inside) for picture in looks]).tolist(),
        hash_sequence=hashes.ravel().tolist(),
        hash_changes=changes.ravel().tolist(),
        hash_times=[max(0.0, picture.time - batch.start) for picture in pictures],
    )


def embed(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """(256,) float32 of unit length: the mean direction of (H, W, 3) uint8 pictures."""
    network = tflite_inner("efficientnet_lite3.tflite", _POOLED)
    total = np.zeros(1280, np.float32)
    for rgb in pictures:
        pooled = network(_levelled(rgb)[None])[0][0].astype(np.float32) + _ZERO_POINT
        total += pooled / max(float(np.linalg.norm(pooled)), 1e-6)
    projected = total @ _projection()
    return np.asarray(projected / max(float(np.linalg.norm(projected)), 1e-6), np.float32)


def hash_views(squares: NDArray[np.uint8]) -> tuple[Hashes, Hashes]:
    """Two times (N, VIEWS) hashes of N grey squares (N, SIDE, SIDE) of one clip.

    The first holds the signs of the 64 slowest waves of each view, 0 where a picture is flat; the
    second those of what each wave is beside its mean over the clip, all 0 where nothing moves.
    """
    hashes = np.zeros((len(squares), len(VIEWS)), np.uint64)
    changes = np.zeros_like(hashes)
    for view, (top, left, side) in enumerate(VIEWS):
        seen = squares[:, top : top + side, left : left + side].astype(np.float32)
        waves = (_cosines(side) @ seen @ _cosines(side).T / side**2).reshape(len(seen), -1)
        waves = waves[:, _slowest()]
        change = waves - waves.mean(axis=0)
        hashes[:, view] = (waves > 0) @ _BIT
        if np.sqrt(np.mean(change**2)) >= STILL:
            changes[:, view] = (change > 0) @ _BIT
    hashes[squares.std(axis=(1, 2)) < FLAT] = 0
    return hashes, changes


def _levelled(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(280, 280, 3) uint8 for the network: coarse, and of one mean colour and contrast."""
    coarse = _square(rgb, COARSE).astype(np.float32)
    mean = coarse.mean(axis=(0, 1))
    # A flat picture's noise is not stretched to a picture.
    gain = CONTRAST / max(float(coarse.std()), 2 * FLAT)
    levelled = np.clip((coarse - mean) * gain + MIDDLE, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(levelled, (_NETWORK_SIDE, _NETWORK_SIDE)), np.uint8)


def _square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    shrinks = min(picture.shape[:2]) >= side
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=how), np.uint8)


@cache
def _projection() -> NDArray[np.float32]:
    """(1280, 256): each number is a random sum of all (Johnson and Lindenstrauss 1984)."""
    random = np.random.Generator(np.random.PCG64(0)).standard_normal((1280, DIMENSIONS))
    return np.asarray(random, np.float32)


@cache
def _cosines(side: int) -> NDArray[np.float32]:
    """(10, side) cosines of the discrete cosine transform, the slowest first."""
    at = (np.arange(side) + 0.5) / side
    return np.asarray(np.cos(np.pi * np.arange(_WAVES)[:, None] * at), np.float32)


@cache
def _slowest() -> NDArray[np.intp]:
    """(64,) places in the flattened (10, 10) waves, the slowest first, without the mean."""
    y, x = np.mgrid[:_WAVES, :_WAVES]
    order = np.argsort(((y + 0.5) ** 2 + (x + 0.5) ** 2).ravel(), kind="stable")
    return np.asarray(order[1:65], np.intp)
