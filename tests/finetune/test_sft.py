"""Training with the real trainer on a tiny model: what is graded, resumed, spread and refused."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from captioner.engines.checkpoint import INTERFACE, ModelError
from finetune.recipe import Override, Recipe, RecipeError, read_recipe
from finetune.sft import TrainingError, checkpoints, last_whole, train
from finetune.targets import read_targets, write_targets
from tests.finetune.conftest import few

STEPS = 6


def recipe(model: Path, *changes: str) -> Recipe:
    given = (f"model={model}", "epochs=3", "global_batch=9", "micro_batch=9", "log_every=1")
    return read_recipe("tiny-cpu", tuple(map(Override.of, (*given, "warmup=0", *changes))))


@pytest.fixture(scope="module")
def whole_run(tiny_model: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six steps without a break, in one process; a checkpoint at every second step."""
    return train(recipe(tiny_model, "save_every=2"), labels, tmp_path_factory.mktemp("whole"))


def test_the_loss_falls_from_that_of_a_guess(whole_run: Any) -> None:
    steps, losses = zip(*whole_run.losses)
    assert steps == (1, 2, 3, 4, 5, 6)
    assert losses[0] == pytest.approx(math.log(2304), abs=0.3)  # tokens of the tiny vocabulary
    assert losses[-1] < losses[0] - 0.5
    assert whole_run.skipped == ()
    assert whole_run.tokens_per_second > 0


def test_a_checkpoint_is_a_model_that_says_what_it_was_trained_with(whole_run: Any) -> None:
    from captioner.engine_config import EngineConfig

    last = whole_run.checkpoints[-1]
    assert [path.name for path in whole_run.checkpoints] == [f"checkpoint-{n}" for n in (2, 4, 6)]
    EngineConfig("transformers", model=str(last)).build()
    with pytest.raises(ModelError, match="frames of policy native, not reference"):
        EngineConfig("transformers", model=str(last), policy="reference").build()


@pytest.mark.parametrize("name", ["prompt", "schema"])
def test_another_prompt_or_schema_is_refused_by_name(
    whole_run: Any, name: str, tmp_path: Path
) -> None:
    from captioner.engine_config import EngineConfig

    model = shutil.copytree(whole_run.checkpoints[-1], tmp_path / "model")
    told = json.loads((model / INTERFACE).read_text())
    (model / INTERFACE).write_text(json.dumps({**told, name: "0" * 64}))
    with pytest.raises(ModelError, match=f"trained with another {name}"):
        EngineConfig("transformers", model=str(model)).build()


RUN = """
import sys
from pathlib import Path
from finetune.recipe import Recipe
from finetune.sft import train
train(Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_and_resumed_it_has_the_losses_of_an_unbroken_run(
    method: str, whole_run: Any, tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    asked = recipe(tiny_model, "save_every=2", f"method={method}")
    if method != "full":
        whole_run = train(asked, labels, tmp_path.with_name("unbroken"))
    command = [sys.executable, "-c", RUN, asked.model_dump_json(), str(labels), str(tmp_path)]
    process = subprocess.Popen(command)
    while not checkpoints(tmp_path) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = last_whole(tmp_path)
    assert begun is not None
    # What a kill in the middle of a save leaves behind.
    shutil.copytree(begun, tmp_path / "checkpoint-5", ignore=lambda *_: ["whole.json"])

    resumed = train(asked, labels, tmp_path)

    assert dict(resumed.losses)[STEPS] == dict(whole_run.losses)[STEPS]
    assert resumed.losses == whole_run.losses
    assert last_whole(tmp_path) == tmp_path / "checkpoint-6"


def test_two_processes_have_the_losses_of_one(
    tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    asked = recipe(tiny_model, "save_every=100", "global_batch=6", "micro_batch=3")
    # Whole batches: what one process leaves short, several fill up with clips of the beginning.
    labels = few(labels, 12, tmp_path / "few")
    alone = train(asked, labels, tmp_path / "alone")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), asked.model_dump_json(), str(labels), str(tmp_path / "two")]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=240)

    told = json.loads((tmp_path / "two" / "training.json").read_text())

    assert len(told["losses"]) == len(alone.losses)
    for (step, loss), (same_step, same_loss) in zip(alone.losses, told["losses"]):
        assert (step, loss) == (same_step, pytest.approx(same_loss, abs=2e-4))


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(
    tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    asked = recipe(tiny_model, "learning_rate=1e30", "save_every=1", "schedule=constant")
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+.*checkpoint-1"):
        train(asked, labels, tmp_path)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-1"


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""


def test_a_full_disk_leaves_no_half_checkpoint(
    whole_run: Any, tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    asked = recipe(tiny_model, "save_every=2")
    shutil.copytree(whole_run.checkpoints[0].parent / "frames", tmp_path / "frames")
    command = [
        sys.executable,
        "-c",
        FULL + RUN,
        asked.model_dump_json(),
        str(labels),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "TrainingError: checkpoint checkpoint-2 cannot be written" in done.stderr
    assert "make room; there is no checkpoint yet" in done.stderr
    assert not list(tmp_path.glob("checkpoint-*"))


def test_targets_that_cannot_be_trained_on_are_named_and_left_out(
    tiny_model: Path, labels: Path, tmp_path: Path
) -> None:
    targets = read_targets(labels, "train")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    environment = "so many words of all kinds " * 50
    long = targets[1].caption.model_copy(update={"environment": environment})
    changed = [
        targets[0].model_copy(update={"video": str(bad)}),
        targets[1].model_copy(
            update={
                "caption": long,
                "sources": {**targets[1].sources, "environment": targets[1].sources["shot_type"]},
            }
        ),
        *targets[2:],
    ]
    write_targets(tmp_path / "labels", changed)
    asked = recipe(tiny_model, "epochs=0.1", "context=4096")
    asked = asked.model_copy(update={"context": 1100})

    trained = train(asked, tmp_path / "labels", tmp_path / "out")

    reasons = {one.clip_id: one.reason for one in trained.skipped}
    assert set(reasons) == {targets[0].clip_id, targets[1].clip_id}
    assert "tokens do not fit into a context of 1100" in reasons[targets[1].clip_id]
    lines = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert {json.loads(line)["clip_id"] for line in lines} == set(reasons)


def test_a_begun_folder_goes_on_only_with_its_own_recipe(
    whole_run: Any, tiny_model: Path, labels: Path
) -> None:
    out = whole_run.checkpoints[0].parent
    with pytest.raises(RecipeError, match="begun with another learning_rate"):
        train(recipe(tiny_model, "save_every=2", "learning_rate=0.1"), labels, out)


def test_adapters_alone_learn(tiny_model: Path, labels: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    trained = train(recipe(tiny_model, "method=lora", "epochs=1"), labels, tmp_path)
    with safe_open(trained.checkpoints[-1] / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert names
    assert all("language_model" in name and "lora_" in name for name in names)
    assert trained.losses[-1][1] < trained.losses[0][1]
