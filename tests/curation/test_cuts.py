from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import pytest
from scenedetect import AdaptiveDetector, FrameTimecode, SceneDetector

from curation.cuts import DETECTORS, LATENCY, Boundary, CutFinder, joins
from curation.detectors import detector
from curation.looks import HEIGHT, WIDTH, Look, explained
from eval.synth import Rgb, still

BLACK = np.zeros((144, 256, 3), np.uint8)


@cache
def panorama(seed: int) -> Rgb:
    return still(seed, 1700, 144)


def shot(seed: int, frames: int = 30, speed: float = 1.0) -> list[Rgb]:
    """A pan, `speed` pixels a frame."""
    place = panorama(seed)
    return [place[:, round(speed * i) :][:, :256] for i in range(frames)]


def portrait(x: int, y: int, radius: int, frames: int = 20) -> list[Rgb]:
    """A grey head before a grey wall, in a picture of little contrast."""
    wall = np.full((144, 256, 3), 150, np.uint8)
    cv2.ellipse(wall, (x, y), (radius, int(1.3 * radius)), 0, 0, 360, (120, 120, 120), -1)
    for side in (-1, 1):
        cv2.circle(wall, (x + side * radius // 2, y - 5), 4, (90, 90, 90), -1)
    noise = np.random.default_rng(x).integers(-2, 3, (frames, 144, 256, 1))
    return [np.asarray(wall + noise[i], np.uint8) for i in range(frames)]


def mix(old: Rgb, new: Rgb, share: float) -> Rgb:
    return np.asarray(cv2.addWeighted(old, 1 - share, new, share, 0), np.uint8)


def small(frame: Rgb) -> Rgb:
    return np.asarray(cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def found(frames: Sequence[Rgb], detector: str = "adaptive") -> list[Boundary]:
    finder = CutFinder(detector, 25.0)
    boundaries: list[Boundary] = []
    for frame in frames:
        boundaries += finder.push(small(frame))
    return boundaries + finder.finish()


def cuts(frames: Sequence[Rgb]) -> list[int]:
    boundaries = found(frames)
    assert all(b.kind == "cut" and b.start == b.end for b in boundaries)
    return [b.start for b in boundaries]


def proposed(detector: SceneDetector, frames: Sequence[Rgb]) -> list[int]:
    codes = []
    for i, frame in enumerate(frames):
        codes += detector.process_frame(FrameTimecode(i, 25.0), small(frame))
    return [code.frame_num for code in codes]


def test_a_cut_is_the_first_frame_of_the_new_shot() -> None:
    assert cuts(shot(1, 31) + shot(2, 24) + shot(3, 30)) == [31, 55]


@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_a_cut_on_one_of_the_first_and_of_the_last_frames(at: int) -> None:
    assert cuts(shot(1, at) + shot(2, 30)) == [at]
    assert cuts(shot(1, 30) + shot(2, at)) == [30]


def test_cuts_a_few_frames_apart() -> None:
    assert cuts(shot(1) + shot(2, 4) + shot(3, 9) + shot(4)) == [30, 34, 43]


def test_a_cut_is_known_while_its_frames_can_still_be_held() -> None:
    finder = CutFinder("adaptive", 25.0)
    for i, frame in enumerate(shot(1) + shot(2)):
        if finder.push(small(frame)):
            assert i - 30 < LATENCY
            return
    pytest.fail("no cut")


def test_a_cut_between_pictures_of_little_contrast_that_the_default_misses() -> None:
    frames = portrait(100, 70, 34) + portrait(160, 90, 22) + portrait(90, 60, 45)
    assert proposed(AdaptiveDetector(), frames) == []
    assert cuts(frames) == [20, 40]


def test_a_cut_into_a_shot_with_black_bars_on_all_of_them() -> None:
    frames = [frame.copy() for frame in shot(1) + shot(2)]
    for frame in frames:
        frame[:18] = frame[-18:] = 0
    assert cuts(frames) == [30]


# --- what is no cut -------------------------------------------------------------------------------


def flash(frames: list[Rgb]) -> None:
    frames[30] = frames[31] = mix(frames[30], np.full_like(BLACK, 255), 0.8)


def exposure(frames: list[Rgb]) -> None:
    frames[30:] = [np.asarray(cv2.convertScaleAbs(f, alpha=0.5), np.uint8) for f in frames[30:]]


def broken(frames: list[Rgb]) -> None:
    for i in (30, 31):
        frames[i] = np.roll(frames[i], 90, axis=0)
        frames[i][::3] = np.roll(frames[i][::3], 70, axis=1)


def passer_by(frames: list[Rgb]) -> None:
    body = still(77, 256, 144)
    for i in range(8):
        frames[28 + i] = frames[28 + i].copy()
        left = max(0, 60 * i - 200)
        frames[28 + i][:, left : 60 * i] = body[:, left : 60 * i][:, :256]


def caption(frames: list[Rgb]) -> None:
    for i in range(30, 45):
        frames[i] = frames[i].copy()
        cv2.rectangle(frames[i], (30, 105), (225, 135), (255, 255, 255), -1)
        cv2.putText(frames[i], "BREAKING", (35, 130), 0, 1.0, (0, 0, 0), 3)


def whip(frames: list[Rgb]) -> None:
    place = np.hstack([still(1, 600, 144), still(2, 600, 144)])
    path = np.concatenate([np.zeros(30), np.linspace(0, 800, 10), np.full(30, 800)])
    for i in range(len(frames)):
        step = int(path[i] - path[max(0, i - 1)])
        view = place[:, int(path[i]) :][:, :256]
        frames[i] = np.asarray(cv2.blur(view, (max(1, step // 2), 1)), np.uint8)


@pytest.mark.parametrize("spoil", [flash, exposure, broken, passer_by, caption, whip])
def test_what_looks_like_a_cut_and_is_none(spoil: object) -> None:
    frames = shot(5, 70)
    assert callable(spoil)
    spoil(frames)
    assert any(27 <= cut <= 41 for cut in proposed(detector("adaptive"), frames))
    assert found(frames) == []


def test_a_long_glitch_that_came_gradually_ends_without_a_cut() -> None:
    frames, body = shot(5, 80, 0), still(9, 256, 144)
    for i in range(20, 50):
        covered = min(256, 12 * (i - 19))
        frames[i] = frames[i].copy()
        frames[i][:, :covered] = body[:, :covered]
    assert not any(48 <= b.start <= 52 for b in found(frames))


# --- gradual transitions --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 15, 40])
def test_a_dissolve_is_found_with_both_of_its_ends(length: int) -> None:
    old, new = shot(1, 40 + length), shot(2, 40 + length)
    share = [(i + 1) / (length + 1) for i in range(length)]
    mixed = [mix(a, b, s) for a, b, s in zip(old[40:], new[:length], share)]
    (boundary,) = found(old[:40] + mixed + new[length:])
    assert boundary.kind == "dissolve"
    assert abs(boundary.start - 40) <= 2
    assert abs(boundary.end - 40 - length) <= 2


@pytest.mark.parametrize("speed", [1.0, 6.0, 15.0])
def test_a_pan_is_no_dissolve(speed: float) -> None:
    assert found(shot(3, 90, speed)) == []


@pytest.mark.parametrize("level", [0, 255])
def test_a_fade_through_an_even_colour_is_one_transition(level: int) -> None:
    blank = np.full_like(BLACK, level)
    down = [mix(f, blank, (i + 1) / 10) for i, f in enumerate(shot(1, 10))]
    up = [mix(blank, f, (i + 1) / 10) for i, f in enumerate(shot(2, 9))]
    (fade,) = joins(found(shot(1) + down + [blank] * 12 + up + shot(2)))
    assert fade.kind == "fade"
    assert abs(fade.start - 30) <= 2
    assert abs(fade.end - 61) <= 2


def test_fades_at_the_ends_of_the_file_join_nothing() -> None:
    up = [mix(BLACK, f, (i + 1) / 10) for i, f in enumerate(shot(1, 10))]
    boundaries = found([BLACK] * 5 + up + shot(1, 40) + up[::-1] + [BLACK] * 5)
    assert joins(boundaries) == []
    first, last = boundaries
    assert first.blank_before
    assert (first.start, abs(first.end - 14) <= 2) == (0, True)
    assert last.blank_after
    assert abs(last.start - 56) <= 2


def test_a_short_black_pause_within_a_shot_is_none() -> None:
    frames = shot(1, 60)
    frames[30:33] = [BLACK] * 3
    assert found(frames) == []


@pytest.mark.parametrize("length", [1, 2, 40])
def test_an_even_picture_all_along_has_no_boundary(length: int) -> None:
    assert found([BLACK] * length) == []


def test_the_two_sides_of_a_black_pause_are_one_join() -> None:
    pause = [Boundary("cut", 9, 9, blank_after=True), Boundary("cut", 19, 19, blank_before=True)]
    assert joins(pause) == [Boundary("cut", 9, 19, blank_before=True)]
    assert joins([Boundary("fade", 0, 9, blank_before=True), Boundary("cut", 20, 20)]) == [
        Boundary("cut", 20, 20)
    ]


# --- comparing ------------------------------------------------------------------------------------


def look(picture: Rgb) -> Look:
    return Look(small(picture))


def test_motion_and_light_are_explained_and_another_place_is_not() -> None:
    place = still(4, 300, 144)
    here = look(place[:, :256])
    assert explained(here, look(place[:, 20:276])) > 0.5
    assert explained(here, look(np.asarray(place[:, :256] * 0.5, np.uint8))) > 0.5
    assert explained(here, look(still(8, 256, 144))) < 0.35


def test_a_blank_picture_explains_only_another() -> None:
    assert explained(look(BLACK), look(BLACK)) == 1.0
    assert explained(look(BLACK), look(still(8, 256, 144))) == 0.0


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_finds_a_cut_or_says_nothing(name: str) -> None:
    expected = [] if name == "threshold" else [Boundary("cut", 30, 30)]
    assert found(shot(1) + shot(2), name) == expected
