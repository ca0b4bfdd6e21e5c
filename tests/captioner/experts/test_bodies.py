import numpy as np
import pytest

from captioner.experts import bodies
from captioner.experts.bodies import KEYPOINTS, Body, Thing, find_bodies, find_body, find_objects
from captioner.experts.boxes import Box
from eval.synth import still

PERSON = Thing("person", Box(0.4, 0.1, 0.6, 0.9), 0.9)


def body(**places: tuple[float, float, float]) -> Body:
    """A body with these keypoints (x, y, score); the others are not seen."""
    return Body(PERSON.box, 0.9, tuple(places.get(name, (0.5, 0.5, 0.0)) for name in KEYPOINTS))


def test_nothing_in_noise_and_flat_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    for rgb in (noise, np.zeros_like(noise), np.full_like(noise, 200)):
        assert find_objects(rgb) == ()


def test_objects_are_named_sorted_and_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        [0, 3, 0.6, 0.1, 0.2, 0.3, 0.4],
        [0, 1, 0.9, 0.5, 0.5, 0.7, 0.9],
        [0, 17, 0.4, 0, 0, 1, 1],  # unsure
        [0, 72, 0.9, 0, 0, 1, 1],  # a television is no subject
    ]
    network = lambda *_: lambda _: [np.array([[rows]])]  # noqa: E731
    monkeypatch.setattr(bodies, "tensorflow", network)
    found = find_objects(np.zeros((90, 160, 3), np.uint8))
    assert [(thing.name, thing.score) for thing in found] == [("person", 0.9), ("car", 0.6)]
    assert found[1].box == Box(0.1, 0.2, 0.3, 0.4)


def test_the_object_network_takes_the_picture_as_it_is() -> None:
    """The real network, on a picture in which nothing is: a shape of its output, and no crash at
    odd sizes."""
    for shape in ((33, 517, 3), (720, 405, 3)):
        assert isinstance(find_objects(np.zeros(shape, np.uint8)), tuple)


def test_keypoints_are_put_back_into_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The crop is a square of 1.25 times the longer side around the person."""
    crops = []

    def network(x: np.ndarray) -> list[np.ndarray]:
        crops.append(x[0])
        points = np.zeros((1, 1, 17, 3), np.float32)
        points[0, 0, 0] = (0.5, 0.5, 0.8)  # y, x, score
        points[0, 0, 15] = (0.9, 0.5, 0.7)
        return [points]

    monkeypatch.setattr(bodies, "tflite", lambda _: network)
    rgb = np.zeros((400, 800, 3), np.uint8)
    rgb[200:202, 400:402] = 255  # the middle of the person
    found = find_body(rgb, PERSON)
    assert found.points[0] == pytest.approx((0.5, 0.5, 0.8))
    # 0.8 x 400 x 1.25 = 400 pixels high: 0.4 of it below the middle
    assert found.points[15] == pytest.approx((0.5, 0.5 + 0.4, 0.7))
    assert crops[0].shape == (192, 192, 3)
    y, x = np.unravel_index(crops[0][..., 0].argmax(), (192, 192))
    assert abs(y - 96) <= 1
    assert abs(x - 96) <= 1


def test_only_the_largest_people_get_keypoints() -> None:
    small = Thing("person", Box(0, 0, 0.1, 0.1), 0.99)
    middle = Thing("person", Box(0, 0, 0.5, 0.5), 0.6)
    dog = Thing("dog", Box(0, 0, 1, 1), 0.9)
    found = find_bodies(still(1), (small, dog, middle, PERSON))
    assert [one.box for one in found] == [middle.box, PERSON.box]
    assert all(len(one.points) == 17 for one in found)


def test_points_outside_the_frame_or_unsure_are_not_seen() -> None:
    one = body(nose=(0.5, 0.2, 0.9), left_ankle=(0.5, 1.02, 0.9), right_ankle=(0.5, 0.9, 0.1))
    assert one.seen("nose") == (0.5, 0.2)
    assert one.seen("left_ankle") is None
    assert not one.shows_feet
    assert body(right_ankle=(0.5, 0.99, 0.5)).shows_feet


def test_torso_needs_shoulders_and_hips() -> None:
    shoulders = {"left_shoulder": (0.6, 0.3, 0.9), "right_shoulder": (0.4, 0.32, 0.9)}
    assert body(**shoulders).torso is None
    assert body(**shoulders, left_hip=(0.55, 0.71, 0.9)).torso == pytest.approx(0.4)
    upside_down = body(left_shoulder=(0.5, 0.8, 0.9), left_hip=(0.5, 0.4, 0.9))
    assert upside_down.torso is None


def test_the_head_is_looked_for_around_the_nose() -> None:
    area = body(nose=(0.55, 0.2, 0.9)).head_area(16 / 9)
    assert area.holds(0.55, 0.2)
    assert area.height < PERSON.box.height
    without = body().head_area(16 / 9)
    assert without.holds(0.5, 0.15)
