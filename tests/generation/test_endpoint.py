"""Endpoints that behave and endpoints that do not, on 127.0.0.1."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest

from generation import endpoint
from generation.endpoint import KEY_VARIABLE, EndpointModel
from generation.frames import GenerationOptionError
from generation.model import Condition, GenerationError
from generation.video import encode
from tests.clips import panning
from tests.generation.stand_ins import prompts, small

KEY = "secret-of-the-test-4711"
VIDEO = encode(np.stack(panning(1, 9, 96, 64)), 24.0)
[ASKED] = prompts("a cat")

Script = Callable[["Api"], None]


class Api(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))  # type: ignore[attr-defined]
        self.server.script(self)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self.server.asked.append("GET")  # type: ignore[attr-defined]
        self.send(200, VIDEO)

    def send(self, status: int, body: bytes, kind: str = "video/mp4", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Served(ThreadingHTTPServer):
    script: Script
    asked: list[Any]


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(("127.0.0.1", 0), Api)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def model(server: Served, timeout: float = 10.0) -> EndpointModel:
    url = f"http://127.0.0.1:{server.server_port}/generate"
    return EndpointModel(url, "served@1", small(), timeout)


def refusal(server: Served, script: Script, timeout: float = 10.0) -> str:
    server.script = script
    with pytest.raises(GenerationError) as caught:
        model(server, timeout).generate(ASKED.prompt, None)
    return str(caught.value)


def test_a_video_comes_back(served: Served) -> None:
    served.script = lambda api: api.send(200, VIDEO)
    first = panning(2, 1, 96, 64)[0]
    made = model(served).generate(ASKED.prompt, Condition(first, first[:, ::-1]))
    assert made.frames.shape == (9, 64, 96, 3)
    assert made.fps == 24.0
    assert np.abs(made.frames[3].astype(float) - panning(1, 9, 96, 64)[3]).mean() < 6
    [asked] = served.asked
    pictures = [asked.pop(name) for name in ("image", "last_image")]
    assert asked == {"prompt": "a cat", "seed": 0, "frames": 9, "width": 48, "height": 32}
    sent, last = (
        cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR_RGB)
        for one in pictures
    )
    assert sent is not None
    assert last is not None
    assert np.array_equal(sent, first)
    assert np.array_equal(last, first[:, ::-1])


def test_a_busy_endpoint_is_asked_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)

    def busy_once(api: Api) -> None:
        if len(served.asked) == 1:
            api.send(503, b"busy", "text/plain")
        else:
            api.send(200, VIDEO)

    served.script = busy_once
    assert len(model(served).generate(ASKED.prompt, None).frames) == 9
    said = refusal(served, lambda api: api.send(503, b"busy", "text/plain"))
    assert said == "the endpoint gave no video: HTTP 503: busy (3 attempts)"


def test_what_is_no_video_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HTTP 400: bad prompt" in refusal(
        served, lambda api: api.send(400, b"bad prompt", "text/plain")
    )
    assert "of type 'text/html', not video/mp4" in refusal(
        served, lambda api: api.send(200, VIDEO, "text/html; charset=utf-8")
    )
    assert "cannot be decoded" in refusal(served, lambda api: api.send(200, b"no video at all"))
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"
    assert "cannot be decoded" in refusal(served, lambda api: api.send(200, playlist))
    half = VIDEO[: len(VIDEO) // 2]
    assert "cannot be decoded" in refusal(served, lambda api: api.send(200, half))
    assert len(served.asked) == 5, "none of them is asked for again"
    monkeypatch.setattr(endpoint, "MOST_PIXELS", 5 * 64 * 96 * 3)
    assert "too long or too large" in refusal(served, lambda api: api.send(200, VIDEO))
    monkeypatch.setattr(endpoint, "MOST_BYTES", 1000)
    assert "more than 1,000 bytes" in refusal(served, lambda api: api.send(200, VIDEO))


def test_it_is_followed_nowhere(served: Served) -> None:
    there = f"http://127.0.0.1:{served.server_port}/elsewhere"
    said = refusal(served, lambda api: api.send(302, b"", "text/plain", Location=there))
    assert "it leads elsewhere" in said
    assert "GET" not in served.asked


def test_an_endless_answer_ends(served: Served) -> None:
    def drip(api: Api) -> None:
        api.send_response(200)
        api.send_header("Content-Type", "video/mp4")
        api.end_headers()
        for _ in range(200):
            try:
                api.wfile.write(b"0")
                api.wfile.flush()
            except OSError:
                return
            threading.Event().wait(0.02)

    assert "no whole answer within 0.3 s" in refusal(served, drip, timeout=0.3)

    def wait(_: Api) -> None:
        threading.Event().wait(1.0)

    assert "no answer within 0.2 s" in refusal(served, wait, timeout=0.2)


def test_the_key_is_sent_and_told_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    said = refusal(
        served, lambda api: api.send(401, api.headers["Authorization"].encode(), "text/plain")
    )
    assert "HTTP 401: Bearer ***" in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "no address of a server"),
        ("host:9000", "no address of a server"),
        ("http://user:password@host/x", "no password in the address"),
        ("http://host:port/", "is no address"),
    ],
)
def test_addresses_that_are_none(url: str, says: str) -> None:
    with pytest.raises(GenerationOptionError, match=says):
        EndpointModel(url, "x", small())


def test_no_server_there(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    with pytest.raises(GenerationError, match=r"refused \(3 attempts\)"):
        EndpointModel("http://127.0.0.1:9/", "x", small()).generate(ASKED.prompt, None)
