"""Makes the registry's torchvision importable beside a CPU build of PyTorch.

torchvision's wheel on the registry is linked against CUDA, so that its operators do not load where
PyTorch has none, and its import then fails for want of them ("operator torchvision::nms does not
exist"). `python -m eval.torchvision_cpu` puts a start-up hook into this Python's site-packages,
which declares the two operators that the import asks for. Resizing and the processors of
transformers then work; nms itself stays unavailable. Nothing is changed beside a CUDA build.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HOOK = "skycaptioner_torchvision_cpu"

_kept: list[Any] = []
"""The declarations, which last as long as their object."""


class Declaring(importlib.abc.MetaPathFinder):
    """Declares torchvision's operators as it is imported, and leaves the import to others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None, always."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def _declare() -> None:
    import torch

    if _kept or torch.backends.cuda.is_built():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)


def hook() -> None:
    """Declare the operators when torchvision is imported; asked twice, as for one asking."""
    if not any(isinstance(finder, Declaring) for finder in sys.meta_path):
        sys.meta_path.insert(0, Declaring())


def install() -> Path:
    """Put the hook into this Python's site-packages, and return the folder."""
    folder = Path(sysconfig.get_path("purelib"))
    source = Path(__file__).read_text(encoding="utf-8")
    (folder / f"{HOOK}.py").write_text(source, encoding="utf-8")
    (folder / f"{HOOK}.pth").write_text(f"import {HOOK}; {HOOK}.hook()\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(f"hook for torchvision on CPU put into {install()}")
