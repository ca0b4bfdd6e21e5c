"""A tiny model and the targets of a few rendered clips, made once."""

import os
from pathlib import Path

import pytest

from eval.synth_figures import render
from finetune.labels import build, make_config
from finetune.targets import SPLITS, read_targets, write_targets
from tests.captioner.engines.conftest import tiny_model  # noqa: F401  a fixture

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    testset = render(folder / "set", 24, seed=5, workers=1)
    build(make_config(human=[testset], splits=["train=.75", "validation=.25"]), folder / "labels")
    return folder / "labels"


def few(labels: Path, count: int, into: Path) -> Path:
    """The first targets of each split, in a folder of their own."""
    taken = [
        one.model_copy(update={"video": str((labels / one.video).resolve())})
        for split in SPLITS
        for one in read_targets(labels, split)[:count]
    ]
    write_targets(into, taken)
    return into
