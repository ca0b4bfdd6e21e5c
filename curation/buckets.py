"""Buckets of one clip length and one picture size each, and the frame rate that clips are read at.

SkyReels-V2 (arXiv 2504.13074) trains on a grid of durations by aspect ratios, with a batch size for
each cell, and reads a clip at the rate of 16 and 24 frames a second that wastes least of it. Its
edges are not published: those here are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TARGET_FPS = (16.0, 24.0)
"""SkyReels-V2: target = argmin over f in {16, 24} of (fps mod f)."""

_NTSC = 0.001
"""24000/1001 is 24 to within this share: without rounding it would waste nearly all."""


@dataclass(frozen=True)
class Family:
    """What a family of models accepts: `frame_step` * N + 1 frames, sides in multiples of `side`
    pixels."""

    frame_step: int
    side: int

    def frames(self, at_most: float) -> int:
        """The longest clip of at most so many frames; 0 where there is none."""
        return 0 if at_most < 1 else (int(at_most) - 1) // self.frame_step * self.frame_step + 1

    def accepts(self, frames: int, width: int, height: int) -> bool:
        """Whether a clip of this length and size can be encoded."""
        return (frames - 1) % self.frame_step == width % self.side == height % self.side == 0


# Temporal and spatial compression of each VAE, times the patch of each transformer, as the models'
# configurations in diffusers have them: 4 x 8 x 8 and patches of 2 x 2; LTX 8 x 32 x 32.
FAMILIES: Mapping[str, Family] = {
    "skyreels-v2": Family(4, 16),
    "wan": Family(4, 16),
    "hunyuan-video": Family(4, 16),
    "cogvideox": Family(4, 16),
    "ltx-video": Family(8, 32),
    "cosmos": Family(8, 16),
    "vae": Family(4, 8),
}
"""By name. `vae` is what a VAE of 4 x 8 x 8 asks for, without a transformer behind it."""

ASPECTS = (16 / 9, 4 / 3, 1.0, 3 / 4, 9 / 16)
"""Width by height: the ratios that video mostly has."""


class BucketError(ValueError):
    """Buckets that cannot be: the message says what is wrong and what to do."""


@dataclass(frozen=True, order=True)
class Bucket:
    """Clips of `frames` frames of `width` x `height` pixels, `batch` of them at a time."""

    frames: int
    width: int
    height: int
    batch: int = 1

    def __post_init__(self) -> None:
        if min(self.frames, self.width, self.height, self.batch) < 1:
            raise BucketError(f"a bucket has positive sides and a positive batch, not {self}")

    @property
    def pixels(self) -> int:
        """Pixels of one clip, all frames."""
        return self.frames * self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


def family(name: str) -> Family:
    """The family of a name. Raises BucketError."""
    if name not in FAMILIES:
        raise BucketError(f"model family {name!r} is none of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def make_buckets(
    model: str,
    area: int,
    frames: Sequence[int],
    aspects: Sequence[float] = ASPECTS,
    batch_pixels: int = 0,
) -> tuple[Bucket, ...]:
    """The grid of lengths by aspect ratios for a model family, each size of about `area` pixels.

    `batch_pixels` is what fits into a batch, in pixels of all frames (what is left of a GPU's
    memory grows with it); a bucket's batch is as many clips as that holds, at least one. Raises
    BucketError for an unknown family, or lengths that it does not accept.
    """
    known = family(model)
    sizes = dict.fromkeys(_size(area, aspect, known.side) for aspect in aspects)
    for count in frames:
        if (count - 1) % known.frame_step:
            near = max(1, known.frames(count))
            raise BucketError(
                f"{model} takes {known.frame_step}N+1 frames, not {count}: "
                f"say {near} or {near + known.frame_step}"
            )
    if not sizes or not frames:
        raise BucketError("there is no bucket without a length and an aspect ratio")
    return tuple(
        Bucket(n, width, height, max(1, batch_pixels // (n * width * height)))
        for n in sorted(set(frames))
        for width, height in sizes
    )


def _size(area: int, aspect: float, step: int) -> tuple[int, int]:
    if not (area >= step * step and aspect > 0):
        raise BucketError(f"no picture of {area} pixels and ratio {aspect:g} in steps of {step}")
    width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return max(step, round(width / step) * step), max(step, round(height / step) * step)


def target_fps(fps: float, choices: Sequence[float] = TARGET_FPS) -> float:
    """The rate of `choices` to read a clip of `fps` frames a second at: the least fps mod f.

    23.976 and its like count as the whole number that they stand for. Of equals the higher rate
    drops fewer frames; a clip slower than all takes the lowest, which repeats fewest.
    """
    if not fps > 0:
        raise BucketError(f"a frame rate is positive, not {fps:g}")
    whole = round(fps)
    nominal = float(whole) if whole and abs(fps - whole) <= 1.5 * _NTSC * whole else fps
    if nominal < min(choices):
        return min(choices)
    return min(choices, key=lambda f: (round(nominal % f, 6), -f))


@dataclass(frozen=True)
class Fit:
    """Which buckets take a clip, and what of it may be lost to fit.

    `max_crop` is the share of the picture that may be cut off to reach a bucket's aspect ratio,
    `max_enlarge` the factor by which a picture may be enlarged.
    """

    max_crop: float = 0.25
    max_enlarge: float = 1.0

    def place(
        self, buckets: Sequence[Bucket], frames: float, width: int, height: int
    ) -> Bucket | str:
        """The longest bucket that a clip of `frames` frames (at the rate it is read at) of `width`
        x `height` pixels fills, of the nearest aspect ratio; or why there is none, in words."""
        long_enough = [bucket for bucket in buckets if bucket.frames <= frames]
        if not long_enough:
            return f"shorter than the shortest bucket ({min(b.frames for b in buckets)} frames)"
        whole = [b for b in long_enough if _cropped(b, width, height) <= self.max_crop + 1e-9]
        if not whole:
            return f"no bucket within {self.max_crop:.0%} of cropping"
        large = [b for b in whole if _enlarged(b, width, height) <= self.max_enlarge + 1e-9]
        if not large:
            return "smaller than its buckets"
        return max(large, key=lambda b: (b.frames, -_cropped(b, width, height), b.pixels))


def _cropped(bucket: Bucket, width: int, height: int) -> float:
    """The share of the picture that is cut off."""
    have, want = width / height, bucket.width / bucket.height
    return 1 - min(have, want) / max(have, want)


def _enlarged(bucket: Bucket, width: int, height: int) -> float:
    """The factor by which the picture is enlarged to cover the bucket."""
    return max(bucket.width / width, bucket.height / height)
