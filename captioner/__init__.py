"""Turn the frames of a shot into a structured caption."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.captioner import Captioner
    from captioner.frames import FrameBatch
    from captioner.result import CaptionResult
    from captioner.schema import ShotCaption

__all__ = ["CaptionResult", "Captioner", "FrameBatch", "ShotCaption"]

_HOMES = {
    "CaptionResult": "captioner.result",
    "Captioner": "captioner.captioner",
    "FrameBatch": "captioner.frames",
    "ShotCaption": "captioner.schema",
}


def __getattr__(name: str) -> Any:
    """Import on first use: who only decodes does not wait for what captioning needs."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
