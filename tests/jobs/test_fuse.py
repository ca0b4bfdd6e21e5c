"""`python -m jobs.fuse`, from its command line on, over a ledger that `caption` made."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests import clips
from tests.command import refused, run_apart, run_job
from tests.rows import ledger

WRITER = ["--engine", "tests.curation.stand_ins:Writer"]


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for i in range(3):
        clips.two_shots(folder / f"{i}.mp4", seed=2 * i)
    (folder / "bad.mp4").write_text("no video")
    done = run_job("jobs.caption", folder, "-o", folder / "out")
    assert done.returncode == 1, done.stderr
    return folder / "out"


@pytest.fixture
def out(captioned: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(captioned, tmp_path / "out"))


def run(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    with patch.dict(os.environ, environment):
        return run_job("jobs.fuse", out, *arguments)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in ledger(out)}


def test_captions_are_told_by_the_model_and_once(out: Path, tmp_path: Path) -> None:
    before, asked = rows(out), tmp_path / "asked"
    done = run(out, *WRITER, ASKED=str(asked))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statuses"] == {"ok": 12}
    after = rows(out)
    for name, row in after.items():
        if row["caption"] is None:
            assert row == before[name]
            continue
        motion = row["caption"]["camera_motion"]
        assert row["caption_t2v"].startswith("Prose of ")
        assert row["caption_t2v_by"] == "writer"
        for task in ("t2v", "i2v"):
            text = row[f"caption_{task}"]
            assert text.lower().rstrip(".").endswith(motion.lower()), "word for word, at the end"
        # Nothing acts here: there is nothing for a model to tell of the motion alone.
        assert row["caption_i2v_by"] == "template"
        same = {k: v for k, v in row.items() if not k.startswith(("caption_t2v", "caption_i2v"))}
        assert same == {key: before[name][key] for key in same}
    lines = (out / "captions.jsonl").read_text().splitlines()
    told = {json.loads(line)["clip_id"]: json.loads(line)["caption_t2v"] for line in lines}
    assert told == {name: row["caption_t2v"] for name, row in after.items()}

    again = run(out, *WRITER, ASKED=str(asked))
    assert json.loads(again.stdout)["texts"] == 0
    assert rows(out) == after
    assert len(asked.read_text().splitlines()) == 6, "no clip is asked about twice"

    french = run(out, *WRITER, "--language", "French", "--length", "short", "--task", "t2v")
    assert json.loads(french.stdout)["texts"] == 6
    assert {row["caption_i2v"] for row in rows(out).values()} == {
        row["caption_i2v"] for row in after.values()
    }


def test_a_killed_run_goes_on_where_it_was(out: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    import shutil

    shutil.copytree(out, whole)
    assert run(whole, *WRITER).returncode == 0
    asked = tmp_path / "asked"
    own = {"ASKED": str(asked), "DIES_AFTER": "4", "PYTHONPATH": str(Path.cwd())}
    killed = run_apart("jobs.fuse", out, *WRITER, **own)
    assert killed.returncode == -9
    (record,) = (out / "state").glob("fusion.*.jsonl")
    record.write_bytes(record.read_bytes() + b'{"clip_id": "half a li')
    done = run(out, *WRITER, ASKED=str(asked))
    assert json.loads(done.stdout)["present"] == 4
    assert json.loads(done.stdout)["texts"] == 8
    assert rows(out) == rows(whole)


def test_what_the_engine_fails_on_is_asked_again(out: Path, tmp_path: Path) -> None:
    up = tmp_path / "up"
    failed = run(out, *WRITER, UP=str(up))
    assert failed.returncode == 1
    assert "the engine failed on 6: 500 from the server" in failed.stderr
    by = {row["caption_t2v_by"] for row in rows(out).values() if row["caption"]}
    assert by == {"template: Traceback:\n500 from the server"}, "the error in full"
    up.touch()
    done = run(out, *WRITER, UP=str(up))
    assert (done.returncode, json.loads(done.stdout)["statuses"]) == (0, {"ok": 6})


def test_mistakes_are_one_line(out: Path, tmp_path: Path) -> None:
    before = rows(out)
    for arguments, message in [
        (["--engine", "vllm"], "name a --model that writes"),
        (["--engine", "no"], "engine 'no' is none of"),
        (["--engine", "server"], "needs --endpoint"),
        (["--engine", "tests.curation.stand_ins:Absent"], "cannot be imported"),
        ([*WRITER, "--language", "1"], "is no name"),
    ]:
        assert message in refused("jobs.fuse", out, *arguments)
    assert "there is no ledger" in refused("jobs.fuse", tmp_path, *WRITER)
    assert rows(out) == before
