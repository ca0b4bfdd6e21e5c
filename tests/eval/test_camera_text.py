import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.experts.camera import _PHRASES, MOVES
from eval.camera_text import _NAMES, AXES, CameraMove, read_camera

moves = st.builds(
    CameraMove,
    signs=st.tuples(*[st.sampled_from((-1, 0, 1))] * len(AXES)),
    handheld=st.booleans(),
).filter(lambda move: any(move.signs))


@given(moves)
def test_a_name_is_read_as_what_it_names(move: CameraMove) -> None:
    assert read_camera(move.name) == move


@given(moves)
def test_sentences_mean_what_their_parts_mean(move: CameraMove) -> None:
    said = ["use a handheld shot"] * move.handheld + [
        f"the camera {_VERBS[name]}"
        for axis, sign in zip(AXES, move.signs)
        if sign
        for name in (_NAMES[axis][sign < 0],)
    ]
    assert read_camera(", ".join(said)) == move
    assert read_camera(" and then ".join(said).capitalize() + ".") == move


_VERBS = {
    "truck_right": "moves to the right", "truck_left": "slides left",
    "pedestal_up": "rises", "pedestal_down": "cranes down",
    "push_in": "moves forward", "pull_out": "pulls back",
    "pan_right": "pans right", "pan_left": "pans to the left",
    "tilt_up": "tilts upwards", "tilt_down": "tilts down",
    "roll_cw": "rolls clockwise", "roll_ccw": "rotates counter-clockwise",
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_the_experts_phrases_are_read(name: str) -> None:
    move = read_camera(_PHRASES[name])
    assert move is not None
    assert move.name == name
    assert read_camera(name) == move


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the camera moves toward zooms in", "push_in"),  # published
        ("use a tracking shot, the camera moves toward zooms in", "push_in"),  # published
        ("The camera does not move.", "static"),
        ("A static shot with no camera movement", "static"),
        ("Handheld, with a slight shake", "handheld"),
        ("The camera pushes in", "push_in"),
        ("The camera pans left and up", "pan_left+tilt_up"),
        ("The camera follows the man who walks to the left", "tracking"),
        ("no pan, the camera tilts up", "tilt_up"),
        ("pans left, then right", "pan_left"),
    ],
)
def test_sentences(text: str, name: str) -> None:
    move = read_camera(text)
    assert move is not None
    assert move.name == name


@pytest.mark.parametrize("text", ["", "a man walks", "the camera", "camera moves", "left"])
def test_what_says_nothing_of_the_camera(text: str) -> None:
    assert read_camera(text) is None


@pytest.mark.parametrize(
    ("text", "speed"),
    [("pans left", ""), ("slowly pans left", "slow"), ("a fast pan to the left", "fast"),
     ("pan_left at medium speed", "medium")],
)  # fmt: skip
def test_speeds(text: str, speed: str) -> None:
    move = read_camera(text)
    assert move is not None
    assert move.speed == speed
    assert move.name == "pan_left"


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    read_camera(text)
