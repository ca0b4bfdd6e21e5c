"""Prose by a language model: `python -m jobs.fuse OUT --engine vllm --model MODEL`.

Tells the structured captions of a finished OUT (of `caption` or jobs.curate) anew, as text-to-video
and image-to-video prose, in the place of the template's or of an earlier model's; the paper's model
is Qwen/Qwen2.5-32B-Instruct. Run it again to do only what is missing.
"""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs import options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Length(enum.StrEnum):
    """Of a text."""

    short = "short"
    medium = "medium"
    dense = "dense"


class Task(enum.StrEnum):
    """What a text is for."""

    t2v = "t2v"
    i2v = "i2v"


@app.command(cls=options.Local)
def fuse(
    output: Annotated[Path, typer.Argument(help="The output of caption or jobs.curate.")],
    engine: Annotated[
        str, typer.Option(help="vllm, server, transformers, or module:attribute of a generator.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name of a language model.")
    ] = None,
    endpoint: options.Endpoint = None,
    vllm: options.Vllm = None,
    tasks: Annotated[
        list[Task] | None, typer.Option("--task", help="Only this text; by default both.")
    ] = None,
    length: Annotated[
        Length | None, typer.Option(help="How long; by default as the model likes.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="In English, such as French; camera motion stays English.")
    ] = None,
    dropout: Annotated[
        float, typer.Option(min=0, max=1, help="How often a field is left out of T2V.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Draws what is left out.")] = 0,
    table: options.AsTable = None,
) -> None:
    """Tell a finished ledger's captions as prose, by a language model.

    Exit code 0: every kept caption is told, by the model or, where its answer cannot be used, by
    the template, with the reason in `caption_t2v_by`. 1: the engine failed on some, and the next
    run asks again. 2: a mistake in the command or a model that cannot be used, told in one line.
    """
    # Imported here so that --help answers at once.
    from rich.console import Console
    from rich.progress import Progress

    from captioner.engine_config import EngineConfig
    from captioner.fusion import Fusion
    from curation import fuse as telling
    from curation.engine_process import is_refusal, missing
    from curation.ledger_columns import LedgerError
    from curation.output import Output, OutputInUseError
    from jobs import console

    out = Output(output)
    if not out.ledger.parts():
        console.fail(f"there is no ledger in {output}: name an output of caption or jobs.curate")
    if model is None and engine in ("vllm", "transformers"):
        console.fail("name a --model that writes, such as Qwen/Qwen2.5-32B-Instruct")
    try:
        asked = EngineConfig(engine, model, endpoint, vllm=tuple(vllm or ()))
        generator = asked.generator(video=False)
        fusions = [
            Fusion(
                generator,
                task.value,
                length.value if length else None,
                seed,
                dropout,
                language,
            )
            for task in tasks or list(Task)
        ]
    except ImportError as error:
        console.fail(missing(engine, error))
    except ValueError as error:
        if not is_refusal(error):
            raise
        console.fail(str(error))
    try:
        with (
            out.locked(),
            Progress(
                console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
            ) as progress,
        ):
            texts = progress.add_task("texts", total=None)
            done = telling.fuse(
                out, fusions, lambda count, of: progress.update(texts, completed=count, total=of)
            )
            if (output / "captions.jsonl").is_file():
                out.write(out.rows(), csv=(output / "captions.csv").is_file())
    except (LedgerError, OutputInUseError) as error:
        console.fail(str(error))
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    if options.as_table(table):
        by = ", ".join(f"{count:,} {status}" for status, count in sorted(done.statuses.items()))
        typer.echo(
            f"{done.texts:,} texts told now{f' ({by})' if by else ''}, {done.present:,} before"
        )
    else:
        told = {"texts": done.texts, "present": done.present, "statuses": dict(done.statuses)}
        typer.echo(json.dumps({**told, "failed": done.failed, "identity": fusions[0].identity()}))
    if done.failed:
        typer.echo(f"fuse: the engine failed on {done.failed:,}: {done.reason}", err=True)
    raise typer.Exit(1 if done.failed else 0)


if __name__ == "__main__":
    app()
