"""The same training on a Ray cluster: one process a worker, with Ray Train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from finetune.sft import Trained, read_report


def train_on_ray(recipe: Recipe, labels: Path, out: Path, workers: int, gpu: bool) -> Trained:
    """`finetune.sft.train` in `workers` processes of a cluster, on one GPU each where `gpu`.

    `labels` and `out` must be the same folders on every node. Raises what a worker raised, as
    RuntimeError.
    """
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    told = {
        "recipe": recipe.model_dump(mode="json"),
        "labels": str(labels.absolute()),
        "out": str(out.absolute()),
    }
    scaling = ScalingConfig(num_workers=workers, use_gpu=gpu)
    TorchTrainer(_work, train_loop_config=told, scaling_config=scaling).fit()
    return read_report(out)


def _work(told: dict[str, Any]) -> None:
    from finetune.sft import train

    train(Recipe.model_validate(told["recipe"]), Path(told["labels"]), Path(told["out"]))
