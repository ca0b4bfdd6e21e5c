"""`python -m jobs.decide`, from its command line on."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import jobs.decide
from curation.ledger import Fact, Ledger, Row
from curation.output import Output
from curation.storage import Mirror
from tests.command import run_job

run = partial(run_job, "jobs.decide")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run: three films of four clips of 1, 4, 16 and 64 s, and one that failed."""
    ledger = Output(tmp_path / "out").ledger
    for film in "abc":
        rows = [
            Row(
                clip_id=f"{film}{i}",
                source=film,
                start=0.0,
                end=4.0**i,
                width=640,
                height=360,
                fps=25.0,
                decision="keep",
                config_hash="0",
                source_facts=[Fact(name="genre", value="film" if film == "a" else "tv")],
            )
            for i in range(4)
        ]
        ledger.write(film, rows)
    failed = Row(clip_id="d", source="d", decision="error", reason="no video", config_hash="0")
    ledger.write("d", [failed])
    return tmp_path / "out"


def preset(out: Path, rules: str) -> Path:
    path = out.parent / "mine.yaml"
    path.write_text(f"rules:\n  - {rules}\n  - short_side: {{min: 100 px}}\n")
    return path


def decisions(out: Path) -> str:
    rows = Ledger(out / "ledger", out / "state").rows()
    return "".join(row.decision[0] for row in rows)


def test_a_fact_about_the_source_may_decide(out: Path) -> None:
    done = run(out, "--preset", preset(out, "source_genre: {in: [film]}"))
    assert done.returncode == 0, done.stderr
    assert decisions(out) == "kkkk" + "dddd" * 2 + "e"


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (out / "ledger").glob("*")}


def test_thresholds_are_changed_without_the_videos(out: Path) -> None:
    first = run(out, "--preset", preset(out, "duration: {max: 10 s}"))
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    assert decisions(out) == "kkdd" * 3 + "e"
    assert (facts["clips"], facts["errors"], facts["kept_before"], facts["kept"]) == (13, 1, 12, 6)
    assert (facts["kept_to_dropped"], facts["dropped_to_kept"]) == (6, 0)
    assert facts["hours_kept"] == pytest.approx(15 / 3600, abs=1e-4)
    assert facts["parts_rewritten"] == 3
    assert facts["report_rewritten"]
    assert "at most 10 s" in (out / "report.html").read_text()
    assert facts["rules"][0] | {"hours": 0, "hours_alone": 0} == {
        "rule": "duration",
        "threshold": "at most 10 s",
        "alone": 6,
        "hours_alone": 0,
        "total": 6,
        "hours": 0,
    }
    assert facts["rules"][0]["hours"] == pytest.approx(3 * 80 / 3600)

    again = run(out / "ledger", "--preset", preset(out, "duration: {min: 2 s, max: 20 s}"))
    facts = json.loads(again.stdout)
    assert decisions(out) == "dkkd" * 3 + "e"
    assert (facts["kept_to_dropped"], facts["dropped_to_kept"]) == (3, 3)

    same = run(out, "--preset", preset(out, "duration: {min: 2 s, max: 20 s}"))
    assert json.loads(same.stdout)["parts_rewritten"] == 0


def test_a_large_ledgers_report_is_left_and_that_is_said(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.decide, "REPORTED", 3)
    chosen = str(preset(out, "duration: {max: 10 s}"))
    done = CliRunner().invoke(jobs.decide.app, [str(out), "--preset", chosen, "--table"])
    assert done.exit_code == 0, done.output
    assert "report.html was left as it was: over 3 rows" in done.output
    assert not (out / "report.html").exists()


def test_a_ledger_in_a_bucket_is_decided_anew(out: Path, s3: Any, tmp_path: Path) -> None:
    s3.put(str(out / "ledger"), "bucket/out/ledger", recursive=True)
    s3.pipe_file("bucket/out/clips/a0.mp4", b"a clip")
    preset = tmp_path / "p.yaml"
    preset.write_text("rules:\n  - duration: {min: 3 s}\n")
    done = run("s3://bucket/out", "--preset", preset, "--dry-run")
    assert json.loads(done.stdout)["kept"] == 9, done.stderr
    assert run("s3://bucket/out/ledger", "--preset", preset).returncode == 0
    s3.invalidate_cache()
    stored = {Path(name).name: s3.cat_file(name) for name in s3.find("bucket/out/ledger")}
    undecided = {part.name: part.read_bytes() for part in (out / "ledger").iterdir()}
    assert run(out, "--preset", preset).returncode == 0
    decided = {part.name: part.read_bytes() for part in (out / "ledger").iterdir()}
    assert stored == decided != undecided
    assert s3.exists("bucket/out/clips/a0.mp4"), "clips are for jobs.curate to remove"


def test_a_dry_run_tells_and_changes_nothing(out: Path) -> None:
    before = contents(out)
    told = run(out, "--preset", preset(out, "duration: {min: 100 s}"), "--dry-run", "--table")
    assert told.returncode == 0
    assert "0 of 12" not in told.stdout
    assert "0 of 13 clips kept" in told.stdout
    assert "12 are now dropped" in told.stdout
    assert "nothing was written" in told.stdout
    assert contents(out) == before
    assert not (out / "state").exists()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("duration: {min: 2 px}", "mine.yaml:2: duration is in s"),
        ("darkness: {min: 2}", "mine.yaml:2: the ledger has no column darkness"),
    ],
)
def test_a_wrong_preset_is_one_line_and_changes_nothing(out: Path, rules: str, says: str) -> None:
    before = contents(out)
    wrong = run(out, "--preset", preset(out, rules))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("decide: ")
    assert says in wrong.stderr
    assert wrong.stderr.count("\n") == 1
    assert contents(out) == before


def test_the_ledger_itself_may_be_named(out: Path) -> None:
    mine = preset(out, "duration: {min: 2 s}")
    for place, where in ((f"{out}/ledger/", None), ("ledger", out), (".", out)):
        command = [sys.executable, "-m", "jobs.decide", place, "--preset", str(mine), "--dry-run"]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=where, env=environment
        )
        assert json.loads(done.stdout)["clips"] == 13, done.stderr


def test_a_run_that_goes_on_is_left_alone_by_a_dry_run_over_a_bucket(out: Path, s3: Any) -> None:
    s3.put(str(out / "ledger"), "bucket/out/ledger", recursive=True)
    mine = preset(out, "duration: {min: 2 s}")
    mirrored = Output(Mirror("s3://bucket/out").folder)
    with mirrored.locked():
        mirrored.ledger.write("e", [Row(clip_id="e", source="e", decision="keep", config_hash="0")])
        refused = run("s3://bucket/out", "--preset", mine, "--dry-run")
        assert "another run" in refused.stderr
        assert [part.stem for part in mirrored.ledger.parts()] == ["e"], "not stored yet, not lost"


def test_what_is_no_ledger_is_one_line(out: Path, tmp_path: Path) -> None:
    mine = preset(out, "duration: {min: 2 s}")
    absent = run(tmp_path / "absent", "--preset", mine)
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert "there is no ledger" in absent.stderr
    (out / "ledger" / "b.parquet").write_text("no parquet")
    broken = run(out, "--preset", mine)
    assert (broken.returncode, broken.stderr.count("\n")) == (2, 1)
    assert "b.parquet: cannot be read" in broken.stderr


def test_a_run_in_progress_is_left_alone(out: Path) -> None:
    before = contents(out)
    with Output(out).locked():
        refused = run(out, "--preset", preset(out, "duration: {min: 2 s}"))
    assert refused.returncode == 2
    assert "another run" in refused.stderr
    assert contents(out) == before
