"""Score captions: `python -m jobs.evaluate --testset set.jsonl --predictions OUT`.

Prints accuracy a field with its interval and baseline. With `-o` also writes report.html,
scores.json, items.parquet (every answer with its verdict) and problems.txt. The same input gives
the same bytes.
"""

from __future__ import annotations

import enum
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from jobs import options

if TYPE_CHECKING:
    from eval.drift import Drifts
    from eval.evaluation import Evaluation
    from eval.scores import Difference

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class JudgeName(enum.StrEnum):
    """Judges of free text by name; people's verdicts come with --verdicts."""

    similarity = "similarity"
    model = "model"


@app.command(cls=options.Local)
def evaluate(
    predictions: Annotated[
        Path, typer.Option(help="An output of caption or jobs.curate, or a .jsonl or .csv file.")
    ],
    testset: Annotated[
        Path | None, typer.Option(help="The labelled clips: see eval.testset.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other captions, for the difference and the drift.")
    ] = None,
    judge: Annotated[
        JudgeName, typer.Option(help="Who rules on free text.")
    ] = JudgeName.similarity,
    endpoint: Annotated[
        str | None, typer.Option(help="OpenAI-compatible URL of the judging model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the judging model there.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="The judging model's answers, kept for the next run.")
    ] = None,
    verdicts: Annotated[
        list[Path] | None, typer.Option(help="People's verdicts on these captions, .jsonl.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Floors and last release: see eval.gate.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score captions field by field, and compare them with others.

    Exit code 0: scored, and the gate passed where there is one. 1: the gate failed. 2: a mistake in
    the command, the test set or the captions, each told in a line.
    """
    # Imported here so that --help answers at once.
    from eval.agreement import between_raters
    from eval.drift import drift
    from eval.evaluation import evaluate as score
    from eval.evaluation import problem_lines, write_evaluation
    from eval.frames import Strips
    from eval.gate import GateError, failures, read_gate
    from eval.judge import JudgeError, make_judge, read_verdicts
    from eval.predictions import pair, read_predictions
    from eval.report import Page, write_report
    from eval.scores import differences
    from eval.testset import TestsetError, changed_files, read_testset, truths

    # Millions of small values that live to the end, none in a cycle: looking for garbage among them
    # takes a third of the time.
    gc.disable()
    if testset is None and against is None:
        _fail("give --testset to score, or --against to compare two sets of captions")
    if testset is None and (gate or verdicts or output):
        _fail("--gate, --verdicts and --output need a --testset")
    try:
        asked = read_gate(gate) if gate else None
        captions = read_predictions(predictions)
        others = read_predictions(against) if against else []
        drifts = drift(others, captions) if against else None
        if testset is None:
            _print_drift(drifts)
            return
        lines = read_testset(testset)
        changed, gone = changed_files(lines)
        if changed:
            raise TestsetError(changed)
        clips = truths(lines)
        paired = pair(clips, captions)
        people = read_verdicts(verdicts or [])
        chosen = make_judge(judge, endpoint, model, cache)
        found = score(clips, paired, chosen, people)
        other = score(clips, pair(clips, others), chosen) if against else None
        compared = differences(other.items, found.items, seed) if other else {}
        failed = failures(asked, found, seed) if asked else None
        if output:
            write_evaluation(found, [*found.problems, *gone], output)
            strips = Strips(clips, paired, predictions)
            raters = between_raters(lines) | people.between()
            page = Page(testset.name, found, strips.jpeg, raters, compared, drifts, failed)
            write_report(page, output / "report.html")
    except (TestsetError, GateError, JudgeError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or predictions}: {error.strerror or error}")
    _print_fields(found)
    _print_differences(compared)
    _print_drift(drifts)
    for line in problem_lines(found.problems):
        typer.echo(f"evaluate: {line}", err=True)
    if gone:
        typer.echo(f"evaluate: {len(gone)} video files are not there, so unchecked", err=True)
    for line in failed or []:
        typer.echo(f"gate: {line}")
    raise typer.Exit(1 if failed else 0)


def _print_fields(found: Evaluation) -> None:
    from eval.report import PAPER, PAPER_MODELS, SOURCE, about
    from eval.scores import AVERAGE

    columns = (
        f"{'field':<16}{'accuracy':>9}{'95 %':>15}{'right':>8}{'asked':>8}{'answered':>9}"
        f"{'baseline':>9}{PAPER_MODELS[-1]:>17}"
    )
    typer.echo(columns)
    mean = f"{found.average:.3f}" if found.average is not None else "-"
    name = f"{AVERAGE} of {len(found.results)}"
    typer.echo(f"{name:<16}{mean:>9}{PAPER[AVERAGE][-1] / 100:>66.3f}")
    for name, one in found.results.items():
        low, high = one.interval
        accuracy = "-" if one.accuracy is None else f"{one.accuracy:.3f}"
        baseline = "-" if one.baseline is None else f"{one.baseline:.3f}"
        typer.echo(
            f"{name:<16}{accuracy:>9}{f'{low:.3f}-{high:.3f}':>15}{one.right:>8}{one.ruled:>8}"
            f"{one.answered:>9}{baseline:>9}{PAPER[name][-1] / 100:>17.3f}"
        )
    if found.camera:
        axes = ", ".join(
            f"{axis} {right / of:.3f}" for axis, (right, of) in found.camera.axes.items()
        )
        typer.echo(f"camera: {axes}; moves in common {found.camera.partial:.3f}")
    typer.echo(f"{about(found)}; free text judged by {found.judge}")
    typer.echo(f"{PAPER_MODELS[-1]}: {SOURCE}")
    for name, agreement in found.agreement.items():
        typer.echo(f"judge and people, {name}: {agreement.in_words}")


def _print_differences(found: dict[str, Difference]) -> None:
    for name, one in found.items():
        mark = "  significant" if one.significant else ""
        typer.echo(
            f"{name:<16}{one.first:>7.3f} ->{one.second:>7.3f}{one.value:>+8.3f} "
            f"({one.low:+.3f} to {one.high:+.3f}){mark}"
        )


def _print_drift(found: Drifts | None) -> None:
    if found is None:
        return
    typer.echo(
        f"drift: {found.fields[0].clips if found.fields else 0} clips have both captions, "
        f"{found.only_first} only the other, {found.only_second} only this one"
    )
    for one in found.fields:
        shift = "" if one.shift is None else f", shift {one.shift:.3f}"
        filled = f"filled {one.filled[0]:.3f} -> {one.filled[1]:.3f}"
        typer.echo(f"  {one.field:<16}changed {one.changed:.3f}, {filled}{shift}")


def _fail(message: str) -> NoReturn:
    """A user's mistake: what is wrong, exit code 2."""
    for line in message.splitlines():
        typer.echo(f"evaluate: {line}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
