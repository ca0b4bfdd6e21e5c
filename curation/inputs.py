"""Where the videos are: on this machine, or anywhere that fsspec knows, by URI.

Remote videos are fetched once where there is room for all of them. Else, and on a cluster, they are
fetched by whoever works on one, for as long as it does (`near`); what they hold is then learnt by
reading them through, and remembered in the output with the tag that the storage gives them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, TypeAdapter, ValidationError

from curation.ledger import replacing
from curation.segments import Segment, segments
from curation.sources import VIDEO_SUFFIXES, Hashes, Source, find_videos, identify
from curation.storage import StorageError, is_remote, local, open_place, told

try:
    import fcntl
except ImportError:  # not on Windows, where remote videos are always fetched once
    fcntl = None  # type: ignore[assignment]

ROOM = 0.5
"""Share of the free disk that copies of remote videos may take."""

LONG = 256 << 20
"""Bytes from which a remote film is looked at for segments: it has to be fetched for that."""

SAVE_EVERY = 100
"""Remote videos that are read before what they hold is put down: a killed run loses no more."""

AT_ONCE = 8
"""Remote videos that are read at a time."""


class Remote(BaseModel, frozen=True):
    """A remote video: where it is, its size, and a tag that changes with its content."""

    uri: str
    bytes: int
    tag: str


Videos = Mapping[Path, Remote | None]
"""Where each video is on this machine, or of a remote one where its copy would be."""


def find_inputs(places: Sequence[str], besides: Path) -> Videos:
    """The videos at each place, those in the folder `besides` left out; nothing is fetched.

    Raises FileNotFoundError for a path that is not there, and StorageError.
    """
    paths = [local(place) for place in places if not is_remote(place)]
    found: dict[Path, Remote | None] = dict.fromkeys(find_videos(paths, besides))
    for place in places:
        if is_remote(place):
            found |= _listed(place.rstrip("/"), besides / "inputs")
    return found


def _listed(uri: str, folder: Path) -> Iterator[tuple[Path, Remote]]:
    """The videos at a URI, and where their copies would be: at the same relative paths."""
    system, root = open_place(uri)
    with told(uri):
        system.invalidate_cache()
        stored = system.find(root, detail=True)
    base = (folder / hashlib.sha256(uri.encode()).hexdigest()[:8]).resolve()
    for path, facts in sorted(stored.items()):
        inside = PurePosixPath(path)
        name = inside.name if path == root else inside.relative_to(root).as_posix()
        if path != root and inside.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        copy = (base / name).resolve()
        if not copy.is_relative_to(base):
            raise StorageError(f"{uri}: {name!r} leads out of the folder")
        tag = next((str(facts[key]) for key in _TAGS if facts.get(key)), "")
        own = uri if path == root else f"{uri}/{name}"
        yield copy, Remote(uri=own, bytes=facts["size"] or 0, tag=tag)


_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created")
"""What fsspec's file systems call that which changes with a file's content (s3fs, gcsfs, adlfs)."""


def have_room(videos: Videos, folder: Path) -> bool:
    """Whether copies of all remote videos fit below `folder`."""
    missing = sum(far.bytes for path, far in videos.items() if far and not _is_copy(path, far))
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return fcntl is None or missing <= ROOM * shutil.disk_usage(existing).free


def fetch(videos: Videos) -> None:
    """Copy the remote videos to where their copies belong, once.

    One that cannot be copied is left: `sources_of` tells why.
    """
    for path, far in videos.items():
        if far is not None and not _is_copy(path, far):
            with contextlib.suppress(StorageError):
                _copy(path, far)


def _copy(path: Path, far: Remote) -> None:
    system, at = open_place(far.uri)
    with replacing(path) as part, told(far.uri):
        system.get_file(at, str(part))
    with replacing(_tag_of(path)) as part:
        part.write_text(far.tag, encoding="utf-8")


def _is_copy(path: Path, far: Remote) -> bool:
    """Whether the copy is there, of the size and tag that the storage has now."""
    try:
        tag = _tag_of(path).read_text(encoding="utf-8")
        return path.stat().st_size == far.bytes and tag == far.tag
    except (OSError, UnicodeError):
        return False


def _tag_of(copy: Path) -> Path:
    """Where the tag of what was copied is kept."""
    return copy.with_name(f".{copy.name}.tag")


# --- what they are --------------------------------------------------------------------------------


class _Known(Remote, frozen=True):
    """What a remote video held when it was read last."""

    sha256: str


_ALL_KNOWN = TypeAdapter(list[_Known])

Digests = Callable[[Sequence[Remote]], Iterable[tuple[Remote, str | OSError]]]
"""Reads remote videos through: sha256 in hex, or why not, in any order."""


def sources_of(videos: Videos, hashes: Hashes, memory: Path, digests: Digests) -> list[Source]:
    """A source for each distinct content, as curation.sources.identify gives them.

    Remote videos that are not copied are read by `digests`, but for those of the same size and tag
    as in `memory`. One that cannot be read is a source with that error. Raises OSError when nothing
    can be remembered.
    """
    missing = {path: far for path, far in videos.items() if far and not _is_copy(path, far)}
    for path in missing:
        path.unlink(missing_ok=True)  # a copy of what is no longer there
    far = list(missing.values())
    known = _remembered(memory)
    unknown = [remote for remote in far if not remote.tag or remote not in known]
    errors: dict[Remote, OSError] = {}
    for number, (remote, digest) in enumerate(digests(unknown), 1):
        if isinstance(digest, OSError):
            errors[remote] = digest
        else:
            known[remote] = digest
        if number % SAVE_EVERY == 0 or number == len(unknown):
            _remember(known, memory)

    def sha256(path: Path) -> tuple[str, int]:
        remote = videos[path]
        if remote is None or path.exists():
            return hashes.sha256(path)
        if remote in errors:
            raise errors[remote]
        return known[remote], remote.bytes

    found = list(identify(videos, sha256))
    hashes.save()
    return [_with_uris(source, videos) for source in found]


def _remember(known: Mapping[Remote, str], memory: Path) -> None:
    """Of each remote video what was learnt last."""
    latest = {one.uri: _Known(**dict(one), sha256=digest) for one, digest in known.items()}
    with replacing(memory) as part:
        part.write_bytes(_ALL_KNOWN.dump_json(list(latest.values()), indent=1))


def _remembered(memory: Path) -> dict[Remote, str]:
    try:
        known = _ALL_KNOWN.validate_json(memory.read_bytes())
    except (OSError, ValidationError):
        return {}
    return {Remote(uri=one.uri, bytes=one.bytes, tag=one.tag): one.sha256 for one in known}


def _with_uris(source: Source, videos: Videos) -> Source:
    """The source, knowing where its local copies come from."""
    own = [(path, videos[path]) for path in (source.path, *source.copies)]
    return replace(source, uris=tuple((path, far.uri) for path, far in own if far is not None))


def read_through(remote: Remote) -> str | OSError:
    """The sha256 of a remote video, or why there is none."""
    try:
        system, at = open_place(remote.uri)
        with told(remote.uri), system.open(at, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except StorageError as error:
        return OSError(str(error))


def digests_here(unknown: Sequence[Remote]) -> Iterator[tuple[Remote, str | OSError]]:
    """Read remote videos through this machine."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from zip(unknown, pool.map(read_through, unknown))


def some(videos: Videos, count: int) -> Videos:
    """At most `count` of them, from the smallest to the largest."""

    def size(path: Path) -> int:
        remote = videos[path]
        if remote is not None:
            return remote.bytes
        with contextlib.suppress(OSError):
            return path.stat().st_size
        return 0

    paths = sorted(videos, key=size)
    step = max(1.0, len(paths) / count)
    chosen = [paths[int(i * step)] for i in range(min(count, len(paths)))]
    return {path: videos[path] for path in chosen}


# --- where they are worked on ---------------------------------------------------------------------


@contextlib.contextmanager
def near(source: Source) -> Iterator[Source]:
    """The source with its file on this machine: as it is, or else fetched from where it comes from,
    once for all processes that use it at a time. Raises StorageError."""
    uri = dict(source.uris).get(source.path)
    if uri is None or source.sha256 is None or source.path.exists():
        yield source
        return
    folder = _own_folder()
    path = folder / f"{source.sha256}{source.path.suffix}"
    with (folder / f"{source.sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not path.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():  # another process may have been first
                _fetch(uri, source.sha256, path)
            fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield replace(source, path=path, uris=((path, uri), *source.uris))
        finally:
            with contextlib.suppress(BlockingIOError):  # another process still uses it
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)


def _own_folder() -> Path:
    """A folder of this user alone among the machine's temporary files. Raises StorageError."""
    folder = Path(tempfile.gettempdir()) / f"skycaptioner-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder} is another user's: remove it")
    return folder


def _fetch(uri: str, sha256: str, path: Path) -> None:
    system, at = open_place(uri)
    with told(uri), replacing(path) as part:
        system.get_file(at, str(part))
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError("it has changed since the run began: run it again")


def divide(source: Source, seconds: float) -> list[Segment]:
    """The segments of a source, wherever it is; one that cannot be fetched has none."""
    try:
        with near(source) as here:
            return segments(here.path, seconds)
    except StorageError:
        return []


def is_worth_dividing(source: Source) -> bool:
    """Whether to look for segments: not where it would have to be fetched to find it short."""
    return source.error is None and (source.path.exists() or source.bytes >= LONG)


def divided_here(
    sources: Sequence[Source], seconds: float
) -> Iterator[tuple[Source, list[Segment]]]:
    """The segments of each source that is worth it, in any order."""
    for source in filter(is_worth_dividing, sources):
        yield source, divide(source, seconds)
