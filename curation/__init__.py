"""Turn raw video into a dataset, and read it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.clip_dataset import ClipDataset

__all__ = ["ClipDataset"]

_HOMES = {"ClipDataset": "curation.clip_dataset"}


def __getattr__(name: str) -> Any:
    """Import on first use: who only scans does not wait for what training needs."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
