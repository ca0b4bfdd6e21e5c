"""Two workers of Ray Train are one training."""

from pathlib import Path

import pytest

pytest.importorskip("trl")
pytest.importorskip("ray")

import ray

from finetune.ray_train import train_on_ray
from finetune.recipe import Override, read_recipe
from finetune.sft import train
from tests.finetune.conftest import few


def test_two_workers_have_the_losses_of_one_process(
    tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    changes = ("epochs=2", "global_batch=6", "micro_batch=3", "log_every=1", "warmup=0")
    given = (f"model={tiny_model}", *changes)
    recipe = read_recipe("tiny-cpu", tuple(map(Override.of, given)))
    labels = few(labels, 12, tmp_path / "few")  # whole batches, as in test_sft
    alone = train(recipe, labels, tmp_path / "alone")
    # Ray Train asks the dashboard whether its controller lives, and without one soon thinks not.
    ray.init(address="local", num_cpus=3, include_dashboard=True)
    try:
        spread = train_on_ray(recipe, labels, tmp_path / "ray", workers=2, gpu=False)
    finally:
        ray.shutdown()
    assert len(spread.losses) == 4
    for (step, loss), (same_step, same_loss) in zip(alone.losses, spread.losses):
        assert (step, loss) == (same_step, pytest.approx(same_loss, abs=2e-4))
    assert [path.name for path in spread.checkpoints] == ["checkpoint-2", "checkpoint-4"]
