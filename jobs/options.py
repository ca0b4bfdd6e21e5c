"""Options that several jobs have, each told once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

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
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; by default one a core, on Ray of the cluster.")
]
OnRay = Annotated[bool, typer.Option("--ray", help="Run on the Ray cluster that this is part of.")]
AsTable = Annotated[
    bool | None, typer.Option("--table/--json", help="What to print; JSON when piped.")
]


def as_table(asked: bool | None) -> bool:
    """Whether the end is told to a person; where nobody said, whether it goes to a terminal."""
    return sys.stdout.isatty() if asked is None else asked
