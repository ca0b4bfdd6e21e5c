from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from captioner.decode import open_video
from captioner.frames import MAX_FRAMES
from captioner.video import UnreadableVideoError
from curation import scan as scan_module
from curation.cuts import DETECTORS, LATENCY
from curation.scan import Scan, ScanConfig, Shot, scan
from eval.edits import render
from eval.synth import Rgb, still, write_video
from tests.clips import panning

BLACK = np.zeros((180, 320, 3), np.uint8)


def long_take(frames: int) -> list[Rgb]:
    place = still(1, 800, 180)
    return [place[:, i : i + 320] for i in range(frames)]


def shots_of(path: Path, config: ScanConfig | None = None) -> tuple[list[Shot], Scan]:
    with scan(path, config, threads=1) as source:
        return list(source), source


def bounds(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.first_frame, shot.first_frame + shot.frames) for shot in shots]


def times_of(path: Path) -> list[int]:
    with open_video(path, threads=1) as video:
        return [frame.pts for frame in video.frames()]


def assert_partition(path: Path, shots: list[Shot], source: Scan) -> None:
    """Every frame in one shot or one transition, at its own timestamp, and no batch beyond."""
    pts = times_of(path)
    spans = [(s.first_frame, s.frames, s.start_pts, s.end_pts) for s in shots]
    spans += [(t.first_frame, t.frames, t.start_pts, t.end_pts) for t in source.transitions]
    at = 0
    for first, frames, start_pts, end_pts in sorted(spans):
        assert first == at
        at += frames
        if frames:
            assert start_pts == pts[first]
        assert end_pts == pts[at] if at < len(pts) else end_pts > pts[-1]
    assert at == len(pts)
    for shot in shots:
        inside = range(shot.first_frame, shot.first_frame + shot.frames)
        assert all(p.index in inside and p.pts == pts[p.index] for p in shot.batch.pictures)
        assert all(shot.start <= p.start and p.end < shot.end for p in shot.batch.pairs)
        assert min(shot.frames, 16) <= len(shot.batch) <= MAX_FRAMES
        assert shot.batch.fps == pytest.approx(shot.frames / (shot.end - shot.start))
    assert [shot.index for shot in shots] == list(range(len(shots)))


def test_a_cut_at_the_exact_timestamp_of_a_constant_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 40) + panning(2, 30), 30)
    shots, source = shots_of(path)
    assert bounds(shots) == [(0, 40), (40, 70)]
    assert shots[0].end_pts == shots[1].start_pts == times_of(path)[40]
    assert shots[1].start == pytest.approx(40 / 30)
    assert shots[0].transition_in is None
    assert shots[1].transition_in is not None
    assert (shots[1].transition_in.kind, shots[1].transition_in.frames) == ("cut", 0)
    assert_partition(path, shots, source)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_cuts_where_the_rate_varies_and_time_starts_late(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    times = list(np.cumsum(rng.choice((0.02, 0.04, 0.1), 90)))
    frames = panning(1, 30) + panning(2, 30) + panning(3, 30)
    path = write_video(tmp_path / name, frames, times=times, start=7.0)
    shots, source = shots_of(path)
    assert bounds(shots) == [(0, 30), (30, 60), (60, 90)]
    assert shots[1].end - shots[1].start == pytest.approx(times[60] - times[30], abs=0.002)
    if name != "a.mp4":
        assert shots[0].start > 6.9
    assert_partition(path, shots, source)


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_every_frame_of_an_edit_is_in_one_shot_or_one_transition(tmp_path: Path, seed: int) -> None:
    path = render(seed).write(tmp_path / "a.mp4")
    shots, source = shots_of(path)
    assert len(shots) > 2
    assert_partition(path, shots, source)


def fade(frames: list[Rgb]) -> list[Rgb]:
    return [np.asarray(f * (i / len(frames)), np.uint8) for i, f in enumerate(frames)]


def test_a_dissolve_belongs_to_neither_shot(tmp_path: Path) -> None:
    old, new = panning(1, 60), panning(2, 60)
    mixed = [
        np.asarray(cv2.addWeighted(a, 1 - (i + 1) / 17, b, (i + 1) / 17, 0), np.uint8)
        for i, (a, b) in enumerate(zip(old[44:], new[:16]))
    ]
    path = write_video(tmp_path / "a.mp4", old[:44] + mixed + new[16:], 25)
    shots, source = shots_of(path)
    (transition,) = source.transitions
    assert transition == shots[1].transition_in
    assert transition.kind == "dissolve"
    assert abs(transition.first_frame - 44) <= 2
    assert abs(transition.frames - 16) <= 3
    assert_partition(path, shots, source)


def test_fades_at_the_ends_are_left_out_and_one_between_shots_ends_a_shot(tmp_path: Path) -> None:
    up, down = fade(panning(1, 12)), fade(panning(2, 12))[::-1]
    middle = fade(panning(3, 12))[::-1] + [BLACK] * 20 + fade(panning(4, 12))
    frames = [BLACK] * 5 + up + panning(1, 30) + middle + panning(4, 30) + down + [BLACK] * 5
    path = write_video(tmp_path / "a.mp4", frames, 25)
    shots, source = shots_of(path)
    assert [t.kind for t in source.transitions] == ["fade"] * 3
    assert len(shots) == 2
    assert abs(shots[0].first_frame - 17) <= 3
    assert all(picture.grey.mean() > 20 for shot in shots for picture in shot.batch.pictures)
    assert_partition(path, shots, source)


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_a_file_that_is_all_black_is_one_shot(tmp_path: Path, frames: int) -> None:
    path = write_video(tmp_path / "a.mp4", [BLACK] * frames, 25)
    shots, source = shots_of(path)
    assert bounds(shots) == [(0, frames)]
    assert_partition(path, shots, source)


def test_a_piece_under_the_minimum_counts_to_the_transition(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 30) + panning(2, 5) + panning(3, 30), 25)
    shots, source = shots_of(path, ScanConfig(min_shot=0.25))
    assert bounds(shots) == [(0, 30), (35, 65)]
    assert [b.start for b in source.boundaries] == [30, 35]
    assert_partition(path, shots, source)
    shots, source = shots_of(path, ScanConfig(min_shot=0.1))
    assert bounds(shots) == [(0, 30), (30, 35), (35, 65)]


def test_the_longest_piece_where_none_has_the_minimum(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 4) + panning(2, 9) + panning(3, 4), 25)
    shots, source = shots_of(path, ScanConfig(min_shot=1.0))
    assert bounds(shots) == [(4, 13)]
    assert_partition(path, shots, source)


@pytest.mark.parametrize("length", [50, 62, 90, 260])
def test_a_long_shot_is_split_without_a_short_rest(tmp_path: Path, length: int) -> None:
    path = write_video(tmp_path / "a.mp4", long_take(length), 25)
    shots, source = shots_of(path, ScanConfig(max_shot=2.0))
    assert bounds(shots)[0][0] == 0
    for before, after in pairwise(shots):
        assert before.end_pts == after.start_pts
        assert after.transition_in is not None
        assert after.transition_in.kind == "split"
    lengths = [shot.end - shot.start for shot in shots]
    assert max(lengths) <= 2.0 + 1e-6
    assert min(lengths) >= 0.4
    assert sum(shot.frames for shot in shots) == length
    assert len(shots) == {50: 1, 62: 2, 90: 2, 260: 7}[length]
    assert_partition(path, shots, source)


def test_a_split_and_a_cut_close_by(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 44) + panning(2, 70), 25)
    shots, source = shots_of(path, ScanConfig(max_shot=2.0))
    assert bounds(shots) == [(0, 44), (44, 85), (85, 114)]
    assert_partition(path, shots, source)


@pytest.mark.parametrize("name", [*sorted(DETECTORS), "none"])
def test_each_detector_runs(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / "a.mp4", panning(1, 30) + panning(5, 30), 25)
    shots, source = shots_of(path, ScanConfig(detector=name))
    assert len(shots) == (1 if name in ("none", "threshold") else 2)
    assert_partition(path, shots, source)


def test_few_decoded_frames_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    release = scan_module._Cutter._release

    def counting(cutter: scan_module._Cutter, *args: object) -> Iterator[Shot]:
        nonlocal most
        most = max(most, len(cutter._held) + 1)
        return release(cutter, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(scan_module._Cutter, "_release", counting)
    path = write_video(tmp_path / "a.mp4", long_take(400), 25)
    shots, _ = shots_of(path)
    assert most == LATENCY + 1
    assert 16 <= len(shots[0].batch) <= MAX_FRAMES


def test_a_truncated_file_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", panning(1, 60) + panning(2, 60), 25)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
    shots, source = shots_of(path)
    assert bounds(shots)[0] == (0, 60)
    assert 60 < shots[-1].first_frame + shots[-1].frames < 120
    mp4 = write_video(tmp_path / "b.mp4", panning(1, 60), 25)
    content = bytearray(mp4.read_bytes())
    middle = len(content) // 3
    content[middle : middle + len(content) // 3] = bytes(len(content) // 3)
    mp4.write_bytes(bytes(content))
    shots, source = shots_of(mp4)
    assert shots
    assert source.warnings


def test_a_change_of_size_is_a_cut(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.h264", panning(1, 30, 160, 90), 25)
    large = write_video(tmp_path / "large.h264", [still(1, 320, 180)] * 30, 25)
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    shots, source = shots_of(path)
    assert bounds(shots) == [(0, 30), (30, 60)]
    assert [shot.batch.pictures[0].width for shot in shots] == [160, 320]
    assert_partition(path, shots, source)


def test_what_is_no_video_raises(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(UnreadableVideoError):
        scan(tmp_path / "a.mp4")


@pytest.mark.parametrize("bad", [{"detector": "magic"}, {"min_shot": -1.0}, {"max_shot": 0.3}])
def test_a_configuration_that_makes_no_sense_raises(bad: dict[str, str | float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ScanConfig(**bad)  # type: ignore[arg-type]
