import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.frames import (
    MAX_FRAMES,
    MAX_MOTION_PAIRS,
    MAX_SIDE,
    MOTION_FPS,
    ClipSampler,
    FrameBatch,
    Picture,
    Plane,
)
from eval.synth import still

PLANE = np.zeros((4, 4), np.uint8)


class Decoded:
    """A frame that counts how often it was converted."""

    size = (4, 4)

    def __init__(self, index: int, fps: float) -> None:
        self.time, self.index, self.converted = index / fps, index, 0

    def luma(self) -> Plane:
        return PLANE

    def picture(self) -> Picture:
        self.converted += 1
        return Picture(PLANE, PLANE, PLANE, self.time, index=self.index)


def sampled(n: int, fps: float) -> FrameBatch:
    sampler = ClipSampler(fps)
    for i in range(n):
        sampler.offer(Picture(PLANE, PLANE, PLANE, i / fps, index=i))
    return sampler.batch(0.0, n / fps)


@given(st.integers(1, 3000), st.sampled_from([5.0, 23.976, 30.0, 60.0]))
def test_the_sample_is_bounded_even_and_dense_enough(n: int, fps: float) -> None:
    batch = sampled(n, fps)
    index = [p.index for p in batch.pictures]
    assert index[0] == 0
    assert min(n, MAX_FRAMES // 2) <= len(index) <= MAX_FRAMES
    steps = set(np.diff(index).tolist())
    assert len(steps) <= 1
    assert n - index[-1] <= max(steps, default=n)
    assert len(batch.pairs) <= MAX_MOTION_PAIRS
    gap = max(1, round(fps / MOTION_FPS)) / fps
    assert all(pair.end - pair.start == pytest.approx(gap) for pair in batch.pairs)
    assert len(batch.pairs) >= min((n - 1) // round(gap * fps), MAX_MOTION_PAIRS // 2)
    starts = np.diff([pair.start for pair in batch.pairs])
    assert np.allclose(starts, starts[:1].sum() if len(starts) else 0)


@given(st.integers(1, 1000), st.sampled_from([12.0, 25.0, 60.0]), st.booleans())
def test_decoded_frames_give_the_same_sample_and_few_are_converted(
    n: int, fps: float, large: bool
) -> None:
    frames = [Decoded(i, fps) for i in range(n)]
    sampler = ClipSampler(fps)
    for frame in frames:
        if large:
            frame.size = (8192, 8192)  # too much to wait
        sampler.offer(frame)
    batch, full = sampler.batch(0.0, n / fps), sampled(n, fps)
    assert [p.index for p in batch.pictures] == [p.index for p in full.pictures]
    assert [(p.start, p.end) for p in batch.pairs] == [(p.start, p.end) for p in full.pairs]
    assert all(frame.converted <= 1 for frame in frames)
    stride = batch.pictures[1].index if len(batch) > 1 else 1
    converted = sum(frame.converted for frame in frames) - len(batch)
    # With each doubling half of them go; those of even place have been kept once before.
    assert converted <= (stride.bit_length() - 1) * MAX_FRAMES // (2 if large else 4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_rgb_comes_back(seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    back = Picture.from_rgb(rgb, 0.0).rgb
    assert np.abs(back.astype(int) - rgb).max() <= 2


def test_large_pictures_are_halved() -> None:
    picture = Picture.from_rgb(still(0, 2600, 100), 0.0)
    assert max(picture.y.shape) < MAX_SIDE
    assert picture.rgb.shape == (25, 650, 3)


def test_uniform_takes_the_middle_of_equal_parts() -> None:
    batch = sampled(30, 30.0)
    assert [p.index for p in batch.uniform(3)] == [5, 15, 25]
    assert len(batch.uniform(99)) == 30


def test_a_batch_checks_itself() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        FrameBatch((), (), 0.0, 1.0, 25.0)
    with pytest.raises(ValueError, match="fps"):
        FrameBatch.from_rgb([still(0)], 0.0)
    with pytest.raises(ValueError, match="uint8"):
        FrameBatch.from_rgb([np.zeros((4, 4))], 25.0)  # type: ignore[list-item]
