"""`python -m jobs.finetune`, from its command line on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("trl")

from tests.captioner.engines.conftest import tiny_model  # noqa: F401  a fixture
from tests.command import refused, run_job
from tests.finetune.conftest import few, labels  # noqa: F401  a fixture

SHORT = ("--recipe", "tiny-cpu", "--set", "epochs=1", "--set", "global_batch=3")
SHORT += ("--set", "micro_batch=3", "--engine", "none")


run = partial(run_job, "jobs.finetune")


def test_a_training_its_plan_and_the_same_command_again(
    tiny_model: Path,  # noqa: F811
    labels: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = (few(labels, 6, tmp_path / "few"), "-o", out, *SHORT, "--set", f"model={tiny_model}")

    planned = run(*command, "--dry-run", "--gpu", "h100")
    assert planned.returncode == 0, planned.stderr
    assert "2 steps" in planned.stdout
    assert "GB" in planned.stdout
    assert "hours" in planned.stdout
    assert not list(out.glob("checkpoint-*"))

    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert f"1 checkpoints in {out}: loss " in done.stdout
    report = json.loads((out / "training.json").read_text())
    written = (out / "checkpoint-2" / "model.safetensors").stat().st_mtime_ns

    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "training.json").read_text()) == report
    assert (out / "checkpoint-2" / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--recipe", "none"), "there is no recipe none: give a YAML file, or one of lora-24gb"),
        (("--set", "rate=1"), "rate"),
        (("--set", "model=/no/where"), "/no/where"),
        (("--recipe", "tiny-cpu", "--set", "learning_rate=fast"), "learning_rate"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    line = refused("jobs.finetune", tmp_path, "-o", tmp_path / "out", *arguments)
    assert line.startswith("finetune: ")
    assert told in line


def test_no_targets_is_one_line(tiny_model: Path, tmp_path: Path) -> None:  # noqa: F811
    arguments = (tmp_path, "-o", tmp_path / "out", *SHORT, "--set", f"model={tiny_model}")
    assert "make the targets with python -m jobs.labels" in refused("jobs.finetune", *arguments)
