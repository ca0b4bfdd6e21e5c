"""`make finetune-demo`: teach a tiny Qwen2.5-VL what its clips show, from a random start.

Rendered clips of known camera moves and shot types, targets, training, the choice of a checkpoint:
the commands of a real fine-tuning on a model small enough for two CPU cores. What it learnt is
measured on the test split, before and after, and by both engines. Half an hour; the same command
goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from eval.evaluation import Evaluation
from eval.predictions import Prediction
from finetune.frames import Clips, prepare
from finetune.labels import build, make_config
from finetune.recipe import Override, Recipe, read_recipe
from finetune.select import choose, engine_config, in_words
from finetune.sft import train
from finetune.targets import SPLITS, Target, read_targets
from finetune.trial import caption, score

CLIPS = 8000
SHARES = ("train=.9", "validation=.04", "test=.06")
VOCABULARY = 8192
ASKED_BEFORE = 16
"""Clips that the random start is asked about: it writes until it is stopped."""

SHOWN = ("camera_motion", "shot_type")


def main(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("demo/finetune"),
    clips: Annotated[int, typer.Option(min=24, help="Clips to render.")] = CLIPS,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the recipe, name=value.")
    ] = None,
) -> None:
    """Train, choose, and compare before with after."""
    labels = _targets(folder, clips)
    model = _start(folder / "start")
    changes = (f"model={model}", *(change or ()))
    recipe = read_recipe("tiny-cpu", tuple(map(Override.of, changes)))
    out = folder / "model"
    trained = train(recipe, labels, out)
    (first, before), (last, after) = trained.losses[0], trained.losses[-1]
    print(f"loss {before:.4f} at step {first}, {after:.4f} at step {last}: ", end="")
    print(f"{trained.cpu_seconds:,.0f} CPU-seconds", flush=True)
    choice = choose(out, labels)
    print(*in_words(choice), sep="\n", flush=True)
    _compare(recipe, model, choice.folder, labels, out)


def _targets(folder: Path, clips: int) -> Path:
    """Render the clips and make targets of their labels, unless that is done."""
    from eval.synth_figures import render

    labels = folder / "labels"
    if not (labels / "labels.json").is_file():
        print(f"rendering {clips:,} clips of known camera motion", flush=True)
        testset = render(folder / "clips", clips, seed=1, workers=2)
        build(make_config(human=[testset], splits=list(SHARES)), labels)
    counts = {split: len(read_targets(labels, split)) for split in SPLITS}
    print("targets: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
    return labels


def _start(folder: Path) -> Path:
    """A model of random weights, unless there is one."""
    from eval import tiny

    if not (folder / "config.json").is_file():
        tiny.build(folder, VOCABULARY, to_train=True)
    return folder


def _compare(recipe: Recipe, start: Path, best: Path, labels: Path, out: Path) -> None:
    """Print what the start and the chosen model say of the test split, and both engines."""
    targets = read_targets(labels, "test")
    clips = prepare(targets, labels, out / "frames", recipe.policy)
    few = targets[:ASKED_BEFORE]
    before = _captions("vllm", recipe, start, few, clips, out / "test")
    after = _captions("vllm", recipe, best, targets, clips, out / "test")
    reference = _captions("transformers", recipe, best, targets, clips, out / "test")
    for line in _table(score(few, before), score(targets, after)):
        print(line)
    same = sum(one.caption == two.caption for one, two in zip(after, reference, strict=True))
    print(f"vllm and transformers give the same caption of {same} of {len(targets)} clips")


def _captions(
    engine: str, recipe: Recipe, model: Path, targets: Sequence[Target], clips: Clips, into: Path
) -> list[Prediction]:
    config = engine_config(recipe, engine, model)
    return caption(config, targets, clips, into / f"{model.name}.{engine}.jsonl")


def _table(before: Evaluation, after: Evaluation) -> list[str]:
    lines = [f"{'test split':<15}{'before':>14}{'always the commonest':>22}{'after':>14}"]
    for name in SHOWN:
        one, two = before.results[name], after.results[name]
        always = "" if two.baseline is None else f"{two.baseline:.3f}"
        lines.append(
            f"{name:<15}{f'{one.right} of {one.ruled}':>14}{always:>22}"
            f"{f'{two.right} of {two.ruled}':>14}"
        )
    return lines


if __name__ == "__main__":
    typer.run(main)
