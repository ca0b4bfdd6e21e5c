"""The web server of the review pages: the standard library's, nothing else.

It serves the page, the videos of the clips it was given, by their ids, and takes answers. Paths
never come from a request. On a loopback address any page of the same machine's browser might ask:
the Host header must name that address (DNS rebinding) and answers must be JSON of the same origin
(CSRF). On any other address everything takes a token.
"""

from __future__ import annotations

import hmac
import io
import ipaddress
import json
import mimetypes
import re
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from curation.sources import VIDEO_SUFFIXES
from eval.review_answers import Name
from eval.review_clips import ReviewClip
from eval.review_modes import Mode, Reply, ReplyError, subject_form
from eval.review_preview import PreviewError, preview

_PAGES = MappingProxyType(
    {
        "/": ("review.html", "text/html; charset=utf-8"),
        "/review.css": ("review.css", "text/css; charset=utf-8"),
        "/review.js": ("review.js", "text/javascript; charset=utf-8"),
    }
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_COOKIE = "review_token"
_MAX_BODY = 65536
"""Bytes of a reply: eight subjects with all their texts are about 40,000."""
_CHUNK = 1 << 18
_RATER: TypeAdapter[str] = TypeAdapter(Name)


class ReviewServer(ThreadingHTTPServer):
    """Serves one mode at an address. `token` is None on a loopback address alone.

    Raises ValueError for another address without a token, OSError where it cannot listen.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, host: str, port: int, mode: Mode, key: str, rater: str = "", token: str | None = None
    ) -> None:
        if token is None and not is_loopback(host):
            raise ValueError(f"{host} takes a token")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.mode = mode
        self.key = key
        self.rater = rater
        self.token = token
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where raters go, with the token."""
        host, port = str(self.server_address[0]), self.server_address[1]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - what was asked for; raters need a name
            host = socket.gethostname()
        shown = f"[{host}]" if ":" in host else host
        token = f"?token={quote(self.token)}" if self.token else ""
        return f"http://{shown}:{port}/{token}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _RefusedError(Exception):
    """A request that is not served: the status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Serve a page, a video, or JSON."""
        self._served(self._get)

    def do_HEAD(self) -> None:
        """Serve the headers of the same."""
        self._served(self._get)

    def do_POST(self) -> None:
        """Take an answer."""
        self._served(self._post)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: a video is hundreds of requests, and the first has the token in it."""

    def handle_one_request(self) -> None:
        """Serve a request; a browser that goes away between two is nothing to tell of."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    # --- what is asked -------------------------------------------------------------------------

    def _served(self, serve: Callable[[], None]) -> None:
        try:
            self._admit()
            serve()
        except _RefusedError as refusal:
            self.close_connection = True  # a body may be unread
            self._json({"error": str(refusal)}, refusal.status)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the browser seeks: it has all that it wants

    def _get(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/" and self.server.token and "token" in query:
            return self._enter(query)
        if url.path in _PAGES:
            name, kind = _PAGES[url.path]
            return self._bytes(Path(__file__).with_name(name).read_bytes(), kind)
        if url.path.startswith("/video/"):
            clip = self._clip(unquote(url.path.removeprefix("/video/")))
            return self._video(clip, as_preview="preview" in query)
        mode = self.server.mode
        if url.path == "/api/session":
            return self._json(self._session(query.get("rater", "")))
        if url.path == "/api/clip":
            return self._json(self._question(query.get("id", ""), _rater(query.get("rater", ""))))
        if url.path == "/api/standing":
            return self._json(asdict(mode.standing()))
        raise _RefusedError(404, "there is no such page")

    def _post(self) -> None:
        mode = self.server.mode
        if urlsplit(self.path).path != "/api/answer":
            raise _RefusedError(404, "there is no such page")
        try:
            reply = Reply.model_validate_json(self._body())
            clip = self._clip(reply.clip_id)
            _rater(reply.rater)
            mode.keep(reply)
        except ValidationError as error:
            raise _RefusedError(400, _in_words(error)) from None
        except ReplyError as error:
            raise _RefusedError(400, str(error)) from None
        except OSError as error:
            raise _RefusedError(507, f"not saved: {error.strerror or error}") from None
        self._json({"answered": mode.answered(clip, reply.rater)})

    def _session(self, rater: str) -> dict[str, Any]:
        mode, name = self.server.mode, rater or self.server.rater
        if name:
            _rater(name)
        clips = mode.clips.values()
        return {
            "mode": mode.name,
            "about": mode.about,
            "key": self.server.key,
            "rater": name,
            "subject": subject_form(),
            "clips": [
                {"id": clip.clip_id, "answered": bool(name) and mode.answered(clip, name)}
                for clip in clips
            ],
        }

    def _question(self, clip_id: str, rater: str) -> dict[str, Any]:
        clip = self._clip(clip_id)
        return {
            "id": clip.clip_id,
            "title": clip.title,
            "problem": clip.problem,
            "video": f"/video/{quote(clip.clip_id, safe='')}",
            "start": clip.start,
            "end": clip.end,
            "rows": [asdict(row) for row in self.server.mode.rows(clip, rater)],
        }

    def _clip(self, clip_id: str) -> ReviewClip:
        """The clip of that id. Raises _RefusedError."""
        clip = self.server.mode.clips.get(clip_id)
        if clip is None:
            raise _RefusedError(404, "there is no such clip")
        return clip

    # --- who may ask ---------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let the request in. Raises _RefusedError."""
        if self.server.token is None:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if not is_loopback(name):
                raise _RefusedError(403, "this server answers to localhost only")
        elif not self._has_token():
            raise _RefusedError(403, "open the address with ?token=... that the server printed")

    def _has_token(self) -> bool:
        query = parse_qs(urlsplit(self.path).query)
        given = query.get("token", [""])[0] if urlsplit(self.path).path == "/" else ""
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        token = (self.server.token or "").encode()
        return any(
            hmac.compare_digest(one.encode(), token)
            for one in (given, cookie.value if cookie else "")
        )

    def _enter(self, query: dict[str, str]) -> None:
        """Put the token into a cookie and take it out of the address."""
        rater = f"?rater={quote(query['rater'])}" if "rater" in query else ""
        cookie = f"{_COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        self._start(303, {"Location": f"/{rater}", "Set-Cookie": cookie, "Content-Length": "0"})

    def _body(self) -> bytes:
        """A JSON body that a page of ours sent. Raises _RefusedError."""
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(415, "answers are JSON")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            raise _RefusedError(403, "answers come from this server's page only")
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise _RefusedError(403, "answers come from this server's page only")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise _RefusedError(411, "how long is it?")
        if int(length) > _MAX_BODY:
            raise _RefusedError(413, f"an answer has at most {_MAX_BODY} bytes")
        return self.rfile.read(int(length))

    # --- what is sent --------------------------------------------------------------------------

    def _json(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        self._bytes(content, "application/json; charset=utf-8", status)

    def _bytes(self, content: bytes, kind: str, status: int = 200) -> None:
        headers = {"Content-Type": kind, "Content-Length": str(len(content))}
        self._start(status, headers | {"Cache-Control": "no-store"})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _video(self, clip: ReviewClip, as_preview: bool) -> None:
        """A video, or the part of it that the Range header asks for (RFC 9110 section 14)."""
        path = clip.file
        if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
            raise _RefusedError(404, f"{path.name} is no video")
        try:
            file: BinaryIO = io.BytesIO(preview(clip)) if as_preview else path.open("rb")
        except (OSError, PreviewError) as error:
            raise _RefusedError(404, f"{path.name}: {error}") from None
        kind = "video/mp4" if as_preview else mimetypes.guess_type(path.name)[0]
        with file:
            size = file.seek(0, 2)
            first, last = 0, size - 1
            wanted = _range(self.headers.get("Range"), size)
            headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
            headers["Content-Type"] = kind or "application/octet-stream"
            if wanted == ():
                self._start(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return
            if wanted:
                first, last = wanted
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            headers["Content-Length"] = str(last - first + 1)
            self._start(206 if wanted else 200, headers)
            if self.command != "HEAD":
                self._part(file, first, last - first + 1)

    def _part(self, file: BinaryIO, first: int, length: int) -> None:
        file.seek(first)
        for block in iter(partial(file.read, _CHUNK), b""):
            self.wfile.write(block[:length])
            length -= len(block)
            if length <= 0:
                return
        self.close_connection = True  # it became shorter than it said

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | headers).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _range(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """First and last byte of a single range; () for one that cannot be had; None for everything,
    which is also the answer to several ranges and to other units."""
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", (header or "").strip())
    if match is None or match.group() == "bytes=-":
        return None
    start, end = match.groups()
    if not start:
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end), size - 1) if end else size - 1
        if end and int(end) < int(start):
            return None
    return (first, last) if first <= last and first < size else ()


def _rater(name: str) -> str:
    try:
        return _RATER.validate_python(name)
    except ValidationError:
        raise _RefusedError(
            400, "a rater's name has 1 to 40 letters, digits, spaces and . @ + -"
        ) from None


def _in_words(error: ValidationError) -> str:
    one = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
