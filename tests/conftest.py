"""Settings for all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("shared-machine")

SLOWEST = (
    "test_vllm",
    "test_sft",
    "test_curate",
    "test_caption",
    "test_loop_demo",
    "test_loop",
    "test_scorers",
    "test_server_vllm",
    "test_select",
    "test_ray_train",
    "test_generate",
    "test_worker",
    "test_precompute",
    "test_labels",
    "test_finetune",
    "test_evaluate",
    "test_engine_process",
    "test_fuse",
    "test_clip_dataset",
    "test_overfit",
)
"""Files that take the longest, in the order of their time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files, so that no worker is left alone with one at the end."""
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(Path(item.path).stem, len(rank)))
