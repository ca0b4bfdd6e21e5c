"""Which frames a model sees, and what it is told of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.decode import read_clip
from captioner.frames import FrameBatch
from captioner.policies import (
    CELL,
    CELLS,
    REFERENCE_HEIGHT,
    REFERENCE_WIDTH,
    ModelVideo,
    native,
    native_size,
    read_reference,
    reference,
    reference_indices,
)
from eval.synth import write_video


def numbered(total: int, height: int = 90, width: int = 160) -> list[np.ndarray]:
    """Frames whose grey tells their number, one level a frame."""
    return [np.full((height, width, 3), i, np.uint8) for i in range(total)]


def numbers(video: ModelVideo) -> list[int]:
    return [round(float(frame.mean())) for frame in video.frames]


@given(st.integers(1, 5000))
def test_the_reference_takes_the_released_frames(total: int) -> None:
    expected = [min(int(np.round((total - 1) / 16 * i)), total - 1) for i in range(16)]

    assert list(reference_indices(total)) == expected


@pytest.mark.parametrize("total", [1, 7, 16, 32, 33, 100, 250])
def test_the_reference_shows_the_nearest_kept_frames_squashed(total: int) -> None:
    batch = FrameBatch.from_rgb(numbered(total), 25.0)
    kept = [picture.index for picture in batch.pictures]

    video = reference(batch)

    assert video.frames.shape == (16, REFERENCE_HEIGHT, REFERENCE_WIDTH, 3) == (16, 420, 360, 3)
    for wanted, shown in zip(reference_indices(total), numbers(video), strict=True):
        assert min(abs(wanted - k) for k in kept) == abs(wanted - shown)
    if total <= 32:
        assert numbers(video) == list(reference_indices(total))


def test_the_reference_is_told_as_two_frames_a_second() -> None:
    video = reference(FrameBatch.from_rgb(numbered(50), 25.0))

    assert video.second_per_grid_ts == 1.0
    assert video.times == tuple(i / 2 for i in range(16))


def test_the_reference_of_a_file_has_exactly_the_released_frames(tmp_path: Path) -> None:
    # Far apart in grey, so that a lossy codec leaves no doubt about the number.
    path = write_video(
        tmp_path / "clip.mp4", [np.full((96, 128, 3), 5 * i, np.uint8) for i in range(50)], 25.0
    )

    shown = [round(number / 5) for number in numbers(read_reference(path))]

    assert shown == list(reference_indices(50))
    assert set(shown) <= set(range(47)), "the last sixteenth is never seen"


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_native_frames_keep_shape_and_budget(height: int, width: int) -> None:
    rows, columns = (side / CELL for side in native_size(height, width))

    assert rows == int(rows) >= 2
    assert columns == int(columns) >= 2
    assert rows * columns <= CELLS
    if 1 / 3 <= height / width <= 3 and min(height, width) >= 200:
        assert (rows / columns) / (height / width) == pytest.approx(1, abs=0.16)


@pytest.mark.parametrize(("total", "fps"), [(17, 24.0), (48, 25.0), (200, 30.0)])
def test_native_spreads_over_the_whole_clip_at_true_times(total: int, fps: float) -> None:
    video = native(FrameBatch.from_rgb(numbered(total), fps))

    assert len(video.frames) == 16
    assert list(video.indices) == numbers(video) == sorted(set(video.indices))
    assert video.times == pytest.approx([index / fps for index in video.indices])
    assert video.indices[0] < total / 16
    assert video.indices[-1] >= total * 15 / 16 - 4, "the last sixteenth, to the kept frame"
    assert video.total_frames == total
    assert video.second_per_grid_ts == pytest.approx(2 * total / fps / 16)


def test_a_short_clip_is_shown_whole() -> None:
    video = native(FrameBatch.from_rgb(numbered(3), 10.0))

    assert video.indices == (0, 1, 2)
    assert video.times == pytest.approx((0.0, 0.1, 0.2))


def test_native_of_a_file_has_its_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", numbered(60, 180, 320), 30.0)

    video = native(read_clip(path))

    assert video.total_frames == 60
    assert video.fps == pytest.approx(30.0)
    assert video.frames.shape[1:3] == native_size(180, 320)


@pytest.mark.parametrize(
    "wrong",
    [
        {"times": (0.0,)},
        {"indices": (0, 9)},
        {"fps": 0.0},
        {"frames": np.zeros((2, 4, 4, 3), np.float32)},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict) -> None:
    right = {
        "frames": np.zeros((2, 4, 4, 3), np.uint8),
        "times": (0.0, 1.0),
        "fps": 1.0,
        "total_frames": 2,
        "indices": (0, 1),
    }
    ModelVideo(**right)

    with pytest.raises(ValueError, match=r"."):
        ModelVideo(**{**right, **wrong})
