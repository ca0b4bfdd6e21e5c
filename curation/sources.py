"""The files to work on: found in folders, told apart by their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.ledger import replacing

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".ivf"}
    | {".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm"}
    | {".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
"""Names that a folder is searched for; a file named on the command line is always taken."""


@dataclass(frozen=True)
class Source:
    """A video file by its content. `copies` are byte-identical files, worked on only once.

    `sha256` is None for a file that cannot be read; `error` says why. `facts` are names and values
    that the user gave about it, `uris` where paths that are local copies come from.
    """

    path: Path
    bytes: int = 0
    sha256: str | None = None
    copies: tuple[Path, ...] = ()
    error: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    uris: tuple[tuple[Path, str], ...] = ()

    @property
    def key(self) -> str:
        """Name of the source in the ledger, 32 hex digits."""
        identity = self.sha256 or hashlib.sha256(os.fsencode(self.path)).hexdigest()
        return identity[:32]

    def label(self, path: Path) -> str:
        """What rows call one of its paths."""
        return dict(self.uris).get(path) or printable(path)


def find_videos(paths: Iterable[Path], besides: Path | None = None) -> Iterator[Path]:
    """The files among `paths` and the videos in the folders among them, in order of name.

    Hidden files and the folder `besides` are left out, links to folders are not followed. Raises
    FileNotFoundError for a path that is not there.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found: Iterable[Path] = _in_folder(path, besides)
        elif os.path.lexists(path):
            found = [path]
        else:
            raise FileNotFoundError(path)
        for video in found:
            if video not in seen:
                seen.add(video)
                yield video


def _in_folder(folder: Path, besides: Path | None) -> Iterator[Path]:
    apart = besides.resolve() if besides else None
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (not apart or (Path(parent) / name).resolve() != apart)
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(parent) / name


class Hashes:
    """sha256 of files, remembered by path, size and time of change in a JSON file."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        try:
            known = json.loads(memory.read_text(encoding="utf-8"))
            self._known: dict[str, list[object]] = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            self._known = {}
        self._changed = False

    def sha256(self, path: Path) -> tuple[str, int]:
        """sha256 in hex and size in bytes. Raises OSError."""
        if not path.is_file():
            raise OSError("not a regular file" if path.exists() else "no such file")
        stat = path.stat()
        key, state = os.fsencode(path.absolute()).hex(), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(key)
        if isinstance(known, list) and known[:2] == state and isinstance(known[2], str):
            return known[2], stat.st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[key] = [*state, digest]
        self._changed = True
        return digest, stat.st_size

    def save(self) -> None:
        """Write what was learnt. Raises OSError."""
        if self._changed:
            with replacing(self._memory) as part:
                part.write_text(json.dumps(self._known), encoding="utf-8")
            self._changed = False


def identify(paths: Iterable[Path], sha256: Callable[[Path], tuple[str, int]]) -> Iterator[Source]:
    """A source for each distinct content, in order of first appearance; copies are gathered.

    `sha256` gives that of a file and its size in bytes, or raises OSError.
    """
    by_content: dict[str, list[Path]] = {}
    sizes: dict[str, int] = {}
    unreadable: list[Source] = []
    for path in paths:
        try:
            digest, size = sha256(path)
        except OSError as error:
            reason = error.strerror or str(error)
            unreadable.append(Source(path, error=f"cannot be read: {reason}"))
            continue
        by_content.setdefault(digest, []).append(path)
        sizes[digest] = size
    for digest, same in by_content.items():
        yield Source(same[0], sizes[digest], digest, tuple(same[1:]))
    yield from unreadable


# --- in which order they are worked on ----------------------------------------------------------

ROUND = 256
"""Sources a round of `in_turn`. What is decoded ahead in one has to fit into the 128 clips that may
be on their way (curation.feed.AHEAD): simulated, a clip each, it is 63 where sizes are log-normal
with a standard deviation of 0.8, 97 where it is 1."""


def largest_first(sources: Sequence[Source]) -> list[Source]:
    """The order in which workers end together: none is left alone with a long one."""
    return sorted(sources, key=lambda source: -source.bytes)


def in_turn(sources: Sequence[Source]) -> list[Source]:
    """The order that keeps an engine of steady speed busy: small ones first, from the beginning on
    beside large ones.

    Small ones give clips fast and build a stock, which large ones use up (Johnson's rule for two
    machines in a row, Naval Research Logistics Quarterly 1, 1954, where the second takes as long
    for each: the shortest first). Large ones behind all others would leave workers alone at the
    end, so half of the bytes are taken from the large end meanwhile. As the stock is bounded, this
    is done in rounds, each an even sample of all sizes.
    """
    ordered = largest_first(sources)
    rounds = -(-len(ordered) // ROUND)
    return [source for at in range(rounds) for source in _from_both_ends(ordered[at::rounds])]


def _from_both_ends(ordered: Sequence[Source]) -> Iterator[Source]:
    """The last and the first, and so on to the middle, as many bytes of one end as of the other."""
    rest = deque(ordered)
    small = large = 0
    while rest:
        if small <= large:
            small += rest[-1].bytes
            yield rest.pop()
        else:
            large += rest[0].bytes
            yield rest.popleft()


def printable(path: Path) -> str:
    """The path as text that any file can hold: bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
