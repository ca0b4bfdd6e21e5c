"""`python -m jobs.generate`, from its command line on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from curation.dataset import publish
from generation.ledger import read_generations
from generation.video import encode
from tests.clips import panning
from tests.command import refused, run_job
from tests.generation.stand_ins import curated_by_concept

VIDEO = encode(np.stack(panning(1, 9, 96, 64)), 24.0)
SMALL = ["--height", "32", "--width", "48", "--frames", "9", "--steps", "2", "--dtype", "float32"]

needs_models = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "diffusers", "ftfy")),
    reason="needs the extra `generate`",
)


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.generate", *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


run = partial(run_job, "jobs.generate")


def run_apart(*arguments: object) -> "subprocess.CompletedProcess[str]":
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    curated_by_concept(folder / "cur")
    publish(folder / "cur", folder / "set")
    return folder / "set"


class Api(BaseHTTPRequestHandler):
    """Answers every prompt with a video, but the second one; under /v1, tells prompts anew."""

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"data": [{"id": "writer"}]}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/chat/completions":
            said = asked["messages"][0]["content"].rpartition("Description:")[2].split("\n")[1:2]
            message = {"role": "assistant", "content": f"Anew: {' '.join(said)}"}
            choice = {"message": message, "finish_reason": "stop"}
            self.answer(200, json.dumps({"choices": [choice]}).encode())
            return
        served = self.server.served = self.server.served + 1  # type: ignore[attr-defined]
        time.sleep(self.server.slow)  # type: ignore[attr-defined]
        body = b"too hard" if served == 2 else VIDEO
        self.answer(400 if served == 2 else 200, body)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.served, server.slow = 0, 0.0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_endpoint_generates_and_what_failed_is_retried(
    dataset: Path, endpoint: ThreadingHTTPServer, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{endpoint.server_port}/"
    command = [dataset, "-o", tmp_path / "o", "--model", "wan@2", "--endpoint", url, *SMALL]
    done = run(*command, "--count", 4)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["prompts"], facts["generated"], facts["failed"]) == (4, 3, 1)
    assert facts["concepts"] == {"Animal": 3, "Human": 1}
    assert "2/4" in done.stderr
    assert "the endpoint gave no video: HTTP 400: too hard" in done.stderr
    again = json.loads(run(*command, "--count", 4).stdout)
    assert (again["generated"], again["present"], again["failed"]) == (0, 4, 1)
    assert endpoint.served == 4  # type: ignore[attr-defined]
    mended = run(*command, "--count", 6, "--retry", "--table")
    assert mended.returncode == 0, mended.stderr
    assert "3 generated now, 3 there already, 0 came to no video" in mended.stdout
    rows = read_generations(tmp_path / "o")
    assert len(rows) == 6
    assert {(row.model, row.width, row.height, row.frames) for row in rows} == {
        ("wan@2", 96, 64, 9)
    }
    run_facts = json.loads((tmp_path / "o" / "run.json").read_text())
    assert run_facts["config"]["frames"] == 9


def test_prompts_are_told_anew(
    dataset: Path, endpoint: ThreadingHTTPServer, tmp_path: Path
) -> None:
    endpoint.served = 10  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{endpoint.server_port}"
    command = [dataset, "-o", tmp_path / "o", "--model", "wan@2", "--endpoint", url, *SMALL]
    done = run(*command, "--count", 2, "--enhance", f"{url}/v1")
    assert done.returncode == 0, done.stderr
    for row in read_generations(tmp_path / "o"):
        assert row.prompt_sent == f"Anew: {row.prompt}"


def test_killed_it_goes_on_where_it_was(
    dataset: Path, endpoint: ThreadingHTTPServer, tmp_path: Path
) -> None:
    endpoint.served, endpoint.slow = 10, 0.2  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{endpoint.server_port}/"
    command = [dataset, "-o", tmp_path / "o", "--model", "wan@2", "--endpoint", url, *SMALL]
    process = start(*command)
    while endpoint.served < 14 and process.poll() is None:  # type: ignore[attr-defined]
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    facts = json.loads(run(*command).stdout)
    assert facts["present"] >= 3
    assert facts["generated"] + facts["present"] == facts["prompts"] == 6
    assert endpoint.served <= 10 + 6 + 1  # type: ignore[attr-defined]
    rows = read_generations(tmp_path / "o")
    assert [row.status for row in rows] == ["ok"] * 6
    assert {f"videos/{path.name}" for path in (tmp_path / "o" / "videos").iterdir()} == {
        row.video for row in rows
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "/nowhere"], "there is no folder /nowhere"),
        (["--model", "SET"], "is no checkpoint of diffusers"),
        (["--model", "x", "--frames", "96"], "frames 96 is not 1 more than a multiple of 4"),
        (["--model", "x", "--height", "540"], "height 540 is no multiple of 16: ask for 544"),
        (["--model", "x", "--overlap", "17"], "are for diffusion forcing"),
        (
            ["--model", "x", "--task", "df", "--frames", "257", "--causal-block", "3"],
            "causal block",
        ),
        (["--model", "x", "--task", "film"], "task 'film' is none of"),
        (["--model", "x", "--count", "1"], "1 prompts are too few for 2 concepts"),
        (["--model", "x", "--endpoint", "gopher://x"], "no address of a server"),
        (["--model", "x", "--endpoint", "http://127.0.0.1:9", "--enhance", "nowhere"], "address"),
    ],
)
def test_a_mistake_is_one_line(
    dataset: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    given = [str(dataset) if a == "SET" else a for a in arguments]
    assert says in refused("jobs.generate", dataset, "-o", tmp_path / "o", *given)
    assert not (tmp_path / "o").exists()


@needs_models
@pytest.mark.parametrize(
    ("task", "options"),
    [("t2v", []), ("i2v", []), ("df", ["--base-frames", "5", "--overlap", "1"])],
)
def test_a_checkpoint_generates(
    dataset: Path, tmp_path: Path, task: str, options: list[str]
) -> None:
    from generation import tiny

    model = tiny.build(tmp_path / "tiny", task)  # type: ignore[arg-type]
    command = [dataset, "-o", tmp_path / "o", "--model", model, "--task", task, *SMALL, *options]
    done = run(*command, "--count", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    rows = read_generations(tmp_path / "o")
    assert [(row.status, row.frames, row.width, row.height) for row in rows] == [
        ("ok", 9, 48, 32)
    ] * 2
    for row in rows:
        assert (row.condition is not None) == (task == "i2v")
        assert row.condition is None or (tmp_path / "o" / row.condition).is_file()


@needs_models
def test_on_ray_with_one_model_on_a_core(dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from generation import tiny

    model = tiny.build(tmp_path / "tiny", "i2v")
    command = [dataset, "--model", model, "--task", "i2v", *SMALL, "--count", 2]
    far = run_apart(*command, "-o", tmp_path / "far", "--ray")
    near = run(*command, "-o", tmp_path / "near")
    assert far.returncode == near.returncode == 0, far.stderr
    own = {"seconds", "peak_bytes"}
    rows = [
        [row.model_dump(exclude=own) for row in read_generations(tmp_path / name)]
        for name in ("far", "near")
    ]
    assert rows[0] == rows[1]
    for row in rows[0]:
        one, other = (tmp_path / name / row["video"] for name in ("far", "near"))
        assert one.read_bytes() == other.read_bytes()
