"""`python -m jobs.evaluate`, from its command line on."""

import json
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eval.synth import write_video
from eval.testset import sha256
from tests import clips
from tests.command import refused, run_job

TYPES = ["close_up", "long_shot", "full_shot", "medium_shot"]


run = partial(run_job, "jobs.evaluate")


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def caption(i: int, **more: Any) -> dict[str, Any]:
    subject = {"TYPES": {"type": "Human", "sub_type": "Man"}, "position": "On the left."}
    said = {"shot_type": TYPES[i % 4], "camera_motion": "the camera pans left"}
    return {"subjects": [{**subject, "is_main_subject": True}], **said, **more}


def labels(i: int) -> dict[str, Any]:
    subject = {"type": "Human", "position": "The left side.", "is_main_subject": True}
    return {"shot_type": TYPES[i % 4], "camera_motion": "pan_left", "subjects": [subject]}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 labelled clips of one video, captions of 11 of them and of another clip."""
    folder = tmp_path_factory.mktemp("evaluate")
    video = write_video(folder / "a.mp4", clips.panning(0))
    base = {"path": "a.mp4", "sha256": sha256(video), "rater": "anna"}
    bounds = [{"start": i / 20, "end": (i + 1) / 20} for i in range(12)]
    ids = [f"{i:024x}" for i in range(12)]
    lines(
        folder / "set.jsonl",
        [
            {**base, "clip_id": clip, **at, "labels": labels(i)}
            for i, (clip, at) in enumerate(zip(ids, bounds))
        ],
    )
    said = [
        {"clip_id": clip, "source": "a.mp4", "caption": caption(i), "caption_status": "ok"}
        for i, clip in enumerate([*ids[:11], "another"])
    ]
    said[3]["caption"]["shot_type"] = "other"
    said[4] = {"clip_id": ids[4], "caption": None, "caption_status": "invalid", "error": "no JSON"}
    lines(folder / "said.jsonl", said)
    return folder


def scored(folder: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return run("--testset", folder / "set.jsonl", "--predictions", folder / "said.jsonl", *more)


def test_the_table(folder: Path) -> None:
    done = scored(folder)
    assert done.returncode == 0, done.stderr
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert table["shot_type"] == ["0.750", "0.468-0.911", "9", "12", "10", "0.250", "0.937"]
    assert table["TYPES_type"][:4] == ["0.833", "0.552-0.953", "10", "12"]
    assert table["avg"][:3] == ["of", "5", "0.817"]
    assert "12 clips, captions: 10 ok, 1 invalid, 1 missing" in done.stdout
    assert "another test set, never released" in done.stdout
    assert done.stderr.splitlines() == [
        f"evaluate: {folder / 'said.jsonl'}:12: not a clip of the test set: another a.mp4",
        f"evaluate: {folder / 'set.jsonl'}:12: no caption of clip 00000000000000000000000b",
    ]


def test_three_runs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    runs = []
    for i in range(3):
        out = tmp_path / str(i)
        done = scored(folder, "-o", out, "--against", folder / "said.jsonl")
        names = ("report.html", "scores.json", "items.parquet", "problems.txt")
        runs.append([done.stdout, *((out / name).read_bytes() for name in names)])
    assert runs[0] == runs[1] == runs[2]
    scores = json.loads((tmp_path / "0" / "scores.json").read_text())
    assert scores["fields"]["shot_type"]["right"] == 9
    assert scores["captions"] == {"ok": 10, "invalid": 1, "missing": 1}
    page = (tmp_path / "0" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 3, "frames of the clips with wrong answers"
    assert (tmp_path / "0" / "problems.txt").read_text().count("\n") == 2


def test_the_gate(folder: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("floors: {shot_type: 0.7}")
    assert scored(folder, "--gate", gate).returncode == 0
    scored(folder, "-o", tmp_path / "release")
    gate.write_text("floors: {shot_type: 0.8}\nrelease: release/items.parquet\n")
    done = scored(folder, "--gate", gate)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "gate: shot_type: 0.750 is below its floor of 0.800"
    gate.write_text("floors: {shot_size: 0.8}")
    done = scored(folder, "--gate", gate)
    assert done.returncode == 2
    assert "'shot_size' is none of" in done.stderr


def test_two_captioners(folder: Path, tmp_path: Path) -> None:
    other = lines(
        tmp_path / "other.jsonl",
        [
            {"clip_id": f"{i:024x}", "caption": caption(i + 1), "caption_status": "ok"}
            for i in range(12)
        ],
    )
    done = scored(folder, "--against", other)
    found = next(line for line in done.stdout.splitlines() if "->" in line and "shot" in line)
    assert found.split()[:4] == ["shot_type", "0.000", "->", "0.750"]
    assert found.endswith("significant")
    assert "drift: 10 clips have both captions, 2 only the other, 1 only this one" in done.stdout
    drift = run("--predictions", folder / "said.jsonl", "--against", other)
    assert drift.returncode == 0
    assert drift.stdout.splitlines()[0] in done.stdout


class Judge(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose model finds everything wrong."""

    asked = 0

    def do_GET(self) -> None:
        self._say({"data": [{"id": "judge"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = "Yes?"
        if "response_format" in body:  # no greeting
            Judge.asked += 1
            assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]
            assert "The left side." in json.dumps(body["messages"])
            content = json.dumps({"reason": "other words", "verdict": "wrong"})
        message = {"message": {"content": content}, "finish_reason": "stop"}
        self._say({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    def log_message(self, *_: Any) -> None:
        pass

    def _say(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_a_model_judges_over_an_endpoint_and_is_asked_once(
    folder: Path, tmp_path: Path, endpoint: str
) -> None:
    pytest.importorskip("httpx")
    verdicts = lines(
        tmp_path / "people.jsonl",
        [
            {"clip_id": f"{i:024x}", "field": "position", "subject": 0, "verdict": said,
             "rater": "bert"}
            for i, said in enumerate(("wrong", "right"))
        ],
    )  # fmt: skip
    judge = ("--judge", "model", "--endpoint", endpoint, "--cache", tmp_path / "cache.jsonl")
    first = scored(folder, *judge, "--verdicts", verdicts)
    assert first.returncode == 0, first.stderr
    assert Judge.asked == 1, "ten answers, one question"
    assert "free text judged by model" in first.stdout
    assert "judge and people, all: 0.50 alike of 2" in first.stdout or (
        "judge and people, all: kappa 0.00" in first.stdout
    )
    position = next(line for line in first.stdout.splitlines() if line.startswith("position"))
    assert position.split()[3:5] == ["1", "12"], "the one that a person found right"
    again = scored(folder, *judge, "--verdicts", verdicts)
    assert again.stdout == first.stdout
    assert Judge.asked == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": {"shot_type": "closeup"}}, "set.jsonl:1: labels.shot_type: 'closeup' is none"),
        ({"sha256": "0" * 64}, "a.mp4 has changed since it was labelled"),
        ({"clip_id": f"{1:024x}"}, "set.jsonl:2: clip"),
    ],
)
def test_a_wrong_test_set_is_named(
    folder: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    records = [json.loads(line) for line in (folder / "set.jsonl").read_text().splitlines()]
    records[0] |= change
    (tmp_path / "a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    done = run(
        "--testset", lines(tmp_path / "set.jsonl", records),
        "--predictions", folder / "said.jsonl",
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_in_the_command(folder: Path, tmp_path: Path) -> None:
    said = folder / "said.jsonl"
    for arguments, told in (
        (("--predictions", said), "give --testset to score, or --against"),
        (("--predictions", said, "--against", said, "-o", tmp_path), "need a --testset"),
        (("--testset", tmp_path / "none.jsonl", "--predictions", said), "No such file"),
        (("--testset", folder / "set.jsonl", "--predictions", tmp_path), "no captions in it"),
        (
            ("--testset", folder / "set.jsonl", "--predictions", said, "--judge", "model"),
            "needs --endpoint",
        ),
    ):
        assert told in refused("jobs.evaluate", *arguments)
