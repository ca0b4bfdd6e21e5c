"""A video model behind an HTTP endpoint.

The request is a POST of JSON: prompt, seed, frames, width, height and, where a first frame is
given, `image`: a PNG in base64 (`last_image` beside it). The answer is an MP4, `video/mp4`. It is
untrusted: bounded in bytes and pixels, decoded as a local file that may refer to no other, and
written anew.
"""

from __future__ import annotations

import base64
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.decode_pyav import open_pyav
from captioner.engines.server import FIRST_WAIT, LONGEST_WAIT, RETRIED
from captioner.video import UnreadableVideoError
from generation.config import GenerationConfig
from generation.frames import GenerationOptionError
from generation.model import Condition, Generated, GenerationError, Prompt, Rgb
from generation.video import png

if TYPE_CHECKING:
    import httpx

KEY_VARIABLE = "SKYCAPTIONER_VIDEO_KEY"
"""The environment variable with the endpoint's key. The key is kept nowhere else."""

MOST_BYTES = 256 << 20
"""Of an answer: two minutes at 16 Mbit/s."""

MOST_PIXELS = 4 << 30
"""Of a decoded answer, all frames and channels: 1,550 frames of 720p."""

TIMEOUT = 1800.0
"""Seconds for one attempt: a 14B model takes minutes on one GPU."""

ATTEMPTS = 3


@dataclass(frozen=True)
class EndpointModel:
    """Generates at `url`. `name` is what rows say of the model, for an endpoint tells nothing of
    it: change it with the model behind. `timeout` in seconds for an attempt from first to last
    byte."""

    url: str
    name: str
    config: GenerationConfig
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        _check_address(self.url)

    def generate(self, prompt: Prompt, condition: Condition | None) -> Generated:
        """The video of a prompt. Raises GenerationError."""
        body = {
            "prompt": prompt.text,
            "seed": prompt.seed,
            "frames": self.config.frames,
            "width": self.config.width,
            "height": self.config.height,
        }
        if condition is not None:
            body["image"] = _base64(condition.first)
            if condition.last is not None:
                body["last_image"] = _base64(condition.last)
        started = time.monotonic()
        content = self._answer(body)
        seconds = time.monotonic() - started
        frames, fps = _decode(content)
        return Generated(frames, fps, seconds)

    def _answer(self, body: dict[str, Any]) -> bytes:
        reason = ""
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(body)
            except _RefusedError as refused:
                reason = self._without_key(str(refused))
                if not refused.again:
                    break
            if attempt < self.attempts:
                pause = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
                # Jitter, so that what failed together does not come back together.
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        times = f" ({attempt} attempts)" if attempt > 1 else ""
        raise GenerationError(f"the endpoint gave no video: {reason}{times}")

    def _attempt(self, body: dict[str, Any]) -> bytes:
        """One attempt. Raises _RefusedError."""
        import httpx

        key = os.environ.get(KEY_VARIABLE, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        content, end = bytearray(), time.monotonic() + self.timeout
        try:
            with (
                httpx.Client(
                    timeout=self.timeout,
                    headers=headers,
                    follow_redirects=False,
                    trust_env=httpx.URL(self.url).host not in _HERE,
                ) as client,
                client.stream("POST", self.url, json=body) as answer,
            ):
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > MOST_BYTES:
                        raise _RefusedError(f"an answer of more than {MOST_BYTES:,} bytes", False)
                    if time.monotonic() > end:
                        raise _RefusedError(f"no whole answer within {self.timeout:g} s", False)
        except httpx.TimeoutException:
            raise _RefusedError(f"no answer within {self.timeout:g} s", False) from None
        except httpx.HTTPError as error:
            raise _RefusedError(str(error) or type(error).__name__, True) from None
        _check_answer(answer, bytes(content[:300]))
        return bytes(content)

    def _without_key(self, reason: str) -> str:
        """Servers repeat keys in their errors."""
        key = os.environ.get(KEY_VARIABLE, "")
        return reason.replace(key, "***") if key else reason


class _RefusedError(Exception):
    """One attempt failed: whether another may help."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


_HERE = ("localhost", "127.0.0.1", "::1")
"""Hosts that no proxy leads to."""


def _check_address(url: str) -> None:
    """Raises GenerationOptionError for what is no address of a server."""
    try:
        import httpx
    except ImportError:
        raise GenerationOptionError(
            "an endpoint needs httpx: pip install 'skycaptioner[server]'"
        ) from None
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise GenerationOptionError(f"{url!r} is no address ({error})") from None
    if address.userinfo:
        raise GenerationOptionError(f"no password in the address: put the key into {KEY_VARIABLE}")
    if address.scheme not in ("http", "https") or not address.host:
        raise GenerationOptionError(
            f"{url!r} is no address of a server: give one such as http://127.0.0.1:9000/generate"
        )


def _check_answer(answer: httpx.Response, beginning: bytes) -> None:
    """Raises _RefusedError for what is no video."""
    said = " ".join(beginning.decode("utf-8", "replace").split())
    if answer.is_redirect:
        raise _RefusedError("it leads elsewhere (a redirect): give the address itself", False)
    if answer.status_code != 200:
        reason = f"HTTP {answer.status_code}: {said or 'nothing said'}"
        raise _RefusedError(reason, answer.status_code in RETRIED)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "video/mp4":
        raise _RefusedError(f"an answer of type {kind[:60]!r}, not video/mp4", False)


def _decode(content: bytes) -> tuple[Rgb, float]:
    """All frames (N, H, W, 3) of an MP4, and their rate. Raises GenerationError."""
    frames: list[Rgb] = []
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(content)
        file.flush()
        try:
            with open_pyav(Path(file.name), 1) as video:
                for frame in video.frames():
                    frames.append(frame.picture().rgb)
                    if len(frames) * frames[0].size > MOST_PIXELS:
                        raise GenerationError("the endpoint's video is too long or too large")
                fps = video.info.fps
            if not frames:
                raise UnreadableVideoError("there is no frame in it")
            return np.stack(frames), fps
        except (UnreadableVideoError, ValueError) as error:
            raise GenerationError(f"the endpoint's video cannot be decoded ({error})") from None


def _base64(rgb: Rgb) -> str:
    return base64.b64encode(png(rgb)).decode()
