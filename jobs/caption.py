"""Caption raw video: `caption PATHS... -o OUT`, or `python -m jobs.caption`.

Splits every video into shots, captions each shot and writes OUT/ledger/*.parquet (a row a shot),
OUT/captions.jsonl, OUT/report.html and OUT/run.json. Run it again to do only what is missing. The
same command runs under `ray job submit` with --ray.
"""

from __future__ import annotations

import enum
import math
import os
import time
from functools import partial
from typing import Annotated

import typer

from jobs import options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class EngineName(enum.StrEnum):
    """Engines by name."""

    auto = "auto"
    experts = "experts"
    vllm = "vllm"
    server = "server"
    transformers = "transformers"


class Policy(enum.StrEnum):
    """Which frames a model sees: `captioner.policies`."""

    native = "native"
    reference = "reference"


class Fusion(enum.StrEnum):
    """What writes the prose."""

    template = "template"
    engine = "engine"


class Detector(enum.StrEnum):
    """PySceneDetect's detectors by name."""

    adaptive = "adaptive"
    content = "content"
    hash = "hash"
    histogram = "histogram"
    threshold = "threshold"


class Format(enum.StrEnum):
    """Outputs beside the ledger and captions.jsonl."""

    csv = "csv"
    json = "json"
    txt = "txt"


@app.command()
def caption(
    paths: Annotated[
        list[str],
        typer.Argument(help="Videos, and folders to search for videos; URIs such as s3://..."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder or URI for the results.")],
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Split into shots, or take a file as one.")
    ] = True,
    engine: Annotated[
        EngineName, typer.Option(help="What captions; auto is the best that runs here.")
    ] = EngineName.auto,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    policy: Annotated[
        Policy, typer.Option(help="Frames as they are, or as the released script took them.")
    ] = Policy.native,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="How freely a model answers.")
    ] = None,
    merge: options.Merge = None,
    fusion: Annotated[
        Fusion, typer.Option(help="What writes the prose: a template, or the model.")
    ] = Fusion.template,
    window: Annotated[
        float | None, typer.Option(help="Seconds that a model sees at a time; longer is merged.")
    ] = None,
    vllm: options.Vllm = None,
    detector: Annotated[
        Detector, typer.Option(help="PySceneDetect's detector that proposes cuts.")
    ] = Detector.adaptive,
    min_shot: options.MinShot = 0.25,
    max_shot: options.MaxShot = None,
    segment: options.Segment = 60.0,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Also captions.csv, or .json / .txt beside each video."),
    ] = None,
    workers: options.Workers = None,
    ray: options.OnRay = False,
    engines: Annotated[
        int | None, typer.Option(min=1, help="On Ray: engines at most; by default one a GPU.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N files.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished files again; replace sidecars.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it would take.")
    ] = False,
    table: options.AsTable = None,
) -> None:
    """Caption videos, shot by shot.

    Exit code 0: every file was captioned. 1: some could not be, and each of those has a row that
    says why. 2: a mistake in the command, told in one line.
    """
    # Imported here so that --help answers at once.
    from captioner.engine_config import EngineConfig, EngineOptionError
    from captioner.weights import WeightError
    from curation.captioning import start
    from curation.engine_process import EngineLostError
    from curation.engine_ray import cluster_cores
    from curation.estimate import rates, remember
    from curation.inputs_ray import dividing
    from curation.output import Output, OutputInUseError
    from curation.pipeline import do, forget_replaced, relabel_moved, unfinished
    from curation.rows import RowConfig
    from curation.scan import ScanConfig
    from curation.sources import identify
    from curation.storage import Mirror, StorageError
    from curation.summary import summarise
    from jobs import console

    started = time.monotonic()
    table = options.as_table(table)
    mirror = Mirror(output)
    out = Output(mirror.folder)
    sidecars = [kind for kind in formats or [] if kind is not Format.csv]
    try:
        scan = ScanConfig(detector.value if split else "none", min_shot, max_shot, window)
        asked = EngineConfig(
            engine.value,
            model,
            endpoint,
            policy.value,
            temperature,
            merge,
            fusion.value,
            window,
            tuple(vllm or ()),
        )
    except ValueError as error:
        console.fail(str(error))
    videos = console.find(paths, out, limit)
    if sidecars and any(videos.values()):
        console.fail("--format json and txt write beside the videos, which local ones allow alone")
    if dry_run and any(videos.values()):
        console.fail("--dry-run looks at local videos; of others jobs.curate --plan says more")
    try:
        # Options, model and endpoint come first: no video is decoded for an engine that refuses.
        with start(asked, ray, engines) as captioning:
            config = RowConfig(scan, captioning.config.name, options=captioning.config)
            console.fetch_weights(config)
            if dry_run:
                sources = list(identify(videos, out.hashes.sha256))
                todo = sources if overwrite else unfinished(sources, config, out)
                count = workers or os.cpu_count() or 1
                longest = segment if split else math.inf
                console.print_estimate(sources, todo, config, count, longest, table)
                return
            with out.locked():
                console.say_engine(captioning)
                mirror.pull()
                count = workers or (cluster_cores() if ray else os.cpu_count() or 1)
                sources = console.sources(videos, out, ray, count)
                todo = sources if overwrite else unfinished(sources, config, out)
                run = partial(captioning.run, config=config, workers=count)
                divided = dividing(segment, count, ray)
                made = do(todo, config, out, run, overwrite, divided)
                done = []
                for one in console.track(made, todo, captioning.gauge):
                    done.append(one)
                    mirror.push_now_and_then()
                changed = relabel_moved(sources, out) + forget_replaced(sources, out)

                csv = Format.csv in (formats or [])
                rows = out.rows()
                if done or changed or not out.is_complete(csv):
                    out.write(rows, csv)
                console.write_sidecars(sources, rows, sidecars, overwrite)
                summary = summarise(sources, rows, done, config, time.monotonic() - started)
                summary["engine"] = captioning.facts()
                remember(config, rates(done, captioning.gauge()))
                out.write_run(summary)
                mirror.push()
    except (EngineOptionError, WeightError, OutputInUseError, StorageError) as error:
        console.fail(str(error))
    except EngineLostError as error:
        console.fail(f"{console.last_line(str(error))}; what is finished is kept, run it again")
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    console.print_result(summary, rows, out, table)
    raise typer.Exit(1 if summary["failed"] else 0)


if __name__ == "__main__":
    app()
