from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from captioner.decode_pyav import Position, open_pyav
from captioner.video import Video
from curation import segments as module
from curation.scan import ScanConfig, Shot, scan
from curation.segments import (
    Seam,
    SeamError,
    Seams,
    Segment,
    check_seams,
    scan_segment,
    segments,
)
from eval.synth import Rgb, still, write_video
from tests.clips import panning

WIDTH, HEIGHT = 160, 96
BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def shot(seed: int, frames: int) -> list[Rgb]:
    """A pan to and fro over one picture."""
    place = still(seed, WIDTH + 200, HEIGHT)
    at = [abs((i + 200) % 400 - 200) for i in range(frames)]
    return [place[:, i : i + WIDTH] for i in at]


def dissolved(old: list[Rgb], new: list[Rgb], over: int) -> list[Rgb]:
    mixed = [
        np.asarray(cv2.addWeighted(a, 1 - (i + 1) / (over + 1), b, (i + 1) / (over + 1), 0))
        for i, (a, b) in enumerate(zip(old[-over:], new[:over]))
    ]
    return old[:-over] + mixed + new[over:]


def faded(frames: list[Rgb], over: int) -> list[Rgb]:
    """In from black and out to black."""
    last = len(frames) - 1
    levels = [min(1.0, i / over, (last - i) / over) for i in range(len(frames))]
    return [np.asarray(frame * level, np.uint8) for frame, level in zip(frames, levels)]


def cuts_at_the_border(border: int) -> list[Rgb]:
    frames = shot(1, 150) + shot(2, border - 152)
    for seed, length in enumerate((2, 3, 40, 200, 150, 60), 3):
        frames += shot(seed, length)
    return frames + shot(9, 2 * border + 130 - len(frames)) + shot(10, 120)


def dissolve_over_the_border(border: int) -> list[Rgb]:
    first = dissolved(shot(1, border - 130), shot(2, 270), 24)
    return dissolved(first[: border + 12], shot(3, 320), 24) + shot(4, 250)


def one_take_over_a_segment(border: int) -> list[Rgb]:
    return shot(1, border - 60) + shot(2, 2 * border + 120) + shot(3, 100) + shot(4, 60)


def fades_at_the_border(border: int) -> list[Rgb]:
    first = faded(shot(1, border - 30), 12)
    return first + [BLACK] * 60 + faded(shot(2, border - 60), 12) + [BLACK] * 20 + shot(3, 200)


def black_for_longer_than_the_warm_up(border: int) -> list[Rgb]:
    return shot(1, border - 290) + [BLACK] * 350 + shot(2, 120) + shot(3, 260)


FILMS = (
    cuts_at_the_border,
    dissolve_over_the_border,
    one_take_over_a_segment,
    fades_at_the_border,
    black_for_longer_than_the_warm_up,
)


def told(shots: Sequence[Shot]) -> list[object]:
    """All that a shot says of itself but for its number."""
    return [
        (
            shot.first_frame,
            shot.frames,
            shot.start_pts,
            shot.end_pts,
            shot.transition_in,
            [(p.index, p.pts, p.y.tobytes()) for p in shot.batch.pictures],
            [(p.start, p.end, p.first.tobytes()) for p in shot.batch.pairs],
        )
        for shot in shots
    ]


def in_segments(path: Path, parts: Sequence[Segment], config: ScanConfig) -> list[Shot]:
    found: list[Shot] = []
    seams = []
    for part in parts:
        part_scan = scan_segment(path, part, config, threads=1)
        found += part_scan
        seams.append((part, part_scan.seams))
    check_seams(seams)
    return found


def whole(path: Path, config: ScanConfig) -> list[Shot]:
    with scan(path, config, threads=1) as source:
        return list(source)


@pytest.mark.parametrize("film", FILMS)
def test_segments_have_the_shots_of_one_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: object
) -> None:
    begun: list[Position | None] = []

    def watched(path: Path, threads: int = 0, *, at: Position | None = None) -> Video:
        begun.append(at)
        return open_pyav(path, threads, at=at)

    monkeypatch.setattr(module, "open_pyav", watched)
    border = 330
    path = write_video(tmp_path / "a.mp4", film(border), crf=30)  # type: ignore[operator]
    config = ScanConfig()
    expected = whole(path, config)
    assert len(expected) > 2
    frames = expected[-1].first_frame + expected[-1].frames
    parts = segments(path, frames / round(frames / border) / 25)
    assert len(parts) > 1
    assert told(in_segments(path, parts, config)) == told(expected)
    assert begun[0] is None
    assert begun[1] is not None
    late = film is black_for_longer_than_the_warm_up
    assert (None in begun[1:]) == late


def test_any_border_and_variable_time_give_the_same_shots(tmp_path: Path) -> None:
    at = np.cumsum(np.random.default_rng(1).choice((0.02, 0.04, 0.08), 1100))
    frames = cuts_at_the_border(330)
    path = write_video(tmp_path / "a.mkv", frames, times=list(at), start=3.0, crf=30)
    for config in (ScanConfig(), ScanConfig(max_shot=2.0, min_shot=0.2)):
        expected = whole(path, config)
        for seconds in (14.0, 11.0):
            parts = segments(path, seconds)
            assert len(parts) > 2
            assert told(in_segments(path, parts, config)) == told(expected)


def test_borders_are_frames_with_their_timestamps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", (BLACK for _ in range(1300)), 25)
    first, *middle, last = segments(path, 13.0)
    assert (first.start, first.warm, last.end) == (0, (), None)
    assert len(middle) == 2
    for before, after in zip([first, *middle], [*middle, last]):
        assert before.end is not None
        assert before.end.index == after.start
        with open_pyav(path, 1, at=before.end) as video:
            assert next(video.frames()).index == after.start
        assert after.warm[0].index == after.start - 256


@pytest.mark.parametrize("name", ["a.h264", "a.avi", "short.mp4", "text.mp4", "none.mp4"])
def test_what_cannot_be_divided_is_one_segment(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("no video")
    elif name != "none.mp4":
        frames = 100 if name == "short.mp4" else 700
        codec = "mpeg4" if name == "a.avi" else "libx264"
        write_video(path, (BLACK for _ in range(frames)), 25, codec=codec)
    (only,) = segments(path, 10.0)
    assert only.whole


def test_a_segment_that_the_frames_do_not_bear_out_raises(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 60), 25)
    late = Segment(0, Position(30 * 3600 + 1, 30))
    with pytest.raises(SeamError, match="timestamp"):
        list(scan_segment(path, late, threads=1))
    beyond = Segment(0, Position(900 * 3600, 900))
    with pytest.raises(SeamError, match="end before"):
        list(scan_segment(path, beyond, threads=1))


def test_segments_that_do_not_fit_together_raise() -> None:
    parts = [Segment(0, Position(100, 100)), Segment(100, Position(200, 200)), Segment(200, None)]
    second, third = Seam(120, 120, None), Seam(220, 220, None)
    good = [Seams(Seam(0, 0, None), second), Seams(second, third), Seams(third, None)]
    check_seams(list(zip(parts, good)))
    passed = [Seams(Seam(0, 0, None), third), Seams(None, None), Seams(third, None)]
    check_seams(list(zip(parts, passed)))
    other = replace(second, first_frame=121)
    for wrong in (
        [good[0], Seams(other, third), good[2]],
        [good[0], Seams(None, None), good[2]],
        [good[0], good[1], Seams(None, None)],
        [good[0], Seams(second, None), good[2]],
    ):
        with pytest.raises(SeamError):
            check_seams(list(zip(parts, wrong)))


def test_a_length_that_makes_no_sense_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seconds"):
        segments(tmp_path / "a.mp4", 0)
