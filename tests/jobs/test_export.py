"""`python -m jobs.export`, from its command line on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from curation.dataset import publish
from tests.command import refused, run_job
from tests.curation.curated import Film, curate

run = partial(run_job, "jobs.export")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 60 frames and two of 20."""
    out = tmp_path_factory.mktemp("curated") / "cur"
    curate(out, [Film(frames=60), Film(frames=20)])
    return out


def test_export_and_again(curated: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    first = run(curated, "-o", out, "--layout", "ltx", "--size", "512x288")
    assert (first.returncode, first.stderr) == (0, "")
    facts = json.loads(first.stdout)
    assert facts == {
        "layout": "ltx",
        "target": {"model": "ltx-video", "frames": [33], "width": 512, "height": 288},
        "clips": 2,
        "without_caption": 0,
        "skipped": 2,
        "reasons": {"shorter than 33 frames": 2},
        "files_changed": 3,
    }
    assert len(json.loads((out / "dataset.json").read_text())) == 2
    assert len(json.loads((out / "export.json").read_text())["skipped"]) == 2
    again = run(curated, "-o", out, "--layout", "ltx", "--size", "512x288")
    assert json.loads(again.stdout) == {**facts, "files_changed": 0}

    told = run(curated, "-o", out, "--layout", "ltx", "--frames", 9, "--frames", 33, "--table")
    assert told.returncode == 0
    assert told.stdout == f"ltx: 4 clips in {out}; 3 files changed\n"


def test_a_dataset_and_what_was_skipped_in_words(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    out = tmp_path / "x"
    told = run(tmp_path / "d", "-o", out, "--layout", "musubi", "--caption", "i2v", "--table")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        f"musubi: 2 clips in {out}; 6 files changed",
        f"2 clips skipped (each is in {out / 'export.json'}):",
        "  2  shorter than 33 frames at 16 a second",
    ]


def test_mistakes(curated: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (["--layout", "zip"], "'zip' is none of diffusion-pipe, musubi,"),
        (["--layout", "ltx", "--caption", "x"], "'x' is none of t2v, i2v, structured"),
        (["--layout", "ltx", "--frames", 50], "say 49 or 57"),
        (["--layout", "ltx", "--frames", 81], "no clip of"),
    ):
        said = refused("jobs.export", curated, "-o", tmp_path / "x", *arguments)
        assert said.startswith("export: ")
        assert told in said
        assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    refused("jobs.export", curated, "-o", tmp_path / "file", "--layout", "ltx")
