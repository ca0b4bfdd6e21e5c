from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.experts.camera import measure_camera, track_background
from captioner.frames import FrameBatch, Picture
from curation.measure.columns import scale
from curation.measure.motion import Motion, measure
from eval.defects import CLEAN, DEFECTS, FPS
from eval.synth import Rgb, still

WIDTH = 320


@cache
def clip(kind: str, seed: int) -> tuple[Rgb, ...]:
    return tuple((DEFECTS | CLEAN)[kind](seed))


@cache
def found(kind: str, seed: int) -> Motion:
    return of(list(clip(kind, seed)))


def of(frames: list[Rgb], fps: float = FPS) -> Motion:
    return measure(FrameBatch.from_rgb(frames, fps))


def value(number: float | None) -> float:
    assert number is not None
    return number


@cache
def textured(seed: int, width: int, height: int) -> Rgb:
    grain = np.random.default_rng(seed).normal(0, 60, (height, width)).astype(np.float32)
    fine = cv2.GaussianBlur(grain, (0, 0), 1.5)[..., None]
    return np.asarray(np.clip(still(seed, width, height) + fine, 0, 255), np.uint8)


def panned(speed: float, seconds: float = 2.0, subject: float | None = None) -> list[Rgb]:
    """A pan at `speed` widths a second; a quarter of the picture moves at `subject` in it."""
    place, patch = textured(3, 2 * WIDTH, 180), textured(8, WIDTH // 2, 90)
    frames = []
    for i in range(round(seconds * FPS)):
        x = round(speed * WIDTH * i / FPS)
        frame = place[:, x : x + WIDTH].copy()
        if subject is not None:
            at = 20 + round(subject * WIDTH * i / FPS)
            frame[45:135, at : at + WIDTH // 2] = patch
        frames.append(frame)
    return frames


@pytest.mark.parametrize("speed", [0.0, 0.15])
def test_camera_amount_is_the_background_s_speed(speed: float) -> None:
    one = of(panned(speed))
    assert value(one.motion_camera_amount) == pytest.approx(speed, abs=0.005)
    assert value(one.motion_subject_amount) < 0.002
    assert value(one.motion_static) == (speed == 0)


def test_subject_amount_is_speed_times_area() -> None:
    one = of(panned(0.0, subject=0.2))
    assert value(one.motion_camera_amount) < 0.003
    assert value(one.motion_subject_amount) == pytest.approx(0.2 / 4, rel=0.35)
    assert one.motion_static == 0
    moved = of(panned(0.1, subject=0.0))
    assert value(moved.motion_camera_amount) == pytest.approx(0.1, abs=0.01)
    assert value(moved.motion_subject_amount) == pytest.approx(0.1 / 4, rel=0.35)


def test_noise_is_no_motion() -> None:
    one = found("static", 4)
    assert value(one.motion_static) > 0.95
    assert value(one.motion_camera_amount) < 0.003


@pytest.mark.parametrize("kind", ["handheld", "night", "subject", "zoom"])
def test_clean_clips_have_no_defect(kind: str) -> None:
    one = found(kind, 4)
    assert value(one.motion_static) < 0.2
    assert value(one.motion_shake) < 0.05
    assert value(one.motion_abrupt) < 0.1
    assert one.motion_slideshow == 0
    assert one.motion_transition == 0
    assert one.motion_speed_ramp is None or one.motion_speed_ramp < 2.5


def test_shake() -> None:
    assert value(found("shake", 4).motion_shake) > 0.2


@pytest.mark.parametrize("seed", [4, 5])
def test_a_thrown_camera_is_abrupt_and_no_cut(seed: int) -> None:
    one = found("abrupt", seed)
    assert value(one.motion_abrupt) > 0.5
    assert value(one.motion_shake) < 0.1
    assert one.motion_transition == 0


@pytest.mark.parametrize("seed", [4, 5])
def test_slideshow(seed: int) -> None:
    assert value(found("slideshow", seed).motion_slideshow) > 0.9


def test_a_slideshow_is_a_share_of_the_clip() -> None:
    frames = [still(1, WIDTH, 180)] * 25 + [still(2, WIDTH, 180)] * 25
    moving = [*frames, *panned(0.1)]
    assert of(frames).motion_slideshow == 1
    assert value(of(moving).motion_slideshow) == pytest.approx(0.5, abs=0.08)


def test_a_freeze_and_then_motion_is_no_slideshow() -> None:
    moving = panned(0.1)
    assert of([moving[0]] * 30 + moving).motion_slideshow == 0


def test_speed_ramp_is_the_ratio_of_the_speeds() -> None:
    slow, fast = panned(0.05, 2.0), panned(0.25, 2.0)
    ramped = of(slow + fast)  # jumps in place, not in speed only: the ratio is what counts
    assert value(ramped.motion_speed_ramp) == pytest.approx(5, rel=0.1)
    assert value(of(fast).motion_speed_ramp) == pytest.approx(1, abs=0.1)


def test_a_camera_that_sets_out_and_stops_is_no_ramp() -> None:
    assert value(found("pan", 5).motion_speed_ramp) < 2


@pytest.mark.parametrize("kind", ["cut_at_start", "cut_at_end"])
def test_leftovers_of_another_shot(kind: str) -> None:
    assert value(found(kind, 4).motion_transition) > 0.6


def test_a_flash_is_no_transition() -> None:
    frames = panned(0.1)
    frames[21:24] = [np.full_like(frames[0], 250)] * 3
    assert value(of(frames).motion_transition) < 0.5


def test_the_background_given_is_the_one_used() -> None:
    batch = FrameBatch.from_rgb(panned(0.15), FPS)
    tracked = track_background(batch)
    assert measure(batch, tracked) == measure(batch)
    assert measure_camera(batch, tracked) == measure_camera(batch)
    assert tracked is not None
    assert len(tracked.steps) == len(batch.pairs)


def test_without_pairs_nothing_is_known() -> None:
    batch = FrameBatch((Picture.from_rgb(still(1), 0.0),), (), 0.0, 0.04, FPS)
    assert set(measure(batch).model_dump().values()) == {None}


@given(
    width=st.sampled_from([1, 2, 7, 33, 200]),
    height=st.sampled_from([1, 2, 9, 64, 311]),
    count=st.integers(1, 30),
    kind=st.sampled_from(["black", "noise", "grey"]),
)
@settings(max_examples=30, deadline=None)
def test_odd_clips_give_columns_in_their_ranges(
    width: int, height: int, count: int, kind: str
) -> None:
    rng = np.random.default_rng(count)
    level = {"black": 1, "noise": 256, "grey": 2}[kind]
    shape = (count, height, width, 3)
    frames = list(np.asarray(rng.integers(0, level, shape), np.uint8))
    for name, number in of(frames).model_dump().items():
        limits = scale(Motion, name)
        assert limits is not None
        if number is not None:
            assert np.isfinite(number), name
            assert limits.low is None or number >= limits.low, name
            assert limits.high is None or number <= limits.high, name
