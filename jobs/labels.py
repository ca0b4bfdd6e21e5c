"""Make fine-tuning targets: `python -m jobs.labels OUT --teacher LEDGER`.

Teacher captions, the sub-experts' fields and people's labels become one caption a clip, split by
source. Prints whose claims were taken in each field and how often the sources differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from jobs import options

if TYPE_CHECKING:
    from finetune.labels import Built

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SHOWN = 20
"""Refused clips that are told one by one; left_out.jsonl names all."""


@app.command(cls=options.Local)
def labels(
    out: Annotated[Path, typer.Argument(help="Folder to write the targets to.")],
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Captions by a model: an output of caption or jobs.curate, a dataset."),
    ] = None,
    experts: Annotated[
        Path | None, typer.Option(help="Captions by --engine experts, likewise.")
    ] = None,
    human: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled clips, .jsonl or .parquet (eval.testset)."),
    ] = None,
    confidence: Annotated[
        list[str] | None,
        typer.Option(help="What experts must be surer than: 0.5, or of a field shot_type=0.8."),
    ] = None,
    precedence: Annotated[
        list[str] | None,
        typer.Option(
            help="Who is believed: human>experts>teacher, or of a field lighting=teacher>experts. "
            "By default the paper's: the teacher, but experts in shot type, angle and position, "
            "expression and camera motion, and people above both."
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Share of the sources: train=.9 validation=.05 test=.05 by default."),
    ] = None,
    not_in: Annotated[
        list[Path] | None, typer.Option(help="Test sets whose sources are left out.")
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(help="A YAML file of curation.balance, or by=COLUMN for equal shares."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Targets at most.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the splits and the selection.")] = 0,
    max_characters: Annotated[
        int | None, typer.Option(help="Longer answers are left out; by default 8000.")
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Also clips without a teacher caption: unsaid is empty."),
    ] = False,
) -> None:
    """Make fine-tuning targets of what a teacher, the experts and people say.

    Exit code 0: written; clips that were left out are counted, and named in left_out.jsonl. 2: a
    mistake in the command or its inputs, told in one line; nothing was changed.
    """
    # Imported here so that --help answers at once.
    from finetune.labels import MAX_CHARACTERS, build, make_config
    from finetune.targets import TargetError

    try:
        config = make_config(
            teacher=teacher or [],
            experts=experts,
            human=human or [],
            not_in=not_in or [],
            confidence=confidence or [],
            precedence=precedence or [],
            splits=split or [],
            balance=balance,
            count=count,
            seed=seed,
            max_characters=MAX_CHARACTERS if max_characters is None else max_characters,
            partial=partial,
        )
        built = build(config, out)
    except TargetError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or out}: {error.strerror or error}; mend that and run it again")
    _print(built, out)


def _print(built: Built, out: Path) -> None:
    from collections import Counter

    from finetune.labels import REASONS, REFUSED
    from finetune.targets import SPLITS

    refused = [one for one in built.left_out if one.why in REFUSED]
    for one in refused[:_SHOWN]:
        typer.echo(f"labels: clip {one.clip_id} is left out: {one.detail}", err=True)
    if len(refused) > _SHOWN:
        typer.echo(f"labels: and {len(refused) - _SHOWN:,} more: see left_out.jsonl", err=True)
    typer.echo(built.disagreement.table())
    for line in built.disagreement.confusions():
        typer.echo(f"  {line}")
    for name, ties in sorted(built.ties.items()):
        typer.echo(f"{name}: {ties:,} ties between raters, which give no label")
    if built.disagreement.unplaced:
        typer.echo(f"{built.disagreement.unplaced:,} subjects fit none that was taken")
    if built.balance is not None:
        for name, before, _, after, share, target in built.balance.table():
            typer.echo(f"  {name}: {after:.0f} of {before}, {share:.3f} (wanted {target:.3f})")
    for why, number in Counter(one.why for one in built.left_out).items():
        typer.echo(f"{number:,} left out: {REASONS[why]}")
    counts = ", ".join(f"{name} {built.counts[name]:,}" for name in SPLITS)
    typer.echo(f"{out}: {sum(built.counts.values()):,} targets: {counts}")


def _fail(message: str) -> NoReturn:
    """A user's mistake: one line that says what to do, exit code 2."""
    typer.echo(f"labels: {message}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
