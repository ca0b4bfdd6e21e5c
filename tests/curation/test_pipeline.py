from collections.abc import Sequence
from pathlib import Path

import pytest

from captioner import Captioner, FrameBatch
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import CaptionConfig, caption_source, unfinished, work
from curation.scan import ScanConfig
from curation.sources import Hashes, Source, identify
from tests import clips

CONFIG = CaptionConfig(ScanConfig(), "experts")


class Counting:
    """An engine that says how often it was asked, and fails from its `breaks`-th clip on."""

    name = "counting"

    def __init__(self, breaks: int | None = None) -> None:
        self.asked = 0
        self.breaks = breaks

    def caption(self, batches: Sequence[FrameBatch]) -> list[CaptionResult]:
        self.asked += 1
        if self.asked == self.breaks:
            raise KeyboardInterrupt
        if self.breaks is not None and self.asked > self.breaks:
            return [CaptionResult("error", self.name, None, error="it broke") for _ in batches]
        return [CaptionResult("ok", self.name, ShotCaption()) for _ in batches]

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}


def a_source(tmp_path: Path) -> Source:
    (source,) = identify([clips.two_shots(tmp_path / "a.mp4")], Hashes(tmp_path / "hashes.json"))
    return source


def rows_of(source: Source, engine: Counting, finished: dict[str, Row] | None = None) -> list[Row]:
    return caption_source(source, CONFIG, Captioner(engine), finished or {}, lambda *_: None)


def test_finished_clips_are_not_captioned_again(tmp_path: Path) -> None:
    source, engine = a_source(tmp_path), Counting()
    rows = rows_of(source, engine)
    assert engine.asked == 2
    assert rows_of(source, engine, {rows[0].clip_id: rows[0]}) == rows
    assert engine.asked == 3


def test_a_stopped_run_keeps_the_shots_it_finished(tmp_path: Path) -> None:
    source, out = a_source(tmp_path), Output(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        work(source, CONFIG, Captioner(Counting(breaks=2)), out)
    assert out.rows() == []
    again = Counting()
    work(source, CONFIG, Captioner(again), out)
    assert again.asked == 1
    assert [row.shot for row in out.rows()] == [0, 1]


def test_a_shot_that_breaks_the_engine_is_an_error_row(tmp_path: Path) -> None:
    first, second = rows_of(a_source(tmp_path), Counting(breaks=0))
    assert {first.decision, second.decision} == {"error"}
    assert first.error == "it broke"
    assert first.caption is None
    assert first.frames == 25


def test_damage_is_in_the_rows(tmp_path: Path) -> None:
    path = clips.bit_flipped(tmp_path / "a.mp4")
    (source,) = identify([path], Hashes(tmp_path / "hashes.json"))
    rows = rows_of(source, Counting())
    assert any(row.decision == "keep" for row in rows)


def test_the_hash_follows_what_the_rows_depend_on(tmp_path: Path) -> None:
    others = [
        CaptionConfig(ScanConfig(detector="content"), "experts"),
        CaptionConfig(ScanConfig(min_shot=0.5), "experts"),
        CaptionConfig(ScanConfig(max_shot=9.0), "experts"),
    ]
    assert len({CONFIG.hash(), *(other.hash() for other in others)}) == 4
    assert CaptionConfig(ScanConfig(), "experts").hash() == CONFIG.hash()
    source, out = a_source(tmp_path), Output(tmp_path / "out")
    assert unfinished([source], CONFIG, out) == [source]
    work(source, CONFIG, Captioner(Counting()), out)
    assert unfinished([source], CONFIG, out) == []
    assert unfinished([source], others[0], out) == [source]
