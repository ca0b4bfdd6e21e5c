"""A model's folder: given, or fetched from the model hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captioner.files import first_line


class HubError(ValueError):
    """A model that is neither a folder nor to be had from the hub; the message says what to do."""


def folder_of(model: str, patterns: Sequence[str]) -> Path:
    """The folder of a model with its files of these patterns, fetched where it is a hub's name.

    Raises HubError, and ImportError where huggingface_hub is not installed.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise HubError(f"there is no folder {model}: give a checkpoint's folder, or OWNER/NAME")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client and its network have many of their own
        raise HubError(
            f"{model} cannot be had from the model hub ({first_line(error)}): download it on a "
            "machine with network (`hf download`), and give its folder"
        ) from None
