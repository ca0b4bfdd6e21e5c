"""Which checkpoint of a training is the best, on the validation split, by the production engine.

The rule: the highest mean accuracy over the scored fields, each as much as any other, as in the
paper's average; of equals the earliest. How far it is from the next best is told with the 95 %
interval of a paired bootstrap. Adapters are merged into their base first, as that is what will run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.engine_config import EngineConfig, EngineOptionError
from captioner.engines.checkpoint import INTERFACE, ModelError
from curation.engine_process import EngineLostError
from curation.ledger import replacing
from eval.evaluation import Evaluation
from eval.scores import AVERAGE, Difference, differences
from finetune.card import card
from finetune.frames import Clips, prepare
from finetune.recipe import Recipe
from finetune.sft import REPORT, WHOLE, checkpoints, step_of
from finetune.targets import Target, read_targets
from finetune.trial import caption, score

BEST = "best"
CHOICE = "choice.json"

_OF_MODEL = ("*.json", "*.jinja", "*.txt", "*.safetensors", "*.model")
_OF_TRAINING = {"trainer_state.json", WHOLE}


class SelectionError(ValueError):
    """There is nothing to choose from, in one line."""


@dataclass(frozen=True)
class Trial:
    """A checkpoint on the validation split; `error` says why it has no score."""

    checkpoint: str
    model: Path | None
    evaluation: Evaluation | None
    error: str | None = None

    @property
    def accuracy(self) -> float:
        """The mean over the scored fields; -1 without a score."""
        found = self.evaluation.average if self.evaluation else None
        return -1.0 if found is None else found


@dataclass(frozen=True)
class Choice:
    """The best of the trials, its folder, and how it differs from the next best."""

    trials: tuple[Trial, ...]
    best: Trial
    folder: Path
    second: Trial | None
    difference: Difference | None


def choose(out: Path, labels: Path, engine: str = "vllm") -> Choice:
    """Compare the whole checkpoints of a training, and make the best one a model in out/best.

    Captions are kept in out/validation, so that a second call asks only for what is missing. Raises
    SelectionError, TargetError, OSError.
    """
    found = checkpoints(out)
    if not found:
        raise SelectionError(f"{out} has no whole checkpoint: train first")
    if not (out / REPORT).is_file():
        raise SelectionError(f"the training in {out} has not ended: give its command again")
    recipe = _recipe(found[0])
    targets = read_targets(labels, "validation")
    if not targets:
        raise SelectionError(f"{labels} has no validation targets: give some with --split")
    clips = prepare(targets, labels, out / "frames", recipe.policy)
    trials = tuple(_trial(path, recipe, engine, targets, clips) for path in found)
    ranked = sorted(trials, key=lambda one: -one.accuracy)  # stable: the earliest of equals
    best, second = ranked[0], next(iter(ranked[1:]), None)
    if best.evaluation is None or best.model is None:
        raise SelectionError(f"no checkpoint of {out} could caption: {best.error}")
    difference = None
    if second and second.evaluation:
        both = differences(second.evaluation.items, best.evaluation.items)
        difference = both.get(AVERAGE)
    choice = Choice(trials, best, out / BEST, second, difference)
    _publish(choice, best.model, card(recipe, _summary(choice), labels, out))
    return choice


def engine_config(recipe: Recipe, engine: str, model: Path) -> EngineConfig:
    """The production engine on a checkpoint: greedy, on the frames that it was trained on."""
    options: tuple[str, ...] = ()
    if engine == "vllm" and recipe.dtype == "float32":
        options = ("dtype=float32", "eager=true")  # a trial of the small: compiling takes longer
    return EngineConfig(
        engine, model=str(model), policy=recipe.policy, temperature=0.0, vllm=options
    )


def in_words(choice: Choice) -> list[str]:
    """A line a checkpoint, then the choice."""
    lines = [f"  {trial.checkpoint}: {_scores(trial)}" for trial in choice.trials]
    told = f"best: {choice.best.checkpoint}, now {choice.folder}"
    if choice.second and choice.difference:
        one = choice.difference
        mark = "" if one.significant else ", not significant"
        told += (
            f"; {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f}) over "
            f"{choice.second.checkpoint}{mark}"
        )
    return [*lines, told]


def _scores(trial: Trial) -> str:
    if trial.evaluation is None:
        return trial.error or "no score"
    fields = (
        f"{name} {one.accuracy:.3f} ({one.interval[0]:.3f} to {one.interval[1]:.3f})"
        for name, one in trial.evaluation.results.items()
        if one.accuracy is not None
    )
    return f"mean {trial.accuracy:.3f}: {', '.join(fields)}"


def _recipe(checkpoint: Path) -> Recipe:
    told = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    return Recipe.model_validate(told["recipe"])


def _trial(
    checkpoint: Path, recipe: Recipe, engine: str, targets: Sequence[Target], clips: Clips
) -> Trial:
    name = checkpoint.name
    try:
        model = merged(checkpoint, recipe)
        kept = checkpoint.parent / "validation" / f"{name}.{engine.replace(':', '.')}.jsonl"
        said = caption(engine_config(recipe, engine, model), targets, clips, kept)
    except (EngineOptionError, EngineLostError, ModelError) as error:
        return Trial(name, None, None, str(error).strip().splitlines()[-1])
    return Trial(name, model, score(targets, said))


def merged(checkpoint: Path, recipe: Recipe) -> Path:
    """The folder of a checkpoint as one model: itself, or its adapters merged into the base."""
    if not (checkpoint / "adapter_config.json").is_file():
        return checkpoint
    into = checkpoint.parent / f"merged-{step_of(checkpoint)}"
    if into.is_dir():
        return into
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    dtype = getattr(torch, recipe.dtype)
    base = AutoModelForImageTextToText.from_pretrained(recipe.model, dtype=dtype)
    whole: Any = PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload()
    part = into.with_name(f"{into.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    whole.save_pretrained(part)
    AutoProcessor.from_pretrained(recipe.model).save_pretrained(part)
    shutil.copyfile(checkpoint / INTERFACE, part / INTERFACE)
    part.replace(into)
    return into


def _publish(choice: Choice, model: Path, about: str) -> None:
    """Write the chosen model's folder, with what a model needs and its card, and choice.json."""
    part = choice.folder.with_name(f"{BEST}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for pattern in _OF_MODEL:
        for path in model.glob(pattern):
            if path.name not in _OF_TRAINING:
                shutil.copyfile(path, part / path.name)
    (part / "README.md").write_text(about, encoding="utf-8")
    shutil.rmtree(choice.folder, ignore_errors=True)
    part.replace(choice.folder)
    with replacing(choice.folder.with_name(CHOICE)) as file:
        file.write_text(json.dumps(_summary(choice), indent=1) + "\n", encoding="utf-8")


def _summary(choice: Choice) -> dict[str, Any]:
    trials = [
        {
            "checkpoint": one.checkpoint,
            "accuracy": round(one.accuracy, 4) if one.evaluation else None,
            "fields": {
                name: [result.right, result.ruled, *(round(end, 4) for end in result.interval)]
                for name, result in (one.evaluation.results.items() if one.evaluation else ())
            },
            "captions": dict(one.evaluation.statuses) if one.evaluation else {},
            "error": one.error,
        }
        for one in choice.trials
    ]
    difference = choice.difference and {
        "over": choice.second.checkpoint if choice.second else None,
        "value": round(choice.difference.value, 4),
        "low": round(choice.difference.low, 4),
        "high": round(choice.difference.high, 4),
        "significant": choice.difference.significant,
    }
    return {
        "rule": "the highest mean accuracy over the scored fields; of equals the earliest",
        "best": choice.best.checkpoint,
        "difference": difference,
        "trials": trials,
    }
