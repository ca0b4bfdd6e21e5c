"""A SkyReels-V2 checkpoint in diffusers' layout: looked at before anything of it is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.files import hash_files
from captioner.hub import HubError, folder_of
from generation.config import GenerationConfig
from generation.frames import GenerationOptionError

TEXT = "SkyReelsV2Pipeline"
IMAGE = "SkyReelsV2ImageToVideoPipeline"
FORCING = "SkyReelsV2DiffusionForcingPipeline"
FORCING_IMAGE = "SkyReelsV2DiffusionForcingImageToVideoPipeline"

_FOUND = {
    "t2v": (TEXT,),
    "i2v": (IMAGE,),
    "df": (FORCING, FORCING_IMAGE, "SkyReelsV2DiffusionForcingVideoToVideoPipeline"),
}
"""Pipelines that a checkpoint may name, by task: all of diffusion forcing have the same parts."""

_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""Files of a checkpoint on the hub: no pickles."""

_EXAMPLES = {
    "t2v": "Skywork/SkyReels-V2-T2V-14B-540P-Diffusers",
    "i2v": "Skywork/SkyReels-V2-I2V-1.3B-540P-Diffusers",
    "df": "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
}


class ModelError(GenerationOptionError):
    """The model cannot generate so; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in `folder`, the `pipeline` that runs it, and `name`, which changes with any of
    its files."""

    folder: Path
    pipeline: str
    name: str


def find_checkpoint(model: str, config: GenerationConfig) -> tuple[Checkpoint, GenerationConfig]:
    """The checkpoint of a folder or of a hub name, and the configuration with its causal block.

    Looks at the small files first, and takes the hash of the weights when they fit. Raises
    GenerationOptionError.
    """
    folder = _looked_at(model)
    index = _json(folder / "model_index.json", model, config.task)
    found = index.get("_class_name")
    if found not in _FOUND[config.task]:
        raise ModelError(
            f"{model} is a {found or 'nameless pipeline'}, and task {config.task} takes "
            f"{_FOUND[config.task][0]}: give one such as {_EXAMPLES[config.task]}, or another task"
        )
    transformer = _json(folder / "transformer" / "config.json", model, config.task)
    if config.task == "i2v" and config.last_frame and transformer.get("pos_embed_seq_len") is None:
        raise ModelError(f"{model} takes a first frame alone: leave the last one out")
    fitted = config.with_block(int(transformer.get("num_frame_per_block") or 1))
    pipeline = _FOUND[config.task][0]
    if config.task == "df" and config.first_frame:
        pipeline = FORCING_IMAGE
    folder = _whole(model, folder)
    name = f"{Path(model).name}@{_hash(folder)[:12]}"
    return Checkpoint(folder, pipeline, name), fitted


def _looked_at(model: str) -> Path:
    """The checkpoint's folder with its small files at least. Raises ModelError."""
    from captioner.engines import checkpoint

    try:
        return checkpoint.local(model)
    except checkpoint.ModelError as error:
        raise ModelError(str(error)) from None
    except ImportError:
        raise ModelError(
            f"{model} is fetched by huggingface_hub: pip install 'skycaptioner[generate]'"
        ) from None


def _whole(model: str, folder: Path) -> Path:
    """The same with its weights, fetched where they are on the hub. Raises ModelError."""
    if Path(model).is_dir():
        return folder
    try:
        return folder_of(model, _PATTERNS)
    except HubError as error:
        raise ModelError(str(error)) from None


def _json(path: Path, model: str, task: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{model} is no checkpoint of diffusers (it has no {path.name}): give one such as "
            f"{_EXAMPLES[task]}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} of {model} cannot be read ({error}): copy it again"
        ) from None
    return found if isinstance(found, dict) else {}


def _hash(folder: Path) -> str:
    """Over the names and contents of all that may be loaded."""
    return hash_files(
        (folder, path)
        for path in sorted(path for pattern in _PATTERNS for path in folder.rglob(pattern))
    )
