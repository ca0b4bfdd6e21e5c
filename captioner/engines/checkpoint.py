"""What a local engine has to know of a checkpoint: whether it can caption, and how it is spoken to.

Only the checkpoint's small files are looked at, so that a wrong model is refused before anything is
loaded or decoded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from captioner import prompts
from captioner.engines.vlm import PROMPT_TOKENS, Request
from captioner.hub import HubError, folder_of
from captioner.policies import ModelVideo
from captioner.schema import json_schema

MIN_CONTEXT = 4096
"""Tokens that a caption takes: about 2,000 of frames and instruction, and as many of answer."""

VIDEO_MODELS = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
"""`model_type` of checkpoints that take a video with the times of its frames."""


class ModelError(ValueError):
    """The model cannot caption with this engine, with the remedy in one line."""


def check(model: str, context: int, video: bool = True) -> int:
    """The context in tokens that a model gets: what is asked, as far as the model has it.

    Looks at the checkpoint's small files alone. Raises ModelError where there is no checkpoint, no
    processor, no video model, or less context than a caption takes.
    """
    folder = local(model)
    config = _json(folder / "config.json", model)
    kind = config.get("model_type")
    if video and kind not in VIDEO_MODELS:
        raise ModelError(
            f"{model} is a {kind or 'nameless'} model and takes no video: give a Qwen2.5-VL or "
            "Qwen3-VL checkpoint, such as Skywork/SkyCaptioner-V1"
        )
    processors = ("preprocessor_config.json", "video_preprocessor_config.json")
    if video and not any((folder / name).is_file() for name in (*processors, _PROCESSOR)):
        raise ModelError(
            f"{model} has no processor ({processors[0]}): copy {', '.join(processors)} and the "
            "tokenizer's files from the model that it was trained from"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(
            f"{model} has no tokenizer (tokenizer.json): copy its files from the model that it "
            "was trained from"
        )
    has = _decoder(config).get("max_position_embeddings")
    if isinstance(has, int) and has < MIN_CONTEXT:
        raise ModelError(
            f"{model} has a context of {has} tokens, and a caption takes {MIN_CONTEXT}: give a "
            "model with a larger one"
        )
    if context < MIN_CONTEXT:
        raise ModelError(
            f"a context of {context} tokens is too small, a caption takes {MIN_CONTEXT} "
            f"({PROMPT_TOKENS} of them for frames and instruction): ask for {MIN_CONTEXT} or more"
        )
    return min(context, has) if isinstance(has, int) else context


def cache_bytes(model: str, dtype: str, tokens: int) -> int | None:
    """Bytes that a decoder keeps of so many tokens: a key and a value a layer and head.

    `dtype` is that of the numbers, `auto` the checkpoint's own. None where no config.json tells the
    decoder's shape, as of a GGUF file.
    """
    try:
        shape = _decoder(_json(local(model) / "config.json", model))
    except ModelError:
        return None
    kind = shape.get("dtype", shape.get("torch_dtype")) if dtype == "auto" else dtype
    try:
        width = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
        numbers = 2 * int(shape["num_hidden_layers"]) * int(shape["num_key_value_heads"]) * width
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return int(numbers * tokens * (4 if kind in (None, "float", "float32") else 2))


def _decoder(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says of its language model, at the top or in a part of its own."""
    text = config.get("text_config")
    return {**config, **(text if isinstance(text, dict) else {})}


# --- what a checkpoint was trained with -----------------------------------------------------------

INTERFACE = "skycaptioner.json"
"""Beside the weights that `finetune` writes: what inference has to share with their training."""


def interface(policy: str) -> dict[str, str]:
    """The prompt and the schema, as hashes, and the policy that picks the frames."""
    return {
        "prompt": _hash(prompts.STRUCTURED),
        "schema": _hash(json.dumps(json_schema(), sort_keys=True)),
        "policy": policy,
    }


def check_interface(model: str, policy: str) -> None:
    """Raises ModelError where a checkpoint says that it was trained with another prompt, schema or
    policy than inference would use. Others' checkpoints say nothing, and pass."""
    path = local(model) / INTERFACE
    if not path.is_file():
        return
    trained, here = _json(path, model), interface(policy)
    for name, value in here.items():
        if trained.get(name) == value:
            continue
        if name == "policy":
            raise ModelError(
                f"{model} was trained on frames of policy {trained.get(name)}, not {policy}: "
                f"give --policy {trained.get(name)}"
            )
        raise ModelError(
            f"{model} was trained with another {name} than this release has: caption with the "
            "release that trained it, or train it anew"
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_PROCESSOR = "processor_config.json"
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")


def local(model: str) -> Path:
    """The checkpoint's folder, fetched from the hub with its small files. Raises ModelError."""
    try:
        return folder_of(model, _SMALL)
    except HubError as error:
        raise ModelError(str(error)) from None


def _json(path: Path, model: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{model} is no checkpoint (it has no {path.name}): give the folder that holds the "
            "weights beside their config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} of {model} cannot be read ({error}): copy it again"
        ) from None
    return found if isinstance(found, dict) else {}


# --- what is told of a video ----------------------------------------------------------------------


def chat(processor: Any, request: Request) -> str:
    """The request as a prompt by the model's own chat template."""
    text = {"type": "text", "text": request.prompt}
    content: Any = request.prompt if request.video is None else [{"type": "video"}, text]
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def video_metadata(video: ModelVideo) -> dict[str, Any]:
    """Where the frames stood in their clip, from which the processor has their times."""
    return {
        "fps": video.fps,
        "total_num_frames": video.total_frames,
        "duration": video.total_frames / video.fps,
        "frames_indices": list(video.indices),
        "video_backend": "pyav",
    }
