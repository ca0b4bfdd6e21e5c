"""Basic quality: exposure, blank and frozen pictures, sharpness, noise, blockiness, and a score.

All from the small sample of pictures that every measure reads, so sharpness and noise are those of
the sampled pictures: a 1080p frame is halved before, which takes away half of its noise and of its
blur. Numbers without another source were chosen on rendered defects (`eval.defects`, seeds 1 and
2) while looking at real clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.frames import FrameBatch, MotionPair, Picture, Plane, one_thread
from curation.measure.columns import Columns, column

Floats = NDArray[np.float64]

BLACK_LEVEL, WHITE_LEVEL = 32, 223
"""Grey levels that a black picture stays below, and a white one above."""

_EVEN = 12
"""Grey levels over which a blank picture spreads: a night scene is as dark, but shows something."""

_BLANK = 2.0
"""Percent of a blank picture's pixels at either end that may differ: a logo or a clock."""

_DETAILED = 5  # pictures that sharpness, noise and blockiness are measured on
_BLOCK = 16  # pixels: side of the blocks that are flat or textured
_TEXTURE = 200.0  # squared grey levels: mean squared step over 8 pixels of a textured block
_STRIDE = [1, 0, 0, 0, 0, 0, 0, 0, -1]
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_LAPLACIAN_GAIN = float(np.sqrt(np.pi / 2) / 6)
"""The mask that image structure leaves least in, and the noise's standard deviation over the mean
absolute answer to it (Immerkaer, Fast Noise Variance Estimation, CVIU 64, 1996)."""

_ROUNDING = 0.25  # squared grey levels: what coding adds where the noise is measured as none
_CODED_BLOCK = 8  # pixels: the transform of MPEG-1 to 4, JPEG, and most of H.264
_NEIGHBOURS = 0.5  # seconds between pictures whose luma is compared
_STILL_MEAN = 0.6  # grey levels: mean difference of two pictures that are the same
_STILL_BLOCK = 2.5  # grey levels: the same in the block that differs most

SHARP = 0.55
"""Sharpness at which the score takes nothing off."""

_NOISE_HALF, _GRID_HALF = 5.0, 0.2
"""Noise in grey levels, and blockiness, at which the score halves."""


@dataclass(frozen=True)
class Clip:
    """What the source's container says: size in pixels, upright, as coded before any halving.

    `fps` frames a second, `seconds` the length, `bytes_per_second` the source's size over its
    length, None where it is not known.
    """

    width: int
    height: int
    fps: float
    seconds: float
    bytes_per_second: float | None


class Quality(Columns):
    """Basic quality of a clip; grey levels are 0 to 255."""

    quality_bits_per_pixel: float | None = column("bits a pixel of the source", "bits", 0)
    quality_luma: float | None = column("mean luma", "grey levels", 0, 255)
    quality_contrast: float | None = column(
        "mean standard deviation of luma in a picture", "grey levels", 0, 127.5
    )
    quality_black: float | None = column("share of pictures that are black", "", 0, 1)
    quality_white: float | None = column("share of pictures that are white", "", 0, 1)
    quality_frozen: float | None = column(
        "longest run of picture pairs without any change, share of the clip", "", 0, 1
    )
    quality_flicker: float | None = column(
        "how far luma jumps off its course from picture to picture, half of the time",
        "grey levels",
        0,
        255,
    )
    quality_sharpness: float | None = column(
        "sharpness of the sharpest tenth: 1 steps from pixel to pixel, 0.3 is out of focus",
        "",
        0,
        1,
    )
    quality_noise: float | None = column("standard deviation of the noise", "grey levels", 0)
    quality_blockiness: float | None = column(
        "how much oftener pixels step at the edges of coded blocks than inside", "", 0, 1
    )
    quality_score: float | None = column(
        "no-reference score from sharpness, noise, blockiness and exposure", "", 0, 100
    )


def measure(batch: FrameBatch, clip: Clip, inside: Box | None = None) -> Quality:
    """The basic quality of a clip; never raises. `inside` is the picture without black bars.

    `quality_score` is 100 times the product of four factors between 0 and 1: the square of
    sharpness over `SHARP`; 1 / (1 + (noise / 5)²); 1 / (1 + (blockiness / 0.2)²); and exposure,
    which falls where luma is within 15 levels of 0 or 255 or contrast is below 10. It orders clips
    by their technical defects. It is not learnt from opinions, knows nothing of composition or
    content, and takes a picture that is soft on purpose for a worse one. None where nothing in it
    has texture.
    """
    with one_thread():
        some = [picture.grey for picture in batch.uniform(_DETAILED)]
        crop = _crop(inside, some[0].shape)
        luma, contrast, black, white = _exposure(batch.pictures, inside)
        details = [_detail(grey[crop]) for grey in some]
        sharpness = _median([detail.sharpness for detail in details])
        noise = _median([detail.noise for detail in details])
        blockiness = _blockiness(some, clip, crop)
        frozen = _frozen(batch.pairs, inside)
        flicker = _flicker(batch, inside)
    return Quality(
        quality_bits_per_pixel=_bits_per_pixel(clip),
        quality_luma=luma,
        quality_contrast=contrast,
        quality_black=black,
        quality_white=white,
        quality_frozen=frozen,
        quality_flicker=flicker,
        quality_sharpness=sharpness,
        quality_noise=noise,
        quality_blockiness=blockiness,
        quality_score=_score(luma, contrast, sharpness, noise, blockiness),
    )


def _bits_per_pixel(clip: Clip) -> float | None:
    pixels = clip.width * clip.height * clip.fps
    if clip.bytes_per_second is None or not pixels > 0:
        return None
    return 8 * clip.bytes_per_second / pixels


def _crop(inside: Box | None, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the box, at least a pixel of each."""
    if inside is None:
        return slice(None), slice(None)
    box = inside.clipped()
    sides = []
    for low, high, size in ((box.top, box.bottom, shape[0]), (box.left, box.right, shape[1])):
        first = min(size - 1, int(np.ceil(low * size)))
        sides.append(slice(first, max(first + 1, int(high * size))))
    return sides[0], sides[1]


def _exposure(pictures: Sequence[Picture], inside: Box | None) -> tuple[float, float, float, float]:
    """Mean luma and contrast, and the shares of black and of white pictures."""
    few = []
    for picture in pictures:
        thin = np.ascontiguousarray(picture.y[::4, ::4])
        few.append(replace(picture, y=thin).grey[_crop(inside, thin.shape)])
    luma, contrast = np.mean([[value[0, 0] for value in cv2.meanStdDev(grey)] for grey in few], 0)
    low, high = np.array([_ends(grey) for grey in few]).T
    even = high - low <= _EVEN
    black, white = np.mean(even & (high < BLACK_LEVEL)), np.mean(even & (low > WHITE_LEVEL))
    return float(luma), float(contrast), float(black), float(white)


def _ends(grey: Plane) -> tuple[int, int]:
    """The darkest and the brightest level, but for `_BLANK` percent of the pixels."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])[:, 0].cumsum()
    low, high = np.searchsorted(counts, counts[-1] * np.array([_BLANK, 100 - _BLANK]) / 100)
    return int(low), int(high)


@dataclass(frozen=True)
class _Detail:
    sharpness: float | None
    noise: float | None


def _detail(grey: Plane) -> _Detail:
    """Sharpness of the sharpest tenth of what is textured, noise of the flattest tenth.

    A blur of s pixels leaves no frequency far above 1 / s, so that second differences are about
    1 / 2s² of the first, whatever is in the picture; between two pixels' step they are twice.
    What coding leaves of a blurred picture is rough: no blur brings a coded clip below 0.25.
    """
    height, width = (side // _BLOCK * _BLOCK for side in grey.shape)
    if min(height, width) < 2 * _BLOCK:
        return _Detail(None, None)
    even = grey[:height, :width].astype(np.float32)
    level = _blocks(even)
    lit = (level > 8) & (level < 247)  # clipping hides noise
    answers = _blocks(np.abs(cv2.filter2D(even, -1, _LAPLACIAN)))
    noise = float(np.percentile(answers[lit], 10)) * _LAPLACIAN_GAIN if lit.any() else None

    steps, curves, strides = (_energy(even, taps) for taps in ([1, -1], [1, -2, 1], _STRIDE))
    spread = (noise or 0.0) ** 2 + _ROUNDING
    textured = strides - 4 * spread > _TEXTURE + 8 * spread
    steps, curves = steps[textured] - 4 * spread, curves[textured] - 12 * spread
    if len(steps) < 4:
        return _Detail(None, noise)
    sharpest = np.argsort(curves)[-max(4, len(curves) // 10) :]
    ratio = max(0.0, float(curves[sharpest].sum())) / max(1.0, 2 * float(steps[sharpest].sum()))
    return _Detail(min(1.0, float(np.sqrt(ratio))), noise)


def _energy(even: NDArray[np.float32], taps: list[int]) -> NDArray[np.float32]:
    """Mean square of a filter's answer in each block, across and down together."""
    kernel = np.array([taps], np.float32)
    energy = np.zeros_like(even)
    for direction in (kernel, kernel.T):
        cv2.accumulateSquare(cv2.filter2D(even, -1, direction), energy)
    return _blocks(energy)


def _blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each `_BLOCK` x `_BLOCK` block."""
    size = (values.shape[1] // _BLOCK, values.shape[0] // _BLOCK)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def _blockiness(greys: list[Plane], clip: Clip, crop: tuple[slice, slice]) -> float | None:
    """How much oftener a pixel steps more than both its neighbours do at the coded blocks' edges.

    The grid may start anywhere: pictures are turned and sources cropped. Along an axis that was
    scaled by anything but halving, or to blocks of less than 4 pixels, no grid is found.
    """
    found = []
    for axis, size in ((0, clip.height), (1, clip.width)):
        scale = size / greys[0].shape[axis]
        period = round(_CODED_BLOCK / scale) if scale > 0 else 0
        # Halving drops an odd pixel, so that the quotient is not quite a power of two.
        halved = period in (4, 8) and abs(scale * period - _CODED_BLOCK) < 0.05
        length = len(range(*crop[axis].indices(greys[0].shape[axis])))
        if not halved or length < 8 * period:
            continue
        rates = np.mean([_peaks(grey if axis else grey.T, crop[axis]) for grey in greys], 0)
        phases = np.array([rates[phase::period].mean() for phase in range(period)])
        best = int(phases.argmax())
        found.append(float(phases[best] - np.delete(phases, best).mean()))
    return float(np.clip(np.mean(found), 0, 1)) if found else None


def _peaks(grey: Plane, columns: slice) -> Floats:
    """For each column: the share of rows where the step into it beats those beside it."""
    grey = np.ascontiguousarray(grey[::2])
    step = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    # A level more is what rounding makes, and nobody sees.
    beside = np.minimum(np.maximum(step[:, :-2], step[:, 2:]), 254) + np.uint8(1)
    higher = cv2.compare(step[:, 1:-1], beside, cv2.CMP_GT)
    rates = cv2.reduce(higher, 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F)[0] / 255
    return np.asarray(rates[columns], np.float64)


def _frozen(pairs: tuple[MotionPair, ...], inside: Box | None) -> float | None:
    """The longest run of pairs in a row without change, as a share of all."""
    if not pairs:
        return None
    crop = _crop(inside, pairs[0].first.shape)
    still = [_unchanged(pair.first[crop], pair.second[crop]) for pair in pairs]
    runs = [len(list(run)) for same, run in groupby(still) if same]
    return max(runs, default=0) / len(pairs)


def _unchanged(first: Plane, second: Plane) -> bool:
    """Whether two grey pictures are the same but for what coding them makes of it."""
    change = cv2.absdiff(first, second)
    if float(cv2.mean(change)[0]) > _STILL_MEAN:
        return False
    size = (max(1, change.shape[1] // _BLOCK), max(1, change.shape[0] // _BLOCK))
    blocks = cv2.resize(change.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return float(blocks.max()) <= _STILL_BLOCK


def _flicker(batch: FrameBatch, inside: Box | None) -> float | None:
    """The median jump of luma off the straight line between its neighbours: fades and moves follow
    lines, flicker leaps. Among pictures and among pairs, whichever is more, as either may beat in
    time with the light; not among pictures so far apart that what they show has changed. Light that
    both beat with is not seen: every other frame where all samples are even, as at 30 fps."""
    jumps = []
    means = [_mean(picture.y[::4, ::4], inside) for picture in batch.pictures]
    if len(means) > 2 and (batch.end - batch.start) / len(means) <= _NEIGHBOURS:
        jumps.append(float(np.median(np.abs(np.diff(means, 2)))) / 2)
    steps = [_mean(pair.second, inside) - _mean(pair.first, inside) for pair in batch.pairs]
    if len(steps) > 1:
        jumps.append(float(np.median(np.abs(np.diff(steps)))) / 2)
    return max(jumps, default=None)


def _mean(plane: Plane, inside: Box | None) -> float:
    return float(cv2.mean(np.ascontiguousarray(plane[_crop(inside, plane.shape)]))[0])


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _score(
    luma: float,
    contrast: float,
    sharpness: float | None,
    noise: float | None,
    blockiness: float | None,
) -> float | None:
    """See `measure`."""
    if sharpness is None:
        return None
    sharp = min(1.0, sharpness / SHARP) ** 2
    clear = 1 / (1 + ((noise or 0.0) / _NOISE_HALF) ** 2)
    whole = 1 / (1 + ((blockiness or 0.0) / _GRID_HALF) ** 2)
    exposed = min(1.0, luma / 15, (255 - luma) / 15) * min(1.0, contrast / 10)
    return 100 * sharp * clear * whole * exposed
