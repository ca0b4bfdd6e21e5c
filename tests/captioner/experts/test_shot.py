import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.experts.bodies import KEYPOINTS, Body, Thing
from captioner.experts.boxes import Box
from captioner.experts.faces import Face
from captioner.experts.ground import Camera, camera_over_ground
from captioner.experts.people import Person
from captioner.experts.shot import (
    angle_over_ground,
    body_facing,
    by_frame_height,
    facing,
    framing,
    shot_angle,
    shot_position,
    shot_type,
)
from captioner.experts.sightings import Look, Sightings
from captioner.experts.subjects import SubjectSighting

LADDER = ["extreme_close_up", "close_up", "medium_shot", "full_shot", "long_shot"]
HUMAN = SubjectSighting("Human", "", "", True, 0.9)
RGB = np.zeros((360, 640, 3), np.uint8)


def face(height: float, yaw: float = 0.0, pitch: float = 6.0, x: float = 0.5) -> Face:
    box = Box(x - 0.1, 0.1, x + 0.1, 0.1 + height)
    return Face(box, 0.9, yaw, pitch, 0.0, height, 0.0, ((0.0, 0.0),) * 5)


def body(crown: float, height: float, face_score: float = 0.8, across: float = 0.3) -> Body:
    """A figure standing upright, `height` from crown to soles; what lies below the frame is not
    seen. `across` is the shoulders' width over the figure's height, negative from behind."""
    heads = {"nose": 0.6, "eye": 0.5, "ear": 0.5, "shoulder": 1.5, "elbow": 3.0, "wrist": 4.0,
             "hip": 4.0, "knee": 5.5, "ankle": 7.2}  # fmt: skip
    points = []
    for name in KEYPOINTS:
        y = crown + heads[name.split("_")[-1]] / 7.5 * height
        side = 1 if name.startswith("left") else -1 if name.startswith("right") else 0
        is_face = name.split("_")[-1] in ("nose", "eye", "ear")
        score = (face_score if is_face else 0.9) if y < 1 else 0.1
        points.append((0.5 + side * across * height / 2 * 360 / 640, y, score))
    box = Box(0.4, crown, 0.6, min(1.0, crown + height))
    return Body(box, 0.9, tuple(points))


def person(crown: float, height: float, with_face: bool = True) -> Person:
    """A standing person, `height` from crown to soles in frames."""
    one = body(crown, height)
    head = height / 7.5
    near = Face(
        Box(0.45, crown + 0.2 * head, 0.55, crown + head),
        0.9, 0.0, 6.0, 0.0, 0.8 * head, 0.0, ((0.0, 0.0),) * 5,
    )  # fmt: skip
    return Person(one.box, 0.9, near if with_face else None, one)


def clip(*looks: Look) -> Sightings:
    return Sightings(looks, np.zeros(1000))


def close(one: Person) -> Look:
    """A look that sees just this person."""
    thing = Thing("person", one.box, 0.9)
    faces = (one.face,) if one.face else ()
    return Look(RGB, 0.0, faces, (thing,), (one.body,) if one.body else ())


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        (12.0, "extreme_close_up"),  # a head 1.6 frames high
        (5.0, "close_up"),  # head and shoulders
        (2.0, "medium_shot"),  # to the waist
        (1.3, "medium_shot"),  # to the knees
        (0.85, "full_shot"),
        (0.3, "long_shot"),
    ],
)
def test_the_ladder_of_shot_types(figure: float, name: str) -> None:
    assert framing(person(0.05, figure)) == name


@pytest.mark.parametrize(
    ("figure", "name"),
    [(2.0, None), (1.3, "medium_shot"), (0.85, "full_shot"), (0.3, "long_shot")],
)
def test_the_ladder_without_a_face_needs_shoulders_and_hips(figure: float, name: str) -> None:
    assert framing(person(0.05, figure, with_face=False)) == name


@given(st.floats(0.05, 20), st.floats(1.0, 3), st.booleans())
def test_a_larger_person_never_gives_a_wider_shot(
    figure: float, growth: float, with_face: bool
) -> None:
    less, more = (framing(person(0.05, size, with_face)) for size in (figure, figure * growth))
    if less is not None and more is not None:
        assert LADDER.index(more) <= LADDER.index(less)


@given(st.floats(0.01, 2), st.floats(1, 3))
def test_a_larger_face_alone_never_gives_a_wider_shot(height: float, growth: float) -> None:
    less, more = (
        framing(Person(Box(0.4, 0, 0.6, 1), 0.9, face(size))) for size in (height, height * growth)
    )
    if less is not None and more is not None:
        assert LADDER.index(more) <= LADDER.index(less)


def test_a_small_face_alone_does_not_tell_full_from_medium() -> None:
    assert framing(Person(Box(0.4, 0, 0.6, 1), 0.9, face(0.08))) is None


@given(st.floats(0.01, 100), st.floats(1, 10))
def test_a_higher_frame_is_never_a_closer_shot(metres: float, growth: float) -> None:
    assert LADDER.index(by_frame_height(metres * growth)) >= LADDER.index(by_frame_height(metres))


def test_shot_type_is_what_most_pictures_agree_on() -> None:
    full, far = close(person(0.1, 0.85)), close(person(0.4, 0.3))
    answer = shot_type(clip(full, full, full, far), (HUMAN,))
    assert answer is not None
    assert answer.value == "full_shot"
    assert answer.confidence == pytest.approx(0.75)
    assert shot_type(clip(full, far, full, far), (HUMAN,)) is None
    assert shot_type(clip(full), (HUMAN,)) is None, "one picture is no shot"


def test_shots_without_people_are_measured_by_things_of_known_size() -> None:
    car = SubjectSighting("Vehicles", "Car", "", True, 0.9, box=Box(0.2, 0.4, 0.6, 0.6))

    def seen(height: float) -> Sightings:
        box = Box(0.2, 0.4, 0.6, 0.4 + height)
        return clip(*[Look(RGB, 0.0, (), (Thing("car", box, 0.9),))] * 4)

    assert (answer := shot_type(seen(0.1), (car,))) is not None
    assert answer.value == "long_shot"
    assert (answer := shot_type(seen(0.5), (car,))) is not None
    assert answer.value == "full_shot"
    assert shot_type(seen(0.6), (car,)) is None, "cut by the edge: it may be any size"


def test_small_things_that_fill_the_picture_are_close_ups() -> None:
    spider = SubjectSighting("Animal", "Insect", "", True, 0.9)
    empty = clip(*[Look(RGB, 0.0, (), ())] * 4)
    assert (answer := shot_type(empty, (spider,))) is not None
    assert answer.value == "close_up"
    assert shot_type(empty, (SubjectSighting("Animal", "Mammal", "", True, 0.9),)) is None


def test_nothing_seen_is_not_answered() -> None:
    empty = clip(*[Look(RGB, 0.0, (), ())] * 4)
    assert shot_type(empty, ()) is None
    assert shot_position(empty) is None
    assert shot_angle(empty) is None


@pytest.mark.parametrize(
    ("yaw", "view"),
    [(0, "front_view"), (25, "front_view"), (-25, "front_view"), (38, ""), (50, "side_view"),
     (-50, "side_view")],
)  # fmt: skip
def test_position_follows_the_head(yaw: float, view: str) -> None:
    assert facing(Person(Box(0, 0, 1, 1), 0.9, face(0.3, yaw)), 16 / 9) == view


@given(st.floats(-90, 90))
def test_position_is_the_same_in_a_mirror(yaw: float) -> None:
    views = {facing(Person(Box(0, 0, 1, 1), 0.9, face(0.3, y)), 16 / 9) for y in (yaw, -yaw)}
    assert len(views) == 1


def test_position_without_a_face_follows_the_shoulders() -> None:
    front = Person(Box(0.4, 0.1, 0.6, 0.9), 0.9, None, body(0.1, 0.8, 0.9, 0.25))
    back = Person(Box(0.4, 0.1, 0.6, 0.9), 0.9, None, body(0.1, 0.8, 0.2, -0.25))
    between = Person(Box(0.4, 0.1, 0.6, 0.9), 0.9, None, body(0.1, 0.8, 0.9, -0.25))
    assert facing(front, 640 / 360) == "front_view"
    assert facing(back, 640 / 360) == "back_view"
    assert facing(between, 640 / 360) == "", "a face on a back: the network mixed up the sides"
    assert body_facing(0.0, 0.9) == ""


def test_position_needs_the_pictures_to_agree() -> None:
    front, side, between = (Look(RGB, 0.0, (face(0.3, yaw),)) for yaw in (0, 50, 38))
    assert (answer := shot_position(clip(front, front, between, between))) is not None
    assert answer.value == "front_view"
    assert shot_position(clip(front, front, side, side)) is None
    assert shot_position(clip(front, between, between, between)) is None


def test_a_level_head_is_at_eye_level_and_a_tilted_one_is_not_answered() -> None:
    level, down = (Look(RGB, 0.0, (face(0.3, pitch=pitch),)) for pitch in (6, 40))
    small = Look(RGB, 0.0, (face(0.05),))
    assert (answer := shot_angle(clip(level, level))) is not None
    assert answer.value == "eye_level"
    assert answer.confidence == 1
    assert shot_angle(clip(down, down)) is None
    assert shot_angle(clip(small, small)) is None


def people_on_ground(camera: float, horizon: float, feet: list[float]) -> list[Box]:
    """Boxes of people as seen from a camera that is this many people high."""
    return [Box(0.5, y - (y - horizon) / camera, 0.51, y) for y in feet]


FEET = [0.6, 0.7, 0.75, 0.8, 0.9]


@given(st.floats(0.7, 10), st.floats(-1, 0.4))
def test_the_camera_over_people_is_found(camera: float, horizon: float) -> None:
    boxes = people_on_ground(camera, horizon, FEET)
    found = camera_over_ground(boxes, 1.0)
    if all(box.top > 0.02 and box.height > 0.02 for box in boxes):
        assert found is not None
        assert found.lowest == pytest.approx(camera, rel=0.01)
        assert found.highest == pytest.approx(camera, rel=0.01)
        assert found.horizon == pytest.approx(horizon, abs=0.01)


def test_the_ground_does_not_tell_when_people_are_few_or_equally_far() -> None:
    assert camera_over_ground(people_on_ground(1, 0.4, [0.6, 0.9]), 1.0) is None
    assert camera_over_ground(people_on_ground(1, 0.4, [0.80, 0.81, 0.82, 0.83]), 1.0) is None
    same_size = [Box(0.5, y - 0.2, 0.51, y) for y in FEET]
    assert camera_over_ground(same_size, 1.0) is None


@pytest.mark.parametrize(
    ("camera", "angle"),
    [
        (Camera(4, 6, -0.5), "high_angle"),
        (Camera(4, 6, 0.4), None),  # on a hill, looking straight out
        (Camera(0.9, 1.1, 0.4), "eye_level"),
        (Camera(0.1, 0.3, 0.6), "low_angle"),
        (Camera(1.2, 3.0, 0.1), None),
    ],
)
def test_angles_of_a_camera_over_ground(camera: Camera, angle: str | None) -> None:
    assert angle_over_ground(camera) == angle


def test_a_crowd_from_above_is_a_high_angle() -> None:
    things = tuple(Thing("person", box, 0.9) for box in people_on_ground(5, -0.5, FEET))
    assert (answer := shot_angle(clip(Look(RGB, 0.0, (), things)))) is not None
    assert answer.value == "high_angle"
