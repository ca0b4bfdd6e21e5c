"""`make loop-demo`, whole: videos, pages and weights."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "diffusers", "ftfy")),
    reason="the generate extra is not installed",
)


def run(folder: Path) -> str:
    command = [sys.executable, "-m", "jobs.loop_demo", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_three_pipelines_are_generated_captioned_scored_and_weighed_once(tmp_path: Path) -> None:
    first = run(tmp_path)
    for task, count in (("t2v", 15), ("i2v", 3), ("df", 3)):
        assert len(list((tmp_path / f"generated-{task}" / "videos").glob("*.mp4"))) == count
        assert "<video" in (tmp_path / f"loop-{task}" / "loop.html").read_text()
        assert f"{count} generated now" in first
    told = json.loads((tmp_path / "loop-t2v" / "loop_weights.json").read_text())
    assert set(told["factors"]) == {"static", "pan_left", "tilt_up"}
    assert "shares after balancing: " in first
    assert "misses are expected" in first

    second = run(tmp_path)
    for count in (15, 3):
        assert f"0 generated now, {count} there already" in second
