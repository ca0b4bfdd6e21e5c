"""Overfits the tiny Qwen2.5-VL to captions of a few clips: pixels in, exactly these captions out.

With it an engine shows the whole way from a file to a caption where the real weights do not fit.
Only the language model learns; what it sees of a clip is computed once.

    python -m eval.overfit OUT CAPTIONS.csv     columns path and structural_caption, as the released
                                                script writes them; paths beside the file
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from captioner import prompts
from captioner.decode import read_clip
from captioner.engines.transformers import TransformersGenerator
from captioner.engines.vlm import Request
from captioner.policies import ModelVideo, native
from captioner.schema import ShotCaption
from eval import tiny

VOCAB, HIDDEN = 2048, 256
RATE, WARM_UP = 5e-3, 10
"""AdamW's learning rate, reached after so many steps; it falls to a tenth by the last step."""

STEPS = 120
ENOUGH = 0.01
"""Mean loss a token, in nats, at which every token of an answer is by far the likeliest."""


@dataclass(frozen=True)
class Example:
    """A clip and the answer that the model shall give for it."""

    video: ModelVideo
    answer: str


def overfit(out: Path, examples: Sequence[Example], steps: int = STEPS) -> float:
    """Write a model that gives the answers; returns the last loss, in nats a token.

    Ends before `steps` when the loss is `ENOUGH`. The same examples give the same model on the same
    machine.
    """
    import torch

    tiny.build(out, VOCAB, HIDDEN)
    generator = TransformersGenerator(str(out), "float32")
    seen = [_seen(generator, example) for example in examples]
    model = generator._loaded
    body, head, words = model.model.language_model, model.lm_head, model.get_input_embeddings()
    learning = [p for part in (body, head) for p in part.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - 0.9 * step / steps)
    )
    worst = float("inf")
    for _ in range(steps):
        losses = []
        optimizer.zero_grad()
        for given, tokens, answer in seen:
            is_text = (tokens != model.config.video_token_id)[..., None]
            told = torch.where(is_text, words(tokens), given["inputs_embeds"])
            state = body(**{**given, "inputs_embeds": told}).last_hidden_state
            said = head(state[0, -len(answer) - 1 : -1])
            loss = torch.nn.functional.cross_entropy(said, answer)
            loss.backward()
            losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        worst = max(losses)
        if worst < ENOUGH:
            break
    model.save_pretrained(out)
    return worst


def _seen(generator: TransformersGenerator, example: Example) -> tuple[dict[str, Any], Any, Any]:
    """What the language model is given for an example, its tokens, and those of its answer."""
    import torch

    request = Request(prompts.STRUCTURED, example.video, None, 0.0, 1)
    inputs = generator.inputs(request)
    tokenizer = generator._processor.tokenizer
    answer = tokenizer(example.answer + tiny.END, return_tensors="pt").input_ids
    tokens = torch.cat([inputs["input_ids"], answer], 1)
    inputs["input_ids"] = tokens
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(answer)], 1)
    given: dict[str, Any] = {}

    def keep(_: Any, positional: Any, named: dict[str, Any]) -> None:
        given.update(named)

    body = generator._loaded.model.language_model
    hook = body.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        generator._loaded(**inputs, use_cache=False)
    hook.remove()
    wanted = ("inputs_embeds", "position_ids", "attention_mask")
    kept = {name: given[name].detach() for name in wanted}
    return {**kept, "use_cache": False}, tokens, answer[0]


def published(table: Path) -> list[Example]:
    """The clips of a table that lie beside it, with their captions as the schema writes them."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Example(native(read_clip(clip)), _compact(row["structural_caption"]))
        for row in rows
        if (clip := table.parent / row["path"]).is_file()
    ]


def _compact(caption: str) -> str:
    """Without blanks between the fields, which constrained decoding does not allow."""
    return ShotCaption.from_json(caption).model_dump_json(by_alias=True)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    table: Annotated[Path, typer.Argument(help="CSV of path and structural_caption.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training at most.")] = STEPS,
) -> None:
    """Overfit the tiny model to the captions of a table."""
    begun = time.process_time()
    examples = published(table)
    loss = overfit(out, examples, steps)
    spent = time.process_time() - begun
    print(f"{len(examples)} captions, loss {loss:.4f}, {spent:.0f} CPU-seconds, model in {out}")


if __name__ == "__main__":
    typer.run(main)
