"""Supervised fine-tuning with TRL: every clip's caption, the loss on the caption alone.

`train` is what one process does. Under `torchrun` each process calls it, and Ray Train's workers do
(`finetune.ray_train`); the batches of all processes together are the recipe's global batch.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.engines.checkpoint import INTERFACE, interface
from captioner.engines.positions import count_time
from curation.ledger import replacing
from finetune.examples import IGNORED, Encoder
from finetune.frames import Clips, prepare
from finetune.recipe import Recipe, RecipeError
from finetune.targets import Target, answer, read_targets

WHOLE = "whole.json"
"""Written last into a checkpoint: one without it was cut short."""

BEGUN = "recipe.json"
"""What an output folder was begun with."""

_FREE = ("log_every", "log_to", "keep", "workers")
"""Fields of a recipe that may change when a training goes on."""


class TrainingError(RuntimeError):
    """Training had to stop; the message says why, and which checkpoint is the last whole one."""


@dataclass(frozen=True)
class Example:
    """A target with the length of its example, in tokens."""

    target: Target
    tokens: int


@dataclass(frozen=True)
class Skipped:
    """A target that is not trained on, and why."""

    clip_id: str
    split: str
    reason: str


@dataclass(frozen=True)
class Trained:
    """What a training did. `losses` are (step, nats a token of answer) as logged; time and rate are
    of the last start, where it was stopped and went on."""

    checkpoints: tuple[Path, ...]
    losses: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    peak_bytes: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Data:
    """The examples of both splits, where their frames are, and what was left out."""

    train: Sequence[Example]
    validation: Sequence[Example]
    clips: Clips
    skipped: tuple[Skipped, ...]


def train(recipe: Recipe, labels: Path, out: Path) -> Trained:
    """Train on the targets in `labels`, or go on with what was begun in `out`.

    Where several processes cannot share the last batch of an epoch evenly, it is filled up with
    clips of the epoch's beginning (accelerate's `even_batches`).

    Writes out/checkpoint-N, out/training.json and out/skipped.jsonl. Raises RecipeError,
    TargetError and ModelError for what a user can mend, and TrainingError when the loss is no
    number or a checkpoint cannot be written.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoProcessor

    encoder = Encoder(AutoProcessor.from_pretrained(recipe.model), recipe.context)
    # One process decodes, the others find its files.
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        data = read_data(recipe, labels, out / "frames", encoder)
        _begin(out, recipe, data)
    if not data.train:
        raise RecipeError(f"{labels} has no target to train on: see {out / 'skipped.jsonl'}")
    whole = last_whole(out)
    if whole and (out / REPORT).is_file():
        return read_report(out)  # it has ended
    trainer = make_trainer(recipe, data, out, encoder)
    begun, cpu = time.monotonic(), time.process_time()
    trainer.train(resume_from_checkpoint=str(whole) if whole else None)
    seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - cpu
    history = trainer.state.log_history
    done = trainer.state.global_step - (step_of(whole) if whole else 0)
    tokens = sum(example.tokens for example in data.train) / len(data.train)
    trained = Trained(
        checkpoints=tuple(checkpoints(out)),
        losses=tuple((line["step"], line["loss"]) for line in history if "loss" in line),
        validation=tuple(
            (line["step"], line["eval_loss"]) for line in history if "eval_loss" in line
        ),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        tokens_per_second=tokens * recipe.global_batch * done / seconds,
        peak_bytes=_peak_bytes(),
        skipped=data.skipped,
    )
    if trainer.is_world_process_zero():
        _report(out, trained)
    return trained


# --- data ---------------------------------------------------------------------------------------


def read_data(recipe: Recipe, labels: Path, frames: Path, encoder: Encoder) -> Data:
    """Both splits, with their frames in `frames`. Raises TargetError, OSError."""
    targets = [*read_targets(labels, "train"), *read_targets(labels, "validation")]
    clips = prepare(targets, labels, frames, recipe.policy)
    skipped: list[Skipped] = []
    examples: dict[str, list[Example]] = {"train": [], "validation": []}
    for target in targets:
        if target.clip_id not in clips.places:
            reason = clips.unreadable[target.clip_id]
        else:
            tokens = encoder.tokens(clips.shapes[target.clip_id], answer(target))
            if tokens <= recipe.context:
                examples[target.split].append(Example(target, tokens))
                continue
            reason = f"{tokens} tokens do not fit into a context of {recipe.context}"
        skipped.append(Skipped(target.clip_id, target.split, reason))
    return Data(examples["train"], examples["validation"], clips, tuple(skipped))


def _begin(out: Path, recipe: Recipe, data: Data) -> None:
    """Note what the folder is begun with; refuse to go on with something else."""
    asked = recipe.model_dump(mode="json")
    clips = sorted(example.target.clip_id for example in data.train)
    path = out / BEGUN
    if path.is_file() and last_whole(out):
        before = json.loads(path.read_text(encoding="utf-8"))
        differ = [
            name
            for name, value in asked.items()
            if name not in _FREE and before["recipe"].get(name) != value
        ]
        differ += ["the targets"] if before["train"] != clips else []
        if differ:
            raise RecipeError(
                f"{out} was begun with another {', '.join(differ)}: give another folder, or the "
                "same recipe and targets"
            )
    with replacing(path) as part:
        part.write_text(json.dumps({"recipe": asked, "train": clips}, indent=1), encoding="utf-8")
    lines = (json.dumps(one.__dict__, ensure_ascii=False) for one in data.skipped)
    with replacing(out / "skipped.jsonl") as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# --- checkpoints ----------------------------------------------------------------------------------


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a training, in the order of their steps."""
    found = [path for path in out.glob("checkpoint-*") if (path / WHOLE).is_file()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The steps that were done when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def last_whole(out: Path) -> Path | None:
    """The latest whole checkpoint."""
    return next(reversed(checkpoints(out)), None)


# --- training -------------------------------------------------------------------------------------


def load_model(recipe: Recipe, checkpoint: str | None = None) -> Any:
    """The model, or a checkpoint of it, as it learns: under adapters in `dtype`, in full in float32
    that bfloat16 computes with, since AdamW's steps of 1e-5 are below what bfloat16 can hold."""
    import torch
    from transformers import AutoModelForImageTextToText

    options: dict[str, Any] = {}
    dtype = torch.float32 if recipe.method == "full" else getattr(torch, recipe.dtype)
    if recipe.method == "qlora":
        if not torch.cuda.is_available():
            raise RecipeError("method qlora needs a GPU: take lora")
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    folder = checkpoint or recipe.model
    model = count_time(AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, **options))
    if recipe.freeze_vision:
        for name, weight in model.model.visual.named_parameters():
            weight.requires_grad = name.startswith("merger")
    return model


def adapters(recipe: Recipe) -> Any:
    """PEFT's configuration, or None where all weights learn."""
    if recipe.method == "full":
        return None
    from peft import LoraConfig

    ends = "|".join(recipe.lora.targets)
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=rf".*language_model.*\.({ends})",
        task_type="CAUSAL_LM",
    )


def make_trainer(recipe: Recipe, data: Data, out: Path, encoder: Encoder) -> Any:
    """TRL's SFTTrainer over the examples."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = torch.cuda.is_available()
    saves, validates = _when(recipe.save_every), _when(recipe.validate_every)
    config = SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=recipe.micro_batch,
        per_device_eval_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation(processes),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        max_grad_norm=recipe.max_grad_norm,
        warmup_steps=recipe.warmup,
        lr_scheduler_type=recipe.schedule,
        bf16=recipe.dtype == "bfloat16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        train_sampling_strategy="group_by_length" if recipe.group_by_length else "random",
        length_column_name="tokens",
        fsdp=recipe.fsdp,
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_strategy=saves,
        save_steps=recipe.save_every or 1,
        save_total_limit=recipe.keep or None,
        eval_strategy=validates if data.validation else "no",
        eval_steps=recipe.validate_every or 1,
        logging_steps=recipe.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        report_to=list(recipe.log_to),
        dataloader_num_workers=recipe.workers,
        remove_unused_columns=False,
        use_cpu=not on_gpu,
        ddp_backend="gloo" if processes > 1 and not on_gpu else None,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        disable_tqdm=True,
    )

    class Trainer(SFTTrainer):  # type: ignore[misc]
        """Stops at a loss that is no number, and leaves no half checkpoint behind."""

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Mean nats a token of answer. The vocabulary is looked at for the tokens of answers
            alone, a fifth of all: TRL's own loss takes every token where there is no Triton."""
            labels = inputs.pop("labels")[:, 1:]
            answers = (labels != IGNORED).any(0).nonzero().squeeze(1)
            outputs = model(**inputs, logits_to_keep=answers, use_cache=False)
            nats = torch.nn.functional.cross_entropy(
                outputs.logits.float().flatten(0, 1),
                labels[:, answers].flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            )
            if num_items_in_batch is None:
                loss = nats / (labels != IGNORED).sum()
            else:  # of all processes together, whose gradients are averaged
                loss = nats * self.accelerator.num_processes / num_items_in_batch
            return (loss, outputs) if return_outputs else loss

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"the loss is {loss.item()} at step {self.state.global_step + 1}: lower the "
                    f"learning rate or look at the targets; {_last(out)}"
                )
            return loss

        def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
            # transformers 5.19 looks for the names that weights have in memory, finds none of
            # those that Qwen2.5-VL is saved under, and goes on with the weights of the start.
            if recipe.method != "full" or self.is_fsdp_enabled:
                super()._load_from_checkpoint(checkpoint, model)
                return
            self.model.load_state_dict(load_model(recipe, checkpoint).state_dict())

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            folder = out / f"checkpoint-{self.state.global_step}"
            try:
                super()._save_checkpoint(*args, **kwargs)
                if self.is_world_process_zero():
                    _seal(folder, recipe)
            except Exception as error:
                shutil.rmtree(folder, ignore_errors=True)
                if not _is_full(error):
                    raise
                raise TrainingError(
                    f"checkpoint {folder.name} cannot be written ({error}): make room; {_last(out)}"
                ) from None

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        chosen = [data.train[r["at"]] if r["at"] >= 0 else data.validation[~r["at"]] for r in rows]
        return encoder.collate(
            [
                encoder.encode(data.clips.video(one.target.clip_id), answer(one.target))
                for one in chosen
            ]
        )

    train_rows = [{"at": i, "tokens": one.tokens} for i, one in enumerate(data.train)]
    validation_rows = [{"at": ~i, "tokens": one.tokens} for i, one in enumerate(data.validation)]
    return Trainer(
        model=load_model(recipe),
        args=config,
        data_collator=collate,
        train_dataset=Dataset.from_list(train_rows),
        eval_dataset=Dataset.from_list(validation_rows) if validation_rows else None,
        processing_class=encoder.processor,
        peft_config=adapters(recipe),
    )


def _when(steps: int) -> str:
    return "steps" if steps else "epoch"


def _last(out: Path) -> str:
    last = last_whole(out)
    return f"the last whole checkpoint is {last}" if last else "there is no checkpoint yet"


def _is_full(error: Exception) -> bool:
    """Whether a disk's error is behind it; safetensors and PyTorch wrap it."""
    return isinstance(error, OSError) or "No space left" in str(error) or "os error" in str(error)


def _seal(folder: Path, recipe: Recipe) -> None:
    """Note what inference has to share with this training, and that the checkpoint is whole."""
    (folder / INTERFACE).write_text(json.dumps(interface(recipe.policy), indent=1) + "\n")
    (folder / WHOLE).write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}, indent=1))


def _peak_bytes() -> int:
    """Most memory at any time: of the GPU where there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


REPORT = "training.json"


def _report(out: Path, trained: Trained) -> None:
    told = {
        "seconds": round(trained.seconds, 1),
        "cpu_seconds": round(trained.cpu_seconds, 1),
        "tokens_per_second": round(trained.tokens_per_second, 1),
        "peak_bytes": trained.peak_bytes,
        "losses": trained.losses,
        "validation": trained.validation,
        "checkpoints": [path.name for path in trained.checkpoints],
        "skipped": [one.__dict__ for one in trained.skipped],
    }
    with replacing(out / REPORT) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_report(out: Path) -> Trained:
    """What a training wrote of itself. Raises OSError."""
    told = json.loads((out / REPORT).read_text(encoding="utf-8"))
    return Trained(
        **{
            **told,
            "checkpoints": tuple(out / name for name in told["checkpoints"]),
            "losses": tuple((step, loss) for step, loss in told["losses"]),
            "validation": tuple((step, loss) for step, loss in told["validation"]),
            "skipped": tuple(Skipped(**one) for one in told["skipped"]),
        }
    )
