"""`python -m jobs.precompute`, from its command line on."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from curation.dataset import DatasetConfig, publish
from curation.precompute import latents, read_report
from tests.command import refused, run_job
from tests.curation.curated import Film, curate

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BUCKETS = ("--size", "80x48", "--frames", 17, "--model", "vae")


run = partial(run_job, "jobs.precompute")


def test_a_run_and_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "diffusers", "transformers"):
        pytest.importorskip(package)
    from tests.curation.test_precompute import tiny_models

    curate(tmp_path / "cur", [Film(20), Film(20), Film(8)])
    publish(tmp_path / "cur", tmp_path / "d", DatasetConfig(layout="files"))
    broken = min(
        (tmp_path / "d" / "videos").iterdir(), key=lambda path: (-path.stat().st_size, path)
    )
    shutil.move(broken, tmp_path / "aside.mp4")

    folder = tiny_models(tmp_path / "m")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    of_repository = tmp_path / "hub" / "models--tiny--wan"
    shutil.copytree(folder, of_repository / "snapshots" / COMMIT)
    (of_repository / "refs").mkdir()
    (of_repository / "refs" / "main").write_text(COMMIT)
    out = tmp_path / "x"
    command = (tmp_path / "d", "-o", out, *BUCKETS)
    command += ("--vae", "tiny/wan", "--text", folder)

    first = run(*command)
    assert first.returncode == 1, first.stderr
    facts = json.loads(first.stdout)
    assert (facts["added"], facts["present"], list(facts["failed"])) == (3, 0, [broken.stem])
    assert facts["left_out"] == {"shorter than the shortest bucket (17 frames)": 2}
    assert f"precompute: clip {broken.stem} failed: " in first.stderr
    assert read_report(out).config["vae"] == f"revision {COMMIT}"
    assert read_report(out).config["text"].startswith("sha256 ")

    shutil.move(tmp_path / "aside.mp4", broken)
    again = run(*command, "--table")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [
        "1 clips added, 3 there already, 0 failed",
        "  2 left out: shorter than the shortest bucket (17 frames)",
    ]
    assert len({clip.clip_id for clip in latents(out)}) == 4


def test_a_mistake_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tmp_path / "m"
    model.mkdir()
    (model / "config.json").write_text('{"_class_name": "AutoencoderKLWan", "model_type": "umt5"}')
    right = {"--vae": model, "--text": model, "--size": "80x48", "--frames": 17}
    for option, value, says in (
        ("--vae", tmp_path / "no", "there is no folder"),
        ("--text", "tiny/absent", "nor can it be had from the hub"),
        ("--size", "wide", "--size is WIDTHxHEIGHT, as 960x544, not 'wide'"),
        ("--frames", 18, "say 17 or 21"),
        ("--fps", "fast", "--fps is a frame rate or paper"),
        ("--dtype", "int8", "'int8' is none of bfloat16"),
        ("--caption", "haiku", "'haiku' is none of t2v"),
    ):
        given = [part for pair in {**right, option: value}.items() for part in pair]
        said = refused("jobs.precompute", tmp_path / "d", "-o", tmp_path / "x", *given)
        assert said.startswith("precompute: ")
        if option != "--text" or "huggingface" not in said:  # the hub's client is optional
            assert says in said
        assert not (tmp_path / "x").exists()
