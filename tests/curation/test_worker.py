"""What a process does to itself costs the clip that it had, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.ledger import Row
from curation.rows import RowConfig, Work
from curation.scan import ScanConfig
from curation.sources import Hashes, identify
from curation.worker import Ended, Limits, Worker
from tests import clips

CONFIG = RowConfig(ScanConfig(), "experts")

# Imported by the child as it starts: the second clip that is captioned meets its end.
BREAKS = """
import os, time
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from captioner.captioner import Captioner

def caption(self, batch):
    if batch.start > 0:
        {deed}
    return CaptionResult("ok", "test", ShotCaption())

Captioner.caption = caption
"""

DEEDS = {
    "dies": "os.kill(os.getpid(), 11)",
    "hangs": "time.sleep(1000)",
    "eats": "full = [b'1' * (1 << 26) for _ in range(64)]; time.sleep(1000)",
    "raises": "raise RuntimeError('no good')",
}
SAYS = {
    "dies": "SIGSEGV",
    "hangs": "caption took longer than 5 s",
    "eats": "MiB of memory",
    "raises": "no good",
}


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(CONFIG, Limits(seconds=5.0, memory=700 << 20))
    yield worker
    worker.close()


@pytest.mark.parametrize("deed", DEEDS)
def test_a_bad_clip_costs_its_row_alone(
    deed: str, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BREAKS.format(deed=DEEDS[deed]))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    videos = [clips.two_shots(tmp_path / f"{i}.mp4", seed=2 * i) for i in range(2)]
    for source in identify(videos, Hashes(tmp_path / "hashes.json").sha256):
        rows, ended = all_of(worker, Work(source))
        assert [row.decision for row in rows] == ["keep", "error"]
        assert SAYS[deed] in str(rows[1].error)
        assert (rows[1].first_frame, rows[1].frames) == (25, 25)
        assert ended.final


def test_a_decoder_that_dies_costs_its_source_alone(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        BREAKS.format(deed="pass")
        + """
import captioner.decode as d
real = d.open_video
def open_video(path, *rest, **more):
    if path.name == "bad.mp4": os.abort()
    return real(path, *rest, **more)
d.open_video = open_video
"""
    )
    (tmp_path / "sitecustomize.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    videos = [clips.two_shots(tmp_path / f"{n}.mp4", seed=i) for i, n in enumerate(("bad", "good"))]
    bad, good = identify(videos, Hashes(tmp_path / "hashes.json").sha256)
    rows, ended = all_of(worker, Work(bad))
    assert [row.stage for row in rows] == ["worker"]
    assert "SIGABRT" in str(rows[0].error)
    assert not ended.final, "the next run tries again"
    rows, _ = all_of(worker, Work(good))
    assert [row.decision for row in rows] == ["keep", "keep"]


def all_of(worker: Worker, work: Work) -> tuple[list[Row], Ended]:
    rows, making = [], worker.make(work)
    while True:
        try:
            rows.append(next(making).row)
        except StopIteration as stop:
            return rows, stop.value
