"""Buckets, and the rate that clips are read at."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.buckets import FAMILIES, Bucket, BucketError, Fit, make_buckets, target_fps

SIDES = st.integers(64, 4096)


@pytest.mark.parametrize(
    ("fps", "target"),
    [
        *((16, 16), (20, 16), (23.976, 24), (24, 24), (25, 24), (29.97, 24), (30, 24)),
        *((32, 16), (64, 16), (48, 24), (50, 24), (59.94, 24), (12, 16), (1.5, 16)),
    ],
)
def test_the_rate_that_wastes_least(fps: float, target: float) -> None:
    assert target_fps(fps) == target


@given(st.integers(24, 240))
def test_no_other_rate_wastes_less(fps: int) -> None:
    chosen = target_fps(fps)
    assert fps % chosen == min(fps % 16, fps % 24)


@given(st.sampled_from(sorted(FAMILIES)), st.integers(128 * 128, 1280 * 720), st.integers(1, 12))
def test_every_bucket_is_accepted_by_its_family(model: str, area: int, n: int) -> None:
    known = FAMILIES[model]
    frames = known.frame_step * n + 1
    budget = frames * area * 2
    for bucket in make_buckets(model, area, [1, frames], batch_pixels=budget):
        assert known.accepts(bucket.frames, bucket.width, bucket.height)
        assert bucket.batch == 1 or bucket.batch * bucket.pixels <= budget
        assert (bucket.batch + 1) * bucket.pixels > budget


@given(st.sampled_from(sorted(FAMILIES)), st.integers(1, 1000))
def test_the_longest_clip_of_a_family(model: str, at_most: int) -> None:
    known = FAMILIES[model]
    frames = known.frames(at_most)
    assert frames <= at_most < frames + known.frame_step
    assert known.accepts(frames, 64, 64)


@given(st.integers(0, 200), SIDES, SIDES, st.floats(0, 0.5), st.floats(1, 3))
def test_a_clip_goes_where_it_fits_or_nowhere(
    frames: int, width: int, height: int, crop: float, enlarge: float
) -> None:
    buckets = make_buckets("wan", 320 * 576, [17, 49])
    bucket = Fit(crop, enlarge).place(buckets, frames, width, height)

    def fits(b: Bucket) -> bool:
        scale = max(b.width / width, b.height / height)
        lost = 1 - b.width * b.height / (width * height * scale**2)
        return b.frames <= frames and lost <= crop + 1e-6 and scale <= enlarge + 1e-6

    if isinstance(bucket, Bucket):
        assert fits(bucket)
        assert bucket.frames == max(b.frames for b in buckets if fits(b))
    else:
        slack = Fit(max(0, crop - 1e-5), max(1, enlarge - 1e-5)).place(
            buckets, frames, width, height
        )
        assert isinstance(slack, str)


@pytest.mark.parametrize(
    ("buckets", "says"),
    [
        (lambda: make_buckets("nobody", 9999, [17]), "is none of"),
        (lambda: make_buckets("wan", 320 * 576, [18]), "say 17 or 21"),
        (lambda: make_buckets("ltx-video", 320 * 576, [13]), "say 9 or 17"),
        (lambda: make_buckets("wan", 4, [17]), "no picture of 4 pixels"),
        (lambda: make_buckets("wan", 320 * 576, []), "no bucket"),
        (lambda: Bucket(17, 0, 8), "positive"),
        (lambda: target_fps(math.nan), "positive"),
    ],
)
def test_what_cannot_be_is_told(buckets: object, says: str) -> None:
    with pytest.raises(BucketError, match=says):
        buckets()  # type: ignore[operator]
