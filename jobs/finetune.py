"""Fine-tune the captioner: `python -m jobs.finetune LABELS -o OUT --recipe lora-24gb`.

LABELS is what `jobs.labels` wrote. OUT gets a checkpoint now and then, training.json, skipped.jsonl
and, when the checkpoints have been compared on the validation split, OUT/best. The same command
goes on where it was stopped. On several GPUs: `torchrun --nproc-per-node 8 -m jobs.finetune ...`,
on a Ray cluster `--ray-workers 8`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from jobs import options

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from finetune.sft import Trained

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=options.Local)
def finetune(
    labels: Annotated[Path, typer.Argument(help="Targets, as jobs.labels writes them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    recipe: Annotated[
        str, typer.Option(help="A YAML file, or the name of one of finetune/recipes.")
    ] = "lora-24gb",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of the recipe, name=value; again for more."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print steps, memory and hours, and stop.")
    ] = False,
    gpu: Annotated[str, typer.Option(help="GPU that the dry run reckons with.")] = "h100",
    gpus: Annotated[int, typer.Option(min=1, help="How many of them.")] = 1,
    ray_workers: Annotated[
        int, typer.Option(min=0, help="Train on a Ray cluster, in so many processes.")
    ] = 0,
    engine: Annotated[
        str, typer.Option(help="Captions the validation split: vllm, transformers, or none.")
    ] = "vllm",
) -> None:
    """Train, then choose the best checkpoint.

    Exit code 0: done. 1: training had to stop, and says why. 2: a mistake in the command, the
    recipe or the targets.
    """
    # Imported here so that --help answers at once.
    from captioner.engines.checkpoint import ModelError
    from finetune.recipe import Override, RecipeError, read_recipe
    from finetune.select import SelectionError
    from finetune.targets import TargetError

    try:
        asked = read_recipe(recipe, tuple(Override.of(one) for one in changes or []))
        _check(asked)
        if dry_run:
            _print_plan(asked, labels, output, gpu, gpus)
            return
        trained = _train(asked, labels, output, ray_workers)
        if int(os.environ.get("RANK", "0")) == 0:
            _print_trained(trained, output)
            if engine != "none":
                _choose(output, labels, engine)
    except (RecipeError, TargetError, ModelError, SelectionError) as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.filename or output}: {error.strerror or error}", 2)


def _check(recipe: Recipe) -> None:
    """Refuse a model that cannot be trained before anything is decoded."""
    from captioner.engines.checkpoint import check

    check(recipe.model, recipe.context)


def _train(recipe: Recipe, labels: Path, output: Path, ray_workers: int) -> Trained:
    from finetune.sft import TrainingError, train

    try:
        if not ray_workers:
            return train(recipe, labels, output)
        if find_spec("ray") is None:
            _fail("--ray-workers needs Ray: pip install 'skycaptioner[ray]'", 2)
        from captioner.engine_config import has_gpu
        from finetune.ray_train import train_on_ray

        return train_on_ray(recipe, labels, output, ray_workers, has_gpu())
    except TrainingError as error:
        _fail(str(error), 1)


def _print_plan(recipe: Recipe, labels: Path, output: Path, gpu: str, gpus: int) -> None:
    from transformers import AutoProcessor

    from finetune.examples import Encoder
    from finetune.plan import in_words, make_plan, size_of
    from finetune.sft import read_data

    encoder = Encoder(AutoProcessor.from_pretrained(recipe.model), recipe.context)
    data = read_data(recipe, labels, output / "frames", encoder)
    lengths = [example.tokens for example in data.train]
    plan = make_plan(recipe, lengths, size_of(recipe.model), gpu, gpus)
    for line in in_words(plan, recipe, gpu, gpus):
        typer.echo(line)
    if data.skipped:
        typer.echo(f"{len(data.skipped)} targets would be left out: {data.skipped[0].reason}")


def _print_trained(trained: Trained, output: Path) -> None:
    typer.echo(
        f"{len(trained.checkpoints)} checkpoints in {output}: loss "
        f"{trained.losses[0][1]:.4f} -> {trained.losses[-1][1]:.4f} nats a token, "
        f"{trained.cpu_seconds:.0f} CPU-seconds, {trained.tokens_per_second:,.0f} tokens/s, "
        f"{trained.peak_bytes / 1e9:.1f} GB at most"
    )
    for step, loss in trained.validation:
        typer.echo(f"  step {step}: {loss:.4f} on the validation split")
    if trained.skipped:
        typer.echo(
            f"finetune: {len(trained.skipped)} targets were left out: {output / 'skipped.jsonl'}",
            err=True,
        )


def _choose(output: Path, labels: Path, engine: str) -> None:
    from finetune.select import choose, in_words

    for line in in_words(choose(output, labels, engine)):
        typer.echo(line)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"finetune: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
