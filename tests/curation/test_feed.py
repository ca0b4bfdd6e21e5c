"""Clips on their way to an engine: none lost, none twice, a bounded number, ends after rows."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.engine_config import EngineConfig
from captioner.frames import FrameBatch, Picture
from captioner.handover import Prepared
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from curation.engine_process import EngineProcess
from curation.events import Event
from curation.feed import captions, feed
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import Done, do, run_local, unfinished
from curation.rows import Made, RowConfig, Scanned, Work
from curation.scan import ScanConfig
from curation.sources import Hashes, Source, identify
from curation.worker import Ended
from tests import clips

CLIP = FrameBatch((Picture.from_rgb(np.zeros((4, 4, 3), np.uint8), 0.0),), (), 0.0, 1.0, 25.0)
STAGE = captions(EngineConfig("server", endpoint="http://nowhere"))


class Threads:
    """An engine process in name only: answers from threads, in any order."""

    def __init__(self, seed: int, ahead: int) -> None:
        self.random = random.Random(seed)
        self.ahead = ahead
        self.open = self.most = 0
        self.lock = threading.Lock()

    def submit(self, prepared: Prepared) -> Future[CaptionResult]:
        future: Future[CaptionResult] = Future()
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
            status = self.random.choice(["ok", "error"])
            wait = self.random.random() / 200
        threading.Timer(wait, self._answer, (future, status)).start()
        return future

    def _answer(self, future: Future[CaptionResult], status: str) -> None:
        with self.lock:
            self.open -= 1
        if status == "ok":
            future.set_result(CaptionResult("ok", "threads", ShotCaption()))
        else:
            future.set_result(CaptionResult("error", "threads", None, error="no"))


def row(name: str) -> Row:
    about = {"clip_id": name, "source": "a", "decision": "keep", "config_hash": "0", "frames": 1}
    return Row.model_validate(about)


def events_of(shapes: Sequence[Sequence[bool]], seed: int) -> list[Event]:
    """Works side by side: a clip to be captioned (True) or a row that is ready, then the end."""
    streams: list[list[Event]] = []
    for number, shape in enumerate(shapes):
        source = Source(Path(f"{number}.mp4"), sha256=f"{number:032x}")
        work = Work(source)
        made: list[Event] = [
            (work, Made(row(f"{number}-{i}"), clip=Prepared((CLIP,)) if wanted else None))
            for i, wanted in enumerate(shape)
        ]
        streams.append([*made, (work, Ended(Scanned(), {}))])
    mixed, draw = [], random.Random(seed)
    while streams := [stream for stream in streams if stream]:
        mixed.append(draw.choice(streams).pop(0))
    return mixed


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.booleans(), max_size=8), max_size=5), st.integers(0, 99), st.integers(1, 6)
)
def test_every_row_comes_once_before_its_end(
    shapes: list[list[bool]], seed: int, ahead: int
) -> None:
    events, engine = events_of(shapes, seed), Threads(seed, ahead)
    out = list(feed(iter(events), STAGE, cast(EngineProcess, engine), ahead))
    assert engine.most <= ahead
    rows = Counter(e.row.clip_id for _, e in out if isinstance(e, Made))
    assert rows == Counter(e.row.clip_id for _, e in events if isinstance(e, Made))
    over: set[str] = set()
    failed: set[str] = set()
    for work, event in out:
        if isinstance(event, Made):
            assert work.source.key not in over
            assert event.clip is None
            failed |= {work.source.key} if event.row.decision == "error" else set()
        else:
            over.add(work.source.key)
            assert event.final == (work.source.key not in failed), "a failure is tried again"
    assert len(over) == len(shapes)


def test_what_breaks_on_the_way_is_raised() -> None:
    def breaking() -> Iterator[Event]:
        yield from events_of([[True]], 0)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        list(feed(breaking(), STAGE, cast(EngineProcess, Threads(0, 4)), 4))


def test_leaving_early_stops_the_pulling() -> None:
    pulled = Counter[str]()

    def endless() -> Iterator[Event]:
        while True:
            pulled["events"] += 1
            yield from events_of([[True]], 0)[:1]

    going = feed(endless(), STAGE, cast(EngineProcess, Threads(0, 4)), 4)
    next(going)
    going.close()
    before = pulled["events"]
    time.sleep(0.2)
    assert pulled["events"] == before


# --- with real videos, workers and an engine process ----------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    videos = [clips.two_shots(tmp_path / f"{i}.mp4", seed=2 * i) for i in range(2)]
    nothing = clips.truncated(tmp_path / "nothing.mkv", 0.01)  # its header, and no frame
    return list(identify([*videos, nothing], Hashes(tmp_path / "hashes.json").sha256))


def run(sources: list[Source], engine: str, out: Output) -> list[Done]:
    options = EngineConfig(f"tests.curation.stand_ins:{engine}")
    config = RowConfig(ScanConfig(), options.name, options=options)
    todo = unfinished(sources, config, out)
    return list(do(todo, config, out, partial(run_local, config=config, workers=1)))


def test_failures_have_reasons_and_the_next_run_finishes(
    sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UP", str(tmp_path / "up"))
    out = Output(tmp_path / "out")
    run(sources, "Fails", out)
    errors = [one for one in out.rows() if one.decision == "error"]
    assert len(out.rows()) == 5
    assert [one.stage for one in errors] == ["caption", "caption", "open"]
    assert errors[0].error == "500 from the server"
    (tmp_path / "up").touch()
    assert len(run(sources, "Fails", out)) == 2, "the file without a frame is not tried again"
    rows = out.rows()
    assert [one.caption_status for one in rows] == ["ok"] * 4 + [None]
    assert all(one.caption and one.caption.environment for one in rows[:4])


def test_a_deadly_clip_costs_its_row_alone(sources: list[Source], tmp_path: Path) -> None:
    out = Output(tmp_path / "out")
    run(sources[:2], "Deadly", out)
    rows = [(one.first_frame, one.decision, one.caption_status) for one in out.rows()]
    assert rows == [(0, "keep", "ok"), (25, "error", "error")] * 2
    assert "SIGKILL" in str(out.rows()[1].error)


def test_a_run_left_in_the_middle_keeps_its_captions(sources: list[Source], tmp_path: Path) -> None:
    out = Output(tmp_path / "out")
    options = EngineConfig("tests.curation.stand_ins:Plain")
    config = RowConfig(ScanConfig(), options.name, options=options)
    begun: list[object] = []

    def broken(todo: Sequence[Work]) -> Iterator[Event]:
        for event in run_local(todo, config, 1):
            begun.append(event)
            yield event
            if len(begun) == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(do(sources[:1], config, out, broken))
    (journal,) = (tmp_path / "out" / "state").glob("*.jsonl")
    assert '"environment":"grey' in journal.read_text()
    begun.append(None)
    list(do(sources[:1], config, out, broken))
    assert [one.caption_status for one in out.rows()] == ["ok", "ok"]
