"""The model card of a fine-tuned captioner: what it was made of, and what it scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from captioner.engines.checkpoint import interface
from finetune.recipe import Recipe
from finetune.sft import Trained, read_report


def card(recipe: Recipe, choice: Mapping[str, Any], labels: Path, out: Path) -> str:
    """README.md of the model's folder, in the form that model hubs read."""
    trained = read_report(out)
    facts = json.loads((labels / "labels.json").read_text(encoding="utf-8"))
    best = next(one for one in choice["trials"] if one["checkpoint"] == choice["best"])
    front = {
        "base_model": recipe.model,
        "pipeline_tag": "video-text-to-text",
        "tags": ["skycaptioner", "video-captioning", recipe.method],
    }
    counts = ", ".join(f"{name} {count:,}" for name, count in facts["targets"].items())
    scores = [
        f"| {name} | {right / ruled:.3f} | {low:.3f} to {high:.3f} | {right} | {ruled} |"
        for name, (right, ruled, low, high) in best["fields"].items()
        if ruled
    ]
    others = [
        f"| {one['checkpoint']} | {_mean(one['accuracy'])} | {one['error'] or ''} |"
        for one in choice["trials"]
    ]
    settings = [f"| {name} | {value} |" for name, value in recipe.model_dump(mode="json").items()]
    shared = [f"- {name}: `{value}`" for name, value in interface(recipe.policy).items()]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "# A structured video captioner",
            "",
            f"{recipe.model}, fine-tuned with skycaptioner. The licence is the base model's.",
            "",
            "```",
            "caption ./videos -o OUT --engine vllm --model THIS_FOLDER",
            "```",
            "",
            "## Validation",
            "",
            f"Checkpoint {choice['best']}, chosen by: {choice['rule']}.{_difference(choice)}",
            "",
            "| field | accuracy | 95 % | right | of |",
            "|---|---|---|---|---|",
            *scores,
            "",
            "| checkpoint | mean | |",
            "|---|---|---|",
            *others,
            "",
            "## Training",
            "",
            f"Targets: {counts}; {len(trained.skipped)} left out. {_course(trained)}",
            "",
            "| setting | value |",
            "|---|---|",
            *settings,
            "",
            "Inference has to share these with training; the engines refuse others:",
            "",
            *shared,
            "",
        ]
    )


def _course(trained: Trained) -> str:
    (begin, before), (end, after) = trained.losses[0], trained.losses[-1]
    return (
        f"Loss {before:.4f} at step {begin}, {after:.4f} at step {end}; "
        f"{trained.cpu_seconds:,.0f} CPU-seconds, {trained.tokens_per_second:,.0f} tokens/s, "
        f"{trained.peak_bytes / 1e9:.1f} GB at most."
    )


def _mean(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.3f}"


def _difference(choice: Mapping[str, Any]) -> str:
    one = choice["difference"]
    if not one:
        return ""
    mark = "significant" if one["significant"] else "not significant"
    return (
        f" It is {one['value']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) from "
        f"{one['over']}, the next best: {mark}."
    )
