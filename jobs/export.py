"""Export clips for a trainer: `python -m jobs.export SOURCE -o OUT --layout musubi`.

SOURCE is a dataset of jobs.dataset or the output folder of jobs.curate. OUT gets the clips, hard
links where the disk allows, with their captions and the trainer's configuration. What the trainer
would skip is left out, told, and listed with its reason in OUT/export.json. Run it again after a
change: only what differs is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, cast

import typer

from jobs import options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=options.Local)
def export(
    source: Annotated[Path, typer.Argument(help="A dataset, or the output folder of jobs.curate.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the export.")],
    layout: Annotated[
        str,
        typer.Option(
            help="diffusion-pipe, musubi, finetrainers, hf-folder, ltx, webdataset or openvid-csv."
        ),
    ],
    caption: Annotated[str, typer.Option(help="t2v, i2v or structured.")] = "t2v",
    uncaptioned: Annotated[
        str, typer.Option(help="Clips without that caption: skip, or empty to export them.")
    ] = "skip",
    model: Annotated[
        str | None, typer.Option(help="Model family to train, such as wan or ltx-video.")
    ] = None,
    frames: Annotated[
        list[int] | None, typer.Option(help="Length to train on; give it again for more.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Size to train on, WIDTHxHEIGHT.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the dataset; train by default.")
    ] = None,
    shard_mb: Annotated[float, typer.Option(min=0.1, help="Size of a tar.")] = 512.0,
    table: options.AsTable = None,
) -> None:
    """Export clips in the layout that a trainer reads.

    Exit code 0: the export is there, however many clips were skipped: each has its reason. 2: a
    mistake in the command, or no clip left, told in one line.
    """
    # Imported here so that --help answers at once.
    from curation.dataset import DatasetError
    from curation.layouts.clips import CaptionKind, ExportError
    from curation.layouts.export import ExportConfig, Uncaptioned
    from curation.layouts.export import export as write_export
    from curation.ledger_columns import LedgerError
    from jobs import console

    try:
        config = ExportConfig(
            layout=layout,
            caption=cast(CaptionKind, caption),
            uncaptioned=cast(Uncaptioned, uncaptioned),
            model=model,
            frames=tuple(frames or ()),
            size=size,
            split=split,
            shard_bytes=round(shard_mb * 2**20),
        )
        report, changed = write_export(source, output, config)
    except (DatasetError, ExportError, LedgerError) as error:
        console.fail(str(error))
    except OSError as error:
        console.fail_on(error, output)
    except KeyboardInterrupt:
        console.stop("stopped; the same command goes on from here")
    facts = {
        "layout": report.layout,
        "target": report.target,
        "clips": report.clips,
        "without_caption": report.without_caption,
        "skipped": len(report.skipped),
        "reasons": report.reasons,
        "files_changed": changed,
    }
    if not options.as_table(table):
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{report.layout}: {report.clips:,} clips in {output}"
        + (f", {report.without_caption:,} with an empty caption" if report.without_caption else "")
        + f"; {changed:,} files changed"
    )
    if report.skipped:
        typer.echo(f"{len(report.skipped):,} clips skipped (each is in {output / 'export.json'}):")
    for why, count in report.reasons.items():
        typer.echo(f"  {count:,}  {why}")


if __name__ == "__main__":
    app()
