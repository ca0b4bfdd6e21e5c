"""Outputs that are not on this machine: any file system that fsspec knows, by its URI.

They are worked on in a local folder and mirrored: what is there is fetched when a run begins, what
is new is stored every minute and at its end, each file whole or not at all (an object store's PUT
is atomic). Inputs: curation.inputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from captioner.weights import cache_folder
from curation.ledger import replacing

PUSH_EVERY = 60.0
"""Seconds."""


class StorageError(Exception):
    """A place that cannot be reached or read, in one line."""


def is_remote(place: str) -> bool:
    """Whether a place is a URI rather than a path of this machine."""
    scheme, colon, _ = place.partition("://")
    return bool(colon) and scheme not in ("file", "local")


def open_place(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path in it. Raises StorageError."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(uri)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise StorageError(f"{uri}: {error}") from None


def local(place: str) -> Path:
    """The path of a place on this machine."""
    return Path(place.removeprefix("file://").removeprefix("local://"))


class Mirror:
    """An output and the local folder that it is worked on in: itself, when it is local."""

    def __init__(self, place: str) -> None:
        self.uri = place.rstrip("/") if is_remote(place) else None
        self.folder = local(place)
        if self.uri is not None:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            self.folder = cache_folder() / "outputs" / name
        self._pushed = time.monotonic()

    def pull(self) -> None:
        """Fetch what is there: rows and previews; clips only by name. Raises StorageError."""
        if self.uri is None:
            return
        system, root = open_place(self.uri)
        stored = self._stored(system, root)
        wanted = [name for name in stored if not name.startswith("clips/")]
        for left in self._files():
            if left not in stored and left.startswith("ledger/"):
                (self.folder / left).unlink()
        have = self._known()
        same = {name for name, etag in stored.items() if have.get(name) == etag}
        states = {f"#{name}": have[f"#{name}"] for name in same if f"#{name}" in have}
        for name in wanted:
            if name in same and (self.folder / name).is_file():
                continue
            with told(f"{self.uri}/{name}"), replacing(self.folder / name) as part:
                system.get_file(f"{root}/{name}", str(part))
            states[f"#{name}"] = _state(self.folder / name)
        self._remember({**stored, **states})

    def push(self, clips: bool = False) -> None:
        """Store what is new or has changed; remove what is gone, and of the clips those that are
        not here if `clips` says that all that are kept are. Raises StorageError."""
        if self.uri is None:
            return
        system, root = open_place(self.uri)
        stored = self._stored(system, root)
        files = self._put(system, root, stored)
        for gone in set(stored) - files:
            if gone.startswith(("ledger/", "previews/", *(["clips/"] if clips else []))):
                with told(f"{self.uri}/{gone}"):
                    system.rm_file(f"{root}/{gone}")
        self._remember({**self._known(), **self._stored(system, root)})

    def push_now_and_then(self) -> None:
        """Store what is new, once a minute at most: nothing is listed, which takes long where there
        is much. Raises StorageError."""
        if self.uri is not None and time.monotonic() - self._pushed > PUSH_EVERY:
            self._put(*open_place(self.uri))

    def _put(self, system: Any, root: str, stored: Container[str] | None = None) -> set[str]:
        """Store what has changed since it was stored last, or is not in `stored`, the ledger last;
        returns the names of all files."""
        have = self._known()
        files = sorted(self._files(), key=lambda name: (name.startswith("ledger/"), name))
        for name in files:
            state = _state(self.folder / name)
            if have.get(f"#{name}") == state and (stored is None or name in stored):
                continue
            with told(f"{self.uri}/{name}"):
                system.put_file(str(self.folder / name), f"{root}/{name}")
            have[f"#{name}"] = state
        self._remember(have)
        self._pushed = time.monotonic()
        return set(files)

    def _stored(self, system: Any, root: str) -> dict[str, str]:
        """What is in the remote folder: an entity tag by name."""
        with told(self.uri or ""):
            system.invalidate_cache()
            found = system.find(root, detail=True)
        return {
            str(PurePosixPath(path).relative_to(root)): str(facts.get("ETag", facts.get("size")))
            for path, facts in found.items()
        }

    def _files(self) -> Iterator[str]:
        """Names of the local files that belong into the output."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and not name.startswith(_OWN):
                yield name

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads((self.folder / _MEMORY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, known: dict[str, str]) -> None:
        with replacing(self.folder / _MEMORY) as part:
            part.write_text(json.dumps(known), encoding="utf-8")


_OWN = ("state/", "inputs/")
_MEMORY = "state/mirror.json"


@contextlib.contextmanager
def told(place: str) -> Iterator[None]:
    """Say which place it was that could not be reached. Raises StorageError."""
    try:
        yield
    except Exception as error:  # each file system has errors of its own
        line = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(f"{place}: {line}") from error


def _state(path: Path) -> str:
    """Changes when the file does."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
