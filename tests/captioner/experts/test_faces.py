import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.experts import faces
from captioner.experts.boxes import Box, keep_best
from captioner.experts.faces import find_faces, head_angles, man_probability, mouth_opening
from captioner.experts.people import people
from captioner.experts.sightings import look
from captioner.frames import FrameBatch
from eval.synth import still

angles = st.floats(-80, 80)


def mesh(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """468 points of a head that is 60 wide and 100 high, turned by degrees: x right, y down, z
    away; only the four points that give the pose are placed."""
    points = np.zeros((468, 3))
    points[10], points[152] = (0, -50, 0), (0, 50, 0)
    points[234], points[454] = (-30, 0, 0), (30, 0, 0)
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    return points @ (np.array(about_z) @ np.array(about_x) @ np.array(about_y)).T


@given(angles)
def test_yaw_pitch_and_roll_of_a_turned_head_are_found(angle: float) -> None:
    assert head_angles(mesh(yaw=angle)) == pytest.approx((angle, 0, 0), abs=1e-6)
    assert head_angles(mesh(pitch=angle)) == pytest.approx((0, angle, 0), abs=1e-6)
    assert head_angles(mesh(roll=angle)) == pytest.approx((0, 0, angle), abs=1e-6)


@given(angles, angles, angles)
def test_a_mirrored_head_turns_the_other_way(yaw: float, pitch: float, roll: float) -> None:
    points = mesh(yaw, pitch, roll)
    mirrored = points * [-1, 1, 1]
    mirrored[[234, 454]] = mirrored[[454, 234]]
    y, p, r = head_angles(points)
    assert head_angles(mirrored) == pytest.approx((-y, p, -r), abs=1e-6)


def test_mouth_opens_with_the_gap_between_the_lips() -> None:
    points = np.zeros((468, 3))
    points[78], points[308] = (-20, 0, 0), (20, 0, 0)
    assert mouth_opening(points) == 0
    points[14] = (0, 10, 0)
    assert mouth_opening(points) == pytest.approx(0.25)


def test_no_faces_in_noise_and_flat_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    for rgb in (noise, np.zeros_like(noise), np.full_like(noise, 128), still(3)):
        assert find_faces(rgb) == ()
        assert find_faces(rgb, Box(0.2, 0.1, 0.5, 0.6)) == ()


def test_a_part_too_small_to_look_at_has_no_faces() -> None:
    assert find_faces(still(1), Box(0.5, 0.5, 0.505, 0.6)) == ()


def test_every_anchor_is_the_centre_of_its_cell() -> None:
    anchors = faces._anchors()
    assert anchors.shape == (896, 2)
    assert anchors[0].tolist() == [1 / 32, 1 / 32]
    assert anchors[2].tolist() == [3 / 32, 1 / 32]  # x runs first, two to a cell
    assert anchors[-1].tolist() == [15 / 16, 15 / 16]
    assert anchors[512].tolist() == [1 / 16, 1 / 16]


def test_detection_is_put_back_into_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face that the network finds in the middle of its square lies in the middle of a wide
    picture, and of a part of it."""
    regressions = np.zeros((1, 896, 16), np.float32)
    logits = np.full((1, 896, 1), -50, np.float32)
    regressions[0, 272, :4] = (-8, -8, 64, 64)  # cell (8, 8), centre 136 / 256: moved to 128
    logits[0, 272] = 50

    def network(name: str):  # type: ignore[no-untyped-def]
        detector = name == "face_detection_back.tflite"
        points = np.zeros((1, 1, 1, 1404), np.float32)
        points.reshape(468, 3)[[10, 152, 234, 454]] = mesh()[[10, 152, 234, 454]] + 96
        presence = np.full((1, 1), 10, np.float32)
        return lambda _: [regressions, logits] if detector else [points, presence]

    monkeypatch.setattr(faces, "tflite", network)
    rgb = np.zeros((360, 640, 3), np.uint8)
    (face,) = find_faces(rgb)
    assert face.box.centre == pytest.approx((0.5, 0.5))
    assert face.box.width == pytest.approx(64 / 256)
    assert face.box.height == pytest.approx(64 / 256 * 640 / 360)
    # The mesh's 100 of 192 pixels cover 1.5 boxes.
    assert face.height == pytest.approx(100 / 192 * 1.5 * 160 / 360)
    (face,) = find_faces(rgb, Box(0.5, 0.0, 1.0, 1.0))
    assert face.box.centre == pytest.approx((0.75, 0.5), abs=1e-3)


def test_the_mesh_rejects_what_is_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    regressions = np.zeros((1, 896, 16), np.float32)
    regressions[0, 272, :4] = (0, 0, 64, 64)
    logits = np.full((1, 896, 1), -50, np.float32)
    logits[0, 272] = 50
    mesh_says = [np.zeros((1, 1, 1, 1404), np.float32), np.full((1, 1), -1, np.float32)]
    monkeypatch.setattr(
        faces,
        "tflite",
        lambda name: (
            lambda _: [regressions, logits] if name == "face_detection_back.tflite" else mesh_says
        ),
    )
    assert find_faces(np.zeros((360, 640, 3), np.uint8)) == ()


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4, st.floats(0, 1)), max_size=8))
def test_kept_boxes_do_not_overlap_and_include_the_best(rows: list[tuple[float, ...]]) -> None:
    boxes = [Box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d, _ in rows]
    scores = [row[4] for row in rows]
    kept = keep_best(boxes, scores, overlap=0.3)
    assert all(boxes[i].overlap(boxes[j]) <= 0.3 for i in kept for j in kept if i != j)
    assert not rows or scores[kept[0]] == max(scores)
    dropped = set(range(len(rows))) - set(kept)
    assert all(any(boxes[i].overlap(boxes[j]) > 0.3 for j in kept) for i in dropped)


def test_a_clip_of_noise_has_nobody_in_it() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (4, 180, 320, 3), dtype=np.uint8)
    seen = look(FrameBatch.from_rgb(list(noise), 8))
    assert len(seen.looks) == 4
    assert len(seen.close) == 4
    assert [people(one) for one in seen.looks] == [()] * 4
    assert seen.classes.shape == (1000,)
    assert 0 < seen.classes.sum() <= 1.01  # what is below 1/256 is lost


def test_a_clip_of_tiny_pictures_is_looked_at() -> None:
    for shape in ((2, 2, 3), (2, 90, 3), (16, 16, 3)):
        seen = look(FrameBatch.from_rgb([np.full(shape, 99, np.uint8)], 8))
        assert len(seen.looks) == 1
        assert seen.looks[0].faces == ()


def test_roll_is_the_tilt_of_the_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The crop is turned upright, so that the mesh of an upright face means the tilt itself."""
    regressions = np.zeros((1, 896, 16), np.float32)
    regressions[0, 272, 2:8] = (64, 64, -10, -5, 10, 5)  # size, then the two eyes
    logits = np.full((1, 896, 1), -50, np.float32)
    logits[0, 272] = 50
    points = np.zeros((1, 1, 1, 1404), np.float32)
    points.reshape(468, 3)[[10, 152, 234, 454]] = mesh()[[10, 152, 234, 454]] + 96
    answers = {
        "face_detection_back.tflite": [regressions, logits],
        "face_landmark.tflite": [points, np.full((1, 1), 10, np.float32)],
    }
    monkeypatch.setattr(faces, "tflite", lambda name: lambda _: answers[name])
    (face,) = find_faces(np.zeros((256, 256, 3), np.uint8))
    assert face.roll == pytest.approx(np.degrees(np.arctan2(10, 20)))


def test_gender_is_asked_of_an_aligned_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip shows the five points where the classifier expects them, at any size and tilt."""
    chips = []

    def network(x: np.ndarray) -> list[np.ndarray]:
        chips.append(x[0])
        return [np.array([[0.2, 0.8]], np.float32)]

    monkeypatch.setattr(faces, "onnx", lambda _: network)
    wanted = (faces._CHIP_FIVE + 0.2) / 1.4 * 32
    for size, tilt in ((1.0, 0.0), (6.0, 0.3), (9.0, -0.5)):
        turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
        places = (wanted - 16) @ turn.T * size + 200
        rgb = np.zeros((400, 400, 3), np.uint8)
        nose = places[4].round().astype(int)
        half = int(size)
        rgb[nose[1] - half : nose[1] + half + 1, nose[0] - half : nose[0] + half + 1] = 255
        face = faces.Face(
            Box(0, 0, 1, 1), 0.9, 0, 0, 0, 0.5, 0, tuple((float(x), float(y)) for x, y in places)
        )
        assert man_probability(rgb, face) == pytest.approx(0.8)
        y, x = np.unravel_index(chips[-1][0].argmax(), (32, 32))
        assert (x, y) == pytest.approx(wanted[4], abs=1.6)
