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

from curation.clips import Cut
from curation.decide import funnel
from curation.estimate import Cluster, estimate, plan
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import Done, total
from curation.rows import RowConfig
from curation.sources import Source
from curation.verdict import Verdict


def summarise(
    sources: Sequence[Source],
    done: Sequence[Done],
    cut: Cut,
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
    video = sum(one.seconds for one in done)
    spent = total([*(one.cpu for one in done), {"clips": cut.cpu_seconds}])
    cpu = sum(spent.values())
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
        "clips_written": cut.clips,
        "cpu_seconds": round(cpu, 3),
        "cpu_seconds_by_stage": {name: round(value, 3) for name, value in spent.items()},
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
        parts = summary["cpu_seconds_by_stage"].items()
        shares = ", ".join(f"{name} {part / summary['cpu_seconds']:.0%}" for name, part in parts)
        typer.echo(
            f"{summary['files_done']} files done now in {summary['wall_seconds']:.1f} s, "
            f"{summary['video_hours_per_cpu_hour']:.2f} hours of video a CPU-hour: {shares}"
        )
    typer.echo(f"ledger   {out.ledger.folder}")
    typer.echo(f"clips    {out.clips}")
    typer.echo(f"report   {out.report}")


def print_plan(
    sources: Sequence[Source], config: RowConfig, hours: float, cluster: Cluster, table: bool
) -> None:
    """What `hours` of video like the sources would take on a cluster: time, cost and room."""
    facts = plan(sources, estimate(sources, config, clips=True), hours, cluster)
    if not table:
        typer.echo(json.dumps(facts))
        return
    shown = Table(title=f"{hours:g} h of video like this", title_justify="left")
    for name in ("stage", "CPU-s a second of video", "core-hours"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    for stage, rate in facts["cpu_seconds_per_video_second_by_stage"].items():
        shown.add_row(stage, f"{rate:.3f}", f"{rate * hours:,.2f}")
    shown.add_row("all", f"{facts['cpu_seconds_per_video_second']:.3f}", f"{facts['core_hours']:,}")
    Console().print(shown)
    engines = ""
    if facts["engine_hours"] is not None:
        engines = f" and {cluster.engines} engines, busy for {facts['engine_hours']:,} engine-hours"
    elif config.is_apart:
        engines = " (of the engine nothing is known before a run with it)"
    typer.echo(f"{facts['wall_hours']:,} h on {cluster.cores} cores{engines}")
    if facts["cost"] is not None:
        typer.echo(f"cost {facts['cost']:,}")
    room = f"{facts['input_gigabytes']:,} GB of input"
    if facts["clips_gigabytes"] is not None:
        room += f", {facts['clips_gigabytes']:,} GB of clips ({facts['kept']:.0%} of the video)"
    typer.echo(room)
    typer.echo(f"measured on {facts['measured_on']}")
