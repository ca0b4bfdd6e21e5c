"""Publish a dataset: `python -m jobs.dataset CURATED -o DATASET`.

Adds the kept clips of a curation (the output folder of jobs.curate) to a Parquet dataset, or begins
it. Run it again after more has been curated: what is there is not written again. --compact merges
the small shards that this leaves behind.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from jobs import options

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SHOWN = 20
"""Refused clips that are told one by one; the rest is counted."""


@app.command(cls=options.Local)
def dataset(
    curated: Annotated[
        Path | None, typer.Argument(help="The output folder of jobs.curate.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the dataset.")] = ...,  # type: ignore[assignment]
    layout: Annotated[
        str, typer.Option(help="Video in the rows, beside them, or only as a range of its source.")
    ] = "embedded",
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="A split and its share, as train=0.98; all clips of a source are in one."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the split of each source.")] = 0,
    shard_mb: Annotated[float, typer.Option(min=0.1, help="Size of a shard.")] = 512.0,
    row_group_mb: Annotated[
        float, typer.Option(min=0.01, help="Video that is read to get at one clip.")
    ] = 4.0,
    compact: Annotated[
        bool, typer.Option("--compact", help="Merge small shards; alone, adds nothing.")
    ] = False,
    table: options.AsTable = None,
) -> None:
    """Publish kept clips as a Parquet dataset, or add them to one.

    Exit code 0: every kept clip is in the dataset as it was curated. 1: some are not, and each is
    told with its reason. 2: a mistake in the command, told in one line; nothing was changed.
    """
    # Imported here so that --help answers at once.
    from curation.dataset import DatasetConfig, DatasetError, Published, publish, read_manifest
    from curation.dataset import compact as compact_shards

    if curated is None and not compact:
        _fail("give the output folder of jobs.curate, or --compact")
    try:
        config = DatasetConfig(
            layout=layout,  # type: ignore[arg-type]
            splits=_splits(split or []),
            seed=seed,
            shard_bytes=round(shard_mb * 2**20),
            row_group_bytes=round(row_group_mb * 2**20),
        )
        done = publish(curated, output, config) if curated is not None else Published()
        fewer = compact_shards(output, config) if compact else 0
        manifest = read_manifest(output)
    except DatasetError as error:
        _fail(str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        _fail(f"{error.filename or output}: {reason}; mend that and run it again")
    for clip, reason in done.refused[:_SHOWN]:
        typer.echo(f"dataset: clip {clip} is not in it: {reason}", err=True)
    if len(done.refused) > _SHOWN:
        typer.echo(f"dataset: and {len(done.refused) - _SHOWN:,} more", err=True)
    if done.changed:
        typer.echo(
            f"dataset: {len(done.changed):,} clips ({done.changed[0]}, ...) have another caption "
            "or configuration now and stay as they are: publish into a new folder to have them",
            err=True,
        )
    known = manifest.statistics
    if options.as_table(table):
        typer.echo(
            f"{done.added:,} clips added, {done.present:,} there already, "
            f"{len(done.changed):,} changed, {len(done.refused):,} refused"
            + (f"; {fewer} shards fewer" if compact else "")
        )
        typer.echo(
            f"{output}: {known.clips:,} clips, {known.seconds / 3600:.3f} h, "
            f"{known.video_bytes / 1e6:,.1f} MB of video, {len(manifest.shards)} shards"
        )
    else:
        typer.echo(
            json.dumps(
                {
                    **asdict(done),
                    "shards_fewer": fewer,
                    "shards": len(manifest.shards),
                    "revision": manifest.revision,
                    "statistics": known.model_dump(),
                }
            )
        )
    raise typer.Exit(1 if done.refused or done.changed else 0)


def _splits(options: list[str]) -> dict[str, float]:
    """Shares by name; all in `train` where nothing is said. Fails for what is no share."""
    splits: dict[str, float] = {}
    for option in options:
        name, _, share = option.partition("=")
        try:
            splits[name] = float(share)
        except ValueError:
            _fail(f"--split is a name and a share, as train=0.98, not {option!r}")
    return splits or {"train": 1.0}


def _fail(message: str) -> NoReturn:
    """A user's mistake: one line that says what to do, exit code 2."""
    typer.echo(f"dataset: {message}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
