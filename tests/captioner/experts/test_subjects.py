from dataclasses import replace

import cv2
import numpy as np
import pytest

from captioner.experts import subjects
from captioner.experts.bodies import KEYPOINTS, Body, Thing
from captioner.experts.boxes import Box
from captioner.experts.faces import Face
from captioner.experts.people import people
from captioner.experts.sightings import Look, Sightings, look
from captioner.experts.subjects import colour_name, describe_subjects, position_words
from captioner.experts.taxonomy import COCO_KINDS, kind_shares
from captioner.experts.text import TextLine
from captioner.frames import FrameBatch
from captioner.schema import SUBJECT_TYPES

RGB = np.full((360, 640, 3), 90, np.uint8)
NOTHING = np.zeros(1000)
MIDDLE = Box(0.3, 0.1, 0.6, 0.9)


def person(box: Box = MIDDLE, score: float = 0.9) -> Thing:
    return Thing("person", box, score)


def face(box: Box) -> Face:
    return Face(box, 0.9, 0.0, 0.0, 0.0, box.height, 0.0, ((0.0, 0.0),) * 5)


def clip(*things: tuple[Thing, ...], classes: np.ndarray = NOTHING) -> Sightings:
    return Sightings(tuple(Look(RGB, 0.0, (), one) for one in things), classes)


def classes(**shares: float) -> np.ndarray:
    """ImageNet probabilities by class number, as _74=0.6."""
    found = np.zeros(1000)
    for name, share in shares.items():
        found[int(name[1:])] = share
    return found


def test_a_person_in_most_pictures_is_the_main_subject() -> None:
    (main,) = describe_subjects(clip((person(),), (person(),), (person(),), ()))
    assert (main.type, main.sub_type, main.is_main_subject) == ("Human", "", True)
    assert main.confidence == pytest.approx(0.75 * 0.9)
    assert main.box == MIDDLE


def test_people_come_before_what_is_around_them() -> None:
    car = Thing("car", Box(0, 0.2, 0.9, 0.9), 0.9)
    first, second = describe_subjects(clip(*[(car, person())] * 4, classes=classes(_817=0.9)))
    assert (first.type, first.is_main_subject) == ("Human", True)
    assert (second.type, second.sub_type, second.is_main_subject) == ("Vehicles", "Car", False)


def test_tiny_people_are_part_of_the_setting() -> None:
    tiny = person(Box(0.5, 0.5, 0.51, 0.55))
    plane = Thing("airplane", Box(0.3, 0.3, 0.7, 0.5), 0.9)
    (main,) = describe_subjects(clip(*[(tiny, plane)] * 4))
    assert (main.type, main.sub_type) == ("Vehicles", "Airplane")
    assert describe_subjects(clip(*[(tiny,)] * 4)) == ()


def test_a_thing_in_few_pictures_is_not_believed() -> None:
    dog = Thing("dog", MIDDLE, 0.9)
    assert describe_subjects(clip((dog,), (), (), ())) == ()
    assert describe_subjects(clip((dog,), (dog,), (), ()))[0].sub_type == "Mammal"


def test_the_picture_as_a_whole_names_what_no_box_does() -> None:
    spiders = classes(_74=0.5, _73=0.3)
    (main,) = describe_subjects(clip((), (), (), (), classes=spiders))
    assert (main.type, main.sub_type, main.box) == ("Animal", "Insect", None)
    assert main.confidence == pytest.approx(0.8)


def test_many_unlikely_classes_are_surroundings() -> None:
    on_a_flower = classes(_301=0.2, _309=0.2, _310=0.2)  # ladybird, bee, ant
    assert describe_subjects(clip((), (), (), (), classes=on_a_flower)) == ()


def test_two_kinds_alike_leave_the_sub_type_empty() -> None:
    (main,) = describe_subjects(clip((), (), classes=classes(_1=0.34, _10=0.3, _50=0.3)))
    assert (main.type, main.sub_type) == ("Animal", "")


def test_other_people_are_subjects_when_they_are_large() -> None:
    left, right = person(Box(0.0, 0.1, 0.3, 0.9)), person(Box(0.6, 0.1, 1.0, 0.9))
    far = person(Box(0.45, 0.4, 0.5, 0.6))
    found = describe_subjects(clip(*[(left, right, far)] * 4))
    assert [one.is_main_subject for one in found] == [True, False]
    assert "right" in found[0].position
    assert "left" in found[1].position


def test_gender_is_said_when_the_faces_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    near = face(Box(0.4, 0.15, 0.5, 0.3))
    seen = Sightings(tuple(Look(RGB, 0.0, (near,), (person(),)) for _ in range(4)), NOTHING)
    said = []
    for share in (0.02, 0.5, 0.97):
        monkeypatch.setattr(subjects, "man_probability", lambda *_, share=share: share)
        said.append(describe_subjects(seen)[0].sub_type)
    assert said == ["Woman", "", "Man"]


def test_a_face_belongs_to_the_smallest_person_around_it() -> None:
    behind, front = Box(0.0, 0.0, 1.0, 1.0), Box(0.4, 0.1, 0.6, 0.9)
    seen = Look(RGB, 0.0, (face(Box(0.45, 0.15, 0.55, 0.3)),), (person(behind), person(front)))
    owners = {one.box: one.face is not None for one in people(seen)}
    assert owners == {behind: False, front: True}


def test_a_face_without_a_body_is_a_person() -> None:
    (one,) = people(Look(RGB, 0.0, (face(Box(0.4, 0.3, 0.6, 0.7)),)))
    assert one.face is not None
    assert one.box.bottom == 1, "the figure goes on below the frame"
    assert one.box.top < 0.3, "the crown is above the brow"


def test_large_lasting_text_is_a_subject_where_there_is_no_other() -> None:
    title = TextLine("INTERMISSION", Box(0.2, 0.4, 0.8, 0.6), 1.0, 0.9)
    logo = TextLine("TV", Box(0.9, 0.05, 0.95, 0.1), 1.0, 0.9)
    subtitle = TextLine("What is that?", Box(0.1, 0.84, 0.9, 0.92), 1.0, 0.9)
    empty = clip((), ())
    assert describe_subjects(empty, (title, logo))[0].type == "Text"
    assert describe_subjects(empty, (logo, subtitle)) == ()
    assert describe_subjects(empty, (replace(title, share=0.3),)) == ()
    assert describe_subjects(clip((person(),), (person(),)), (title,))[0].type == "Human"


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(0.4, 0.4, 0.6, 0.6), ("Centered",)),
        (Box(0.0, 0.3, 0.2, 0.7), ("left",)),
        (Box(0.8, 0.8, 1.0, 1.0), ("lower", "right")),
        (Box(0.4, 0.0, 0.6, 0.2), ("upper", "center")),
        (Box(0.0, 0.0, 1.0, 1.0), ("Filling",)),
    ],
)
def test_positions_in_words(box: Box, words: tuple[str, ...]) -> None:
    assert all(word in position_words(box) for word in words)


def test_left_and_right_change_in_a_mirror() -> None:
    for box in (Box(0.0, 0.1, 0.2, 0.3), Box(0.1, 0.8, 0.3, 0.9)):
        mirrored = Box(1 - box.right, box.top, 1 - box.left, box.bottom)
        swapped = position_words(box).replace("left", "right")
        assert position_words(mirrored) == swapped != position_words(box)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((200, 20, 20), "red"), ((20, 40, 200), "blue"), ((30, 160, 40), "green"),
     ((10, 10, 10), "black"), ((240, 240, 240), "white"), ((120, 120, 120), "gray"),
     ((240, 220, 30), "yellow")],
)  # fmt: skip
def test_colour_names(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_name(np.full((100, 3), rgb, np.uint8)) == name


def test_many_colours_have_no_name() -> None:
    stripes = np.array([[200, 20, 20], [20, 40, 200]] * 50, np.uint8)
    assert colour_name(stripes) == ""
    assert colour_name(stripes[:4]) == "", "too few pixels"


def test_clothing_is_the_colour_between_shoulders_and_hips() -> None:
    places = {"left_shoulder": (0.55, 0.3), "right_shoulder": (0.35, 0.3),
              "left_hip": (0.52, 0.6), "right_hip": (0.38, 0.6)}  # fmt: skip
    points = tuple((*places.get(name, (0.5, 0.2)), 0.9) for name in KEYPOINTS)
    rgb = RGB.copy()
    cv2.rectangle(rgb, (224, 108), (352, 216), (20, 40, 200), -1)
    dressed = Look(rgb, 0.0, (), (person(),), (Body(MIDDLE, 0.9, points),))
    (main,) = describe_subjects(Sightings((dressed,) * 4, NOTHING))
    assert main.appearance == "Wearing blue clothing on the upper body."
    hidden = tuple((x, y, 0.1) for x, y, _ in points)
    unseen = Look(rgb, 0.0, (), (person(),), (Body(MIDDLE, 0.9, hidden),))
    assert describe_subjects(Sightings((unseen,) * 4, NOTHING))[0].appearance == ""


def test_every_type_is_in_the_schema() -> None:
    shares = kind_shares(np.full(1000, 1e-3))
    assert {kind for kind, _ in (*COCO_KINDS.values(), *shares)} <= set(SUBJECT_TYPES)
    assert sum(shares.values()) < 1, "no class counts twice"


def test_classes_fall_on_their_kinds() -> None:
    for number, kind in ((281, ("Animal", "Mammal")), (323, ("Animal", "Insect")),
                         (805, ("Sport", "Football")), (404, ("Vehicles", "Airplane")),
                         (970, ("Scenery", "Mountain")), (963, ("Food", "Other")),
                         (985, ("Plant", "Flower")), (99, ("Animal", "Bird"))):  # fmt: skip
        shares = kind_shares(classes(**{f"_{number}": 1.0}))
        assert {name for name, share in shares.items() if share > 0} == {kind}


def test_black_and_noise_have_no_subjects() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (4, 90, 160, 3), dtype=np.uint8)
    for frames in (np.zeros_like(noise), noise):
        assert describe_subjects(look(FrameBatch.from_rgb(list(frames), 4))) == ()
