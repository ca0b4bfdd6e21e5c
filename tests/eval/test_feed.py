from pathlib import Path

import pytest

from captioner.engine_config import EngineConfig
from curation.rows import RowConfig, Work
from curation.scan import ScanConfig
from curation.sources import Hashes, identify
from eval.feed import SECONDS, in_batches, streamed, unavoidable
from tests import clips


def test_what_cannot_be_avoided_is_the_time_in_which_nothing_is_decoded() -> None:
    assert unavoidable([0.0, 0.1, 0.2], 1.0) == 0
    assert unavoidable([0.0, 3.0, 3.1, 9.0], 1.0) == pytest.approx(2 + 4)


def test_a_slow_engine_waits_for_nothing_when_fed_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [clips.two_shots(tmp_path / f"{i}.mp4", seed=i) for i in range(6)]
    works = [Work(source) for source in identify(paths, Hashes(tmp_path / "hashes.json").sha256)]
    monkeypatch.setenv(SECONDS, "0.5")
    engine = EngineConfig("eval.feed:StandIn", known=(("engine", "stand-in"),))
    config = RowConfig(ScanConfig("none"), engine.name, options=engine)
    ours = streamed(works, config, 1, engine, 0.5)
    assert ours.clips == 6
    assert ours.running >= 6 * 0.5
    alternating = in_batches(paths, 0.05, 1, prefetched=False)
    assert alternating.clips == 6
    assert 0 < alternating.wait_share < 1
    assert ours.wait_share < alternating.wait_share
