"""Rows, videos and resuming, with a model that does what its prompt says."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from captioner import schema
from captioner.decode import read_clip
from captioner.engines.vlm import Generation as Answer
from captioner.engines.vlm import Request
from curation.layouts.clips import FileMedia
from eval.synth import write_video
from generation.config import configure
from generation.enhance import Enhancer
from generation.frames import GenerationOptionError
from generation.ledger import EVERY, Generation, arrow_schema, opened, read_generations
from generation.prompts import RealClip
from generation.run import run
from tests.clips import panning
from tests.generation.stand_ins import SMALL, Stub, prompts, small

CONTRACT = [
    *("generation_id", "clip_id", "source_sha256", "concept", "task", "prompt", "prompt_sent"),
    *("caption", "seed", "model", "config_hash", "preset", "frames", "fps", "width", "height"),
    *("video", "condition", "status", "error", "seconds", "peak_bytes", "steps"),
]


def generate(
    folder: Path, texts: list[str], stub: Stub | None = None, retry: bool = False
) -> list[Generation]:
    with opened(folder) as ledger:
        list(run(prompts(*texts), stub or Stub(), small(), ledger, retry=retry))
    return read_generations(folder)


def test_a_row_and_a_video_for_each_prompt(tmp_path: Path) -> None:
    rows = generate(tmp_path, ["a cat", "a dog"])
    assert [row.prompt for row in rows] == ["a cat", "a dog"]
    for row in rows:
        frames = read_clip(tmp_path / (row.video or "")).frames
        assert frames.shape[1:] == (row.height, row.width, 3) == (32, 48, 3)
        assert (row.frames, row.fps, row.status, row.seconds) == (5, 24.0, "ok", 0.25)
        edge = 4 + row.seed
        assert abs(frames[0, 16, edge - 3].astype(int) - 200).max() < 12
        assert abs(frames[0, 16, edge + 3].astype(int) - 40).max() < 12


def test_the_columns_are_those_that_the_loop_reads(tmp_path: Path) -> None:
    generate(tmp_path, ["a cat"])
    found = pq.read_schema(tmp_path / "generations.parquet")
    assert found.names == CONTRACT
    assert found.field("caption").type == schema.arrow_type()
    assert all(field.metadata[b"description"] for field in arrow_schema())


def test_one_prompt_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = generate(tmp_path, ["black night", "oom", "crash", "a cat"])
    assert [row.status for row in rows] == ["error", "error", "error", "ok"]
    assert [row.video is None for row in rows] == [True, True, True, False]
    black, memory, crash = (row.error or "" for row in rows[:3])
    assert "all 5 frames are black" in black
    assert memory == "out of memory (24 GiB asked for)"
    assert crash.startswith("Traceback")
    assert "ZeroDivisionError: by a prompt" in crash
    assert len(list((tmp_path / "videos").iterdir())) == 1


def test_a_real_clip_that_is_gone_costs_its_row_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "real.mp4", panning(3, 5, 96, 64))
    gone, there = prompts("a cat", "a dog")
    asked = [gone, replace(there, clip=RealClip(FileMedia(path), path, None))]
    config = configure("i2v", **{**SMALL, "height": 64, "width": 96})  # type: ignore[arg-type]
    with opened(tmp_path / "out") as ledger:
        list(run(asked, Stub(), config, ledger))
    first, second = read_generations(tmp_path / "out")
    assert (first.status, first.condition) == ("error", None)
    assert (first.error or "").startswith("the real clip cannot be read (")
    assert (second.status, second.condition) == (
        "ok",
        f"conditions/{second.generation_id}.png",
    )
    given = cv2.imread(str(tmp_path / "out" / (second.condition or "")), cv2.IMREAD_COLOR_RGB)
    assert given is not None
    assert np.abs(given.astype(float) - panning(3, 5, 96, 64)[0]).mean() < 6


def test_a_second_run_generates_only_what_is_missing(tmp_path: Path) -> None:
    first, second, third = Stub(), Stub(), Stub()
    before = generate(tmp_path, ["a cat", "oom"], first)
    content = (tmp_path / "generations.parquet").read_bytes()
    assert generate(tmp_path, ["a cat", "oom"], second) == before
    assert second.asked == []
    assert (tmp_path / "generations.parquet").read_bytes() == content
    generate(tmp_path, ["a cat", "oom", "a dog"], third, retry=True)
    assert third.asked == ["oom", "a dog"]
    other = Stub(name="stub@2")
    assert len(generate(tmp_path, ["a cat", "oom", "a dog"], other)) == 6
    assert other.asked == ["a cat", "oom", "a dog"], "other weights make other videos"


_RUN = """
import sys
from pathlib import Path
from generation.ledger import opened
from generation.prompts import RealClip
from generation.run import run
from tests.clips import panning
from tests.generation.stand_ins import SMALL, Stub, prompts, small
out = Path(sys.argv[1])
texts = [f"prompt {n}" for n in range(12)]
with opened(out) as ledger:
    for row in run(prompts(*texts), Stub(slow=0.03, log=out / "asked.txt"), small(), ledger):
        pass
"""


def test_killed_again_and_again_nothing_is_generated_twice_or_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RUN, str(tmp_path)]
    log = tmp_path / "asked.txt"
    kept: set[str] = set()
    for _ in range(3):
        before = len(log.read_text().split()) if log.exists() else 0
        process = subprocess.Popen(command)
        while process.poll() is None and (
            not log.exists() or len(log.read_text().split()) < before + 3
        ):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with opened(tmp_path) as ledger:
            now = set(ledger.rows)
        assert kept <= now, "a row was lost"
        kept = now
    assert 0 < len(kept) < 12
    subprocess.run(command, check=True)
    rows = read_generations(tmp_path)
    assert len(rows) == 12
    assert {row.status for row in rows} == {"ok"}
    # At each kill one prompt was in the making, and is begun again; none that had its row.
    assert 12 <= len(log.read_text().split()) <= 12 + 3
    names = {path.name for path in (tmp_path / "videos").iterdir()}
    assert names == {Path(row.video or "").name for row in rows}
    whole = generate(tmp_path / "whole", [f"prompt {n}" for n in range(12)])
    assert rows == whole
    for row in rows:
        path = row.video or ""
        assert (tmp_path / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_rows_go_into_the_ledger_now_and_then(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        made = run(prompts(*(f"{n}" for n in range(EVERY + 1))), Stub(), small(), ledger)
        for _ in range(EVERY):
            next(made)
        assert len(read_generations(tmp_path)) == EVERY
        assert not (tmp_path / "state" / "generations.jsonl").exists()


def test_a_journal_cut_short_loses_its_last_line_alone(tmp_path: Path) -> None:
    generate(tmp_path, ["a cat"])
    [row] = read_generations(tmp_path)
    (tmp_path / "generations.parquet").unlink()
    line = row.model_dump_json(by_alias=True)
    (tmp_path / "state" / "generations.jsonl").write_text(f"{line}\n{line[:50]}")
    with opened(tmp_path) as ledger:
        assert list(ledger.rows.values()) == [row]
    assert read_generations(tmp_path) == [row]


def test_folders_that_hold_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    with (
        pytest.raises(GenerationOptionError, match="holds a dataset or a curation"),
        opened(tmp_path),
    ):
        pass
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "generations.parquet").write_bytes(b"PAR1")
    with pytest.raises(GenerationOptionError, match="cannot be read"), opened(broken):
        pass
    with pytest.raises(GenerationOptionError, match=r"holds no generations\.parquet"):
        read_generations(tmp_path)


class Writer:
    """Answers prompts in capitals; fails where it is told to."""

    name = "writer"

    def generate(self, requests: list[Request]) -> list[Answer]:
        return [self._answer(request.prompt) for request in requests]

    def _answer(self, prompt: str) -> Answer:
        said = prompt.partition("Description:\n")[2].partition("\n")[0]
        if "refuse" in said:
            return Answer("", "error", "HTTP 500")
        if "silent" in said:
            return Answer(" \n", "stop")
        return Answer(f"  {said.upper()}\n at noon ", "length" if "endless" in said else "stop")

    def stream(self, requests: object) -> object:
        raise NotImplementedError

    def identity(self) -> dict[str, str]:
        return {"model": "writer-1"}


def test_prompts_are_enhanced_or_fail_with_the_reason(tmp_path: Path) -> None:
    texts = ["a cat", "refuse", "silent", "endless"]
    stub = Stub()
    with opened(tmp_path) as ledger:
        list(run(prompts(*texts), stub, small(), ledger, Enhancer(Writer())))  # type: ignore[arg-type]
    rows = {row.prompt: row for row in read_generations(tmp_path)}
    assert stub.asked == ["A CAT at noon"]
    assert rows["a cat"].prompt_sent == "A CAT at noon"
    assert rows["refuse"].error == "the prompt was not enhanced: HTTP 500"
    assert "said nothing" in (rows["silent"].error or "")
    assert "came to no end" in (rows["endless"].error or "")
    plain = generate(tmp_path / "plain", ["a cat"])
    assert plain[0].config_hash != rows["a cat"].config_hash
    assert json.dumps(plain[0].prompt_sent) == '"a cat"'


def test_the_seed_decides_the_picture(tmp_path: Path) -> None:
    rows = generate(tmp_path, ["same", "same"])
    first, second = (read_clip(tmp_path / (row.video or "")).frames for row in rows)
    assert not np.array_equal(first, second)
