"""A recipe: what is trained, on what terms. A YAML file of `finetune/recipes`, or one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from captioner.engines.checkpoint import MIN_CONTEXT

RECIPES = Path(__file__).parent / "recipes"

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RecipeError(ValueError):
    """A recipe that cannot be trained, in one line."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Model):
    """Low-rank adapters (PEFT's LoraConfig): `rank`, `alpha`, `dropout`, and the linear layers of
    the language model that get one, by the ends of their names."""

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Share = 0.0
    targets: tuple[str, ...] = (
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )


class Recipe(_Model):
    """What is trained, on what terms.

    model: a checkpoint's folder or its name on the model hub.
    method: `full`, `lora`, or `qlora` (adapters on 4-bit weights, on a GPU).
    policy: of `captioner.policies`, the frames that inference will show.
    freeze_vision: the vision tower stays as it is; its merger, and the language model, learn.
    context: the most tokens of an example; a longer one is left out, and counted.
    global_batch: clips a step, over all processes. micro_batch: clips that a process takes at once.
    learning_rate, weight_decay, betas, max_grad_norm: AdamW's. warmup: share of the steps.
    save_every, validate_every: steps; 0: at the end of each epoch.
    keep: checkpoints kept at most, the latest; 0: all.
    dtype: of the weights while they learn, and of what is saved.
    fsdp: shard weights over the GPUs (PyTorch's fully sharded data parallel).
    """

    model: str
    method: Literal["full", "lora", "qlora"] = "full"
    lora: Lora = Lora()
    policy: Literal["native", "reference"] = "native"
    freeze_vision: bool = False
    context: Annotated[int, Field(ge=MIN_CONTEXT)] = 8192
    epochs: Positive = 2.0
    global_batch: Count = 512
    micro_batch: Count = 1
    learning_rate: Positive = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Share, Share] = (0.9, 0.999)
    max_grad_norm: Positive = 1.0
    warmup: Share = 0.03
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    gradient_checkpointing: bool = True
    group_by_length: bool = True
    fsdp: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    save_every: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(ge=0)] = 0
    keep: Annotated[int, Field(ge=0)] = 0
    log_every: Count = 10
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    workers: Annotated[int, Field(ge=0)] = 2

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"a global batch of {self.global_batch} is no multiple of the micro-batch of "
                f"{self.micro_batch}"
            )
        return self

    def accumulation(self, processes: int) -> int:
        """Micro-batches that a process adds up for one step. Raises RecipeError."""
        at_once = self.micro_batch * processes
        if self.global_batch % at_once:
            raise RecipeError(
                f"a global batch of {self.global_batch} cannot be divided among {processes} "
                f"processes of {self.micro_batch} clips: change global_batch or micro_batch"
            )
        return self.global_batch // at_once

    def steps(self, examples: int, processes: int = 1) -> int:
        """Steps of the optimizer in all epochs."""
        batches = math.ceil(examples / (self.micro_batch * processes))
        return max(1, math.ceil(self.epochs * math.ceil(batches / self.accumulation(processes))))


@dataclass(frozen=True)
class Override:
    """`name=value` of a command line."""

    name: str
    value: object

    @staticmethod
    def of(text: str) -> Override:
        """Read as YAML reads a value. Raises RecipeError."""
        name, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text} is not name=value")
        return Override(name, yaml.safe_load(value))


def read_recipe(name: str | Path, overrides: tuple[Override, ...] = ()) -> Recipe:
    """A recipe by the name of a file here, such as `lora-24gb`, or by path. Raises RecipeError."""
    path = Path(name)
    if not path.is_file():
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in RECIPES.glob("*.yaml")))
        raise RecipeError(f"there is no recipe {name}: give a YAML file, or one of {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path} has no fields: see {RECIPES / 'lora-24gb.yaml'}")
    for one in overrides:
        outer, dot, inner = one.name.partition(".")
        if dot:
            values[outer] = {**(values.get(outer) or {}), inner: one.value}
        else:
            values[outer] = one.value
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
