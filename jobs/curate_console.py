"""What a person sees of a curation: the plan, and the funnel at its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from curation.decide import funnel
from curation.estimate import estimate, remember_rate
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import Done
from curation.rows import RowConfig
from curation.sources import Source, printable
from curation.verdict import Verdict


def summarise(
    sources: Sequence[Source],
    done: Sequence[Done],
    verdict: Verdict,
    config: RowConfig,
    out: Output,
    wall_seconds: float,
) -> dict[str, Any]:
    """The facts of a run: run.json, and what a program reads at its end."""
    rows = list(out.ledger.rows())
    clips = [row for row in rows if row.frames is not None]
    kept = [row for row in clips if row.decision == "keep"]
    failures = {row.source: row.error for row in rows if row.decision == "error"}
    cpu, video = sum(one.cpu_seconds for one in done), sum(one.seconds for one in done)
    remember_rate(config, video, cpu)
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": metadata.version("skycaptioner"),
        "config_hash": config.hash(),
        "files": len(sources),
        "copies": sum(len(source.copies) for source in sources),
        "clips": len(clips),
        "kept": len(kept),
        "hours": _hours(clips),
        "hours_kept": _hours(kept),
        "rules": [asdict(count) for count in funnel(verdict.rules)],
        "steps": [asdict(step) for step in verdict.steps],
        "dropped_by": dict(Counter(row.stage for row in clips if row.decision == "drop")),
        "balance": verdict.balance and verdict.balance.table(),
        "failed": len(failures),
        "failures": failures,
        "warnings": {row.source: row.warning for row in rows if row.warning},
        "files_done": len(done),
        "video_seconds_done": round(video, 3),
        "cpu_seconds": round(cpu, 3),
        "video_hours_per_cpu_hour": round(video / cpu, 3) if cpu else None,
        "wall_seconds": round(wall_seconds, 3),
    }


def _hours(rows: Sequence[Row]) -> float:
    return round(sum((row.end or 0) - (row.start or 0) for row in rows) / 3600, 5)


def print_result(summary: dict[str, Any], out: Output, table: bool) -> None:
    """The end of a run: the funnel for a person, or one JSON line for a program."""
    if not table:
        typer.echo(json.dumps(summary))
        return
    shown = Table()
    shown.add_column("rule or step", overflow="fold")
    shown.add_column("keeps", overflow="fold")
    for name in ("drops alone", "drops in all", "hours"):
        shown.add_column(name, justify="right")
    for rule in summary["rules"]:
        figures = (f"{rule['alone']:,}", f"{rule['total']:,}", f"{rule['hours']:,.3f}")
        shown.add_row(rule["rule"], rule["threshold"], *figures)
    for step in summary["steps"]:
        shown.add_row(step["name"], "", "", f"{step['clips']:,}", f"{step['hours']:,.3f}")
    Console().print(shown)
    for name, before, share, after, share_after, _ in summary["balance"] or ():
        typer.echo(f"{name}: {before} ({share:.1%}) -> {after:g} ({share_after:.1%})")
    typer.echo(
        f"{summary['files']} files, {summary['clips']} clips, {summary['hours']:.3f} h: "
        f"{summary['kept']} kept, {summary['hours_kept']:.3f} h; {summary['failed']} files failed"
    )
    if not summary["kept"]:
        typer.echo("nothing is kept: loosen the rule that drops most, or take another preset")
    if summary["cpu_seconds"]:
        typer.echo(
            f"{summary['files_done']} files done now in {summary['wall_seconds']:.1f} s, "
            f"{summary['video_hours_per_cpu_hour']:.2f} hours of video a CPU-hour"
        )
    typer.echo(f"ledger   {out.ledger.folder}")
    typer.echo(f"clips    {out.clips}")
    typer.echo(f"report   {out.report}")


def print_plan(
    sources: Sequence[Source],
    config: RowConfig,
    hours: float,
    cores: int,
    price: float | None,
    table: bool,
) -> None:
    """How long `hours` of video like the sources would take on `cores` cores, and how much room."""
    known = estimate(sources, config)
    readable = [source for source in sources if source.error is None]
    core_hours = hours * known.cpu_per_second
    gigabytes = hours * 3600 * sum(s.bytes for s in readable) / max(1e-9, known.video_seconds) / 1e9
    facts = {
        "hours": hours,
        "measured_on": known.measured_on,
        "cpu_seconds_per_video_second": round(known.cpu_per_second, 3),
        "core_hours": round(core_hours, 2),
        "wall_hours": round(core_hours / cores, 2),
        "cores": cores,
        "cost": None if price is None else round(core_hours * price, 2),
        "input_gigabytes": round(gigabytes, 1),
        "of": [printable(source.path) for source in readable[:3]],
    }
    if not table:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{hours:g} h of video like this: {facts['core_hours']:,} core-hours, "
        f"{facts['wall_hours']:,} h on {cores} cores"
        + ("" if price is None else f", {facts['cost']:,} at {price:g} a core-hour")
        + f"; about {facts['input_gigabytes']:,} GB of input, and kept clips of the same order"
    )
    typer.echo(
        f"at {known.cpu_per_second:.2f} CPU-seconds a second of video (measured on "
        f"{known.measured_on})"
    )
