"""On a Ray cluster: the same rows as on one machine, whatever happens to an engine's actor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.engine_config import EngineConfig, EngineOptionError
from curation.engine_metrics import Board, Gauge
from curation.engine_ray import EnginePool, identify, run_ray
from curation.events import Event
from curation.output import Output
from curation.pipeline import gather, run_local, works
from curation.rows import RowConfig, Work
from curation.scan import ScanConfig
from curation.sources import Hashes, Source
from curation.sources import identify as identify_sources
from tests import clips

ray = pytest.importorskip("ray")

POOL = EnginePool(smallest=1, largest=2, gpus=0, cpus=0.5)


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("died") / "died"


@pytest.fixture(scope="module")
def cluster(died: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        patch.setenv("DIED", str(died))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def config_of(engine: str) -> RowConfig:
    options = EngineConfig(f"tests.curation.stand_ins:{engine}")
    return RowConfig(ScanConfig(), options.name, options=options)


def rows(events: Iterator[Event], todo: list[Work], config: RowConfig, out: Output) -> list[object]:
    list(gather(events, todo, config, out))
    return [(row.clip_id, row.caption, row.caption_status, row.error) for row in out.rows()]


def test_the_same_rows_as_on_one_machine_though_an_engines_actor_is_killed(
    cluster: None, died: Path, tmp_path: Path
) -> None:
    videos = [clips.two_shots(tmp_path / f"{i}.mp4", seed=2 * i) for i in range(3)]
    videos.append(clips.truncated(tmp_path / "nothing.mkv", 0.01))
    sources: list[Source] = list(identify_sources(videos, Hashes(tmp_path / "hashes.json").sha256))
    config, board = config_of("KillsItsParentOnce"), Board()
    here, there = Output(tmp_path / "here"), Output(tmp_path / "there")
    todo = list(works(sources, config, there))
    far = rows(run_ray(todo, config, 1, pool=POOL, board=board), todo, config, there)
    assert died.exists(), "an actor was killed, and it cost nothing"
    near = rows(run_local(todo, config, 1), todo, config, here)
    assert far == near
    assert len(far) == 7
    assert board.total().statuses["ok"] >= 1


def test_an_engine_is_refused_before_any_video_is_decoded(cluster: None) -> None:
    with pytest.raises(EngineOptionError, match="no such model"):
        identify(EngineConfig("tests.curation.stand_ins:refuses"), POOL)
    known = identify(EngineConfig("tests.curation.stand_ins:Plain"), POOL)
    assert known == {"engine": "plain"}


def test_a_pool_that_cannot_be_is_refused() -> None:
    with pytest.raises(EngineOptionError, match="the smallest is at least 1"):
        EnginePool(smallest=2, largest=1)


def test_gauges_of_engines_add_up() -> None:
    board = Board()
    board.tell("a", Gauge(clips=3, running=2.0, waiting=1.0, statuses={"ok": 3}))
    board.tell("b", Gauge(clips=9, running=2.0, statuses={"ok": 8, "error": 1}))
    board.tell("a", Gauge(clips=5, running=2.0, waiting=1.0, statuses={"ok": 5}))
    total = board.total()
    assert (total.clips, total.engines, total.statuses) == (14, 2, {"ok": 13, "error": 1})
    assert total.wait_share == 0.25
    assert total.clips_per_second == 7.0, "two engines, two seconds each"
