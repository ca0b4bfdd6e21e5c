"""Rates: what a run measured is what the next estimate says."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from curation.engine_metrics import Gauge
from curation.estimate import Clips, Cluster, Estimate, Rates, estimate, plan, rates, remember
from curation.pipeline import Done
from curation.rows import RowConfig
from curation.scan import ScanConfig
from curation.sources import Hashes, Source, identify
from tests import clips

CONFIG = RowConfig(ScanConfig(), None, measures=True)


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCAPTIONER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return identified(clips.two_shots(tmp_path / "a.mp4"))


def identified(path: Path) -> Source:
    (source,) = identify([path], Hashes(path.parent / "hashes.json").sha256)
    return source


def test_a_run_is_what_the_next_estimate_says(source: Source) -> None:
    done = [
        Done(source, 2, 2.0, {"scan": 1.0, "measure": 0.5}, ()),
        Done(source, 2, 6.0, {"scan": 3.0}, ()),
    ]
    cut = Clips(cpu=0.25, bytes=1000.0, kept=0.5)
    measured = rates(done, Gauge(clips=4, running=10.0, waiting=2.0), cut)
    assert measured == Rates(
        video_seconds=8.0, cpu={"scan": 0.5, "measure": 0.0625}, engine=1.0, clips=cut
    )
    remember(CONFIG, measured)
    known = estimate([source], CONFIG, clips=True)
    assert (known.rates, known.video_seconds, known.unreadable) == (measured, 2.0, 0)
    assert "last run" in known.measured_on
    remember(CONFIG, replace_clips(measured))
    assert estimate([source], CONFIG, clips=True).rates == measured, "no clips cut: as before"
    other = replace(CONFIG, measures=False)
    assert "done now" in estimate([source], other).measured_on, "another configuration"


def replace_clips(measured: Rates) -> Rates:
    return measured.model_copy(update={"clips": None})


def test_a_run_that_did_nothing_teaches_nothing(source: Source) -> None:
    assert rates([], None) is None
    assert rates([Done(source, 2, 0.0, {}, ())], None) is None


def test_without_a_run_a_source_is_done_to_know(source: Source) -> None:
    known = estimate([source], CONFIG, clips=True)
    assert set(known.rates.cpu) == {"scan", "measure"}
    assert all(rate > 0 for rate in known.rates.cpu.values())
    assert known.rates.clips is not None
    assert known.rates.clips.kept == 1
    assert known.rates.clips.bytes > 0
    assert list(source.path.parent.glob("*.mp4")) == [source.path]


def test_a_source_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    known = estimate([identified(tmp_path / "bad.mp4")], CONFIG, clips=True)
    assert (known.unreadable, known.video_seconds, known.rates.workers) == (1, 0.0, 0.0)


def test_rates_that_are_damaged_or_of_an_older_version_are_as_if_unknown(
    source: Source, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    for content in ("{", '{"experts measures": 0.3}', "[]"):
        (tmp_path / "cache" / "rates.json").write_text(content)
        assert "done now" in estimate([source], CONFIG).measured_on


@pytest.mark.parametrize(
    ("longest", "segment", "engine", "seconds"),
    [
        (10.0, 120.0, None, 25.0),  # four workers share the hundred seconds
        (90.0, math.inf, None, 90.0),  # one has the long film to itself
        (90.0, 30.0, None, 30.0),
        (10.0, 120.0, 0.5, 50.0),
    ],
)
def test_a_run_takes_as_long_as_its_busiest_worker_or_its_engine(
    longest: float, segment: float, engine: float | None, seconds: float
) -> None:
    measured = Rates(video_seconds=9.0, cpu={"scan": 0.4, "measure": 0.6}, engine=engine)
    known = Estimate(100.0, longest, measured, "here", 0)
    assert known.wall_seconds(4, segment) == pytest.approx(seconds)


def test_a_plan_adds_up_and_takes_as_long_as_what_takes_longest(source: Source) -> None:
    cut = Clips(cpu=0.4, bytes=500_000.0, kept=0.5)
    measured = Rates(video_seconds=9.0, cpu={"scan": 0.1, "measure": 0.2}, engine=0.25, clips=cut)
    known = Estimate(2.0, 2.0, measured, "here", 0)
    cluster = Cluster(cores=10, engines=1, price=0.1, engine_price=2.0)
    facts = plan([source], known, 100, cluster)
    assert facts["core_hours"] == 50.0, "half of the video becomes clips"
    assert facts["engine_hours"] == 25.0
    assert facts["cost"] == 55.0
    assert facts["wall_hours"] == 25.0, "the engine is the slower"
    assert facts["clips_gigabytes"] == 90.0
    assert facts["input_gigabytes"] == round(180_000 * source.bytes / 1e9, 1)
    assert plan([source], known, 100, replace(cluster, engines=8))["wall_hours"] == 5.0
    unpriced = Cluster(cores=10)
    assert plan([source], known, 100, unpriced)["cost"] is None
