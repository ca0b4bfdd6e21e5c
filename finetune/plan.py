"""What a training will take, before it is begun: steps, memory and hours, estimated.

The estimates are of the usual kind: 6 floating-point operations a weight and token (Kaplan et al.,
2020, arXiv 2001.08361, section 2.1), 8 where activations are computed again, and 4 where the
weights themselves do not learn; memory is weights, gradients, AdamW's moments, and activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from finetune.recipe import Recipe, RecipeError


@dataclass(frozen=True)
class Gpu:
    """A GPU's memory in GB, and its dense bfloat16 TFLOP/s, by its maker's data sheet."""

    memory: float
    tflops: float


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        "rtx4090": Gpu(24, 165),
        "l40s": Gpu(48, 362),
        "a800": Gpu(80, 312),
        "a100": Gpu(80, 312),
        "h100": Gpu(80, 989),
        "h200": Gpu(141, 989),
    }
)

UTILISATION = 0.35
"""Share of a GPU's peak that training reaches: 0.3 to 0.5 is usual; own choice, low."""


@dataclass(frozen=True)
class Size:
    """What a model has: weights in all, and per layer of the language model."""

    weights: int
    layers: int
    hidden: int
    vocabulary: int


@dataclass(frozen=True)
class Plan:
    """`steps` of the optimizer, `tokens` an epoch, `learning` weights, `gigabytes` a GPU, `hours`
    on all of them."""

    examples: int
    steps: int
    tokens: int
    weights: int
    learning: int
    gigabytes: float
    hours: float


def size_of(model: str) -> Size:
    """Counted from the checkpoint's configuration; its weights are not loaded."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(model)
    with init_empty_weights():
        empty = AutoModelForImageTextToText.from_config(config)
    text = config.get_text_config()
    return Size(
        sum(weight.numel() for weight in empty.parameters()),
        text.num_hidden_layers,
        text.hidden_size,
        text.vocab_size,
    )


def make_plan(recipe: Recipe, lengths: Sequence[int], size: Size, gpu: str, gpus: int) -> Plan:
    """The plan for examples of `lengths` tokens. Raises RecipeError for an unknown GPU."""
    if gpu not in GPUS:
        raise RecipeError(f"GPU {gpu!r} is none of {', '.join(GPUS)}")
    learning = size.weights if recipe.method == "full" else _adapter_weights(recipe, size)
    tokens = sum(lengths)
    operations = _operations(recipe) * size.weights * tokens * recipe.epochs
    return Plan(
        examples=len(lengths),
        steps=recipe.steps(len(lengths), gpus),
        tokens=tokens,
        weights=size.weights,
        learning=learning,
        gigabytes=_bytes(recipe, size, learning, max(lengths, default=0), gpus) / 1e9,
        hours=operations / (GPUS[gpu].tflops * 1e12 * UTILISATION * gpus) / 3600,
    )


def _operations(recipe: Recipe) -> int:
    """A weight and token: 2 forward, 2 back to the activations, 2 to the weights."""
    return (6 if recipe.method == "full" else 4) + (2 if recipe.gradient_checkpointing else 0)


def _adapter_weights(recipe: Recipe, size: Size) -> int:
    """Two matrices for each target, taken as square but for the MLP's, about four times as wide."""
    wide = sum(name in ("gate_proj", "up_proj", "down_proj") for name in recipe.lora.targets)
    narrow = len(recipe.lora.targets) - wide
    return recipe.lora.rank * size.hidden * size.layers * (2 * narrow + 5 * wide)


def _bytes(recipe: Recipe, size: Size, learning: int, longest: int, gpus: int) -> float:
    """On each GPU: 16 bytes a weight that learns (itself, its gradient, two moments, float32), what
    the others take, and activations."""
    frozen = {"full": 0.0, "lora": 2.0, "qlora": 0.55}[recipe.method]
    if recipe.dtype == "float32" and recipe.method == "lora":
        frozen = 4.0
    weights = frozen * size.weights + 16 * learning
    if recipe.fsdp:
        weights /= gpus
    number = 2 if recipe.dtype == "bfloat16" else 4
    # Without checkpointing a layer keeps about 34 numbers of 2 bytes a token and hidden unit
    # (Korthikanti et al., 2022, arXiv 2205.05198, section 4), with it only its input.
    kept = 1 if recipe.gradient_checkpointing else 17
    tokens = longest * recipe.micro_batch
    return weights + tokens * size.hidden * number * (kept * size.layers + 34)


def in_words(plan: Plan, recipe: Recipe, gpu: str, gpus: int) -> list[str]:
    """The plan, a line each."""
    has: Any = GPUS[gpu]
    fits = "fits" if plan.gigabytes < 0.95 * has.memory else "does NOT fit"
    share = 100 * plan.learning / plan.weights
    return [
        f"{plan.examples} examples, {plan.tokens:,} tokens an epoch, {recipe.epochs:g} epochs",
        f"{plan.steps} steps of {recipe.global_batch} examples on {gpus} x {gpu}",
        f"{plan.weights:,} weights, of which {plan.learning:,} learn ({share:.2g} %)",
        f"about {plan.gigabytes:.1f} GB a GPU, which {fits} into {has.memory:g} GB",
        f"about {plan.hours:.2g} hours at {100 * UTILISATION:.0f} % of {has.tflops:g} TFLOP/s",
    ]
