"""One prompt to one row: what is made of it, wherever that is done. Writes nothing."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace

import numpy as np

from generation.config import GenerationConfig
from generation.ledger import Generation
from generation.model import Condition, Generated, GenerationError, Prompt, VideoModel
from generation.video import encode, png

BLACK = 8
"""Level, of 255, that no channel of any pixel exceeds in a black video: own choice, what is left of
black after a VAE or a codec."""


@dataclass(frozen=True)
class Work:
    """A prompt to generate: `prompt` as the dataset has it, `sent` as the model is told it."""

    generation_id: str
    prompt: Prompt
    sent: str
    condition: Condition | None = None


@dataclass(frozen=True)
class Made:
    """A row and its files: the MP4, and pictures by path."""

    row: Generation
    video: bytes | None = None
    pictures: dict[str, bytes] = field(default_factory=dict)


def make(work: Work, model: VideoModel, config: GenerationConfig, config_hash: str) -> Made:
    """Generate one prompt. What goes wrong is in the row."""
    pictures = _pictures(work)
    try:
        told = replace(work.prompt, text=work.sent)
        generated = model.generate(told, work.condition)
        _check(generated)
        video = encode(generated.frames, generated.fps)
    except GenerationError as error:
        return failed(work, str(error), model.name, config, config_hash, pictures)
    except Exception:  # a model can fail in any way, and the next prompt may do
        return failed(work, traceback.format_exc(), model.name, config, config_hash, pictures)
    count, height, width = generated.frames.shape[:3]
    row = _row(work, model.name, config, config_hash, pictures).model_copy(
        update={
            "prompt_sent": generated.prompt or work.sent,
            "status": "ok",
            "video": f"videos/{work.generation_id}.mp4",
            "frames": count,
            "fps": generated.fps,
            "width": width // 2 * 2,
            "height": height // 2 * 2,
            "seconds": round(generated.seconds, 3),
            "peak_bytes": generated.peak_bytes,
        }
    )
    return Made(row, video, pictures)


def failed(
    work: Work,
    error: str,
    model: str,
    config: GenerationConfig,
    config_hash: str,
    pictures: dict[str, bytes] | None = None,
) -> Made:
    """The row of a prompt that came to no video."""
    kept = pictures or {}
    row = _row(work, model, config, config_hash, kept).model_copy(update={"error": error})
    return Made(row, None, kept)


def _row(
    work: Work, model: str, config: GenerationConfig, config_hash: str, pictures: dict[str, bytes]
) -> Generation:
    prompt = work.prompt
    return Generation(
        generation_id=work.generation_id,
        clip_id=prompt.clip_id,
        source_sha256=prompt.source_sha256,
        concept=prompt.concept,
        task=config.task,
        prompt=prompt.text,
        prompt_sent=work.sent,
        caption=prompt.caption,
        seed=prompt.seed,
        model=model,
        config_hash=config_hash,
        preset=config.preset,
        frames=config.frames,
        fps=config.fps,
        width=config.width,
        height=config.height,
        condition=next(iter(pictures), None),
        status="error",
        steps=config.steps,
    )


def _pictures(work: Work) -> dict[str, bytes]:
    """The given frames as PNG, by path, the first one first."""
    if work.condition is None:
        return {}
    named = {"": work.condition.first, "-last": work.condition.last}
    return {
        f"conditions/{work.generation_id}{suffix}.png": png(rgb)
        for suffix, rgb in named.items()
        if rgb is not None
    }


def _check(generated: Generated) -> None:
    """Raises GenerationError for a video in which there is nothing to see."""
    if int(np.max(generated.frames)) <= BLACK:
        raise GenerationError(
            f"all {len(generated.frames)} frames are black: another seed or --dtype may help"
        )
