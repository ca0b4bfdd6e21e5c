"""The `caption` command, from its command line on."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curation import inputs
from eval.synth import write_video
from tests import clips
from tests.command import refused, run_apart, run_job
from tests.rows import ledger

VIDEOS = 2
CAPTION = [sys.executable, "-m", "jobs.caption"]
run = partial(run_job, "jobs.caption")
apart = partial(run_apart, "jobs.caption")


def contents(out: Path) -> dict[str, bytes]:
    names = ["captions.jsonl", *(f"ledger/{p.name}" for p in (out / "ledger").glob("*"))]
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`VIDEOS` videos of two shots, and three files that cannot be read."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(VIDEOS):
        clips.two_shots(folder / f"{i}.mp4", seed=2 * i)
    (folder / "bad").mkdir()
    (folder / "bad" / "empty.mp4").touch()
    (folder / "bad" / "text.mp4").write_text("no video")
    clips.audio_only(folder / "bad" / "audio.mp4")
    return folder


@pytest.fixture(scope="session")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an uninterrupted run."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert apart(videos, "-o", out).returncode == 1
    return out


def test_every_shot_and_every_bad_file_has_its_row(videos: Path, finished: Path) -> None:
    rows = ledger(finished)
    kept = [row for row in rows if row["decision"] == "keep"]
    failed = {
        Path(str(row["source"])).name: row["error"] for row in rows if row["decision"] == "error"
    }
    assert len({row["clip_id"] for row in rows}) == len(rows) == 2 * VIDEOS + 3
    assert [(row["first_frame"], row["frames"]) for row in kept] == [(0, 25), (25, 25)] * VIDEOS
    assert "empty" in failed["empty.mp4"]
    assert "not a video" in failed["text.mp4"]
    assert "no video stream" in failed["audio.mp4"]
    assert all(row["caption"]["camera_motion"] or not row["motion_camera"] for row in kept)

    lines = (finished / "captions.jsonl").read_text().splitlines()
    assert [json.loads(line)["clip_id"] for line in lines] == [
        row["clip_id"] for row in sorted(rows, key=lambda r: (r["source"], r["shot"]))
    ]
    page = (finished / "report.html").read_text()
    assert page.count("<article") == 2 * VIDEOS
    assert page.count("data:image/jpeg") == 2 * VIDEOS
    assert "no video stream" in page
    facts = json.loads((finished / "run.json").read_text())
    assert (facts["files"], facts["shots"], facts["failed"]) == (VIDEOS + 3, 2 * VIDEOS, 3)


def test_a_second_run_does_nothing_again(videos: Path, finished: Path) -> None:
    before = contents(finished)
    again = run(videos, "-o", finished)
    assert again.returncode == 1
    assert json.loads(again.stdout)["files_done"] == 0
    assert contents(finished) == before


@pytest.mark.parametrize("seconds", [0.8, 2.0])
def test_a_killed_run_goes_on_to_the_same_rows(
    seconds: float, videos: Path, finished: Path, tmp_path: Path
) -> None:
    started = [*CAPTION, str(videos), "-o", str(tmp_path)]
    process = subprocess.Popen(started, start_new_session=True, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)  # the workers are left to notice it themselves
    process.wait()
    for _ in range(100):
        again = run(videos, "-o", tmp_path)
        if "another run" not in again.stderr:
            break
        time.sleep(0.1)
    assert again.returncode == 1, again.stderr
    assert contents(tmp_path) == contents(finished)
    assert not list(tmp_path.rglob("*.part"))
    assert not list((tmp_path / "state").glob("*.jsonl"))


def test_a_worker_that_dies_costs_one_row(videos: Path, tmp_path: Path) -> None:
    """One file brings its worker down, as a decoder bug would; all others are captioned."""
    script = (
        "import os, captioner.decode as d\n"
        "real = d.open_video\n"
        "def open_video(path, *rest):\n"
        "    if path.name == '1.mp4': os.kill(os.getpid(), 9)\n"
        "    return real(path, *rest)\n"
        "d.open_video = open_video\n"
    )
    (tmp_path / "sitecustomize.py").write_text(script)
    out, path = tmp_path / "out", f"{tmp_path}:{Path.cwd()}"
    assert apart(videos, "-o", out, "--workers", 2, PYTHONPATH=path).returncode == 1
    rows = {Path(str(row["source"])).name: row for row in ledger(out)}
    assert rows["1.mp4"]["stage"] == "worker"
    assert sum(row["decision"] == "keep" for row in ledger(out)) == 2 * VIDEOS - 2
    healed = run(videos, "-o", out)
    assert json.loads(healed.stdout)["files_done"] == 1
    assert sum(row["decision"] == "keep" for row in ledger(out)) == 2 * VIDEOS


def test_a_moved_file_keeps_its_rows_and_a_changed_one_loses_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    video, out = clips.two_shots(tmp_path / "in" / "a.mp4"), tmp_path / "out"
    run(tmp_path / "in", "-o", out)
    first = ledger(out)
    moved = video.rename(video.with_name("b.mp4"))
    again = run(tmp_path / "in", "-o", out)
    assert json.loads(again.stdout)["files_done"] == 0
    assert [row["clip_id"] for row in ledger(out)] == [row["clip_id"] for row in first]
    assert {row["source"] for row in ledger(out)} == {str(moved)}
    clips.two_shots(moved, seed=9)
    run(tmp_path / "in", "-o", out)
    assert len(ledger(out)) == 2
    assert not {row["clip_id"] for row in ledger(out)} & {row["clip_id"] for row in first}


def test_copies_are_captioned_once_and_named(tmp_path: Path) -> None:
    video = clips.two_shots(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(video.read_bytes())
    run(tmp_path, "-o", tmp_path / "out")
    rows = ledger(tmp_path / "out")
    assert len(rows) == 2
    assert all(row["source_copies"] == [str(tmp_path / "b.mp4")] for row in rows)


def test_another_configuration_is_another_result(tmp_path: Path) -> None:
    clips.two_shots(tmp_path / "a.mp4")
    out = tmp_path / "out"
    run(tmp_path, "-o", out)
    run(tmp_path, "-o", out, "--no-split")
    (row,) = ledger(out)
    assert row["frames"] == 50


def test_a_long_film_is_several_works_and_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [clips.panning(seed, 325, 160, 90) for seed in range(2)]
    film = write_video(tmp_path / "a.mp4", shots[0] + shots[1])
    found = []

    def recorded(*given: Any) -> Any:
        found.append(divide(*given))
        return found[-1]

    divide = inputs.divide
    monkeypatch.setattr(inputs, "divide", recorded)
    for name, seconds in (("whole", 60), ("parts", 13)):
        run(film, "-o", tmp_path / name, "--segment", seconds)
    assert [len(one) for one in found] == [1, 2]
    assert len(ledger(tmp_path / "parts")) == 2
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_formats(tmp_path: Path) -> None:
    video = clips.two_shots(tmp_path / "a.mp4")
    run(video, "-o", tmp_path / "out", "--format", "csv", "--format", "json", "--format", "txt")
    assert (tmp_path / "out" / "captions.csv").read_text().count("\n") == 3
    records = json.loads((tmp_path / "a.json").read_text())
    assert [record["caption_t2v"] for record in records] == (
        tmp_path / "a.txt"
    ).read_text().splitlines()
    (tmp_path / "a.txt").write_text("mine")
    again = run(video, "-o", tmp_path / "out", "--format", "txt")
    assert "left as it is" in again.stderr
    assert (tmp_path / "a.txt").read_text() == "mine"
    run(video, "-o", tmp_path / "out", "--format", "txt", "--overwrite")
    assert (tmp_path / "a.txt").read_text() != "mine"


def test_a_bucket_is_captioned_into_a_bucket(s3: Any, tmp_path: Path) -> None:
    video = clips.two_shots(tmp_path / "a.mp4")
    s3.put_file(str(video), "bucket/films/a.mp4")
    s3.pipe_file("bucket/films/bad.mp4", b"no video")
    bucket = ["s3://bucket/films", "-o", "s3://bucket/out"]
    done = run(*bucket)
    assert done.returncode == 1, done.stderr
    assert "s3://bucket/films/bad.mp4: text, not a video" in done.stderr
    rows = [json.loads(line) for line in s3.cat_file("bucket/out/captions.jsonl").splitlines()]
    near = run(video, "-o", tmp_path / "out")
    local = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").open()]
    assert near.returncode == 0
    good = [row for row in rows if row["decision"] == "keep"]
    assert {row.pop("source") for row in good} == {"s3://bucket/films/a.mp4"}
    assert [{**row, "source": str(video)} for row in good] == [
        {**row, "source": str(video)} for row in local
    ]
    facts = json.loads(done.stdout)
    assert (facts["files"], facts["shots"], facts["failed"]) == (2, 2, 1)
    shutil.rmtree(tmp_path / "cache" / "outputs")
    again = json.loads(run(*bucket).stdout)
    assert again["files_done"] == 0, "from another machine, too"
    for option in (["--format", "txt"], ["--dry-run"]):
        refused("jobs.caption", *bucket, *option)
    empty = run("s3://bucket/nothing", "-o", tmp_path / "empty")
    assert empty.returncode == 2
    assert empty.stderr.startswith("caption: no video in s3://bucket/nothing")


def test_a_dry_run_writes_nothing_and_tells_the_time(tmp_path: Path) -> None:
    video = clips.two_shots(tmp_path / "a.mp4")
    dry = run(video, "-o", tmp_path / "out", "--dry-run")
    facts = json.loads(dry.stdout)
    assert facts["to_do"] == 1
    assert facts["video_seconds"] == 2.0
    assert facts["estimated_seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_mistakes_get_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    video = write_video(tmp_path / "a.mp4", clips.panning(0, 3))
    file = tmp_path / "file"
    file.touch()
    out = ["-o", tmp_path / "out"]
    server = ["--engine", "server"]
    for words, arguments in {
        "there is no": [tmp_path / "nothing.mp4", *out],
        "no video in": [tmp_path / "empty", *out],
        "file": [video, "-o", file],
        "max_shot": [video, *out, "--max-shot", 1, "--min-shot", 3],
        "/proc": [video, "-o", "/proc/nowhere"],
        "needs --endpoint": [video, *out, *server],
        "no server answers": [video, *out, *server, "--endpoint", "http://127.0.0.1:9/v1"],
        "only for a model": [video, *out, "--engine", "experts", "--model", "a"],
    }.items():
        assert words in refused("jobs.caption", *arguments)
    assert not (tmp_path / "out").exists()


def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["-v.mp4", "a'b\"c;$(x).mp4", "new\nline.mp4"]
    for seed, name in enumerate(names):
        write_video(tmp_path / name, clips.panning(seed, 3))
    monkeypatch.chdir(tmp_path)
    assert run("-o", "out", "--", *names).returncode == 0
    assert [row["source"] for row in ledger(tmp_path / "out")] == names


def test_a_name_cannot_command_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J\nx.mp4").write_text("no video")
    done = run(tmp_path, "-o", tmp_path / "out")
    (said,) = [line for line in done.stderr.splitlines() if "x.mp4" in line]
    assert r"\x1b[2J\nx.mp4: text, not a video" in said
    assert "\x1b" not in done.stderr
    done = run(tmp_path / "\x1b[2J\nabsent.mp4", "-o", tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "\x1b" not in done.stderr


def test_help_is_quick_and_needs_nothing_heavy() -> None:
    script = (
        "import sys, jobs.caption; print([m for m in ('cv2', 'av', 'pyarrow') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
    assert run("--help").returncode == 0


def test_ray_gives_the_same_rows(videos: Path, finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    own = {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    done = apart(videos, "-o", tmp_path, "--ray", "--workers", 1, **own)
    assert done.returncode == 1, done.stderr
    assert contents(tmp_path) == contents(finished)
    assert json.loads((tmp_path / "run.json").read_text())["engine"]["name"] == "experts"
