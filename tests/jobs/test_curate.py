"""`python -m jobs.curate`, from its command line on."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from captioner.decode import open_video
from eval.synth import still, write_video
from tests import clips
from tests.command import refused, run_apart, run_job
from tests.rows import ledger

CURATE = [sys.executable, "-m", "jobs.curate"]

PRESET = """
name: test
rules:
  - duration: {min: 0.5 s}
  - quality_black: {max: 50 %}
  - source_genre: {not_in: [advert]}
"""


run = partial(run_job, "jobs.curate")
apart = partial(run_apart, "jobs.curate")


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "clips").iterdir()}


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of two shots, a copy of one in other quality, a black one, a broken one."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(2):
        clips.two_shots(folder / f"{i}.mp4", seed=2 * i)
    shots = clips.panning(0) + clips.panning(1)
    write_video(folder / "copy.mp4", shots, crf=30)
    write_video(folder / "black.mp4", [np.zeros((180, 320, 3), np.uint8)] * 25)
    write_video(folder / "advert.mp4", clips.panning(50))
    write_video(folder / "short.mp4", [still(60, 320, 180)] * 8)
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="session")
def options(films: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("options")
    (folder / "test.yaml").write_text(PRESET)
    (folder / "facts.csv").write_text("file,genre\nadvert.mp4,advert\n0.mp4,film\n")
    return ["-i", films, "--preset", folder / "test.yaml", "--facts", folder / "facts.csv"]


@pytest.fixture(scope="session")
def finished(options: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run."""
    out = tmp_path_factory.mktemp("curated") / "out"
    done = apart(*options, "-o", out)
    assert done.returncode == 1, done.stderr
    return out


def test_a_plan_says_what_the_last_run_measured_and_does_nothing(
    options: list[object], finished: Path, tmp_path: Path
) -> None:
    ran = json.loads((finished / "run.json").read_text())
    stages = ran["cpu_seconds_by_stage"]
    assert set(stages) == {"scan", "measure", "caption", "clips"}
    assert all(spent > 0 for spent in stages.values())
    assert sum(stages.values()) == pytest.approx(ran["cpu_seconds"], abs=0.01)
    planned = run(*options, "-o", tmp_path / "out", "--plan", 10, "--cores", 4, "--price", 0.1)
    assert planned.returncode == 0, planned.stderr
    facts = json.loads(planned.stdout)
    assert set(facts["cpu_seconds_per_video_second_by_stage"]) == {
        "scan",
        "measure",
        "caption",
        "clips",
    }
    assert facts["wall_hours"] == pytest.approx(facts["core_hours"] / 4, abs=0.01)
    assert facts["cost"] == pytest.approx(facts["core_hours"] / 10, abs=0.01)
    assert not (tmp_path / "out" / "clips").exists()
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_every_clip_has_its_row_with_the_reason(finished: Path) -> None:
    rows = {(Path(str(row["source"])).name, row["shot"]): row for row in ledger(finished)}
    assert len(rows) == 2 * 2 + 2 + 4
    said = {name: (row["decision"], row["stage"]) for name, row in rows.items()}
    assert said["bad.mp4", 0] == ("error", "open")
    assert said["black.mp4", 0] == ("drop", "decide")
    assert said["short.mp4", 0] == ("drop", "decide")
    assert said["advert.mp4", 0] == ("drop", "decide")
    assert "duration 0.32 s is below 0.5 s" in str(rows["short.mp4", 0]["reason"])
    assert "advert" in str(rows["advert.mp4", 0]["reason"])
    kept = [row for row in rows.values() if row["decision"] == "keep"]
    assert len(kept) == 4
    for shot in (0, 1):
        pair = [rows["0.mp4", shot], rows["copy.mp4", shot]]
        kept_one, other = sorted(pair, key=lambda row: str(row["decision"]), reverse=True)
        assert (kept_one["decision"], other["stage"]) == ("keep", "dedupe")
        assert other["duplicate_of"] == kept_one["clip_id"]
    assert all(row["caption"] and row["clip"] for row in kept)
    assert not any(row["caption"] or row["clip"] for n, row in rows.items() if n[0] == "short.mp4")


def test_the_kept_clips_are_the_shots(finished: Path) -> None:
    rows = [row for row in ledger(finished) if row["decision"] == "keep"]
    assert {f"{row['clip_id']}.mp4" for row in rows} == set(written(finished))
    for row in rows:
        with open_video(finished / str(row["clip"])) as video:
            assert sum(1 for _ in video.frames()) == row["frames"] == 25
    facts = json.loads((finished / "run.json").read_text())
    assert (facts["clips"], facts["kept"], facts["failed"]) == (9, 4, 1)


def test_a_second_run_does_nothing_again(options: list[object], finished: Path) -> None:
    before, rows = written(finished), ledger(finished)
    again = run(*options, "-o", finished)
    assert again.returncode == 1
    facts = json.loads(again.stdout)
    assert facts["files_done"] == 0
    assert (written(finished), ledger(finished)) == (before, rows)


def test_a_killed_run_goes_on_to_the_same_rows(
    options: list[object], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for seconds in (2.0, 5.0):
        process = subprocess.Popen(
            [*CURATE, *map(str, options), "-o", str(out)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(100):
        again = run(*options, "-o", out)
        if "another run" not in again.stderr:
            break
        time.sleep(0.1)
    assert ledger(out) == ledger(finished)
    assert written(out) == written(finished)
    assert not list(out.rglob("*.part"))


def test_ray_gives_the_same_rows_and_clips(
    options: list[object], finished: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    own = {
        "RAY_ADDRESS": "local",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = apart(*options, "-o", tmp_path, "--ray", "--workers", 2, **own)
    assert done.returncode == 1, done.stderr
    assert ledger(tmp_path) == ledger(finished)
    assert written(tmp_path) == written(finished)


def test_mistakes_are_one_line_before_any_decoding(films: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("rules:\n  - duration: {min: 2 px}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, says in (
        (["-i", films, "--preset", bad], "bad.yaml:2: duration is in s"),
        (["-i", films, "--preset", "480p"], "no preset '480p'"),
        (["-i", empty], "no video in"),
        (["-i", tmp_path / "nowhere"], "nowhere"),
        (["-i", films, "--facts", bad], "bad.yaml"),
    ):
        assert says in refused("jobs.curate", *arguments, "-o", tmp_path / "out")
    assert not list((tmp_path / "out").glob("ledger/*"))


def test_nothing_kept_is_an_empty_result(films: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.yaml"
    none.write_text("rules:\n  - duration: {min: 1 h}\n")
    done = run("-i", films / "0.mp4", "-o", tmp_path / "out", "--preset", none, "--table")
    assert done.returncode == 0, done.stderr
    assert "nothing is kept" in done.stdout
    assert [row["decision"] for row in ledger(tmp_path / "out")] == ["drop", "drop"]


def test_a_new_batch_against_a_finished_one(
    options: list[object], finished: Path, films: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write_video(new / "again.mp4", clips.panning(0) + clips.panning(1), crf=26)
    write_video(new / "fresh.mp4", clips.panning(70))
    (new / "0.mp4").write_bytes((films / "0.mp4").read_bytes())
    out = tmp_path / "out"
    batch = ["-i", new, "-o", out, *options[2:], "--captions", "none"]
    done = run(*batch, "--against", finished)
    assert done.returncode == 0, done.stderr
    kept = {row["clip_id"] for row in ledger(finished) if row["decision"] == "keep"}
    rows = ledger(out)
    for row in rows:
        if "fresh" in row["source"]:
            assert row["decision"] == "keep"
        else:
            assert row["duplicate_of"] in kept
            assert row["reason"] == f"near-duplicate of {row['duplicate_of']}, of another output"
    assert {path.stem for path in (out / "clips").iterdir()} == {
        row["clip_id"] for row in rows if row["decision"] == "keep"
    }
    alone = run(*batch, "--no-clips")
    assert alone.returncode == 0
    assert sum(row["decision"] == "keep" for row in ledger(out)) == 3
    wrong = refused("jobs.curate", *batch, "--against", tmp_path)
    assert "is no other output of jobs.curate" in wrong


def test_models_of_a_preset_score_the_clips(films: Path, tmp_path: Path) -> None:
    preset = tmp_path / "bright.yaml"
    rules = (
        "models:\n"
        "  bright: {model: 'tests.curation.stand_ins:Brightness'}\n"
        "  game: {question: 'Is it a game?'}\n"
        "rules:\n  - model_bright: {min: 20}\n  - model_game: {max: 0.5}\n"
    )
    preset.write_text(rules)
    out = tmp_path / "out"
    some = ["-i", films / "0.mp4", "-i", films / "black.mp4"]
    asked = [*some, "-o", out, "--preset", preset, "--no-clips", "--captions", "none"]
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    assert "nobody answers the preset's questions (game): name a model" in done.stderr
    rows = [row for row in ledger(out) if row["frames"]]
    scores = {row["clip_id"]: {s["name"]: s["value"] for s in row["model_scores"]} for row in rows}
    assert all(set(known) == {"bright"} for known in scores.values())
    dropped = {row["clip_id"] for row in rows if "model_bright" in (row["reason"] or "")}
    assert dropped == {name for name, known in scores.items() if known["bright"] < 20}
    assert {row["source"] for row in rows if row["clip_id"] in dropped} == {
        str(films / "black.mp4")
    }

    before = {path: path.stat().st_mtime_ns for path in (out / "ledger").iterdir()}
    assert json.loads(run(*asked).stdout)["files_done"] == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "ledger").iterdir()}

    # Other thresholds, without the videos and without the models.
    lower = tmp_path / "lower.yaml"
    lower.write_text("rules:\n  - model_bright: {min: 0}\n")
    assert run_job("jobs.decide", out, "--preset", lower).returncode == 0
    assert not any("model_bright" in (row["reason"] or "") for row in ledger(out))

    preset.write_text(rules.replace("Brightness", "Absent"))
    done = run(*asked)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2), done.stderr
    assert "stand_ins:Absent cannot be imported" in done.stderr
