"""Jobs run as tests run them: in this process, as one of its own takes a second to start."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from unittest.mock import patch

from typer.testing import CliRunner


def run_job(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE ARGUMENTS` prints and ends with; a bug is raised as it is."""
    job = importlib.import_module(module)
    command = list(map(str, arguments))
    with patch.object(sys, "argv", [job.__file__, *command]):
        done = CliRunner().invoke(job.app, command)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def run_apart(
    module: str, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which has these variables in its environment."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def refused(module: str, *arguments: object) -> str:
    """The line of a command that ends with exit code 2."""
    done = run_job(module, *arguments)
    assert done.returncode == 2, (arguments, done.stdout, done.stderr)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr
