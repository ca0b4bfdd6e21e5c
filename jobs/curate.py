"""Curate raw video: `python -m jobs.curate --input PATH --output OUT --preset 360p`.

Splits every video into shots, measures each, decides by the preset's rules, crops, drops
near-duplicates, balances, captions what is kept and writes its clips. OUT holds ledger/*.parquet (a
row for every shot, kept or not, with the reason), clips/*.mp4, report.html and run.json. Run it
again to do only what is missing; `python -m jobs.decide OUT` changes thresholds without the videos.
The same command runs under `ray job submit` with --ray.
"""

from __future__ import annotations

import enum
import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from jobs import options
from jobs.caption import Detector, EngineName

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Captions(enum.StrEnum):
    """Which clips are captioned."""

    kept = "kept"
    all = "all"
    none = "none"


@app.command()
def curate(
    inputs: Annotated[
        list[str], typer.Option("--input", "-i", help="A video, a folder, or s3://... of them.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder or s3://... for results.")],
    preset: Annotated[
        str, typer.Option(help="256p, 360p, 540p, 720p-sft, or a YAML file like theirs.")
    ] = "360p",
    from_loop: Annotated[
        Path | None,
        typer.Option(help="loop_weights.json of jobs.loop: more of what the model misses."),
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL of facts about the sources, by a column `file`."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A finished output: near-duplicates of what it keeps go."),
    ] = None,
    captions: Annotated[
        Captions, typer.Option(help="Which clips to caption: those that the rules keep.")
    ] = Captions.kept,
    engine: Annotated[EngineName, typer.Option(help="What captions.")] = EngineName.auto,
    model: options.Model = None,
    endpoint: options.Endpoint = None,
    merge: options.Merge = None,
    vllm: options.Vllm = None,
    clips: Annotated[
        bool, typer.Option("--clips/--no-clips", help="Write the kept clips, or only their rows.")
    ] = True,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Quality of the clips, H.264.")] = 18,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the sound in the clips.")] = False,
    detector: Annotated[
        Detector, typer.Option(help="PySceneDetect's detector that proposes cuts.")
    ] = Detector.adaptive,
    min_shot: options.MinShot = 0.25,
    max_shot: options.MaxShot = None,
    segment: options.Segment = 300.0,
    workers: options.Workers = None,
    ray: options.OnRay = False,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds that a stage may take for one clip.")
    ] = 300.0,
    memory_limit: Annotated[
        float, typer.Option(min=0.5, help="GiB that a process may take.")
    ] = 8.0,
    plan: Annotated[
        float | None,
        typer.Option(min=0, help="Only estimate time, cost and storage of so many hours of video."),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores of the plan.")] = None,
    engines: Annotated[int, typer.Option(min=1, help="Engines (GPUs) of the plan.")] = 1,
    price: Annotated[float | None, typer.Option(min=0, help="Price of a core-hour.")] = None,
    engine_price: Annotated[
        float | None, typer.Option(min=0, help="Price of an hour of an engine's GPU.")
    ] = None,
    table: options.AsTable = None,
) -> None:
    """Turn raw video into a filtered, cropped, deduplicated, balanced set of clips.

    Exit code 0: every source was read and every kept clip written. 1: some could not be, and each
    has a row that says why. 2: a mistake in the command or the preset, told in one line.
    """
    # Imported here so that --help answers at once.
    from captioner.engine_config import EngineConfig, EngineOptionError
    from captioner.weights import WeightError
    from curation.balance import BalanceError
    from curation.captioning import start
    from curation.clips import NOTHING_CUT, ClipConfig
    from curation.curation_report import write_curation_report
    from curation.engine_process import EngineLostError
    from curation.engine_ray import cluster_cores
    from curation.estimate import PLANNED_BY, Cluster, clip_rates, rates, remember
    from curation.facts import FactsError, load_facts
    from curation.inputs import some
    from curation.inputs_ray import dividing
    from curation.keep import cut_clips, judge_all, preset_for
    from curation.ledger import arrow_schema
    from curation.ledger_columns import LedgerError
    from curation.loop_weights import read_weights, with_loop
    from curation.output import Output, OutputInUseError
    from curation.pipeline import (
        do,
        forget_replaced,
        relabel_moved,
        unfinished,
    )
    from curation.preset import PresetError
    from curation.rows import RowConfig
    from curation.scan import ScanConfig
    from curation.storage import Mirror, StorageError
    from curation.worker import Limits
    from jobs import console
    from jobs.curate_console import print_plan, print_result, summarise

    started = time.monotonic()
    table = options.as_table(table)
    try:
        known = load_facts(facts)
        chosen = preset_for(preset, known)
        if from_loop is not None:
            chosen = with_loop(chosen, read_weights(from_loop), arrow_schema())
        scan = ScanConfig(detector, min_shot, max_shot)
        if captions is Captions.none:
            asked = EngineConfig("experts")
        else:
            asked = EngineConfig(
                engine.value,
                model,
                endpoint,
                merge=merge,
                vllm=tuple(vllm or ()),
                questions=tuple(chosen.questions.items()),
            )
        mirror = Mirror(output)
        out = Output(mirror.folder)
        others = [Output(path) for path in against or []]
        for other in others:
            if not other.ledger.parts() or other.folder.resolve() == out.folder.resolve():
                console.fail(f"{other.folder} is no other output of jobs.curate: it has no ledger")
        with start(asked, ray, models=chosen.scoring) as captioning, out.locked():
            said = None if captions is Captions.none else captioning.config
            config = RowConfig(
                scan,
                said.name if said else None,
                measures=True,
                preset=chosen if captions is Captions.kept else None,
                options=said,
                models=captioning.models,
            )
            if chosen.questions and not (said and said.runs_model):
                console.warn(
                    f"nobody answers the preset's questions ({', '.join(chosen.questions)}): "
                    "name a model that captions, with --engine vllm, server or transformers"
                )
            mirror.pull()
            videos = console.find(inputs, out)
            console.fetch_weights(config)
            count = workers or (cluster_cores() if ray else os.cpu_count() or 1)
            if plan is not None:
                videos = some(videos, PLANNED_BY)
            sources = [known.of(one) for one in console.sources(videos, out, ray, count)]
            if plan is not None:
                cluster = Cluster(cores or os.cpu_count() or 1, engines, price, engine_price)
                print_plan(sources, config, plan, cluster, table)
                return
            todo = unfinished(sources, config, out)
            limits = Limits(time_limit, round(memory_limit * 2**30))
            run = partial(captioning.run, config=config, workers=count, limits=limits)
            done = []
            made = do(todo, config, out, run, divided=dividing(segment, count, ray))
            for one in console.track(made, todo, captioning.gauge):
                done.append(one)
                mirror.push_now_and_then()
            relabel_moved(sources, out)
            forget_replaced(sources, out)
            verdict = judge_all(chosen, out, others)
            cut = NOTHING_CUT
            if clips:
                cut = cut_clips(sources, ClipConfig(crf=crf, audio=audio), out, count, ray)
            wall = time.monotonic() - started
            summary = summarise(sources, done, cut, verdict, config, out, wall)
            if said is not None:
                summary["engine"] = captioning.facts()
            kept = summary["hours_kept"] / max(1e-9, summary["hours"])
            remember(config, rates(done, captioning.gauge(), clip_rates(cut, kept)))
            write_curation_report(out.rows(), verdict, chosen, out, out.report)
            out.write_run(summary)
            mirror.push(clips)
    except (EngineOptionError, FactsError, PresetError, BalanceError, ValueError) as error:
        console.fail(str(error))
    except (WeightError, OutputInUseError, LedgerError, StorageError) as error:
        console.fail(str(error))
    except EngineLostError as error:
        console.fail(f"{console.last_line(str(error))}; what is finished is kept, run it again")
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    print_result(summary, out, table)
    raise typer.Exit(1 if summary["failed"] else 0)


if __name__ == "__main__":
    app()
