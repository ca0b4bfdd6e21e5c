"""A tiny model, built once, and how vLLM runs it within the test's own process."""

import os
from pathlib import Path

import numpy as np
import pytest

from captioner.frames import FrameBatch
from tests.clips import panning

# Read by vLLM as it is imported, by PyTorch as it starts.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("torch", "torchvision", "transformers"):
        pytest.importorskip(needed)
    from eval import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny") / "model", vocab=2048)


def clip(seed: int = 0, frames: int = 40, fps: float = 25.0) -> FrameBatch:
    return FrameBatch.from_rgb([np.asarray(f) for f in panning(seed, frames, 320, 180)], fps)
