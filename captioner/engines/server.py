"""Any OpenAI-compatible endpoint as a generator: vLLM's own server, SGLang, llama.cpp, hosted ones.

Frames go as JPEG or PNG inside the request. To vLLM they are one video with its true times
(`media_io_kwargs`, vLLM pull request 40133), to others pictures whose times are told in words.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import importlib.util
import json
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import cv2
import numpy as np

from captioner.engines.checkpoint import video_metadata
from captioner.engines.vllm import LOOP_COPIES, LOOP_TOKENS
from captioner.engines.vlm import CONTEXT, Generation, Request, shares_of, spellings
from captioner.policies import ModelVideo

if TYPE_CHECKING:
    import httpx

K = TypeVar("K")

URL = "http://127.0.0.1:8000/v1"
KEY_VARIABLE = "SKYCAPTIONER_API_KEY"
"""The environment variable with the endpoint's key. The key is kept nowhere else."""

MIN_CONTEXT = 4096
"""Tokens that a caption takes: 16 frames of 420 x 360 pixels are about 1,600, the released
instruction 400, the longest answer of the released script 2,048."""

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that another attempt may change (RFC 9110, RFC 6585, RFC 8470)."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second attempt, doubled before each further one up to the longest."""

LONGEST_ASKED_WAIT = 300.0
"""Seconds; a server that asks to be left alone for longer (Retry-After) is given up."""

MAX_ANSWER = 16 << 20
"""Bytes of an answer that are read; 2,048 tokens are about 8,000."""

CHECK_TIMEOUT = 15.0
"""Seconds that the endpoint has to tell its models."""


class EndpointError(ValueError):
    """The endpoint cannot caption, with the remedy in one line."""


@dataclass(frozen=True)
class ServerGenerator:
    """Sends requests to one endpoint, many at once; `connect` makes one that is known to work.

    `weights` and `context` (tokens) are what the server says of the model. `timeout` is in seconds,
    for one attempt from its first to its last byte. Holds no connection and no key, so that it can
    be sent anywhere.
    """

    url: str
    model: str
    weights: str = ""
    context: int = CONTEXT
    frames: Literal["video", "pictures"] = "video"
    encoding: Literal["jpeg", "png"] = "jpeg"
    concurrency: int = 64
    timeout: float = 300.0
    attempts: int = 4
    key_variable: str = KEY_VARIABLE
    name: str = field(default="server", init=False)

    def identity(self) -> dict[str, str]:
        """What the answers depend on: neither where the server is nor who asks."""
        return {
            "engine": self.name,
            "model": self.model,
            "weights": self.weights,
            "frames": f"{self.frames} {self.encoding}",
        }

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """An answer for each request, in their order."""
        answers = dict(self.stream(enumerate(requests)))
        return [answers[i] for i in range(len(requests))]

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """Each answer as it comes; a request is pulled whenever fewer than `concurrency` run."""
        waiting = iter(requests)
        exhausted = False
        running: dict[Future[Generation], K] = {}
        with _Session(self) as session:
            while True:
                if not exhausted and len(running) < self.concurrency:
                    pulled = next(waiting, None)
                    if pulled is None:
                        exhausted = True
                    else:
                        running[session.submit(pulled[1])] = pulled[0]
                if not running and exhausted:
                    return
                full = exhausted or len(running) >= self.concurrency
                done, _ = wait(running, None if full else 0, FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()


def connect(
    url: str = URL,
    model: str | None = None,
    video: bool = True,
    key_variable: str = KEY_VARIABLE,
    **how: Any,
) -> ServerGenerator:
    """A generator for the model, or for the only one, at an endpoint; `how` are its other fields.

    Sends a video of two small frames, or a word where the model need not take a `video`. Raises
    EndpointError, in one line with the remedy, where no server answers, the key is refused, the
    model is not there, its context is too small, or it cannot take what was sent.
    """

    if importlib.util.find_spec("httpx") is None:
        raise EndpointError("engine server needs httpx: pip install 'skycaptioner[server]'")
    url = url.rstrip("/")
    address = _address(url)
    cards = _models(address, url, key_variable)
    card = _card(cards, model, url)
    told = card.get("max_model_len")
    context = told if isinstance(told, int) else CONTEXT
    if context < MIN_CONTEXT:
        raise EndpointError(
            f"{card['id']} at {url} has a context of {context} tokens, and a caption takes "
            f"{MIN_CONTEXT}: start the server with a larger one (vLLM: --max-model-len 8192)"
        )
    root = card.get("root")
    generator = ServerGenerator(
        **{
            "url": url,
            "model": card["id"],
            "weights": root if isinstance(root, str) else "",
            "context": context,
            "frames": "video" if card.get("owned_by") == "vllm" else "pictures",
            "key_variable": key_variable,
            **how,
        }
    )
    _try(generator, video)
    return generator


def _address(url: str) -> httpx.URL:
    import httpx

    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise EndpointError(f"{url!r} is no address ({error}): give one such as {URL}") from None
    if address.userinfo:
        raise EndpointError(f"no password in the address: put the key into {KEY_VARIABLE}")
    if address.scheme not in ("http", "https") or not address.host:
        raise EndpointError(f"{url!r} is no address of a server: give one such as {URL}")
    return address


def _models(address: httpx.URL, url: str, key_variable: str) -> list[dict[str, Any]]:
    """The server's cards of its models, each with an `id`."""
    import httpx

    try:
        with httpx.Client(**_client_options(url, key_variable, CHECK_TIMEOUT)) as client:
            answer = client.get(f"{url}/models")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EndpointError(
            f"no server answers at {url} ({_reason(error)}): start one with "
            "`python -m captioner.serve MODEL`, or give the address of one that runs"
        ) from None
    if answer.status_code in (401, 403):
        raise EndpointError(
            f"{url} refuses the key (HTTP {answer.status_code}): put the right one into the "
            f"environment variable {key_variable}"
        )
    if answer.status_code == 404 and not address.path.endswith("/v1"):
        raise EndpointError(f"{url} has no list of models: the address mostly ends in /v1")
    try:
        cards = answer.json()["data"] if answer.is_success else None
    except (ValueError, KeyError, TypeError):
        cards = None
    if not isinstance(cards, list):
        raise EndpointError(
            f"{url} is no OpenAI-compatible endpoint (HTTP {answer.status_code} for its list of "
            "models): give the address of one, such as " + URL
        )
    return [card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)]


def _card(cards: list[dict[str, Any]], model: str | None, url: str) -> dict[str, Any]:
    names = ", ".join(card["id"] for card in cards) or "none"
    if model is None and len(cards) == 1:
        return cards[0]
    if model is None:
        raise EndpointError(f"{url} has several models or none, name one of them: {names}")
    for card in cards:
        if model == card["id"]:
            return card
    raise EndpointError(f"{url} has no model {model!r}, name one that it has: {names}")


def _try(generator: ServerGenerator, video: bool) -> None:
    frames = np.full((2, 56, 56, 3), 128, np.uint8)
    shown = ModelVideo(frames, (0.0, 0.5), 2.0, 2, (0, 1)) if video else None
    [answer] = generator.generate([Request("Say a word.", shown, None, 0.0, 1)])
    if answer.finish != "error":
        return
    if "--trust-request-mm-kwargs" in str(answer.error):
        remedy = (
            "start it with --trust-request-mm-kwargs, as `python -m captioner.serve` does, so "
            "that the true times of frames can be told"
        )
    else:
        remedy = f"mend the server, or name a model that takes {'video' if video else 'text'}"
    raise EndpointError(f"{generator.model} does not answer ({answer.error}): {remedy}")


def _client_options(url: str, key_variable: str, timeout: float) -> dict[str, Any]:
    key = os.environ.get(key_variable, "")
    host = url.split("://")[-1].split("/")[0].rsplit(":", 1)[0]
    return {
        "timeout": timeout,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        # A proxy is for what is far away.
        "trust_env": host not in ("localhost", "127.0.0.1", "[::1]"),
    }


# --- many requests at once ------------------------------------------------------------------------


class _Session:
    """A thread with an event loop and one pool of connections."""

    def __init__(self, generator: ServerGenerator) -> None:
        import httpx

        self._of = generator
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=generator.concurrency),
            **_client_options(generator.url, generator.key_variable, generator.timeout),
        )

    def __enter__(self) -> _Session:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, request: Request) -> Future[Generation]:
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)

    async def _close(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()
        await self._loop.shutdown_default_executor()

    async def _answer(self, request: Request) -> Generation:
        """The answer, or the reason why there is none after all attempts."""
        body = await asyncio.to_thread(payload, request, self._of)
        reason = ""
        for attempt in range(1, self._of.attempts + 1):
            try:
                return await self._attempt(body, request.choices)
            except _RefusedError as refused:
                reason = self._without_key(str(refused))
                pause = refused.wait or 0.0
                if not refused.again or pause > LONGEST_ASKED_WAIT:
                    break
            if attempt < self._of.attempts:
                backoff = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
                # Jitter, so that what failed together does not come back together.
                await asyncio.sleep(max(pause, backoff * random.uniform(0.5, 1.0)))  # noqa: S311
        times = f" ({attempt} attempts)" if attempt > 1 else ""
        return Generation("", "error", f"{self._of.url}: {reason}{times}")

    async def _attempt(self, body: bytes, choices: tuple[str, ...]) -> Generation:
        """One attempt. Raises _RefusedError."""
        import httpx

        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._of.timeout),
                self._client.stream(
                    "POST",
                    f"{self._of.url}/chat/completions",
                    content=body,
                    headers={"Content-Type": "application/json"},
                ) as answer,
            ):
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise _RefusedError(f"an answer of more than {MAX_ANSWER} bytes", False)
        except TimeoutError:
            raise _RefusedError(f"no whole answer within {self._of.timeout:g} s", True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _RefusedError(_reason(error), True) from None
        if answer.status_code != 200:
            raise _RefusedError(
                f"HTTP {answer.status_code}: {_said(bytes(content))}",
                answer.status_code in RETRIED,
                _asked_wait(answer.headers.get("Retry-After")),
            )
        return generation(bytes(content), choices)

    def _without_key(self, reason: str) -> str:
        """Servers repeat keys and requests in their errors."""
        key = os.environ.get(self._of.key_variable, "")
        return reason.replace(key, "***") if key else reason


class _RefusedError(Exception):
    """One attempt failed: whether another may help, and after how many seconds."""

    def __init__(self, reason: str, again: bool, wait: float | None = None) -> None:
        super().__init__(reason)
        self.again = again
        self.wait = wait


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _said(content: bytes) -> str:
    """What an error's body says, in one short line."""
    text = content[:4096].decode("utf-8", "replace")
    try:
        said = json.loads(content)
        said = said.get("error", said)
        text = said.get("message", text) if isinstance(said, dict) else str(said)
    except (ValueError, AttributeError, RecursionError):
        pass
    return " ".join(str(text).split())[:300] or "nothing said"


def _asked_wait(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())


# --- what is sent, and what comes back ------------------------------------------------------------


def payload(request: Request, generator: ServerGenerator) -> bytes:
    """The body of a request for a chat completion."""
    import httpx

    body: dict[str, Any] = {
        "model": generator.model,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
    if request.video is not None:
        frames = encoded(request.video, generator.encoding)
        if generator.frames == "video":
            content.insert(0, _video_part(frames))
            body["media_io_kwargs"] = {"video": _video_facts(request.video)}
        else:
            content[:0] = _picture_parts(frames, request.video, generator.encoding)
    body["messages"] = [{"role": "user", "content": content if request.video else request.prompt}]
    if request.schema is not None:
        schema = {"name": "caption", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif generator.frames == "video":
        body["repetition_detection"] = {  # vLLM's own: what no schema bounds may loop
            "max_pattern_size": LOOP_TOKENS,
            "min_pattern_size": 1,
            "min_count": LOOP_COPIES,
        }
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        body.pop("repetition_detection", None)
        if generator.frames == "video":  # vLLM tells any token's, others those of the likeliest
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
                body["logprob_token_ids"] = _choice_ids(generator, request.choices)
    if request.stop:
        body["stop"] = list(request.stop)
    return json.dumps(body).encode()


TOP_LOGPROBS = 20
"""Tokens of which an OpenAI-compatible server tells how likely they were at most."""


@lru_cache
def _choice_ids(generator: ServerGenerator, choices: tuple[str, ...]) -> list[int]:
    """The tokens that begin an answer with one of the choices, as vLLM's server tells them."""
    import httpx

    found: list[int] = []
    root = generator.url.removesuffix("/v1")
    options = _client_options(generator.url, generator.key_variable, CHECK_TIMEOUT)
    with httpx.Client(**options) as client:
        for text in (text for choice in choices for text in spellings(choice)):
            body = {"model": generator.model, "prompt": text, "add_special_tokens": False}
            answer = client.post(f"{root}/tokenize", json=body).raise_for_status().json()
            found += answer["tokens"] if len(answer["tokens"]) == 1 else []
    return found


def encoded(video: ModelVideo, encoding: Literal["jpeg", "png"]) -> list[str]:
    """The frames as base64 of picture files."""
    suffix, options = {
        "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
        "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    }[encoding]
    files = []
    for frame in video.frames:
        _, file = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
        files.append(base64.b64encode(file.tobytes()).decode("ascii"))
    return files


def _video_part(frames: Sequence[str]) -> dict[str, Any]:
    # vLLM names a sequence of pictures so, whichever format they have.
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}


def _video_facts(video: ModelVideo) -> dict[str, Any]:
    """Where the frames stood in their clip, as the local engines tell it."""
    facts = video_metadata(video)
    facts.pop("video_backend", None)  # to vLLM's server, the program that would decode a file
    return {**facts, "num_frames": len(video.frames), "do_sample_frames": False}


def _picture_parts(
    frames: Sequence[str], video: ModelVideo, encoding: Literal["jpeg", "png"]
) -> list[dict[str, Any]]:
    times = ", ".join(f"{at:.1f}" for at in video.times)
    return [
        {"type": "text", "text": f"The pictures are frames of one video, at {times} seconds."},
        *(
            {"type": "image_url", "image_url": {"url": f"data:image/{encoding};base64,{frame}"}}
            for frame in frames
        ),
    ]


def generation(content: bytes, choices: tuple[str, ...] = ()) -> Generation:
    """The answer in a chat completion, with the shares of the choices where some are asked about.

    Raises _RefusedError where there is none.
    """
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        usage = answer.get("usage") or {}
        prompt_tokens, tokens = (
            int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")
        )
        shares = shares_of(choices, _likely(choice)) if choices else ()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _RefusedError(f"no chat completion but {_said(content)!r}", True) from None
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise _RefusedError(f"an answer without text, ended by {str(finish)[:40]!r}", False)
    return Generation(text, finish, None, prompt_tokens, tokens, shares)


def _likely(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Tokens with which the answer could have begun, and their log probabilities."""
    first = ((choice.get("logprobs") or {}).get("content") or [{}])[0]
    return [(str(one["token"]), float(one["logprob"])) for one in first.get("top_logprobs") or ()]
