"""Precompute for a trainer: `python -m jobs.precompute DATASET -o OUT --vae MODEL --text MODEL`.

Stores the VAE latents and text features of a dataset's clips (of jobs.dataset) in OUT, so that a
trainer needs neither encoder. OUT/data/*.parquet has a row a clip, OUT/precompute.json what it was
made with and what is missing. Run it again to do only what is missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from jobs import options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SHOWN = 20
"""Failed clips that are told one by one; the rest is counted."""


@app.command(cls=options.Local)
def precompute(
    dataset: Annotated[Path, typer.Argument(help="A dataset of jobs.dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the latents.")],
    vae: Annotated[str, typer.Option(help="Folder or hub name of a VAE or pipeline of diffusers.")],
    text: Annotated[
        str, typer.Option(help="Folder or hub name of a text encoder with tokenizer, or pipeline.")
    ],
    frames: Annotated[list[int], typer.Option(help="Length to train on; give it again for more.")],
    size: Annotated[
        str, typer.Option(help="WIDTHxHEIGHT: other aspect ratios have about as many pixels.")
    ],
    model: Annotated[
        str, typer.Option(help="Model family to train, such as wan or ltx-video.")
    ] = "skyreels-v2",
    caption: Annotated[str, typer.Option(help="t2v, i2v, structured or empty.")] = "t2v",
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    fps: Annotated[
        str, typer.Option(help="Frames a second to read clips at; paper: 16 or 24.")
    ] = "paper",
    max_crop: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a picture that may be cut off.")
    ] = 0.25,
    max_enlarge: Annotated[
        float, typer.Option(min=0, help="Factor that a picture may be enlarged by.")
    ] = 1.0,
    dtype: Annotated[
        str, typer.Option(help="Stored as bfloat16, float16 or float32.")
    ] = "bfloat16",
    max_tokens: Annotated[int, typer.Option(help="A longer text is cut off.")] = 512,
    seed: Annotated[int, typer.Option(help="Draws where in a long clip its frames begin.")] = 0,
    sources: Annotated[
        Path | None, typer.Option(help="Where relative paths of a virtual dataset begin.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode ahead, for each encoder.")
    ] = 2,
    shard_clips: Annotated[
        int, typer.Option(min=1, help="Clips a shard: what a killed run may lose.")
    ] = 64,
    ray: options.OnRay = False,
    actors: Annotated[
        int | None, typer.Option(min=1, help="Encoders on Ray; by default one a GPU.")
    ] = None,
    table: options.AsTable = None,
) -> None:
    """Store VAE latents and text features of a dataset's clips.

    Exit code 0: every clip that a training would take has its latents. 1: some failed, and each is
    told with its reason. 2: a mistake in the command or a model that cannot be used, told in one
    line.
    """
    # Imported here so that --help answers at once.
    from rich.console import Console
    from rich.progress import Progress

    from curation.buckets import BucketError, Fit, make_buckets
    from curation.clip_dataset import ClipError, Task
    from curation.dataset import DatasetError
    from curation.encoders import Model, PrecomputeError
    from curation.engine_ray import EnginePool, cluster_gpus, connect
    from curation.precompute import PrecomputeConfig
    from curation.precompute import precompute as make
    from jobs import console

    try:
        config = PrecomputeConfig(
            vae=Model.vae(vae),
            text=Model.text(text),
            buckets=make_buckets(model, _area(size), frames),
            task=cast(Task, caption),
            fit=Fit(max_crop, max_enlarge),
            fps=_rate(fps),
            dtype=dtype,
            max_tokens=max_tokens,
            seed=seed,
        )
        pool = None
        if ray:
            connect()
            gpus = cluster_gpus()
            pool = EnginePool(
                largest=actors or max(1, int(gpus)),
                gpus=1.0 if gpus else 0.0,
                cpus=max(1, workers),
            )
        with Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress:
            clips = progress.add_task("clips", total=None)
            done = make(
                dataset,
                output,
                config,
                split,
                workers=workers,
                shard_clips=shard_clips,
                sources=sources,
                pool=pool,
                tell=lambda count, of: progress.update(clips, completed=count, total=of),
            )
    except (PrecomputeError, BucketError, ClipError, DatasetError) as error:
        console.fail(str(error))
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    failed = done.missing.failed
    for clip, why in list(failed.items())[:_SHOWN]:
        typer.echo(f"precompute: clip {clip} failed: {why}", err=True)
    if len(failed) > _SHOWN:
        typer.echo(f"precompute: and {len(failed) - _SHOWN:,} more", err=True)
    if options.as_table(table):
        typer.echo(
            f"{done.added:,} clips added, {done.present:,} there already, {len(failed):,} failed"
        )
        for why, count in done.missing.left_out.items():
            typer.echo(f"  {count:,} left out: {why}")
    else:
        facts = {"added": done.added, "present": done.present, **done.missing.model_dump()}
        typer.echo(json.dumps({**facts, "config_hash": config.hash()}))
    raise typer.Exit(1 if failed else 0)


def _area(size: str) -> int:
    """Pixels of WIDTHxHEIGHT. Fails for anything else."""
    from jobs import console

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        console.fail(f"--size is WIDTHxHEIGHT, as 960x544, not {size!r}")
    return int(width) * int(height)


def _rate(fps: str) -> float | Literal["paper"]:
    """A rate, or the paper's rule. Fails for anything else."""
    from jobs import console

    if fps == "paper":
        return "paper"
    try:
        rate = float(fps)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1000:
        console.fail(f"--fps is a frame rate or paper, not {fps!r}")
    return rate


if __name__ == "__main__":
    app()
