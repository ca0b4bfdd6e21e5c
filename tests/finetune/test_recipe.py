"""Recipes are read, changed and refused by name; a step has the global batch on any machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.plan import GPUS, Size, make_plan
from finetune.recipe import RECIPES, Override, Recipe, RecipeError, read_recipe

QWEN_7B = Size(weights=8_292_166_656, layers=28, hidden=3584, vocabulary=152_064)
"""Qwen2.5-VL-7B-Instruct, by its safetensors index and config.json."""


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_here_reads(path: Path) -> None:
    assert read_recipe(path.stem) == read_recipe(path)


def test_the_paper_s_figures() -> None:
    recipe = read_recipe("skycaptioner-v1")
    assert recipe.method == "full"
    assert (recipe.learning_rate, recipe.epochs, recipe.global_batch) == (1e-5, 2, 512)
    assert recipe.accumulation(64) == 2  # 64 x 4 x 2, as the paper has it
    assert recipe.steps(2_000_000, 64) == 7814


@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4000))
def test_a_step_is_the_global_batch(micro: int, processes: int, more: int, examples: int) -> None:
    recipe = Recipe(model="m", micro_batch=micro, global_batch=micro * processes * more, epochs=1)
    accumulation = recipe.accumulation(processes)
    assert accumulation * micro * processes == recipe.global_batch
    alone = recipe.model_copy(update={"epochs": 1.0}).steps(examples)
    assert abs(recipe.steps(examples, processes) - alone) <= 1


def test_changes_on_the_command_line() -> None:
    changes = tuple(map(Override.of, ("learning_rate=3e-5", "lora.rank=64", "log_to=[]")))
    recipe = read_recipe("lora-24gb", changes)
    assert (recipe.learning_rate, recipe.lora.rank, recipe.lora.alpha) == (3e-5, 64, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["learning_rat=1"], "learning_rat"),
        (["learning_rate=-1"], "learning_rate"),
        (["epochs"], "is not name=value"),
        (["micro_batch=3"], "no multiple of the micro-batch of 3"),
        (["context=100"], "context"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as refused:
        read_recipe("lora-24gb", tuple(map(Override.of, changes)))
    assert "\n" not in str(refused.value)


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match="lora-24gb, skycaptioner-v1, tiny-cpu"):
        read_recipe("mine")


def test_the_plan_knows_what_fits() -> None:
    lengths = [2400] * 1000
    lora = make_plan(read_recipe("lora-24gb"), lengths, QWEN_7B, "rtx4090", 1)
    assert 16.6 < lora.gigabytes < 24
    assert 30e6 < lora.learning < 50e6  # 40,370,176 with the true shapes
    alone = read_recipe("skycaptioner-v1", (Override.of("fsdp=false"),))
    full = make_plan(alone, lengths, QWEN_7B, "h200", 1)
    assert full.gigabytes > GPUS["h200"].memory - 20
    spread = make_plan(read_recipe("skycaptioner-v1"), lengths, QWEN_7B, "a800", 64)
    assert spread.gigabytes < 20
    assert spread.hours * 64 == pytest.approx(
        make_plan(alone, lengths, QWEN_7B, "a800", 1).hours, rel=1e-6
    )
