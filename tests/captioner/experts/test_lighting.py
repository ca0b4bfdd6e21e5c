import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.experts.boxes import Box
from captioner.experts.lighting import describe, lighting
from captioner.experts.sightings import without_bars
from captioner.frames import FrameBatch
from eval.synth import still


def clip(*frames: np.ndarray) -> FrameBatch:
    return FrameBatch.from_rgb(list(frames), 4)


def lit(gain: float, seed: int = 2) -> np.ndarray:
    """A textured grey picture with a median level of about 255 x gain."""
    grey = still(seed).mean(2)
    grey = (grey - np.median(grey)) / 4 + 255 * gain
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_dark_and_bright_pictures_are_told_apart() -> None:
    kinds = [
        (answer := lighting(clip(*[lit(gain)] * 4))) and answer.kind for gain in (0.1, 0.4, 0.8)
    ]
    assert kinds == ["low_key", "balanced", "high_key"]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.08, 0.45), st.floats(0.0, 0.45))
def test_more_light_never_looks_darker(gain: float, more: float) -> None:
    order = ["low_key", "balanced", "high_key"]
    less, brighter = (describe([lit(g)]) for g in (gain, gain + more))
    assert less is not None
    assert brighter is not None
    assert order.index(less.kind) <= order.index(brighter.kind)


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_single_tone_has_no_lighting(level: int) -> None:
    assert lighting(clip(*[np.full((90, 160, 3), level, np.uint8)] * 4)) is None


def test_warm_cool_and_grey_are_told_apart() -> None:
    grey = lit(0.5).astype(float)
    warm = np.clip(grey * [1.2, 1.0, 0.6], 0, 255).astype(np.uint8)
    cool = warm[..., ::-1].copy()
    phrases = [(answer := describe([one])) and answer.phrase for one in (warm, cool, lit(0.5))]
    assert "a warm tone" in str(phrases[0])
    assert "a cool tone" in str(phrases[1])
    assert "black-and-white" in str(phrases[2])


def test_contrast_is_named() -> None:
    flat = (lit(0.5).astype(float) * 0.2 + 100).astype(np.uint8)
    hard = np.zeros((90, 160, 3), np.uint8)
    hard[:, 80:] = 255
    hard[::2, ::3] = 128
    assert "soft contrast" in str((a := describe([flat])) and a.phrase)
    assert "strong contrast" in str((a := describe([hard])) and a.phrase)


def test_a_change_over_time_is_said() -> None:
    answer = lighting(clip(lit(0.2), lit(0.3), lit(0.4), lit(0.6)))
    assert answer is not None
    assert answer.phrase.endswith("growing brighter.")
    back = lighting(clip(lit(0.6), lit(0.4), lit(0.3), lit(0.2)))
    assert back is not None
    assert back.phrase.endswith("growing darker.")


def test_black_bars_do_not_darken_the_scene() -> None:
    bright = lit(0.8)
    barred = bright.copy()
    barred[:80], barred[-80:] = 0, 0
    answer = lighting(clip(*[barred] * 4))
    assert answer == lighting(clip(*[bright[80:-80].copy()] * 4))
    assert answer is not None
    assert answer.kind == "high_key"


def test_bars_are_found_and_dark_pictures_kept() -> None:
    picture = lit(0.5)
    picture[:36], picture[-36:], picture[:, :64] = 5, 5, 5
    inside = without_bars(list(clip(picture).pictures))
    assert inside == Box(64 / 640, 36 / 360, 1.0, 324 / 360)
    night = np.full((360, 640, 3), 4, np.uint8)
    night[150:200, 300:400] = 200
    assert without_bars(list(clip(night).pictures)) == Box(0.0, 0.0, 1.0, 1.0)
