"""Decide anew over a finished ledger: `python -m jobs.decide OUT --preset 360p`.

Applies a preset to the measures in OUT/ledger, without the videos: rules, crop, the best of each
group of near-duplicates, balance. Writes what it decides into the ledger, and prints what each rule
drops and what changed, in OUT/report.html too for ledgers of up to `REPORTED` rows. `python -m
jobs.curate` with the same preset then writes the clips. `--from-loop` takes what `jobs.loop` found
that a trained model misses, and balances by that.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobs import options

if TYPE_CHECKING:
    from curation.balance import Balance
    from curation.decide import RuleCount

REPORTED = 10_000
"""Rows of the largest ledger whose report is written anew: it reads all of every row."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def decide(
    ledger: Annotated[
        str, typer.Argument(help="The output of a run, a folder or URI, or the ledger in it.")
    ],
    preset: Annotated[
        str, typer.Option(help="256p, 360p, 540p, 720p-sft, or a YAML file like theirs.")
    ],
    from_loop: Annotated[
        Path | None,
        typer.Option(help="loop_weights.json of jobs.loop: more of what the model misses."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; write nothing.")
    ] = False,
    table: options.AsTable = None,
) -> None:
    """Apply a preset's rules to a finished ledger, without the videos.

    Exit code 0: decided, even where nothing is kept. 2: a mistake in the command or the preset,
    told in one line; nothing was changed.
    """
    # Imported here so that --help answers at once.
    import pyarrow.compute as pc

    from curation.balance import BalanceError
    from curation.curation_report import write_curation_report
    from curation.decide import funnel, moved
    from curation.ledger_columns import (
        LedgerError,
        ledger_schema,
        read_columns,
        with_named,
        write_columns,
    )
    from curation.loop_weights import LoopWeightsError, read_weights, with_loop
    from curation.output import Output, OutputInUseError
    from curation.preset import PresetError, load_preset
    from curation.storage import Mirror, StorageError
    from curation.verdict import columns_to_read, judge

    started = time.monotonic()
    mirror = Mirror(_output(ledger))
    out = Output(mirror.folder)
    remote = mirror.uri is not None
    try:
        if not remote and not out.ledger.parts():
            _fail(f"there is no ledger in {ledger}")
        # What is pulled takes the place of what a run that goes on here has not stored yet.
        with out.locked() if remote or not dry_run else contextlib.nullcontext():
            mirror.pull()
            paths = out.ledger.parts()
            if not paths:
                _fail(f"there is no ledger in {ledger}")
            schema = ledger_schema(paths)
            try:
                chosen = load_preset(preset, schema)
            except PresetError:
                # It may name facts or scores that rows hold: finding those takes reading them all.
                schema = with_named(schema, paths)
                chosen = load_preset(preset, schema)
            if from_loop is not None:
                chosen = with_loop(chosen, read_weights(from_loop), schema)
            before, parts = read_columns(paths, columns_to_read(chosen))
            verdict = judge(before, chosen)
            columns = verdict.columns
            rewritten = 0 if dry_run else write_columns(parts, before, columns)
            reported = len(before) <= REPORTED
            if rewritten and reported:
                write_curation_report(out.rows(), verdict, chosen, out, out.report)
            if not dry_run:
                mirror.push()
    except (BalanceError, LedgerError, LoopWeightsError, PresetError) as error:
        _fail(str(error))
    except (OutputInUseError, StorageError) as error:
        _fail(str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        _fail(f"{error.filename or ledger}: {reason}; mend that and run it again")
    decisions, counts = verdict.rules, funnel(verdict.rules)
    facts = {
        "preset": chosen.name,
        "clips": len(before),
        "errors": int(decisions.failed.sum()),
        "kept_before": pc.sum(pc.equal(before["decision"], "keep")).as_py() or 0,
        "kept": int(verdict.keep.sum()),
        "hours": round(float(decisions.seconds.sum() / 3600), 4),
        "hours_kept": round(float(decisions.seconds[verdict.keep].sum() / 3600), 4),
        **asdict(moved(before["decision"], columns["decision"])),
        "rules": [asdict(count) for count in counts],
        "steps": [asdict(step) for step in verdict.steps],
        "concepts": _concepts(verdict.balance),
        "dry_run": dry_run,
        "parts_rewritten": rewritten,
        "report_rewritten": bool(rewritten and reported),
        "wall_seconds": round(time.monotonic() - started, 3),
    }
    if options.as_table(table):
        _print_table(counts, facts)
    else:
        typer.echo(json.dumps(facts))


def _output(place: str) -> str:
    """The output that a ledger is in, or the place itself."""
    place = place.rstrip("/") or place
    return "." if place == "ledger" else place.removesuffix("/ledger")


def _concepts(balance: Balance | None) -> dict[str, dict[str, float]]:
    """Clips and shares of each concept, as far as there is a balance."""
    return {
        name: {"clips": before, "clips_after": round(after, 3), "share_after": round(share, 4)}
        for name, before, _, after, share, _ in (balance.table() if balance else [])
    }


def _print_table(counts: list[RuleCount], facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("rule", overflow="fold")
    table.add_column("keeps", overflow="fold")
    for name in ("drops alone", "drops in all", "hours"):
        table.add_column(name, justify="right")
    for count in counts:
        figures = (f"{count.alone:,}", f"{count.total:,}", f"{count.hours:,.2f}")
        table.add_row(count.rule, count.threshold, *figures)
    for step in facts["steps"]:
        table.add_row(step["name"], "", "", f"{step['clips']:,}", f"{step['hours']:,.2f}")
    Console().print(table)
    typer.echo(
        f"{facts['preset']}: {facts['kept']:,} of {facts['clips']:,} clips kept, "
        f"{facts['hours_kept']:,.2f} of {facts['hours']:,.2f} h"
        + (f"; {facts['errors']:,} rows are errors" if facts["errors"] else "")
    )
    if concepts := facts["concepts"]:
        told = (f"{name} {one['share_after']:.1%}" for name, one in concepts.items())
        typer.echo(f"shares after balancing: {', '.join(told)}")
    typer.echo(
        f"before: {facts['kept_before']:,} kept; {facts['kept_to_dropped']:,} are now dropped, "
        f"{facts['dropped_to_kept']:,} are now kept"
        + (" (nothing was written)" if facts["dry_run"] else "")
    )
    if facts["parts_rewritten"] and not facts["report_rewritten"]:
        typer.echo(f"report.html was left as it was: over {REPORTED:,} rows; jobs.curate writes it")


def _fail(message: str) -> NoReturn:
    """A user's mistake: one line that says what to do, exit code 2."""
    typer.echo(f"decide: {message}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
