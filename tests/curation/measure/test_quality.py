from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.decode import read_clip
from captioner.experts.boxes import Box
from captioner.frames import FrameBatch, Picture
from curation.measure.columns import scale
from curation.measure.quality import Clip, Quality, measure
from eval.defects import CLEAN, DEFECTS
from eval.synth import Rgb, write_video

FPS = 25.0


@cache
def pan() -> tuple[Rgb, ...]:
    return tuple(CLEAN["pan"](4)[:40])


def of(
    frames: list[Rgb], inside: Box | None = None, coded: tuple[int, int] | None = None
) -> Quality:
    """The quality of frames that come from a source of `coded` width and height."""
    height, width = frames[0].shape[:2]
    width, height = coded or (width, height)
    clip = Clip(width, height, FPS, len(frames) / FPS, 100_000.0)
    return measure(FrameBatch.from_rgb(frames, FPS), clip, inside)


def value(found: float | None) -> float:
    assert found is not None
    return found


def noisy(frame: Rgb, sigma: float) -> Rgb:
    noise = np.random.default_rng(0).normal(0, sigma, frame.shape[:2])[..., None]
    return np.asarray(np.clip(frame + noise, 0, 255), np.uint8)


def jpeg(frame: Rgb, quality: int) -> Rgb:
    data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def test_bits_per_pixel_is_the_source_s_rate_over_its_pixels() -> None:
    batch = FrameBatch.from_rgb([pan()[0]], FPS)
    clip = Clip(1920, 1080, 30.0, 10.0, 1_000_000.0)
    assert measure(batch, clip).quality_bits_per_pixel == pytest.approx(8e6 / (1920 * 1080 * 30))
    assert measure(batch, Clip(1920, 1080, 30.0, 10.0, None)).quality_bits_per_pixel is None
    assert measure(batch, Clip(1920, 1080, 0.0, 10.0, 1e6)).quality_bits_per_pixel is None


def test_black_and_white_are_shares_of_the_pictures() -> None:
    black, white = np.zeros((180, 320, 3), np.uint8), np.full((180, 320, 3), 250, np.uint8)
    shown = [cv2.resize(frame, (320, 180)) for frame in pan()[:8]]
    found = of([black] * 4 + [white] * 4 + shown)
    assert found.quality_black == pytest.approx(0.25)
    assert found.quality_white == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["night", "snow"])
def test_dark_and_bright_scenes_are_not_blank(kind: str) -> None:
    found = of(CLEAN[kind](4)[:10])
    assert (found.quality_black, found.quality_white) == (0, 0)
    assert value(found.quality_score) > 60


def test_exposure_of_a_known_picture() -> None:
    half = np.full((96, 96, 3), 50, np.uint8)
    half[:, 48:] = 150
    found = of([half])
    assert found.quality_luma == pytest.approx(100, abs=1)
    assert found.quality_contrast == pytest.approx(50, abs=1)


def test_black_bars_are_left_out() -> None:
    plain = [frame.copy() for frame in pan()[:6]]
    boxed = [frame.copy() for frame in plain]
    for frame in boxed:
        frame[:90] = frame[-90:] = 0
    inside = Box(0, 0.25, 1, 0.75)
    bare, with_bars = of(plain, inside), of(boxed, inside)
    for name in ("luma", "contrast", "black", "sharpness", "noise"):
        name = f"quality_{name}"
        assert getattr(with_bars, name) == pytest.approx(getattr(bare, name), rel=0.02), name
    assert value(of(boxed).quality_luma) < 0.6 * value(bare.quality_luma)


def test_frozen_is_the_longest_run_after_coding(tmp_path: Path) -> None:
    frames = list(pan())
    stopped = frames[:10] + [frames[10]] * 50 + frames[10:40]
    batch = read_clip(write_video(tmp_path / "a.mp4", stopped, FPS, crf=26), threads=1)
    clip = Clip(640, 360, FPS, batch.duration, None)
    # 50 of 90 frames, less what of a pair lies outside.
    assert value(measure(batch, clip).quality_frozen) == pytest.approx(50 / 90, abs=0.05)


def test_what_moves_a_little_is_not_frozen() -> None:
    assert of(list(pan())).quality_frozen == 0
    assert of(CLEAN["subject"](4)[:40]).quality_frozen == 0


@settings(deadline=None, max_examples=8)
@given(
    period=st.floats(2, 12), depth=st.floats(0.1, 0.4), clean=st.sampled_from(["pan", "subject"])
)
def test_light_that_flickers_is_told_from_light_that_changes(
    period: float, depth: float, clean: str
) -> None:
    frames = list(CLEAN[clean](4)[:40])
    phase = 2 * np.pi / period
    swings = [_lit(frame, 1 + depth * np.cos(phase * i)) for i, frame in enumerate(frames)]
    fades = [_lit(frame, 1 - i / 40) for i, frame in enumerate(frames)]
    steady, faded, flickers = (of(some) for some in (frames, fades, swings))
    assert value(steady.quality_flicker) < 1.5
    assert value(faded.quality_flicker) < 2.5
    assert value(flickers.quality_flicker) > 2 * value(faded.quality_flicker)


def _lit(frame: Rgb, by: float) -> Rgb:
    return np.asarray(np.clip(frame * by, 0, 255), np.uint8)


def test_blur_lowers_sharpness_and_score() -> None:
    found = [
        of([cv2.GaussianBlur(f, (0, 0), sigma) if sigma else f for f in pan()[:4]])
        for sigma in (0, 1, 2)
    ]
    sharp = [value(one.quality_sharpness) for one in found]
    assert sharp[0] > 1.3 * sharp[1] > 1.5 * sharp[2]
    scores = [value(one.quality_score) for one in found]
    assert scores[0] > 90
    assert scores[0] > scores[1] > scores[2]


def test_a_subject_in_focus_keeps_a_soft_background_sharp() -> None:
    assert value(of(CLEAN["soft_background"](4)[:10]).quality_sharpness) > 0.5


@given(sigma=st.floats(4, 20))
@settings(max_examples=5, deadline=None)
def test_noise_is_measured_in_grey_levels(sigma: float) -> None:
    soft = [cv2.GaussianBlur(frame, (0, 0), 2) for frame in pan()[:3]]
    found = of([noisy(np.asarray(frame, np.uint8), sigma) for frame in soft])
    assert value(found.quality_noise) == pytest.approx(sigma, rel=0.2)


def test_noise_lowers_the_score() -> None:
    scores = [
        value(of([noisy(frame, sigma) for frame in pan()[:4]]).quality_score)
        for sigma in (0, 4, 10)
    ]
    assert scores[0] > scores[1] > scores[2]


def test_blocks_are_found_wherever_their_grid_starts() -> None:
    coded = [jpeg(frame, 8) for frame in pan()[:4]]
    turned = [np.ascontiguousarray(np.rot90(frame[3:, 5:])) for frame in coded]
    plain = value(of(list(pan()[:4])).quality_blockiness)
    assert plain < 0.05
    for frames in (coded, turned):
        assert value(of(frames).quality_blockiness) > 0.2
    assert value(of(coded).quality_score) < 60


def test_blocks_are_found_in_halved_pictures() -> None:
    big = [np.asarray(cv2.resize(frame, (1280, 720)), np.uint8) for frame in pan()[:3]]
    assert FrameBatch.from_rgb(big, FPS).pictures[0].width == 640
    assert value(of(big).quality_blockiness) < 0.05
    assert value(of([jpeg(frame, 8) for frame in big]).quality_blockiness) > 0.15


def test_a_scaled_source_has_no_grid_to_look_for() -> None:
    assert of(list(pan()[:2]), coded=(854, 480)).quality_blockiness is None


@pytest.mark.parametrize("kind", ["black", "white"])
def test_blank_clips_have_no_score(kind: str) -> None:
    found = of(DEFECTS[kind](4)[:8])
    assert found.quality_score is None
    assert getattr(found, f"quality_{kind}") == 1


@given(
    width=st.sampled_from([1, 2, 7, 33, 200]),
    height=st.sampled_from([1, 2, 9, 64, 311]),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    inside=st.sampled_from([None, Box(0, 0, 1, 1), Box(0.4, 0.4, 0.4, 0.4), Box(-1, 0.9, 2, 3)]),
)
@settings(max_examples=40, deadline=None)
def test_odd_clips_give_columns_in_their_ranges(
    width: int, height: int, count: int, seed: int, inside: Box | None
) -> None:
    rng = np.random.default_rng(seed)
    frames = [np.asarray(rng.integers(0, 256, (height, width, 3)), np.uint8) for _ in range(count)]
    found = of(frames, inside)
    for name, number in found.model_dump().items():
        limits = scale(Quality, name)
        assert limits is not None
        if number is not None:
            assert limits.low is None or number >= limits.low, name
            assert limits.high is None or number <= limits.high, name


def test_one_picture_without_pairs() -> None:
    picture = Picture.from_rgb(pan()[0], 0.0)
    batch = FrameBatch((picture,), (), 0.0, 0.04, FPS)
    found = measure(batch, Clip(640, 360, FPS, 0.04, 1e4))
    assert found.quality_frozen is None
    assert found.quality_flicker is None
    assert found.quality_sharpness is not None
