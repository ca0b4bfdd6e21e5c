"""Options that several jobs have, each told once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Model = Annotated[
    str | None, typer.Option(help="Folder or hub name of the model; SkyCaptioner-V1 by default.")
]
Endpoint = Annotated[
    str | None, typer.Option(help="URL of an OpenAI-compatible server, for --engine server.")
]
Merge = Annotated[
    str | None, typer.Option(help="Experts beside a model: paper, or camera_motion=expert>0.8,...")
]
Vllm = Annotated[
    list[str] | None,
    typer.Option(help="An option of vLLM, such as tensor_parallel=2, quantization=awq."),
]
MinShot = Annotated[float, typer.Option(min=0, help="Seconds; a shorter piece is no shot.")]
MaxShot = Annotated[float | None, typer.Option(min=1, help="Seconds; a longer shot is split.")]
Segment = Annotated[
    float, typer.Option(min=10, help="Seconds of film that one process scans at a time.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; by default one a core, on Ray of the cluster.")
]
OnRay = Annotated[bool, typer.Option("--ray", help="Run on the Ray cluster that this is part of.")]
AsTable = Annotated[
    bool | None, typer.Option("--table/--json", help="What to print; JSON when piped.")
]


class Local(TyperCommand):
    """A command that works on this machine's files alone: URIs of storage are refused."""

    def invoke(self, ctx: Any) -> Any:
        """Run it. Exit code 2 for a URI, told in one line."""
        for given in ctx.params.values():
            for place in given if isinstance(given, list | tuple) else [given]:
                if isinstance(place, Path) and re.match(r"[a-z][a-z0-9+.-]+:/", str(place)):
                    uri = str(place).replace(":/", "://", 1)  # as it was before it was a path
                    typer.echo(
                        f"{Path(sys.argv[0]).stem}: {uri}: only caption, jobs.curate and "
                        "jobs.decide read and write remote storage: copy it here first",
                        err=True,
                    )
                    raise typer.Exit(2)
        return super().invoke(ctx)


def as_table(asked: bool | None) -> bool:
    """Whether the end is told to a person; where nobody said, whether it goes to a terminal."""
    return sys.stdout.isatty() if asked is None else asked
