import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.experts.text import characters, decode, find_text, read_text, text_cores
from captioner.frames import FrameBatch
from eval.synth import still

NAMES = ("", "a", "b", "c")


def titled(text: str, at: tuple[int, int], seed: int = 4, scale: float = 1.0) -> np.ndarray:
    """White on black outlines, as subtitles are, over a textured picture."""
    rgb = still(seed)
    for colour, width in ((0, 6), (255, 2)):
        cv2.putText(rgb, text, at, 0, scale, (colour,) * 3, width, cv2.LINE_AA)
    return rgb


def clip(*frames: np.ndarray) -> FrameBatch:
    return FrameBatch.from_rgb(list(frames), 3)


@pytest.mark.parametrize("text", ["Hello, world!", "COMING SOON 2024", "What is that?"])
def test_a_subtitle_is_read_exactly(text: str) -> None:
    (line,) = read_text(clip(*[titled(text, (140, 330))] * 3))
    assert line.text.replace(" ", "") == text.replace(" ", "")
    assert line.share == pytest.approx(1)
    assert line.confidence > 0.9
    width, height = cv2.getTextSize(text, 0, 1.0, 2)[0]
    assert line.box.left == pytest.approx(140 / 640, abs=0.03)
    assert line.box.right == pytest.approx((140 + width) / 640, abs=0.03)
    assert line.box.top == pytest.approx((330 - height) / 360, abs=0.05)
    assert line.box.bottom == pytest.approx(330 / 360, abs=0.06)


def test_lines_come_with_the_share_of_pictures_that_show_them() -> None:
    logo = ("NEWS", (500, 40))
    frames = [titled(*logo) for _ in range(3)]
    for frame, said in zip(frames, ("First one", "Second", "A third line")):
        cv2.rectangle(frame, (0, 290), (640, 360), (0, 0, 0), -1)
        cv2.putText(frame, said, (200, 335), 0, 1, (255, 255, 255), 2, cv2.LINE_AA)
    lines = read_text(clip(*frames))
    shares = {line.text.replace(" ", ""): round(line.share, 2) for line in lines}
    assert shares == {"NEWS": 1.0, "Firstone": 0.33, "Second": 0.33, "Athirdline": 0.33}
    assert lines[0].text == "NEWS", "the longest seen first"


def test_vertical_and_tilted_text_is_found() -> None:
    flat = np.full((360, 640, 3), 255, np.uint8)
    cv2.putText(flat, "tilted words", (150, 180), 0, 1.5, (0, 0, 0), 3, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((320, 180), 12, 1)
    tilted = cv2.warpAffine(flat, turn, (640, 360), borderValue=(255, 255, 255))
    (line,) = read_text(clip(*[tilted] * 3))
    assert line.text.replace(" ", "") == "tiltedwords"
    standing = np.ascontiguousarray(np.rot90(flat))  # reads upwards
    (corners,) = find_text(standing)
    along = corners[1] - corners[0]
    assert abs(along[1]) > 4 * abs(along[0]), "a column is read along its length"


def test_pictures_without_text_have_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    for rgb in (np.zeros_like(noise), noise, still(7), still(8)):
        assert read_text(clip(rgb)) == ()


def test_a_single_letter_is_no_text() -> None:
    assert read_text(clip(*[titled("5", (300, 200), scale=3)] * 3)) == ()


def test_the_recogniser_brings_its_characters() -> None:
    names = characters()
    assert names[0] == ""
    assert names[-1] == " "
    assert {"A", "z", "0", "好"} <= set(names)
    assert len(names) == 18710  # the classes of the network


def columns(path: str) -> np.ndarray:
    """Probabilities whose best path is this, "." being the blank."""
    found = np.full((len(path), 4), 0.1, np.float32)
    for i, letter in enumerate(path):
        found[i, ".abc".index(letter)] = 0.7
    return found


@pytest.mark.parametrize(
    ("path", "text"),
    [("", ""), ("...", ""), ("abc", "abc"), ("aab", "ab"), ("a.a", "aa"), (".aa.a..b.", "aab")],
)
def test_ctc_joins_repeats_and_drops_blanks(path: str, text: str) -> None:
    assert decode(columns(path), NAMES)[0] == text


@given(st.text("abc", max_size=12), st.integers(1, 3))
def test_ctc_reads_back_any_spelling(text: str, times: int) -> None:
    path = ".".join(letter * times for letter in text)
    read, score = decode(columns(path), NAMES)
    assert read == text
    assert score == pytest.approx(0.7 if text else 0.0)


def test_cores_grow_to_the_size_of_the_text() -> None:
    """A core w x h grows by area x 1.6 / perimeter on each side."""
    core = np.zeros((100, 200), np.float32)
    core[40:50, 50:150] = 0.9
    (corners,) = text_cores(core)
    grow = 100 * 10 * 1.6 / 220
    assert corners[0] == pytest.approx([50 - grow, 40 - grow], abs=1.5)
    assert corners[2] == pytest.approx([150 + grow, 50 + grow], abs=1.5)
    assert text_cores(np.where(core > 0, 0.4, 0).astype(np.float32)) == [], "an unsure core"
    assert text_cores(np.zeros((50, 50), np.float32)) == []
