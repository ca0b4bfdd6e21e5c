"""The models that a dataset is encoded with, a VAE and a text encoder: found, named, loaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from captioner.files import first_line, hash_files


class PrecomputeError(ValueError):
    """What cannot be encoded or read; the message says what to do."""


_GIVE = "give the folder of a model or of a diffusers pipeline, or its name on the hub"


@contextlib.contextmanager
def told(what: str, remedy: str) -> Iterator[None]:
    """Say in one line what failed, for errors that a wrong model or a damaged file makes."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise PrecomputeError(f"{what} ({first_line(error)}): {remedy}") from error


def need(*packages: str) -> None:
    """Raises PrecomputeError where a package is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise PrecomputeError(f"no {package} here: pip install 'skycaptioner[generate]'")


@dataclass(frozen=True)
class Model:
    """The folders of a model's parts, and its `identity`: the sha256 of their files, or the
    revision of its hub repository."""

    name: str
    parts: tuple[Path, ...]
    identity: str

    @classmethod
    def vae(cls, name: str) -> Model:
        """A VAE of diffusers, alone or in a pipeline. Raises PrecomputeError."""
        return cls._find(name, ("vae",), "_class_name")

    @classmethod
    def text(cls, name: str) -> Model:
        """A text encoder of transformers and its tokenizer. Raises PrecomputeError."""
        return cls._find(name, ("text_encoder", "tokenizer"), "model_type")

    @classmethod
    def _find(cls, name: str, parts: Sequence[str], kind: str) -> Model:
        folder, revision = Path(name), None
        if not folder.is_dir():
            if name.count("/") != 1 or name.startswith(("/", ".")):
                raise PrecomputeError(f"there is no folder {name}: {_GIVE}")
            folder = _downloaded(name, parts)
            revision = f"revision {folder.name}"  # the hub's cache has a folder for each commit
        found = tuple(folder / part for part in parts)
        if not all(part.is_dir() for part in found):
            found = (folder,) * len(parts)
        if kind not in cls(name, found, "").config:
            raise PrecomputeError(f"{found[0]} is no {parts[0]}: {kind} is not in its config.json")
        return cls(name, found, revision or f"sha256 {_hash(found)}")

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json. Raises PrecomputeError."""
        with told(f"{self.name} is no model", _GIVE):
            return dict(json.loads((self.parts[0] / "config.json").read_bytes()))


def _downloaded(name: str, parts: Sequence[str]) -> Path:
    """The folder of a hub repository: the parts of a pipeline, or else its root; no pickles."""
    need("huggingface_hub")
    from huggingface_hub import snapshot_download

    kinds = ("*.json", "*.safetensors", "*.model", "*.txt")
    wanted = [f"{part}/{kind}" for part in parts for kind in kinds]
    with told(f"{name} is no folder here, nor can it be had from the hub", _GIVE):
        folder = Path(snapshot_download(name, allow_patterns=wanted))
        if not (folder / parts[0]).is_dir():
            folder = Path(snapshot_download(name, allow_patterns=list(kinds)))
    return folder


def _hash(folders: Sequence[Path]) -> str:
    """Of names and contents of all files."""
    return hash_files(
        (folder, path)
        for folder in dict.fromkeys(folders)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    )


class Encoders:
    """A VAE in float32 and a text encoder in the type of its weights, on a GPU where there is one.

    Both are tried once, the VAE on a picture of `size` (height, width). Raises PrecomputeError
    where one cannot be loaded or does not encode.
    """

    def __init__(
        self, vae: Model, text: Model, size: tuple[int, int], dtype: str, max_tokens: int
    ) -> None:
        import diffusers
        import torch
        from transformers import AutoModel, AutoModelForTextEncoding, AutoTokenizer
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._dtype, self._max_tokens = getattr(torch, dtype), max_tokens
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with told(f"{vae.name} cannot be used as a VAE", _GIVE):
            # By its class: AutoModel of diffusers 0.42 cannot tell which weights are missing.
            kind = getattr(diffusers, vae.config["_class_name"], None)
            if not hasattr(kind, "encode"):
                raise ValueError(f"{vae.config['_class_name']} does not encode")
            self._vae = self._load(kind, vae.parts[0], torch.float32)
            self.latents(torch.zeros(3, 1, *size))
        with told(f"{text.name} cannot be used as a text encoder", _GIVE):
            # Of T5 and its like the encoder alone; AutoModel would want the decoder's weights.
            alone = text.config["model_type"] in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
            auto = AutoModelForTextEncoding if alone else AutoModel
            self._text = self._load(auto, text.parts[0], "auto")
            self._tokenizer = AutoTokenizer.from_pretrained(str(text.parts[1]))
            self.text("a")

    def _load(self, auto: Any, folder: Path, dtype: Any) -> Any:
        """A model with all its weights, none of them from a pickle."""
        model, info = auto.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"{missing[0]} and {len(missing) - 1} others are not in its weights")
        return model.to(self._device).eval()

    def latents(self, video: Any) -> Any:
        """(C, T, H, W) uint8 RGB as float32 latents, (C, T, H, W)."""
        import torch

        with torch.inference_mode():
            pixels = video.to(self._device, torch.float32).mul(2 / 255).sub(1)
            made = self._vae.encode(pixels[None])
            return (made.latent_dist.mode() if hasattr(made, "latent_dist") else made[0])[0]

    def text(self, caption: str) -> Any:
        """Features of a caption's tokens, (L, D), L at most `max_tokens`; a trainer fills up with
        zeros, as diffusers' pipelines do."""
        import torch

        with torch.inference_mode():
            tokens = self._tokenizer(
                caption, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            ).to(self._device)
            made = self._text(tokens.input_ids, attention_mask=tokens.attention_mask)
            return made.last_hidden_state[0]

    def stored(self, tensor: Any) -> bytes:
        """The bytes of a tensor as it is stored. Raises ValueError for what is no number there."""
        import torch

        small = tensor.to(self._dtype).cpu().contiguous()
        if not torch.isfinite(small).all():
            raise ValueError(f"the encoder gave values that {small.dtype} does not hold")
        return bytes(small.view(-1).view(torch.uint8).numpy().tobytes())
