from functools import cache

import numpy as np
import pytest

from captioner.experts.camera import _PHRASES, MOVES, CameraMotion, measure_camera, phrase
from captioner.frames import FrameBatch
from eval.synth_moves import AXES, NAMES, MoveCase, cases

SEED = 3
ALIKE = (("truck", "pan"), ("pedestal", "tilt"), ("dolly", "zoom"))
OPPOSITE = {a: b for names in NAMES.values() for a, b in (names, names[::-1])}


@cache
def case(name: str) -> MoveCase:
    return next(c for c in cases(SEED) if c.name.startswith(name))


@cache
def frames(name: str) -> list[np.ndarray]:
    return case(name).frames()


def measure(pictures: list[np.ndarray], fps: float = 25.0) -> CameraMotion | None:
    return measure_camera(FrameBatch.from_rgb(pictures, fps))


def of_case(name: str) -> CameraMotion:
    motion = measure(frames(name), case(name).fps)
    assert motion is not None
    return motion


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("sign", [0, 1])
def test_each_move_has_its_name_and_speed(axis: str, sign: int) -> None:
    name = f"{axis}:{NAMES[axis][sign]}:medium"
    motion = of_case(name)
    # Which of truck and pan, pedestal and tilt, dolly and zoom it is needs more depth than every
    # scene has; which way it goes does not.
    alike = next(pair for pair in ALIKE if axis in pair) if axis != "roll" else ("roll",)
    assert len(motion.moves) == 1
    assert motion.moves[0] in {NAMES[one][sign] for one in alike}
    measured = sum(getattr(motion, one) for one in alike)
    # The cases' speeds vary by 15 %; a travelling camera passes near planes faster than far ones.
    least, most = (0.04, 0.25) if axis in ("truck", "pedestal", "dolly") else (0.08, 0.13)
    assert least < abs(measured) < most
    assert (measured < 0) == bool(sign)
    assert motion.confidence > 0.4
    assert not motion.static


@pytest.mark.parametrize("speed", ["slow", "medium", "fast"])
def test_speed_class(speed: str) -> None:
    assert of_case(f"pan:pan_right:{speed}").speed("pan") == speed
    assert of_case(f"pan:pan_right:{speed}").speed("tilt") == ""


@pytest.mark.parametrize("name", [c.name for c in cases(SEED) if c.moves == ("static",)])
def test_a_static_camera_is_never_said_to_move(name: str) -> None:
    motion = measure(frames(name), case(name).fps)
    if name == "static:dark-subject" and motion is None:
        return  # little but noise to see
    assert motion is not None
    assert motion.static
    assert motion.moves == ("static",)


def test_trembling_is_handheld_and_a_trembling_pan_is_both() -> None:
    assert of_case("handheld:0.008").moves == ("handheld",)
    assert of_case("shaken:pan").moves == case("shaken:pan").moves


@pytest.mark.parametrize("what", ["subtitle:pan", "letterbox:pan", "flicker:tilt", "crossed:pan"])
def test_what_is_burned_in_flickers_or_passes_does_not_hide_the_move(what: str) -> None:
    assert of_case(what).moves == case(what).moves


def test_a_followed_subject_is_a_tracking_shot() -> None:
    motion = of_case("followed:pan")
    assert motion.tracking
    assert phrase(motion).startswith("use a tracking shot, the camera pans ")
    assert not of_case("pan:pan_right:medium").tracking


@pytest.mark.parametrize("name", ["pan:pan_right:medium", "truck:truck_left:fast", "roll:roll_cw"])
def test_mirrored_pictures_mirror_the_move(name: str) -> None:
    mirrored = measure([f[:, ::-1] for f in frames(name)], case(name).fps)
    assert mirrored is not None
    assert mirrored.moves == (OPPOSITE[of_case(name).moves[0]],)


@pytest.mark.parametrize("name", ["tilt:tilt_up:medium", "zoom:push_in:medium", "pan:pan_right"])
def test_backwards_inverts_the_move(name: str) -> None:
    backwards = measure(frames(name)[::-1], case(name).fps)
    assert backwards is not None
    assert backwards.moves == (OPPOSITE[of_case(name).moves[0]],)


def test_a_pan_there_and_back_is_two_moves() -> None:
    there = frames("pan:pan_right:fast")
    motion = measure([*there, *there[::-1]], case("pan:pan_right:fast").fps)
    assert motion is not None
    assert motion.moves == ("pan_right", "pan_left")


@pytest.mark.parametrize("name", ["blank:black", "blank:grey"])
def test_nothing_to_see_is_no_answer(name: str) -> None:
    assert measure(frames(name), case(name).fps) is None


def test_too_short_or_too_small_is_no_answer() -> None:
    assert measure(frames("static")[:1]) is None
    assert measure([f[:4, :4] for f in frames("static")]) is None


def test_rest_in_two_different_views_is_no_answer() -> None:
    # Hard cuts are not the expert's business, but it must not call them a static camera.
    views = [frames(f"static{k}")[0] for k in ("", ":flat", ":subtitle", ":flicker")]
    size = min(v.shape[0] for v in views), min(v.shape[1] for v in views)
    shown = [v[: size[0], : size[1]] for v in views]
    motion = measure([v for v in shown for _ in range(15)])
    assert motion is None or not motion.static


def test_the_same_shot_gives_the_same_answer() -> None:
    assert of_case("shaken:pan") == of_case("shaken:pan")


def test_every_move_has_a_phrase() -> None:
    assert set(_PHRASES) == {*MOVES, "tracking"}
    assert phrase(of_case("static:flat")) == "the camera remains static"
