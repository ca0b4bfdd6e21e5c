import numpy as np
import pytest

from captioner.experts import expression
from captioner.experts.boxes import Box
from captioner.experts.expression import CLASSES, average, main_expression, probabilities
from captioner.experts.faces import Face
from captioner.experts.sightings import Look, Sightings
from eval.synth import still


def one_hot(name: str, share: float = 1.0) -> np.ndarray:
    rest = (1 - share) / 6
    return np.array([share if name == one else rest for one in CLASSES])


def face(height: float = 0.4, yaw: float = 0.0) -> Face:
    box = Box(0.4, 0.3, 0.6, 0.3 + height)
    return Face(box, 0.9, yaw, 0.0, 0.0, height, 0.0, ((0.0, 0.0),) * 5)


def clip(*faces: Face) -> Sightings:
    rgb = still(5)
    return Sightings(tuple(Look(rgb, 0.0, (one,), ()) for one in faces), np.zeros(1000))


def test_the_mean_decides() -> None:
    answer = average([one_hot("happiness", 0.9), one_hot("happiness", 0.7)])
    assert answer is not None
    assert answer.name == "happiness"
    assert answer.confidence == pytest.approx(0.8)


def test_faces_that_disagree_give_no_answer() -> None:
    assert average([one_hot("happiness"), one_hot("sadness")]) is None


def test_one_face_is_no_average() -> None:
    assert average([one_hot("neutral")]) is None
    assert average([]) is None


def test_what_talking_is_mistaken_for_needs_more() -> None:
    assert average([one_hot("fear", 0.7)] * 3) is None
    assert average([one_hot("neutral", 0.7)] * 3) is not None
    sure = average([one_hot("fear", 0.9)] * 3)
    assert sure is not None
    assert sure.name == "fear"


def test_only_near_and_frontal_faces_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expression, "probabilities", lambda *_: one_hot("surprise"))
    answer = main_expression(clip(face(), face()))
    assert answer is not None
    assert answer.name == "surprise"
    assert main_expression(clip(face(height=0.1), face(height=0.1))) is None
    assert main_expression(clip(face(yaw=60), face(yaw=-60))) is None
    assert main_expression(clip()) is None


def test_the_main_face_is_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        expression, "probabilities", lambda _, one: asked.append(one) or one_hot("neutral")
    )
    small, large = face(height=0.2), face(height=0.5)
    look = Look(still(5), 0.0, (small, large), ())
    main_expression(Sightings((look, look), np.zeros(1000)))
    assert asked == [large, large]


def test_the_network_gives_probabilities_of_a_face_at_the_edge() -> None:
    at_edge = Face(Box(-0.1, -0.1, 0.2, 0.4), 0.9, 0, 0, 0, 0.5, 0, ((0.0, 0.0),) * 5)
    found = probabilities(still(6), at_edge)
    assert found.shape == (7,)
    assert found.sum() == pytest.approx(1, abs=1e-3)
    assert (found >= 0).all()


def test_the_network_sees_the_face_and_not_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip holds the box, its centre a little below the middle, and nothing far from it."""
    chips = []

    def network(x: np.ndarray) -> list[np.ndarray]:
        chips.append(x)
        return [np.full((1, 7), 1 / 7, np.float32)]

    monkeypatch.setattr(expression, "tflite", lambda _: network)
    rgb = np.zeros((360, 640, 3), np.uint8)
    rgb[100:244, 256:384] = 255
    box = Box(256 / 640, 100 / 360, 384 / 640, 244 / 360)
    probabilities(rgb, Face(box, 0.9, 0, 0, 0, 0.4, 0, ((0.0, 0.0),) * 5))
    (chip,) = chips
    assert chip.shape == (1, 64, 64, 1)
    assert chip.dtype == np.float32
    assert chip.min() == -1
    assert chip.max() == 1
    white = (chip[0, :, :, 0] > 0).sum(0).max() / 64
    assert white == pytest.approx(1 / 1.25, abs=0.05)
