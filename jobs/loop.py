"""Close the loop: `python -m jobs.loop GENERATIONS --real DATASET -o OUT`.

GENERATIONS is the output of jobs.generate; DATASET is the dataset or the curation that its prompts
are from. The generated clips are captioned by the engine that captions the data, compared field by
field with what their prompts ask for, and their pictures with those of the real clips. OUT gets
ledger/*.parquet (captions and measures of the generated clips), adherence.json and .md, items and
scored .parquet, loop.html, loop_weights.json for `jobs.decide --from-loop`, and with --pairs
preferences.jsonl and .parquet. Run it again to do only what is missing. The same command runs under
`ray job submit` with --ray.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import options
from jobs.caption import EngineName
from jobs.evaluate import JudgeName

if TYPE_CHECKING:
    from curation.layouts.clips import Media
    from eval.loop import Loop, Scored

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=options.Local)
def loop(
    generations: Annotated[Path, typer.Argument(help="The output of jobs.generate.")],
    real: Annotated[Path, typer.Option(help="The dataset or curation that the prompts are from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    made_by: Annotated[
        str | None,
        typer.Option(help="Model or configuration hash, where GENERATIONS holds several."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="A column that concepts are made of; by default what the balance used."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset; train first.")] = None,
    before: Annotated[
        Path | None, typer.Option(help="The output of this job in the round before.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--round", min=1, help="Of the round; else one more than before.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Write preference pairs, with their videos.")
    ] = False,
    engine: Annotated[
        EngineName, typer.Option(help="What captions: the engine that captioned the data.")
    ] = EngineName.auto,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    merge: options.Merge = None,
    vllm: options.Vllm = None,
    judge: Annotated[
        JudgeName, typer.Option(help="Who rules on free text.")
    ] = JudgeName.similarity,
    judge_endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible URL of the judging model.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Its name there.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstraps.")] = 0,
    workers: options.Workers = None,
    ray: options.OnRay = False,
    table: options.AsTable = None,
) -> None:
    """Caption what a model generated, score it against its prompts, and weigh the next dataset.

    Exit code 0: scored; prompts that came to no video are in the figures. 1: a video that was
    generated could not be captioned, and has a row that says why. 2: a mistake in the command, told
    in one line.
    """
    # Imported here so that --help answers at once.
    from captioner.engine_config import EngineConfig, EngineOptionError
    from captioner.weights import WeightError
    from curation.captioning import start
    from curation.dataset import DatasetError
    from curation.engine_process import EngineLostError
    from curation.ledger_columns import LedgerError
    from curation.loop_weights import (
        FILE,
        LoopWeightsError,
        next_weights,
        read_weights,
        write_weights,
    )
    from curation.output import Output, OutputInUseError
    from curation.pipeline import do, forget_replaced, relabel_moved, unfinished
    from curation.rows import RowConfig
    from curation.scan import ScanConfig
    from curation.sources import identify
    from eval.judge import JudgeError, make_judge
    from eval.loop import (
        Loop,
        LoopError,
        changed,
        concept_lines,
        field_lines,
        measure_lines,
        of_one_model,
        problems,
        read_real,
        score,
        seen,
        video_of,
        write_loop,
    )
    from eval.loop_page import write_page
    from eval.preferences import make_pairs, write_pairs
    from eval.testset import TestsetError
    from generation.frames import GenerationOptionError
    from generation.ledger import read_generations
    from jobs import console

    started = time.monotonic()
    out = Output(output)
    try:
        if output.resolve() in (path.resolve() for path in (generations, real, before) if path):
            console.fail(f"{output} holds what is read here: give a new folder")
        made = read_generations(generations)
        if not made:
            console.fail(f"{generations} has no generation: generate first")
        made = of_one_model(made, made_by)
        clips = read_real(real, by or (), split)
        last = read_weights(before / FILE) if before else None
        ruling = make_judge(judge.value, judge_endpoint, judge_model)
        videos = [path for one in made if (path := video_of(one, generations))]
        asked = EngineConfig(engine.value, model, endpoint, merge=merge, vllm=tuple(vllm or ()))
        with start(asked, ray) as captioning, out.locked():
            config = RowConfig(
                ScanConfig(), captioning.config.name, measures=True, options=captioning.config
            )
            console.say_engine(captioning)
            console.fetch_weights(config)
            hashes = out.hashes
            sources = list(identify(videos, hashes.sha256))
            hashes.save()
            todo = unfinished(sources, config, out)
            count = min(workers or os.cpu_count() or 1, max(1, len(todo)))
            run = partial(captioning.run, config=config, workers=count)
            done = list(console.track(do(todo, config, out, run), todo, captioning.gauge))
            relabel_moved(sources, out)
            forget_replaced(sources, out)

            scored = score(made, generations, sources, out.ledger, clips, ruling)
            weights = next_weights(seen(scored), clips.by, last, number=number)
            media, why = _real_media(real, split)
            reals, shown, missing = _placed(scored, generations, media, pairs, output)
            told = [*problems(scored, clips), *([why] if why else []), *missing]
            found = Loop(
                scored=scored,
                concepts=concept_lines(scored, clips, weights),
                fields=field_lines(scored),
                measures=measure_lines(scored, clips, seed),
                changed=changed(before, scored, seed) if before else [],
                weights=weights,
                judge=ruling.name,
                problems=told,
            )
            write_loop(found, output)
            write_weights(weights, output / FILE)
            write_page(found, reals, shown, output / "loop.html")
            preferred = make_pairs(scored, clips, reals, shown) if pairs else []
            if pairs:
                write_pairs(preferred, output)
            failed = sum(one.caption is None and one.generation.video is not None for one in scored)
            facts = {
                "round": weights.round,
                "generations": len(made),
                "captioned_now": len(done),
                "not_generated": sum(one.generation.video is None for one in scored),
                "failed": failed,
                "missed": {one.concept: one.missed for one in found.concepts},
                "factors": weights.factors,
                "pairs": len(preferred),
                "problems": len(told),
                "engine": captioning.facts(),
                "config_hash": config.hash(),
                "wall_seconds": round(time.monotonic() - started, 3),
            }
            out.write_run(facts)
    except (GenerationOptionError, LoopError, LoopWeightsError, DatasetError) as error:
        console.fail(str(error))
    except (EngineOptionError, JudgeError, TestsetError, LedgerError) as error:
        console.fail(str(error))
    except (WeightError, OutputInUseError) as error:
        console.fail(str(error))
    except EngineLostError as error:
        console.fail(f"{console.last_line(str(error))}; what is finished is kept, run it again")
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    if options.as_table(table):
        _print(found, output, pairs)
    else:
        typer.echo(json.dumps(facts))
    raise typer.Exit(1 if failed else 0)


def _real_media(folder: Path, split: str | None) -> tuple[dict[str, Media], str]:
    """The videos of the real clips by clip_id, and why there are none, if so."""
    from curation.layouts.clips import Clip, ExportError, find_clips

    try:
        found = find_clips(folder, "structured", split)
    except ExportError as error:
        return {}, f"no real videos on the page or in pairs: {error}"
    return {clip.clip_id: clip.media for clip in found if isinstance(clip, Clip)}, ""


def _placed(
    scored: list[Scored], generations: Path, media: dict[str, Media], everything: bool, out: Path
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Put the videos beside the page, those shown or all: paths of the real and the generated, and
    what could not be put."""
    from eval.loop_page import GENERATED, REAL, generated_media, place_videos, shown

    wanted = scored if everything else [one for group in shown(scored).values() for one in group]
    clips = {one.generation.clip_id for one in wanted}
    real = {name: video for name, video in media.items() if name in clips}
    reals, no_real = place_videos(real, REAL, out)
    videos, no_video = place_videos(generated_media(wanted, generations), GENERATED, out)
    missing = [
        f"no video of the {kind} {names}"
        for kind, names in (("real clips", no_real), ("generations", no_video))
        if names
    ]
    return reals, videos, missing


def _print(found: Loop, output: Path, pairs: bool) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from curation.loop_weights import FILE
    from eval.loop import markdown

    Console().print(Markdown(markdown(found)))
    typer.echo(f"page     {output / 'loop.html'}")
    typer.echo(f"weights  {output / FILE}  (jobs.decide --from-loop)")
    if pairs:
        typer.echo(f"pairs    {output / 'preferences.jsonl'}")


if __name__ == "__main__":
    app()
