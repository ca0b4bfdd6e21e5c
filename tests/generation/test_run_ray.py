"""On a Ray cluster: the same rows as on one machine, though a prompt kills its actor."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from generation.config import GenerationConfig
from generation.frames import GenerationOptionError
from generation.ledger import Generation, opened, read_generations
from generation.model import VideoModel
from generation.run import config_hash, run, run_by
from generation.run_ray import Pool, RayEngine, whole_cluster
from tests.generation.stand_ins import Stub, prompts, small

ray = pytest.importorskip("ray")

CORE = Pool(1, gpus=0)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def refuses() -> VideoModel:
    raise GenerationOptionError("no such checkpoint")


def engine(config: GenerationConfig, load: Any = Stub, pool: Pool = CORE) -> RayEngine:
    return RayEngine(load, "stub@1", config, config_hash(config, None), pool)


def facts(folder: Path) -> list[Generation]:
    return read_generations(folder)


def test_the_same_rows_and_videos_as_on_one_machine(tmp_path: Path) -> None:
    config = small()
    asked = prompts("a cat", "oom", "black", "a dog", "a cow")
    with opened(tmp_path / "far") as ledger:
        pool = Pool(2, gpus=0)
        list(run_by(engine(config, pool=pool), asked, "stub@1", config, ledger))
    with opened(tmp_path / "near") as ledger:
        list(run(asked, Stub(), config, ledger))
    rows = facts(tmp_path / "far")
    assert rows == facts(tmp_path / "near")
    assert [row.status for row in rows] == ["ok", "error", "error", "ok", "ok"]
    for row in rows:
        if row.video is not None:
            far, near = (tmp_path / name / row.video for name in ("far", "near"))
            assert far.read_bytes() == near.read_bytes()


def test_a_prompt_that_kills_its_process_costs_one_row(tmp_path: Path) -> None:
    config, log = small(), tmp_path / "asked.txt"
    asked = prompts("a cat", "die", "a dog")
    with opened(tmp_path / "out") as ledger:
        made = run_by(engine(config, partial(Stub, log=log)), asked, "stub@1", config, ledger)
        list(made)
    rows = facts(tmp_path / "out")
    assert [row.status for row in rows] == ["ok", "error", "ok"]
    assert "the process that generated it died, 2 times" in (rows[1].error or "")
    assert sorted(log.read_text().split()) == ["clip000", "clip001", "clip001", "clip002"]


def test_a_model_that_is_refused_is_told(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        made = run_by(engine(small(), refuses), prompts("a"), "stub@1", small(), ledger)
        with pytest.raises(GenerationOptionError, match="no such checkpoint"):
            list(made)
    assert facts(tmp_path) == []


def test_a_cluster_without_gpus_has_one_model_on_a_core() -> None:
    assert whole_cluster() == CORE
    with pytest.raises(GenerationOptionError, match="at least one"):
        Pool(0)
