"""Whatever an engine does to itself, each clip gets a result; only the one to blame an error."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest

from captioner.engine_config import EngineConfig, EngineOptionError
from captioner.frames import FrameBatch, Picture
from captioner.result import CaptionResult
from curation.engine_process import EngineLostError, EngineProcess
from tests.curation.stand_ins import said


def clip(grey: int, start: float = 0.0) -> FrameBatch:
    picture = Picture.from_rgb(np.full((36, 64, 3), grey, np.uint8), start)
    return FrameBatch((picture,), (), start, start + 1, 25.0)


@contextmanager
def engine(name: str, patience: float = 60.0) -> Iterator[EngineProcess]:
    with EngineProcess(EngineConfig(f"tests.curation.stand_ins:{name}"), patience) as process:
        yield process


def ask(process: EngineProcess, clips: list[FrameBatch]) -> list[CaptionResult]:
    config = EngineConfig("tests.curation.stand_ins:Plain")
    asked = [process.submit(config.prepare(one)) for one in clips]
    return [future.result(timeout=60) for future in asked]


def test_each_clip_gets_its_own_result_and_the_gauge_counts_them() -> None:
    clips = [clip(10 * i) for i in range(20)]
    with engine("Streaming") as process:
        results = ask(process, clips)
        gauge = process.gauge()
        assert process.identity == {"engine": "streaming"}
    assert [r.caption and r.caption.environment for r in results] == [said(one) for one in clips]
    assert (gauge.clips, gauge.statuses, gauge.queue, gauge.in_flight) == (20, {"ok": 20}, 0, 0)
    assert 0 <= gauge.wait_share <= 1


def test_a_killed_engine_is_started_anew_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    with engine("DiesOnce") as process:
        assert [r.status for r in ask(process, [clip(i) for i in range(12)])] == ["ok"] * 12
        assert process.gauge().deaths == 1


def test_what_an_engine_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned = tmp_path / "spawned"
    monkeypatch.setenv("SPAWNED", str(spawned))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with engine("Spawns") as process:
        ask(process, [clip(1), clip(2, start=1.0)])  # the second one kills the engine
        ask(process, [clip(3)])
        assert list(tmp_path.glob("skycaptioner-*/socket")), "where vLLM puts its own"
    assert not list(tmp_path.glob("skycaptioner-*"))
    children = [int(line) for line in spawned.read_text().split()]
    assert len(children) >= 3
    for _ in range(50):
        left = [pid for pid in children if is_running(pid)]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"{len(left)} processes are left")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_clip_that_kills_the_engine_is_the_only_one_to_fail() -> None:
    starts = [0.0] * 9
    starts[5] = 1.0
    with engine("Deadly") as process:
        results = ask(process, [clip(9, start) for start in starts])
        assert [r.status for r in results] == ["ok" if start == 0 else "error" for start in starts]
        assert "SIGKILL" in str(results[5].error)
        assert process.gauge().statuses == {"ok": 8, "error": 1}


def test_closed_while_its_engine_is_started_anew_it_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = SpawnProcess.start

    def slowly(process: SpawnProcess) -> None:
        time.sleep(0.3)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", slowly)
    with engine("Deadly") as process:
        assert [r.status for r in ask(process, [clip(9, 1.0)])] == ["error"]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("name", "why"), [("Hangs", "no result for 3 s"), ("Raises", "a bug of")])
def test_a_clip_that_hangs_or_breaks_the_engine_says_why(name: str, why: str) -> None:
    with engine(name, patience=3.0) as process:
        first, second, third = ask(process, [clip(1), clip(2, 1.0), clip(3)])
    assert (first.status, second.status, third.status) == ("ok", "error", "ok")
    assert why in str(second.error)


def test_an_engine_that_cannot_be_kept_alive_is_given_up() -> None:
    with engine("DiesAlways") as process:
        prepared = EngineConfig("tests.curation.stand_ins:Plain").prepare(clip(1))
        futures = [process.submit(prepared) for _ in range(9)]
        errors = [future.exception(timeout=60) for future in futures]
        assert isinstance(errors[-1], EngineLostError)
        assert "exit code 3" in str(errors[-1])
        assert isinstance(process.submit(prepared).exception(), EngineLostError)


def test_a_mistake_is_refused_at_the_start_and_a_bug_told_in_full() -> None:
    with pytest.raises(EngineOptionError, match="no such model"), engine("refuses"):
        pass
    with pytest.raises(EngineLostError, match="ZeroDivisionError"), engine("is_broken"):
        pass
    with pytest.raises(EngineOptionError, match="cannot be imported"), engine("nothing"):
        pass
