"""Options that several jobs have."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "command",
    [
        "dataset s3://bucket/out -o d",
        "dataset out -o s3://bucket/d",
        "export gs://bucket/d -o x --layout musubi",
        "labels x --teacher one --teacher s3://bucket/out",
    ],
)
def test_jobs_for_local_folders_refuse_storage_in_one_line(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *f"jobs.{command}".split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": ""},
    )
    (line,) = done.stderr.splitlines()
    (uri,) = (word for word in command.split() if "://" in word)
    assert f"{uri}: " in line
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
