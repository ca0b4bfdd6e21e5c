"""The server engine against real HTTP servers on this machine, good and bad ones."""

import base64
import json
import logging
import math
import pickle
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from captioner import serve
from captioner.engines import server
from captioner.engines.server import EndpointError, ServerGenerator, connect
from captioner.engines.vlm import Generation, Request
from captioner.policies import ModelVideo

KEY = "secret-of-the-test-4711"

Handler = Callable[["Api"], None]


class Api(BaseHTTPRequestHandler):
    """Answers as its server's script says; keeps what was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.script["models"](self)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked = json.loads(body)
        with self.server.lock:  # type: ignore[attr-defined]
            self.server.asked.append(self.asked)  # type: ignore[attr-defined]
            self.server.headers.append(dict(self.headers))  # type: ignore[attr-defined]
        self.server.script["chat"](self)  # type: ignore[attr-defined]

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def complete(self, text: str, finish: str = "stop") -> None:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        self.send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def log_message(self, *_: Any) -> None:
        pass


def prompt(api: Api) -> str:
    """What the request says, without its frames."""
    content = api.asked["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def models(*cards: dict[str, Any]) -> Handler:
    return lambda api: api.send(200, json.dumps({"object": "list", "data": cards}).encode())


CARD = {"id": "sky", "owned_by": "vllm", "root": "weights/sky", "max_model_len": 8192}


@contextmanager
def serving(chat: Handler, listed: Handler | None = None) -> Iterator[Any]:
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    api.daemon_threads = True
    api.script = {"chat": chat, "models": listed or models(CARD)}  # type: ignore[attr-defined]
    api.asked, api.headers, api.lock = [], [], threading.Lock()  # type: ignore[attr-defined]
    api.url = f"http://127.0.0.1:{api.server_port}/v1"  # type: ignore[attr-defined]
    thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
        thread.join()


def echo(api: Api) -> None:
    api.complete(f"said {prompt(api)}")


def text_request(text: str, **how: Any) -> Request:
    values = {"schema": None, "temperature": 0.1, "max_tokens": 16} | how
    return Request(prompt=text, video=None, **values)


def video(n: int = 3) -> ModelVideo:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (n, 6, 8, 3)).astype(np.uint8)
    frames = np.stack([cv2.resize(one, (64, 48), interpolation=cv2.INTER_CUBIC) for one in small])
    return ModelVideo(frames, (0.0, 0.5, 1.0)[:n], 24.0, 30, (0, 12, 24)[:n])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    monkeypatch.setenv(server.KEY_VARIABLE, KEY)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- choices --------------------------------------------------------------------------------------


def likely(api: Api) -> None:
    """Says how an answer could have begun."""
    assert api.asked["logprobs"] is True
    assert api.asked["top_logprobs"] == 20
    assert api.asked["max_tokens"] == 1
    tops = [("Yes", 0.6), (" no", 0.2), ("Perhaps", 0.1)]
    told = [{"token": token, "logprob": math.log(share)} for token, share in tops]
    choice = {
        "message": {"role": "assistant", "content": "Yes"},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": "Yes", "top_logprobs": told}]},
    }
    api.send(200, json.dumps({"choices": [choice]}).encode())


def test_any_server_tells_how_likely_a_choice_is() -> None:
    with serving(likely) as api:
        generator = ServerGenerator(api.url, "sky", frames="pictures")
        (answer,) = generator.generate([text_request("?", max_tokens=1, choices=("yes", "no"))])
    assert answer.shares == pytest.approx((0.75, 0.25))
    with serving(likely) as api:  # like a vLLM behind something that hides its tokenizer
        (answer,) = ServerGenerator(api.url, "sky").generate(
            [text_request("?", max_tokens=1, choices=("yes", "no"))]
        )
    assert answer.shares == pytest.approx((0.75, 0.25))
    with serving(echo) as api:
        generator = ServerGenerator(api.url, "sky", frames="pictures")
        (answer,) = generator.generate([text_request("?", max_tokens=1, choices=("yes", "no"))])
    assert (answer.finish, answer.shares) == ("stop", ()), "a server that tells none gives none"


# --- what is sent ---------------------------------------------------------------------------------


def test_many_requests_at_once_come_back_in_their_order() -> None:
    together = threading.Barrier(8, timeout=20)

    def only_together(api: Api) -> None:
        together.wait()  # breaks unless eight requests are there at the same time
        echo(api)

    with serving(only_together) as api:
        generator = ServerGenerator(api.url, "sky", concurrency=8, attempts=1)
        answers = generator.generate([text_request(str(i)) for i in range(24)])
    assert answers == [Generation(f"said {i}", "stop", None, 7, 3) for i in range(24)]


def test_no_more_requests_are_pulled_than_may_run() -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def counting(api: Api) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)  # fewer than three at a time would wait in vain
        with lock:
            running -= 1
        echo(api)

    pulled = 0

    def requests() -> Iterator[tuple[str, Request]]:
        nonlocal pulled
        for i in range(12):
            pulled += 1
            yield f"key {i}", text_request(str(i))

    with serving(counting) as api:
        stream = ServerGenerator(api.url, "sky", concurrency=3).stream(requests())
        first = next(stream)
        assert pulled <= 4
        answers = dict([first, *stream])
    assert most == 3
    assert {key: one.text for key, one in answers.items()} == {
        f"key {i}": f"said {i}" for i in range(12)
    }


@pytest.mark.parametrize(("encoding", "off"), [("jpeg", 6.0), ("png", 0.0)])
def test_vllm_gets_one_video_with_its_true_times(encoding: Any, off: float) -> None:
    schema = {"type": "object"}
    request = Request("describe", video(), schema, 0.2, 99, ("\n\n",))
    with serving(echo) as api:
        ServerGenerator(api.url, "sky", encoding=encoding).generate([request])
        asked = api.asked[0]
    part, text = asked["messages"][0]["content"]
    head, data = part["video_url"]["url"].split(",", 1)
    assert head == "data:video/jpeg;base64"
    sent = [
        cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR_RGB)
        for one in data.split(",")
    ]
    assert np.abs(np.stack(sent).astype(float) - video().frames).mean() <= off
    assert text == {"type": "text", "text": "describe"}
    facts = asked["media_io_kwargs"]["video"]
    assert facts["frames_indices"] == [0, 12, 24]
    assert (facts["fps"], facts["total_num_frames"], facts["num_frames"]) == (24.0, 30, 3)
    assert facts["do_sample_frames"] is False
    assert asked["response_format"]["json_schema"]["schema"] == schema
    assert (asked["temperature"], asked["max_tokens"], asked["stop"]) == (0.2, 99, ["\n\n"])


def test_other_servers_get_pictures_and_times_in_words() -> None:
    with serving(echo, models({"id": "llava", "owned_by": "llamacpp"})) as api:
        connect(api.url).generate([Request("describe", video(), None, 0.0, 5)])
        said, *pictures, text = api.asked[-1]["messages"][0]["content"]
    assert "0.0, 0.5, 1.0 seconds" in said["text"]
    assert [one["image_url"]["url"][:22] for one in pictures] == ["data:image/jpeg;base64"] * 3
    assert text["text"] == "describe"


# --- faults ---------------------------------------------------------------------------------------


def garbage(api: Api) -> None:
    api.send(200, b"<html>a proxy speaks</html>")


def nothing(api: Api) -> None:
    api.close_connection = True
    api.connection.shutdown(socket.SHUT_RDWR)


def half(api: Api) -> None:
    api.send_response(200)
    api.send_header("Content-Length", "100000")
    api.end_headers()
    api.wfile.write(b'{"choices": [')
    nothing(api)


def slow(api: Api) -> None:
    """A byte every 50 ms: each read succeeds, the whole never comes."""
    api.send_response(200)
    api.send_header("Content-Length", "100000")
    api.end_headers()
    try:
        for _ in range(60):
            api.wfile.write(b" ")
            api.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def failing(api: Api) -> None:
    api.send(500, json.dumps({"error": {"message": f"out of memory, key {KEY}"}}).encode())


def endless(api: Api) -> None:
    api.send_response(200)
    api.send_header("Transfer-Encoding", "chunked")
    api.end_headers()
    try:
        for _ in range(40):
            api.wfile.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
    except OSError:
        pass


def refusing(api: Api) -> None:
    api.send(400, json.dumps({"object": "error", "message": "prompt too long"}).encode())


def silent(api: Api) -> None:
    api.send(
        200,
        json.dumps(
            {"choices": [{"message": {"content": None}, "finish_reason": "tool_calls"}]}
        ).encode(),
    )


FAULTS: dict[str, tuple[Handler, str, int]] = {
    "500": (failing, "HTTP 500: out of memory, key ***", 2),
    "nothing": (nothing, "disconnected", 2),
    "half": (half, "peer closed", 2),
    "garbage": (garbage, "no chat completion but '<html>", 2),
    "slow": (slow, "no whole answer within 1 s", 2),
    "endless": (endless, "more than 16777216 bytes", 1),
    "400": (refusing, "HTTP 400: prompt too long", 1),
    "silent": (silent, "ended by 'tool_calls'", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_own_request_and_says_why(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broken, reason, attempts = FAULTS[fault]
    tried = 0

    def chat(api: Api) -> None:
        nonlocal tried
        if prompt(api) == "bad":
            tried += 1
            broken(api)
        else:
            echo(api)

    with serving(chat) as api:
        timeout = 1.0 if fault == "slow" else 60.0
        generator = ServerGenerator(api.url, "sky", timeout=timeout, attempts=2)
        answers = generator.generate([text_request(t) for t in ("a", "bad", "b")])
    assert [one.text for one in answers] == ["said a", "", "said b"]
    assert [one.finish for one in answers] == ["stop", "error", "stop"]
    assert reason in (answers[1].error or "")
    assert api.url in (answers[1].error or "")
    assert tried == attempts
    assert KEY not in repr(answers) + caplog.text + json.dumps(generator.identity())


def test_a_server_that_dies_half_way_costs_what_it_had_not_answered() -> None:
    def one_each(api: Api) -> None:
        echo(api)
        api.close_connection = True

    with serving(one_each) as api:
        generator = ServerGenerator(api.url, "sky", concurrency=1, attempts=2)

        def requests() -> Iterator[tuple[int, Request]]:
            for i in range(6):
                if i == 3:
                    api.shutdown()
                    api.server_close()
                yield i, text_request(str(i))

        answers = dict(generator.stream(requests()))
    assert [answers[i].finish for i in range(6)] == ["stop"] * 3 + ["error"] * 3


def test_a_busy_server_is_asked_again_when_it_says_so() -> None:
    times: list[float] = []

    def busy(api: Api) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            api.send(429, b"{}", Retry_After="1")
        elif len(times) == 2:
            api.send(503, b"{}")
        else:
            echo(api)

    with serving(busy) as api:
        [answer] = ServerGenerator(api.url, "sky").generate([text_request("a")])
    assert answer.text == "said a"
    assert times[1] - times[0] >= 1.0
    assert times[2] - times[1] < 1.0


def test_a_server_that_asks_for_an_hour_is_given_up() -> None:
    with serving(lambda api: api.send(429, b"{}", Retry_After="3600")) as api:
        [answer] = ServerGenerator(api.url, "sky").generate([text_request("a")])
        assert len(api.asked) == 1
    assert answer.error is not None
    assert "HTTP 429" in answer.error


def test_retry_after_may_be_a_date() -> None:
    from email.utils import formatdate

    asked = server._asked_wait(formatdate(time.time() + 100, usegmt=True))
    assert asked is not None
    assert 97 < asked < 101
    assert server._asked_wait("soon") is None


def test_a_token_budget_is_told_from_an_end() -> None:
    with serving(lambda api: api.complete('{"subjects": [', "length")) as api:
        [answer] = ServerGenerator(api.url, "sky").generate([text_request("a")])
    assert (answer.text, answer.finish, answer.error) == ('{"subjects": [', "length", None)


def test_a_stream_that_is_left_stops_its_requests() -> None:
    def chat(api: Api) -> None:
        (slow if prompt(api) == "slow" else echo)(api)

    with serving(chat) as api:
        before = set(threading.enumerate())
        stream = ServerGenerator(api.url, "sky", timeout=60).stream(
            [(0, text_request("slow")), (1, text_request("quick"))]
        )
        assert next(stream)[0] == 1
        started = time.monotonic()
        stream.close()  # type: ignore[attr-defined]
        assert time.monotonic() - started < 2
        left = [one for one in set(threading.enumerate()) - before if "run_forever" in one.name]
    assert not left


# --- at start -------------------------------------------------------------------------------------


def test_the_only_model_is_taken_and_its_weights_are_its_identity() -> None:
    with serving(echo) as api:
        generator = connect(api.url + "/")
        assert (generator.model, generator.frames) == ("sky", "video")
        assert generator.identity() == {
            "engine": "server",
            "model": "sky",
            "weights": "weights/sky",
            "frames": "video jpeg",
        }
        copy = pickle.loads(pickle.dumps(generator))
        assert copy.generate([text_request("a")])[0].text == "said a"
        assert api.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in pickle.dumps(generator)


def refused(listed: Handler, model: str | None = None) -> str:
    with serving(echo, listed) as api, pytest.raises(EndpointError) as error:
        connect(api.url, model)
    return str(error.value)


def test_what_cannot_caption_is_refused_in_one_line_with_the_remedy() -> None:
    said = {
        "no model 'other', name one that it has: sky": refused(models(CARD), "other"),
        "name one of them: a, b": refused(models({"id": "a"}, {"id": "b"})),
        "--max-model-len 8192": refused(models({**CARD, "max_model_len": 2048})),
        "environment variable SKYCAPTIONER_API_KEY": refused(lambda api: api.send(401, b"")),
        "no OpenAI-compatible endpoint (HTTP 200": refused(lambda api: api.send(200, b"<html>")),
        "no OpenAI-compatible endpoint (HTTP 500": refused(lambda api: api.send(500, b"{}")),
        "no server answers": refused(nothing),
    }
    for remedy, line in said.items():
        assert remedy in line
        assert "\n" not in line


def test_an_endpoint_that_is_down_or_no_endpoint_is_refused() -> None:
    with pytest.raises(EndpointError, match=r"python -m captioner\.serve MODEL"):
        connect(f"http://127.0.0.1:{closed_port()}/v1", "sky")
    not_there = serving(echo, lambda api: api.send(404, b""))
    with not_there as api, pytest.raises(EndpointError, match=r"mostly ends in /v1"):
        connect(api.url.removesuffix("/v1"), "sky")
    for url in ("127.0.0.1:8000", "file:///etc/passwd", "http://", "http://[::"):
        with pytest.raises(EndpointError, match="give one such as"):
            connect(url)
    with pytest.raises(EndpointError) as error:
        connect(f"http://me:{KEY}@127.0.0.1/v1")
    assert KEY not in str(error.value)


def test_a_server_that_takes_no_video_or_no_times_is_refused() -> None:
    def distrustful(api: Api) -> None:
        said = "disabled by default. Start the server with --trust-request-mm-kwargs"
        api.send(400, json.dumps({"error": {"message": said}}).encode())

    def blind(api: Api) -> None:
        if isinstance(api.asked["messages"][0]["content"], str):
            echo(api)
        else:
            api.send(400, b'{"error": {"message": "not a multimodal model"}}')

    with serving(distrustful) as api, pytest.raises(EndpointError, match=r"captioner\.serve"):
        connect(api.url)
    with serving(blind) as api:
        with pytest.raises(EndpointError, match="name a model that takes video"):
            connect(api.url)
        assert connect(api.url, video=False).model == "sky"


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EndpointError, match=r"skycaptioner\[server\]"):
        connect()


# --- python -m captioner.serve --------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    for name in ("processor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_serve_says_what_it_would_start(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "command", lambda model: ["vllm", "serve", model])
    taken = {"gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 268435456}
    monkeypatch.setattr(serve, "memory", lambda *_: taken)  # psutil comes with vLLM
    ran = CliRunner().invoke(
        serve.app, [str(checkpoint), "--port", "9000", "--dry-run", "--", "--enforce-eager"]
    )
    assert ran.exit_code == 0, ran.output
    said = shlex.split(ran.output)
    assert said[:3] == ["vllm", "serve", str(checkpoint)]
    assert said[said.index("--host") + 1] == "127.0.0.1"
    assert said[said.index("--port") + 1] == "9000"
    assert said[said.index("--gpu-memory-utilization") + 1] == "0.5"
    assert said[said.index("--kv-cache-memory-bytes") + 1] == "268435456"
    decoding = json.loads(said[said.index("--structured-outputs-config") + 1])
    assert decoding["disable_any_whitespace"] is True
    assert "--trust-request-mm-kwargs" in said
    assert said[-1] == "--enforce-eager"


def test_serve_refuses_what_cannot_caption(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "command", lambda model: ["vllm", "serve", model])
    monkeypatch.setattr(serve, "memory", lambda *_: {})
    (checkpoint / "processor_config.json").unlink()
    ran = CliRunner().invoke(serve.app, [str(checkpoint), "--dry-run"])
    assert ran.exit_code == 2
    assert "has no processor" in ran.output
    assert CliRunner().invoke(serve.app, [str(checkpoint), "--dry-run", "--text"]).exit_code == 0


def test_serve_hands_the_key_on_outside_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve.environment()["VLLM_API_KEY"] == KEY
    monkeypatch.delenv(server.KEY_VARIABLE)
    assert "VLLM_API_KEY" not in serve.environment()


def test_serve_without_vllm_is_one_line(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing_installed)
    ran = CliRunner().invoke(serve.app, [str(checkpoint)])
    assert ran.exit_code == 2
    assert "pip install 'skycaptioner[vllm]'" in ran.output
    assert ran.output.count("\n") == 1


def test_serve_starts_either_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "installed_version", lambda: "0.32.0")
    monkeypatch.setattr(metadata, "distribution", lambda name: name)
    assert serve.command("m")[-2:] == ["serve", "m"]

    def only_cpu(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", only_cpu)
    assert serve.command("m")[1:] == [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "m",
    ]
