"""Pages in the browser where people look at clips.

    python -m eval.review label   DATASET -o labels.jsonl      # make a labelled test set
    python -m eval.review verdict DATASET -o verdicts.jsonl    # is each field of the caption right?
    python -m eval.review check   OUT -o check.jsonl --phase pre-training   # accept a batch or not
    python -m eval.review export  DATASET labels.jsonl -o set.jsonl
    python -m eval.review outcome OUT check.jsonl --phase pre-training

DATASET is an output of jobs.curate or caption, or a test set (see eval.testset). Several raters
share one server, each under a name. An answer is saved as it is given, to the file after -o, and
is there again after a reload or a crash.
"""

from __future__ import annotations

import enum
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from eval.review_answers import A, Answers, AnswersError, CheckAnswer, LabelAnswer, VerdictAnswer
from eval.review_clips import ReviewClip, clips_of_ledger, clips_of_testset, kept
from eval.review_modes import LABEL_ROWS, CheckMode, LabelMode, Mode, VerdictMode, exported
from eval.review_server import ReviewServer, is_loopback
from eval.sample_check import PHASES, draw, sample_size
from eval.testset import Line, TestsetError, write_testset

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

TOKEN = "SKYCAPTIONER_REVIEW_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable of the token; without it each start makes a new one."""


class PhaseName(enum.StrEnum):
    """The paper's limits by what the batch is for."""

    pre_training = "pre-training"
    post_training = "post-training"


Dataset = Annotated[
    Path, typer.Argument(help="An output of jobs.curate or caption, or a test set.", exists=True)
]
Folder = Annotated[
    Path, typer.Argument(help="An output of jobs.curate.", exists=True, file_okay=False)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File of the answers, .jsonl.")]
Given = Annotated[Path, typer.Argument(help="File of the answers.", exists=True, dir_okay=False)]
Rater = Annotated[str, typer.Option(help="Your name; without it the page asks.")]
Host = Annotated[str, typer.Option(help="Address to listen on; beyond this machine with a token.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")]
Count = Annotated[int | None, typer.Option("--clips", min=1, help="Draw so many; else all.")]
Sample = Annotated[
    int | None, typer.Option("--clips", min=1, help="Draw so many; else the paper's share.")
]
Seed = Annotated[int, typer.Option(help="Of the draw.")]
Captions = Annotated[
    Path | None, typer.Option(help="Captions of a test set's clips: an output folder or file.")
]
PhaseOption = Annotated[PhaseName, typer.Option(help="Whose limits and share.")]


@app.command()
def label(
    dataset: Dataset,
    output: Output,
    rater: Rater = "",
    fields: Annotated[str, typer.Option(help=f"Some of {','.join(LABEL_ROWS)}.")] = ",".join(
        LABEL_ROWS
    ),
    prefill: Annotated[
        bool,
        typer.Option("--prefill/--blind", help="Start from the captions, or do not show them."),
    ] = False,
    captions: Captions = None,
    clips: Count = None,
    seed: Seed = 0,
    host: Host = "127.0.0.1",
    port: Port = 8100,
) -> None:
    """Label clips: a form derived from the schema, for one or several raters."""
    try:
        asked = _fields(fields)
        found, lines = _clips(dataset, captions, clips, seed)
        if prefill and not any(clip.caption for clip in found):
            more = "" if dataset.is_dir() else "; give --captions OUT"
            raise TestsetError([f"{dataset}: no captions to start from{more}"])
        answers = _opened(output, LabelAnswer)
        mode = LabelMode({clip.clip_id: clip for clip in found}, answers, lines, asked, prefill)
        _serve(mode, output, rater, host, port)
    except (TestsetError, AnswersError, OSError) as error:
        _fail(error)


@app.command()
def verdict(
    dataset: Dataset,
    output: Output,
    rater: Rater = "",
    captions: Captions = None,
    clips: Count = None,
    seed: Seed = 0,
    host: Host = "127.0.0.1",
    port: Port = 8100,
) -> None:
    """Rule on each field of a caption: right, wrong or cannot tell."""
    try:
        found = [clip for clip in _clips(dataset, captions, None, seed)[0] if clip.caption]
        if not found:
            more = "" if dataset.is_dir() else "; give --captions OUT"
            raise TestsetError([f"{dataset}: no captions to rule on{more}"])
        answers = _opened(output, VerdictAnswer)
        mode = VerdictMode({clip.clip_id: clip for clip in _drawn(found, clips, seed)}, answers)
        _serve(mode, output, rater, host, port)
    except (TestsetError, AnswersError, OSError) as error:
        _fail(error)


@app.command()
def check(
    dataset: Folder,
    output: Output,
    phase: PhaseOption = PhaseName.pre_training,
    rater: Rater = "",
    clips: Sample = None,
    seed: Seed = 0,
    host: Host = "127.0.0.1",
    port: Port = 8100,
) -> None:
    """Mark the bad clips in a sample of a batch, which is accepted or rejected by it."""
    try:
        mode = _check_mode(dataset, output, phase, clips, seed)
        typer.echo(mode.about)
        _serve(mode, output, rater, host, port)
    except (TestsetError, AnswersError, OSError) as error:
        _fail(error)


@app.command()
def export(
    dataset: Dataset,
    answers: Given,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .parquet file.")],
) -> None:
    """Write the labels as a test set: a line a clip and rater, with those that DATASET has."""
    try:
        found, lines = _clips(dataset, None, None, 0)
        mode = LabelMode(
            {c.clip_id: c for c in found}, Answers(answers, LabelAnswer, read_only=True), lines
        )
        written = exported(mode, output)
        write_testset(written, output)
    except (TestsetError, AnswersError, OSError) as error:
        _fail(error)
    raters = {one.rater for one in written if one.rater}
    typer.echo(f"{len({one.clip_id for one in written})} clips, {len(raters)} raters")
    for field, kappa, interval, alike, pairs in mode.standing().rows:
        typer.echo(f"  {field:<14} kappa {kappa} ({interval}), {alike} alike of {pairs} pairs")
    typer.echo(f"{output}")


@app.command()
def outcome(
    dataset: Folder,
    answers: Given,
    phase: PhaseOption = PhaseName.pre_training,
    clips: Sample = None,
    seed: Seed = 0,
) -> None:
    """Tell what becomes of a checked batch, with the options of `check`.

    Exit code 0: accepted. 1: rejected, or not everything is checked yet.
    """
    try:
        mode = _check_mode(dataset, answers, phase, clips, seed, read_only=True)
        found, table = mode.outcome(), mode.standing()
    except (TestsetError, AnswersError, OSError) as error:
        _fail(error)
    typer.echo(table.headline)
    for row in table.rows:
        typer.echo(f"  {row[0]:<16}{row[1]:>12}{row[2]:>8}{row[3]:>18}  {row[4]:<12}  {row[5]}")
    if table.note:
        typer.echo(table.note)
    if found.undecided:
        typer.echo(f"{found.undecided} drawn clips are not judged yet, or nobody could tell")
    raise typer.Exit(0 if found.accepted and not found.undecided else 1)


def _check_mode(
    folder: Path,
    answers: Path,
    phase: PhaseName,
    count: int | None,
    seed: int,
    read_only: bool = False,
) -> CheckMode:
    limits = PHASES[phase]
    batch = kept(folder)
    if not batch:
        raise TestsetError([f"{folder}: no clip is kept in it: there is nothing to check"])
    names = draw(batch, min(count or sample_size(len(batch), limits.rate), len(batch)), seed)
    found = {clip.clip_id: clip for clip in clips_of_ledger(folder, names)}
    return CheckMode(
        {name: found[name] for name in names if name in found},
        _opened(answers, CheckAnswer, read_only),
        limits,
        len(batch),
    )


def _clips(
    dataset: Path, captions: Path | None, count: int | None, seed: int
) -> tuple[list[ReviewClip], list[Line]]:
    """The clips to look at, and what a test set says of them."""
    lines: list[Line] = []
    if dataset.is_dir():
        if captions:
            raise TestsetError(["--captions is for test sets: an output has its own captions"])
        found = clips_of_ledger(dataset)
    else:
        found, lines = clips_of_testset(dataset, captions)
    if not found:
        raise TestsetError([f"{dataset}: no clip in it to look at"])
    return _drawn(found, count, seed), lines


def _drawn(clips: Sequence[ReviewClip], count: int | None, seed: int) -> list[ReviewClip]:
    if count is None:
        return list(clips)
    names = set(draw((clip.clip_id for clip in clips), count, seed))
    return [clip for clip in clips if clip.clip_id in names]


def _fields(text: str) -> list[str]:
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in LABEL_ROWS]:
        raise TestsetError([f"--fields {unknown[0]}: none of {', '.join(LABEL_ROWS)}"])
    return asked or list(LABEL_ROWS)


def _opened(path: Path, kind: type[A], read_only: bool = False) -> Answers[A]:
    answers = Answers(path, kind, read_only)
    if answers.note:
        typer.echo(answers.note, err=True)
    return answers


def _serve(mode: Mode, answers: Path, rater: str, host: str, port: int) -> None:
    """Serve until interrupted."""
    gone = [f"{clip.clip_id}: {clip.problem}" for clip in mode.clips.values() if clip.is_gone]
    for told in gone[:5]:
        typer.echo(told, err=True)
    if len(gone) > 5:
        typer.echo(f"and {len(gone) - 5} more clips without their video", err=True)
    token = None if is_loopback(host) else os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    # Answers that a browser could not yet send are kept for this file and no other.
    key = hashlib.sha256(os.fsencode(answers.resolve())).hexdigest()[:12]
    with ReviewServer(host, port, mode, key, rater, token) as server:
        typer.echo(f"{mode.name}: {len(mode.clips)} clips, answers to {answers}\n{server.url}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped")


def _fail(error: Exception) -> NoReturn:
    told = str(error)
    if isinstance(error, OSError):
        told = f"{error.filename or 'cannot listen'}: {error.strerror or error}"
    typer.echo(told, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
