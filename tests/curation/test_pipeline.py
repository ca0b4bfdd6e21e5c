from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from captioner import Captioner, FrameBatch
from captioner.decode_pyav import Position
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from curation.ledger import Row
from curation.output import Output
from curation.pipeline import Done, gather, unfinished, works
from curation.rows import Made, RowConfig, Scanned, Work, make_rows
from curation.scan import ScanConfig
from curation.segments import Seam, Seams, Segment
from curation.sources import Hashes, Source, identify
from curation.worker import Ended
from tests import clips

CONFIG = RowConfig(ScanConfig(), "experts")


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
    (source,) = identify(
        [clips.two_shots(tmp_path / "a.mp4")], Hashes(tmp_path / "hashes.json").sha256
    )
    return source


def rows_of(source: Source, engine: Counting, finished: dict[str, Row] | None = None) -> list[Row]:
    making = make_rows(Work(source, finished=finished or {}), CONFIG, Captioner(engine))
    return [made.row for made in making]


def in_this_process(todo: Sequence[Work], engine: Counting) -> Iterator[tuple[Work, Made | Ended]]:
    for work in todo:
        for made in make_rows(work, CONFIG, Captioner(engine)):
            yield work, made
        yield work, Ended(Scanned(), {})


def caption(source: Source, engine: Counting, out: Output) -> list[Done]:
    todo = list(works([source], CONFIG, out))
    return list(gather(in_this_process(todo, engine), todo, CONFIG, out))


def test_finished_clips_are_not_captioned_again(tmp_path: Path) -> None:
    source, engine = a_source(tmp_path), Counting()
    rows = rows_of(source, engine)
    assert engine.asked == 2
    assert rows_of(source, engine, {rows[0].clip_id: rows[0]}) == rows
    assert engine.asked == 3


def test_a_stopped_run_keeps_the_shots_it_finished(tmp_path: Path) -> None:
    source, out = a_source(tmp_path), Output(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        caption(source, Counting(breaks=2), out)
    assert out.rows() == []
    again = Counting()
    caption(source, again, out)
    assert again.asked == 1
    assert [row.shot for row in out.rows()] == [0, 1]


def test_a_shot_that_breaks_the_engine_is_an_error_row(tmp_path: Path) -> None:
    first, second = rows_of(a_source(tmp_path), Counting(breaks=0))
    assert {first.decision, second.decision} == {"error"}
    assert first.error == "it broke"
    assert first.caption is None
    assert first.frames == 25


def test_a_stage_that_raises_costs_its_clip_alone(tmp_path: Path) -> None:
    class Raising(Counting):
        def caption(self, batches: Sequence[FrameBatch]) -> list[CaptionResult]:
            if self.asked == 0:
                self.asked = 1
                raise ZeroDivisionError("seen in the row")
            return super().caption(batches)

    first, second = rows_of(a_source(tmp_path), Raising())
    assert (first.decision, first.stage, second.decision) == ("error", "caption", "keep")
    assert "seen in the row" in str(first.error)


def test_damage_is_in_the_rows(tmp_path: Path) -> None:
    path = clips.bit_flipped(tmp_path / "a.mp4")
    (source,) = identify([path], Hashes(tmp_path / "hashes.json").sha256)
    rows = rows_of(source, Counting())
    assert any(row.decision == "keep" for row in rows)


def test_the_hash_follows_what_the_rows_depend_on(tmp_path: Path) -> None:
    others = [
        RowConfig(ScanConfig(detector="content"), "experts"),
        RowConfig(ScanConfig(min_shot=0.5), "experts"),
        RowConfig(ScanConfig(max_shot=9.0), "experts"),
        RowConfig(ScanConfig(), None),
        RowConfig(ScanConfig(), "experts", measures=True),
    ]
    assert len({CONFIG.hash(), *(other.hash() for other in others)}) == 6
    assert RowConfig(ScanConfig(), "experts").hash() == CONFIG.hash()
    source, out = a_source(tmp_path), Output(tmp_path / "out")
    assert unfinished([source], CONFIG, out) == [source]
    caption(source, Counting(), out)
    assert unfinished([source], CONFIG, out) == []
    assert unfinished([source], others[0], out) == [source]


def test_segments_of_a_source_become_one_part_in_order(tmp_path: Path) -> None:
    source, out = a_source(tmp_path), Output(tmp_path / "out")
    first, second = rows_of(source, Counting())
    at = Position(first.end_pts or 0, 25)
    halves = Segment(0, at), Segment(25, None, (at,))
    todo = [Work(source, half) for half in halves]
    seam = Seam(25, at.pts, None)
    ends = [
        Ended(Scanned(("damage",), s), {"scan": 1.5})
        for s in (Seams(None, seam), Seams(seam, None))
    ]
    events: list[tuple[Work, Made | Ended]] = [
        (todo[1], Made(second)),
        (todo[0], Made(first)),
        (todo[0], ends[0]),
        (todo[1], ends[1]),
    ]
    torn = [*events[:3], (todo[1], Ended(Scanned((), Seams(None, None)), {"scan": 1.5}))]
    assert list(gather(torn, todo, CONFIG, out)) == [], "its segments do not fit together"
    assert out.rows() == []
    (done,) = gather(events, todo, CONFIG, out)
    assert (done.clips, done.cpu) == (2, {"scan": 3.0})
    assert [(row.shot, row.clip_id) for row in out.rows()] == [
        (0, first.clip_id),
        (1, second.clip_id),
    ]
    assert out.rows()[0].warning == "damage"
