"""Generate videos of a dataset's captions: `python -m jobs.generate DATASET -o OUT --model FOLDER`.

DATASET is a dataset of jobs.dataset or the output folder of jobs.curate; the model is a SkyReels-V2
checkpoint in diffusers' layout, or whatever answers at --endpoint. OUT gets videos/*.mp4 and
generations.parquet, a row for every prompt, with the reason where it came to no video; jobs.loop
reads it. Run it again to go on: nothing is generated twice. The same command runs under
`ray job submit` with --ray, one model a GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from jobs import options

if TYPE_CHECKING:
    from generation.ledger import Generation
    from generation.run_ray import Load

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=options.Local)
def generate(
    dataset: Annotated[Path, typer.Argument(help="A dataset, or the output of jobs.curate.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for videos and rows.")],
    model: Annotated[
        str, typer.Option(help="Checkpoint's folder or hub name; with --endpoint, its name.")
    ],
    task: Annotated[
        str, typer.Option(help="t2v, i2v, or df: diffusion forcing, also for long videos.")
    ] = "t2v",
    count: Annotated[int | None, typer.Option(help="Prompts; all by default.")] = None,
    by: Annotated[
        str, typer.Option(help="concept: each gets its share, and at least one; or none.")
    ] = "concept",
    samples: Annotated[int, typer.Option(help="Videos of each prompt.")] = 1,
    split: Annotated[str | None, typer.Option(help="Split of the dataset; train first.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses prompts, and the seed of each.")] = 0,
    preset: Annotated[str, typer.Option(help="540p (97 frames) or 720p (121).")] = "540p",
    frames: Annotated[int | None, typer.Option(help="1 more than a multiple of 4.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, a multiple of 16.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, a multiple of 16.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second; 24.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of denoising; 50.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of the prompt; 6 from text, 5 from a picture.")
    ] = None,
    shift: Annotated[
        float | None, typer.Option(help="Of the noise schedule; 8 from text, 5 from a picture.")
    ] = None,
    first_frame: Annotated[
        bool, typer.Option("--first-frame", help="df: begin with the real clip's first frame.")
    ] = False,
    last_frame: Annotated[
        bool, typer.Option("--last-frame", help="End with the real clip's last frame as well.")
    ] = False,
    base_frames: Annotated[int | None, typer.Option(help="df: frames of a window.")] = None,
    overlap: Annotated[
        int | None, typer.Option(help="df: frames a window takes from the one before; 17.")
    ] = None,
    ar_step: Annotated[
        int | None, typer.Option(help="df: steps a block lags behind; 0: all together.")
    ] = None,
    causal_block: Annotated[
        int | None, typer.Option(help="df: latent frames of a block; 5 goes with --ar-step 5.")
    ] = None,
    addnoise: Annotated[
        float | None, typer.Option(help="df: thousandths of noise on given frames; 20.")
    ] = None,
    offload: Annotated[
        str, typer.Option(help="What waits in main memory: none, model or sequential.")
    ] = "none",
    tiling: Annotated[
        bool, typer.Option("--tiling", help="Decode the picture in parts: less memory.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut prompts that are too long for the encoder.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="URL that takes a prompt and answers with an MP4.")
    ] = None,
    enhance: Annotated[
        str | None, typer.Option(help="OpenAI-compatible URL that tells prompts anew.")
    ] = None,
    enhance_model: Annotated[str | None, typer.Option(help="The model there.")] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also generate anew what failed before.")
    ] = False,
    ray: options.OnRay = False,
    table: options.AsTable = None,
) -> None:
    """Generate videos of a dataset's captions.

    Exit code 0: every prompt has its video. 1: some came to none, and each has a row that says why.
    2: a mistake in the command, told in one line before anything is loaded.
    """
    # Imported here so that --help answers at once.
    from captioner.engines.server import EndpointError, connect
    from curation.dataset import DatasetError
    from curation.ledger_columns import LedgerError
    from curation.output import Output, OutputInUseError
    from generation.checkpoint import find_checkpoint
    from generation.config import Dtype, Task, configure
    from generation.endpoint import EndpointModel
    from generation.enhance import Enhancer
    from generation.frames import GenerationOptionError
    from generation.ledger import opened
    from generation.pipelines import Offload, load_pipeline
    from generation.prompts import By, choose
    from generation.run import config_hash, missing, run, run_by
    from generation.run_ray import RayEngine, whole_cluster
    from jobs import console

    started = time.monotonic()
    try:
        config = configure(
            cast(Task, task),
            preset,
            {
                "base_frames": base_frames,
                "overlap": overlap,
                "ar_step": ar_step,
                "causal_block": causal_block,
                "addnoise": addnoise,
            },
            frames=frames,
            height=height,
            width=width,
            fps=fps,
            steps=steps,
            guidance=guidance,
            shift=shift,
            first_frame=first_frame,
            last_frame=last_frame,
            truncate=truncate,
            dtype=cast(Dtype, dtype),
            tiling=tiling,
        )
        chosen = choose(dataset, cast(Task, task), count, cast(By, by), seed, samples, split)
        load: Load
        if endpoint is not None:
            name, load = model, partial(EndpointModel, endpoint, model, config)
            load()
        else:
            checkpoint, config = find_checkpoint(model, config)
            name = checkpoint.name
            load = partial(load_pipeline, checkpoint, config, cast(Offload, offload))
        enhancer = Enhancer(connect(enhance, enhance_model, video=False)) if enhance else None
        known = config_hash(config, enhancer)
        with opened(output) as ledger:
            todo = len(missing(chosen.asked, name, known, ledger, retry))
            if not todo:
                made: Iterator[Generation] = iter(())
            elif ray:
                engine = RayEngine(load, name, config, known, whole_cluster())
                made = run_by(engine, chosen.asked, name, config, ledger, enhancer, retry)
            else:
                made = run(chosen.asked, load(), config, ledger, enhancer, retry)
            new = list(_told(made, todo))
            facts = {
                "clips": chosen.clips,
                "without_caption": chosen.without,
                "concepts": chosen.concepts,
                "prompts": len(chosen.asked),
                "generated": sum(row.status == "ok" for row in new),
                "present": len(chosen.asked) - todo,
                "failed": len(missing(chosen.asked, name, known, ledger, retry=True)),
                "model": name,
                "config_hash": known,
                "seconds": round(sum(row.seconds or 0.0 for row in new), 3),
                "peak_bytes": max((row.peak_bytes or 0 for row in new), default=0),
                "wall_seconds": round(time.monotonic() - started, 3),
            }
            Output(output).write_run({**facts, "config": asdict(config)})
    except (GenerationOptionError, DatasetError, EndpointError) as error:
        console.fail(str(error))
    except (LedgerError, OutputInUseError) as error:
        console.fail(str(error))
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    if options.as_table(table):
        _print_table(facts, output)
    else:
        typer.echo(json.dumps(facts))
    raise typer.Exit(1 if facts["failed"] else 0)


def _told(made: Iterable[Generation], todo: int) -> Iterator[Generation]:
    """Pass the rows on, telling of each how it went."""
    from jobs import console

    for number, row in enumerate(made, 1):
        said = f"{row.seconds:.1f} s" if row.seconds is not None else ""
        if row.error is not None:
            said = console.last_line(row.error)
        typer.echo(f"{number}/{todo} {row.concept} {row.clip_id}: {said}", err=True)
        yield row


def _print_table(facts: dict[str, Any], output: Path) -> None:
    for concept, prompts in facts["concepts"].items():
        typer.echo(f"{concept:<20}{prompts:>6}")
    typer.echo(
        f"{facts['prompts']:,} prompts of {facts['clips']:,} clips "
        f"({facts['without_caption']:,} have no caption): {facts['generated']:,} generated now, "
        f"{facts['present']:,} there already, {facts['failed']:,} came to no video"
    )
    typer.echo(f"{facts['model']}, configuration {facts['config_hash']}")
    typer.echo(f"{output / 'generations.parquet'}")


if __name__ == "__main__":
    app()
