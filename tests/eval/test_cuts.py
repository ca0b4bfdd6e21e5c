from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.cuts import (
    DETECTORS,
    Match,
    Score,
    app,
    labelled,
    match,
    score_folder,
    score_rendered,
)
from eval.edits import DECOYS, JOINS, render
from eval.fields import wilson
from eval.synth import write_video
from tests.clips import panning


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([(10, 10)], [(10, 10)], Match((0,), (), ())),
        ([(12, 12)], [(10, 10)], Match((0,), (), ())),
        ([(13, 13)], [(10, 10)], Match((), (0,), ((13, 13),))),
        ([(10, 10), (11, 11)], [(10, 10)], Match((0,), (), ((11, 11),))),
        ([(10, 10)], [(9, 9), (11, 11)], Match((0,), (1,), ())),
        ([(11, 11), (13, 13)], [(12, 12), (13, 13)], Match((0, 1), (), ())),
        ([(25, 25)], [(20, 40)], Match((0,), (), ())),
        ([(18, 18)], [(20, 40)], Match((0,), (), ())),
        ([(17, 17)], [(20, 40)], Match((), (0,), ((17, 17),))),
        ([(20, 40)], [(38, 38)], Match((0,), (), ())),
        ([], [], Match((), (), ())),
    ],
)
def test_a_prediction_is_paired_with_one_boundary_close_by(
    found: list[tuple[int, int]], truth: list[tuple[int, int]], expected: Match
) -> None:
    assert match(found, truth) == expected


def test_a_score_from_counts() -> None:
    score = Score()
    score.add(match([(10, 10), (50, 50), (90, 90)], [(10, 10), (51, 51), (70, 70), (80, 80)]))
    assert (score.right, score.wrong, score.missed) == (2, 1, 2)
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(0.5)
    assert score.f1 == pytest.approx(4 / 7)
    assert (Score().precision, Score().recall) == (1.0, 1.0)


def test_wilson_intervals_as_published() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "two.mp4", panning(1, 30) + panning(2, 30), 25)
    write_video(tmp_path / "one.mp4", panning(3, 40), 25)
    (tmp_path / "labels.csv").write_text(
        "file,cut_frames,cuts_conf\ntwo.mp4,30,high\none.mp4,,high\none.mp4,7,low\ngone.mp4,,high\n"
    )
    return tmp_path


def test_labels_of_low_confidence_and_of_missing_files_are_left_out(folder: Path) -> None:
    truth = labelled(folder)
    assert truth == {folder / "two.mp4": [(30, 30)], folder / "one.mp4": []}


def test_a_folder_is_scored_beside_the_peers(folder: Path) -> None:
    said: list[str] = []
    for name, score in score_folder(folder, DETECTORS, said.append).items():
        assert (score.right, score.wrong, score.missed) == (1, 0, 0), name
    assert said == []
    rows = (folder / "labels.csv").read_text().replace("two.mp4,30", "two.mp4,20")
    (folder / "labels.csv").write_text(rows)
    score = score_folder(folder, ["curation.scan"], said.append)["curation.scan"]
    assert (score.right, score.wrong, score.missed) == (0, 1, 1)
    assert said == ["curation.scan: two.mp4: missed [20], wrong [(30, 30)]"]


def test_the_peers_times_become_frames_where_the_rate_varies(tmp_path: Path) -> None:
    times = list(np.cumsum(np.random.default_rng(0).choice((0.02, 0.04, 0.1), 70)))
    frames = panning(1, 40) + panning(2, 30)
    path = write_video(tmp_path / "a.mkv", frames, times=times, start=3.0)
    assert DETECTORS["PySceneDetect Adaptive(3)"](path) == [(40, 40)]


def test_an_edit_is_what_its_events_say() -> None:
    edit = render(4)
    frames = [frame.astype(np.float32) for frame in edit.frames()]
    again = render(4)
    assert again.events == edit.events
    assert all(np.array_equal(a, b) for a, b in zip(frames, again.frames()))
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(frames)])
    for event in edit.events:
        assert event.name in (*JOINS, *DECOYS)
        if event.name in ("cut", "similar", "close"):
            assert event.start == event.end
            assert change[event.start - 1] > 2 * np.median(change)
        elif event.name == "dissolve":
            old, new = frames[event.start - 1], frames[event.end]
            middle = frames[(event.start + event.end) // 2]
            apart = np.abs(old - new).mean()
            assert np.abs(middle - (old + new) / 2).mean() < 0.5 * apart


def test_every_kind_of_join_and_decoy_is_rendered() -> None:
    names = {event.name for seed in range(40) for event in render(seed).events}
    assert names >= set(JOINS) | set(DECOYS) - {"none", "shake"}
    assert any(render(seed).times is not None for seed in range(10))


def test_rendered_edits_are_found_better_than_by_the_peers() -> None:
    scores, kinds = score_rendered(range(3), DETECTORS, lambda _: None, None)
    ours, *peers = scores.values()
    assert ours.precision > 0.9
    assert ours.recall > 0.9
    assert all(ours.f1 > peer.f1 for peer in peers)
    assert ours.right + ours.missed == kinds.total()


def test_the_command_needs_something_to_score(folder: Path) -> None:
    assert CliRunner().invoke(app, []).exit_code == 2
    result = CliRunner().invoke(app, [str(folder)])
    assert result.exit_code == 0
    assert "curation.scan" in result.output
    assert "1.000 (0.207 to 1.000)" in result.output
