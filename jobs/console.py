"""What a person sees while a job runs: progress, a table, one clear line for a mistake."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from captioner.engine_config import AS_ASKED
from captioner.schema import FIELDS, ShotCaption
from captioner.weights import fetch, missing
from curation.captioning import Captioning
from curation.engine_metrics import Gauge
from curation.estimate import estimate
from curation.export import write_sidecar
from curation.inputs import (
    AT_ONCE,
    Videos,
    digests_here,
    find_inputs,
    have_room,
    sources_of,
)
from curation.inputs import fetch as fetch_videos
from curation.inputs_ray import digests_on_ray
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import Done
from curation.rows import RowConfig
from curation.sources import Source, printable
from curation.storage import StorageError, is_remote


def fail(message: str) -> NoReturn:
    """A user's mistake: one line that says what to do, exit code 2."""
    typer.echo(f"{_job()}: {one_line(message)}", err=True)
    raise typer.Exit(2)


def fail_on(error: OSError, where: object) -> NoReturn:
    """What cannot be read or written: its name, or `where`, and why."""
    reason = error.strerror or str(error)
    fail(f"{error.filename or where}: {reason}; mend that and run it again to go on")


def warn(message: str) -> None:
    """What a user may want to change; the run goes on."""
    typer.echo(f"{_job()}: {one_line(message)}", err=True)


def stop(message: str) -> NoReturn:
    """Ctrl-C: say so and leave at once; workers follow their parent."""
    typer.echo(f"\n{_job()}: {message}", err=True)
    sys.stderr.flush()
    os._exit(130)


def _job() -> str:
    """The name of the job that runs."""
    return Path(sys.argv[0]).stem


def find(places: Sequence[str], out: Output, limit: int | None = None) -> Videos:
    """The videos at the places, the first ones only. Fails when there is none."""
    try:
        videos = dict(islice(find_inputs(places, out.folder).items(), limit))
    except FileNotFoundError as error:
        fail(f"there is no {printable(error.args[0])}")
    except StorageError as error:
        fail(str(error))
    if not videos:
        fail(
            "no video in "
            + ", ".join(place if is_remote(place) else printable(Path(place)) for place in places)
            + " (folders are searched for the usual video suffixes; name other files one by one)"
        )
    return videos


def sources(videos: Videos, out: Output, ray: bool, workers: int) -> list[Source]:
    """What the videos are; remote ones are fetched where there is room and no cluster."""
    if not ray and have_room(videos, out.folder):
        fetch_videos(videos)
    read = partial(digests_on_ray, workers=AT_ONCE * workers) if ray else digests_here
    digests = partial(counted, read, "remote videos read")
    return sources_of(videos, out.hashes, out.remote_inputs, digests)


def fetch_weights(config: RowConfig) -> None:
    """Fetch what the engine needs before the workers start, with pip's own progress bar."""
    experts = config.captioning is not None and config.captioning.needs_experts
    if (config.measures or experts) and (wanted := missing()):
        megabytes = sum(weight.size for weight in wanted) / 1e6
        typer.echo(f"fetching {len(wanted)} model files, {megabytes:.0f} MB, once", err=True)
        fetch(wanted, quiet=not sys.stderr.isatty())


def write_sidecars(
    sources: Sequence[Source], rows: Sequence[Row], kinds: Sequence[str], overwrite: bool
) -> None:
    """Write the sidecars that were asked for; say which could not be."""
    for kind in kinds:
        for source in sources:
            own = [row for row in rows if row.source == source.label(source.path)]
            for wrong in write_sidecar(source, own, kind, overwrite):
                warn(wrong)


def print_estimate(
    sources: Sequence[Source],
    todo: Sequence[Source],
    config: RowConfig,
    workers: int,
    segment: float,
    table: bool,
) -> None:
    """What would be done, and how long it would take."""
    known = estimate(todo, config)
    wall = known.wall_seconds(workers, segment)
    facts = {
        "files": len(sources),
        "finished": len(sources) - len(todo),
        "to_do": len(todo),
        "unreadable": known.unreadable,
        "video_seconds": round(known.video_seconds, 1),
        "cpu_seconds_per_video_second": round(known.rates.workers, 3),
        "engine_seconds_per_video_second": known.rates.engine,
        "rate_measured_on": known.measured_on,
        "workers": workers,
        "estimated_seconds": round(wall, 1),
    }
    if not table:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{len(sources)} files, {facts['finished']} finished, {len(todo)} to do: "
        f"{known.video_seconds:.0f} s of video"
        + (f", and {known.unreadable} that cannot be read" if known.unreadable else "")
    )
    typer.echo(
        f"about {wall:.0f} s with {workers} workers, at {known.rates.workers:.2f} CPU-seconds "
        f"a second of video (measured on {known.measured_on})"
    )


def say_engine(captioning: Captioning) -> None:
    """Which engine captions, where the user left the choice."""
    if captioning.why != AS_ASKED:
        typer.echo(f"{_job()}: engine {captioning.config.name}: {captioning.why}", err=True)


MINUTE = 60.0
"""Seconds between two lines about the engine where nobody looks at a progress bar."""


def track(
    done: Iterable[Done],
    todo: Sequence[Source],
    gauge: Callable[[], Gauge | None] = lambda: None,
) -> Iterator[Done]:
    """Pass the finished sources on, with a progress bar when someone is looking, else with a line
    about the engine each minute; `gauge` tells what the engine did so far."""
    if not sys.stderr.isatty():
        said = time.monotonic()
        for one in done:
            _tell_errors(one)
            if time.monotonic() - said > MINUTE and (now := gauge()):
                typer.echo(f"{_job()}: {now.line()}", err=True)
                said = time.monotonic()
            yield one
        return
    started, clips, seconds = time.monotonic(), 0, 0.0
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[files]}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        _EngineColumn(gauge),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # Bytes tell better than files how much is left, and cost nothing to know.
        bar = progress.add_task(
            "", total=sum(s.bytes + 1 for s in todo), files=f"0/{len(todo)} files", rate=""
        )
        for n, one in enumerate(done, 1):
            clips, seconds = clips + one.clips, seconds + one.seconds
            rate = seconds / max(1e-9, time.monotonic() - started)
            progress.update(
                bar,
                advance=one.source.bytes + 1,
                files=f"{n}/{len(todo)} files, {clips} shots",
                rate=f"{rate:.1f} s of video a second",
            )
            _tell_errors(one)
            yield one


T = TypeVar("T")
R = TypeVar("R")


def counted(
    work: Callable[[Sequence[T]], Iterable[tuple[T, R]]], name: str, items: Sequence[T]
) -> Iterator[tuple[T, R]]:
    """Pass on what `work` makes of the items, with a progress bar when someone is looking."""
    hidden = not (items and sys.stderr.isatty())
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress:
        yield from progress.track(work(items), len(items), description=name)


class _EngineColumn(ProgressColumn):
    """What the engine does at the moment."""

    max_refresh = 0.5

    def __init__(self, gauge: Callable[[], Gauge | None]) -> None:
        super().__init__()
        self._gauge = gauge

    def render(self, task: Task) -> Text:
        now = self._gauge()
        return Text(now.line() if now else "")


def _tell_errors(done: Done) -> None:
    for error in done.errors:
        name = done.source.label(done.source.path)
        typer.echo(one_line(f"{name}: {last_line(error)}"), err=True)


def one_line(text: str) -> str:
    """A text as a terminal can show it: names of files may hold line ends and its own commands."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def last_line(error: str) -> str:
    """The line of an error or a traceback that says what happened."""
    return error.strip().splitlines()[-1] if error.strip() else "no reason given"


def print_result(summary: dict[str, Any], rows: Sequence[Row], out: Output, table: bool) -> None:
    """The end of a run: a table for a person, or one JSON line for a program."""
    if not table:
        typer.echo(json.dumps(summary))
        return
    _print_fields([row for row in rows if row.caption])
    typer.echo(
        f"{summary['files']} files, {summary['shots']} shots, {summary['failed']} files failed; "
        f"{summary['files_done']} files done now in {summary['wall_seconds']:.1f} s"
        + (f", {summary['copies']} byte-identical copies" if summary["copies"] else "")
    )
    if engine := summary["engine"].get("clips"):
        facts = summary["engine"]
        typer.echo(
            f"engine {facts['name']}: {engine} clips, {facts['clips_per_second']:.2f} clips/s, "
            f"{facts['tokens_per_second']:.0f} tokens/s, waiting {facts['wait_share']:.0%}; "
            + ", ".join(f"{n} {status}" for status, n in facts["statuses"].items())
        )
    typer.echo(f"ledger   {out.ledger.folder}")
    typer.echo(f"captions {out.folder / 'captions.jsonl'}")
    typer.echo(f"report   {out.report}")


def _print_fields(rows: Sequence[Row]) -> None:
    """How often each field was filled, with what, and by what."""
    captions = [(row, row.caption) for row in rows if row.caption]
    table = Table()
    for column in ("field", "filled", "most frequent", "seen by"):
        table.add_column(column, overflow="fold")
    for field in FIELDS:
        values = [value for _, caption in captions for value in field_values(caption, field)]
        seen = Counter(
            source["source"]
            for row, _ in captions
            if (source := (row.model_dump(include={"caption_sources"})["caption_sources"])[field])
        )
        filled = [value for value in values if value]
        share = f"{100 * len(filled) / len(values):.0f} %" if values else "-"
        often = ", ".join(f"{_short(v)} {n}" for v, n in Counter(filled).most_common(3))
        table.add_row(field, share, often, ", ".join(seen))
    Console().print(table)


def field_values(caption: ShotCaption, field: str) -> list[str]:
    """The values of one of the 13 fields, one a subject where it is a subject's field."""
    if field in ShotCaption.model_fields:
        return [str(getattr(caption, field))]
    if field.startswith("TYPES_"):
        return [getattr(s.types, field.removeprefix("TYPES_")) for s in caption.subjects]
    return [str(getattr(s, field) or "") for s in caption.subjects]


def _short(text: str) -> str:
    return text if len(text) <= 28 else text[:27] + "…"
