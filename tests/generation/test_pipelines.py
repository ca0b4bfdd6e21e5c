"""Tiny SkyReels-V2 pipelines of the real classes: what they are told, and what comes out."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("ftfy")

import torch

from captioner.decode import read_clip
from generation import tiny
from generation.checkpoint import ModelError, find_checkpoint
from generation.config import GenerationConfig, Task, configure
from generation.frames import GenerationOptionError
from generation.ledger import opened, read_generations
from generation.model import Condition, Generated, GenerationError
from generation.pipelines import PipelineModel, load_pipeline
from generation.run import run
from tests.generation.stand_ins import SMALL, prompts

TWO_WINDOWS = {"base_frames": 9, "overlap": 5}
FIRST = np.full((32, 48, 3), (200, 40, 90), np.uint8)
[ASKED] = prompts("a cat walks along")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    tasks: tuple[Task, ...] = ("t2v", "i2v", "df")
    return {task: tiny.build(folder / task, task) for task in tasks}


def config(task: Task, forcing: dict[str, Any] | None = None, **changed: Any) -> GenerationConfig:
    return configure(task, "540p", forcing, **{**SMALL, **changed})


def loaded(checkpoints: dict[Task, Path], asked: GenerationConfig) -> PipelineModel:
    checkpoint, fitted = find_checkpoint(str(checkpoints[asked.task]), asked)
    return load_pipeline(checkpoint, fitted)


def generate(
    checkpoints: dict[Task, Path], asked: GenerationConfig, condition: Condition | None = None
) -> Generated:
    return loaded(checkpoints, asked).generate(ASKED.prompt, condition)


@contextmanager
def counted(model: PipelineModel) -> Iterator[list[int]]:
    """Latent frames of each call of the transformer."""
    calls: list[int] = []
    hook = model.pipeline.transformer.register_forward_pre_hook(
        lambda _, __, said: calls.append(said["hidden_states"].shape[2]), with_kwargs=True
    )
    yield calls
    hook.remove()


CASES: dict[str, tuple[GenerationConfig, Condition | None]] = {
    "t2v": (config("t2v"), None),
    "i2v": (config("i2v"), Condition(FIRST)),
    "df": (config("df", TWO_WINDOWS, frames=17), None),
    "df with both frames": (
        config("df", {"base_frames": 9}, first_frame=True, last_frame=True),
        Condition(FIRST, FIRST),
    ),
    "df from a frame, two windows": (
        config("df", TWO_WINDOWS, frames=13, first_frame=True),
        Condition(FIRST),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_video_of_the_size_that_was_asked_for(checkpoints: dict[Task, Path], case: str) -> None:
    asked, condition = CASES[case]
    made = generate(checkpoints, asked, condition)
    assert made.frames.shape == (asked.frames, 32, 48, 3)
    assert made.frames.std() > 5
    assert (made.fps, made.prompt) == (24, None)
    assert made.seconds > 0
    assert (made.peak_bytes or 0) > 100e6


def test_the_seed_and_the_prompt_decide(checkpoints: dict[Task, Path]) -> None:
    # With noise on given frames, which the pipeline draws from the global generator.
    asked = config("df", {**TWO_WINDOWS, "addnoise": 20}, frames=13)
    model = loaded(checkpoints, asked)
    first = model.generate(ASKED.prompt, None).frames
    other = model.generate(replace(ASKED.prompt, seed=77), None).frames
    text = model.generate(replace(ASKED.prompt, text="a dog sleeps"), None).frames
    again = model.generate(ASKED.prompt, None).frames
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, text)


def test_windows_and_blocks_reach_the_model(checkpoints: dict[Task, Path]) -> None:
    with counted(model := loaded(checkpoints, config("df", TWO_WINDOWS, frames=17))) as calls:
        model.generate(ASKED.prompt, None)
    # 5 latent frames by windows of 3 that share 2: 3 windows x 2 steps x (prompt, negative prompt).
    assert calls == [3] * 12
    lagging = config("df", {"base_frames": 13, "ar_step": 1, "causal_block": 2}, frames=13)
    with counted(model := loaded(checkpoints, lagging)) as calls:
        model.generate(ASKED.prompt, None)
    assert calls == [4] * 2 * 3, "the second of two blocks is a step behind"
    with counted(model := loaded(checkpoints, config("t2v", guidance=1.0))) as calls:
        model.generate(ASKED.prompt, None)
    assert calls == [3] * 2, "nothing to guide away from"


def test_the_first_frame_matters(checkpoints: dict[Task, Path]) -> None:
    for task in ("i2v", "df"):
        asked = config(task, {"base_frames": 9} if task == "df" else None, first_frame=True)
        one = generate(checkpoints, asked, Condition(FIRST)).frames
        two = generate(checkpoints, asked, Condition(255 - FIRST)).frames
        assert not np.array_equal(one, two)
        with pytest.raises(GenerationError, match="no first frame"):
            generate(checkpoints, asked)


def test_published_settings_reach_the_pipeline(checkpoints: dict[Task, Path]) -> None:
    model = loaded(checkpoints, config("i2v", tiling=True, dtype="bfloat16"))
    assert model.pipeline.scheduler.config.flow_shift == 5.0
    assert model.pipeline.vae.use_tiling
    assert model.pipeline.vae.dtype == torch.float32
    assert model.pipeline.transformer.dtype == torch.bfloat16
    assert model.generate(ASKED.prompt, Condition(FIRST)).frames.std() > 5


def test_a_prompt_that_is_too_long_fails_or_is_cut(checkpoints: dict[Task, Path]) -> None:
    long = replace(ASKED.prompt, text="the camera moves " * 20)
    with pytest.raises(GenerationError, match=r"has \d+ tokens, the text encoder takes 32"):
        loaded(checkpoints, config("t2v", max_tokens=32)).generate(long, None)
    made = loaded(checkpoints, config("t2v", max_tokens=32, truncate=True)).generate(long, None)
    assert made.prompt is not None
    assert long.text.startswith(made.prompt)
    assert len(made.prompt) < len(long.text) / 2


def test_a_broken_picture_or_too_little_memory_costs_one_row(
    checkpoints: dict[Task, Path], tmp_path: Path
) -> None:
    model = loaded(checkpoints, config("t2v"))
    forward, calls = model.pipeline.vae.decode, []

    def fails(latents: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            return (forward(latents, **how)[0] * float("nan"),)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 TB")
        return (forward(latents, **how)[0] * 0 - 1,) if len(calls) == 4 else forward(latents, **how)

    model.pipeline.vae.decode = fails
    with opened(tmp_path) as ledger:
        list(run(prompts("a", "b", "c", "d", "e"), model, config("t2v"), ledger))
    nan, gpu, main, black, fine = read_generations(tmp_path)
    assert "9 of 9 frames are no numbers (NaN)" in (nan.error or "")
    assert (gpu.error or "").startswith("out of memory (CUDA out of memory. Tried to allocate 20")
    assert (main.error or "").startswith("out of memory (DefaultCPUAllocator")
    assert "all 9 frames are black" in (black.error or "")
    assert fine.status == "ok"
    assert len(read_clip(tmp_path / (fine.video or "")).frames) == 9


def test_a_failure_of_the_pipeline_that_is_none_of_these_is_told_in_full(
    checkpoints: dict[Task, Path], tmp_path: Path
) -> None:
    model = loaded(checkpoints, config("i2v"))
    with opened(tmp_path) as ledger:
        list(run(prompts("a"), replace(model, config=config("t2v")), config("t2v"), ledger))
    [row] = read_generations(tmp_path)
    assert (row.error or "").startswith("Traceback")
    assert "image" in (row.error or "")


def test_the_name_changes_with_the_weights(checkpoints: dict[Task, Path], tmp_path: Path) -> None:
    names = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tiny.build(tmp_path / name / "sky", "t2v", seed)
        names.append(find_checkpoint(str(folder), config("t2v"))[0].name)
    assert names[0].startswith("sky@")
    assert names[0] == names[1], "the same seed gives the same files"
    assert names[0] != names[2]


def edited(source: Path, target: Path, file: str, **change: object) -> str:
    shutil.copytree(source, target)
    path = target / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return str(target)


def test_models_that_do_not_fit_are_refused_before_they_are_loaded(
    checkpoints: dict[Task, Path], tmp_path: Path
) -> None:
    df, t2v = checkpoints["df"], checkpoints["t2v"]
    with pytest.raises(ModelError, match="there is no folder /nowhere"):
        find_checkpoint("/nowhere", config("t2v"))
    with pytest.raises(ModelError, match=r"it has no model_index\.json"):
        find_checkpoint(str(tmp_path), config("t2v"))
    with pytest.raises(ModelError, match="is a SkyReelsV2DiffusionForcingPipeline, and task t2v"):
        find_checkpoint(str(df), config("t2v"))
    with pytest.raises(ModelError, match="takes a first frame alone"):
        find_checkpoint(str(checkpoints["i2v"]), config("i2v", last_frame=True))
    blocks = edited(df, tmp_path / "b", "transformer/config.json", num_frame_per_block=2)
    with pytest.raises(GenerationOptionError, match="no multiple of the causal block 2"):
        find_checkpoint(blocks, config("df"))
    (tmp_path / "b" / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        find_checkpoint(blocks, config("df"))
    with pytest.raises(GenerationOptionError, match="offload 'disk' is none of"):
        load_pipeline(find_checkpoint(str(t2v), config("t2v"))[0], config("t2v"), "disk")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(GenerationOptionError, match="--offload model needs a GPU"):
            load_pipeline(find_checkpoint(str(t2v), config("t2v"))[0], config("t2v"), "model")


def test_a_checkpoint_without_safe_weights_is_refused(
    checkpoints: dict[Task, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "sky"
    shutil.copytree(checkpoints["t2v"], folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    checkpoint, fitted = find_checkpoint(str(folder), config("t2v"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(checkpoint, fitted)
    weights.with_suffix(".bin").rename(weights)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(find_checkpoint(str(folder), config("t2v"))[0], fitted)
