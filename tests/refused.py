"""What a job says of a mistake in its command."""

from __future__ import annotations

import inspect
import sys
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner


def refused(app: Any, *arguments: object) -> str:
    """The line of a command that ends with exit code 2; in this process, as it starts nothing."""
    file = inspect.getfile(app.registered_commands[0].callback)
    with patch.object(sys, "argv", [file]):
        done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, (arguments, done.output, done.exception)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr
