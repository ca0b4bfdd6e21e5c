import cv2
import numpy as np
import pytest

from captioner.experts.networks import onnx
from captioner.frames import FrameBatch
from curation.measure import safety
from eval.synth import still


def score(*frames: np.ndarray) -> float:
    found = safety.measure(FrameBatch.from_rgb(list(frames), 25.0)).safety_nsfw
    assert found is not None
    return found


def test_rendered_places_are_safe() -> None:
    for seed in range(3):
        assert score(still(seed)) < 0.2


def test_the_network_sees_what_its_authors_feed_it() -> None:
    """Blue first, the mean taken off, the middle of 256 x 256."""
    picture = still(7, 256, 256)
    blob = cv2.dnn.blobFromImage(
        picture[16:240, 16:240], 1.0, (224, 224), (123, 117, 104), swapRB=True
    )
    ((_, wanted),) = onnx("open-nsfw.onnx")(blob.transpose(0, 2, 3, 1))[0]
    assert score(picture) == pytest.approx(float(wanted), abs=0.01)


def test_the_highest_of_two_counts() -> None:
    one, other = still(0), still(1)
    alone = score(one), score(other)
    assert alone[0] != alone[1]
    assert score(one, other) == score(other, one) == pytest.approx(max(alone))


def test_bars_are_left_out() -> None:
    picture = still(3, 640, 300)
    barred = cv2.copyMakeBorder(picture, 90, 90, 0, 0, cv2.BORDER_CONSTANT)
    assert score(np.asarray(barred, np.uint8)) == pytest.approx(score(picture), rel=0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 400), (400, 2)])
def test_odd_pictures(size: tuple[int, int]) -> None:
    assert 0 <= score(np.zeros((*size, 3), np.uint8)) <= 1
