from pathlib import Path

import cv2
import numpy as np
import pytest

from captioner.decode import read_clip
from captioner.frames import FrameBatch
from curation.measure.embedding import DIMENSIONS, HASH_LOOKS, VIEWS, Embedding, measure
from eval.synth import Rgb, still, write_video
from tests.clips import panning


def vector(seen: Embedding) -> np.ndarray:
    return np.array(seen.embedding, np.float32)


def views(seen: Embedding, which: str = "hash_sequence") -> np.ndarray:
    return np.array(getattr(seen, which), np.uint64).reshape(-1, len(VIEWS))


def bits(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.bitwise_count(first ^ second).mean())


@pytest.fixture(scope="module")
def frames() -> list[Rgb]:
    return panning(1, frames=30)


@pytest.fixture(scope="module")
def seen(frames: list[Rgb]) -> Embedding:
    return measure(FrameBatch.from_rgb(frames, 25.0))


def test_shapes_and_length(seen: Embedding) -> None:
    assert vector(seen).shape == (DIMENSIONS,)
    assert np.linalg.norm(vector(seen)) == pytest.approx(1, abs=1e-5)
    assert views(seen).shape == views(seen, "hash_changes").shape == (HASH_LOOKS, len(VIEWS))
    times = np.array(seen.hash_times)
    assert len(times) == HASH_LOOKS
    assert times.min() >= 0
    assert times.max() < 1.2
    assert (np.diff(times) > 0).all()


def test_a_poor_small_copy_is_near_and_another_clip_far(
    tmp_path: Path, frames: list[Rgb], seen: Embedding
) -> None:
    small = [np.asarray(cv2.resize(frame, (200, 112)), np.uint8) for frame in frames]
    copy = measure(read_clip(write_video(tmp_path / "copy.mp4", small, crf=35)))
    other = measure(FrameBatch.from_rgb(panning(2, frames=30), 25.0))
    assert bits(views(copy)[:, 0], views(seen)[:, 0]) < 6
    assert bits(views(other)[:, 0], views(seen)[:, 0]) > 20
    assert vector(copy) @ vector(seen) > 0.7
    assert vector(copy) @ vector(seen) > vector(other) @ vector(seen) + 0.1


@pytest.mark.parametrize(("top", "left", "view"), [(9, 16, 1), (0, 0, 2), (0, 32, 3), (18, 32, 5)])
def test_a_view_holds_what_a_crop_leaves(
    frames: list[Rgb], seen: Embedding, top: int, left: int, view: int
) -> None:
    cropped = [f[top : top + 162, left : left + 288] for f in frames]
    whole = views(measure(FrameBatch.from_rgb(cropped, 25.0)))[:, 0]
    assert bits(whole, views(seen)[:, view]) < 5
    assert bits(whole, views(seen)[:, view]) < bits(whole, views(seen)[:, 0])


def test_the_hash_is_blind_to_brightness_and_bars(frames: list[Rgb], seen: Embedding) -> None:
    darker = [(frame * 0.7).astype(np.uint8) for frame in frames]
    barred = [cv2.copyMakeBorder(f, 40, 40, 0, 0, cv2.BORDER_CONSTANT) for f in darker]
    copy = measure(FrameBatch.from_rgb([np.asarray(f, np.uint8) for f in barred], 25.0))
    assert bits(views(copy)[:, 0], views(seen)[:, 0]) < 5
    assert vector(copy) @ vector(seen) > 0.8


def test_changes_are_those_of_the_moment(frames: list[Rgb], seen: Embedding) -> None:
    backwards = measure(FrameBatch.from_rgb(frames[::-1], 25.0))
    same = views(seen, "hash_changes")[:, 0]
    assert bits(same, views(backwards, "hash_changes")[:, 0]) > 25
    assert bits(same, views(backwards, "hash_changes")[::-1, 0]) < 10


def test_nothing_moves_in_a_still() -> None:
    noise = np.random.default_rng(0)
    picture = still(4, 320, 180).astype(np.int16)
    frames = [np.clip(picture + noise.integers(-1, 2, picture.shape), 0, 255) for _ in range(10)]
    seen = measure(FrameBatch.from_rgb([f.astype(np.uint8) for f in frames], 25.0))
    assert not views(seen, "hash_changes").any()
    assert views(seen).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2, 2)])
def test_odd_pictures(size: tuple[int, int]) -> None:
    for level in (0, 128):
        black = [np.full((*size, 3), level, np.uint8)]
        seen = measure(FrameBatch.from_rgb(black, 25.0))
        assert not views(seen).any()
        assert np.isfinite(vector(seen)).all()
