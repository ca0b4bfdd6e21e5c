"""Clips cut on a Ray cluster: encoded where there are cores, written by the driver."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.clips import ClipConfig, ClipRange, Written, clip_path, present, write_clips
from curation.engine_ray import connect
from curation.ledger import replacing
from curation.sources import Source
from curation.storage import StorageError, near

CHUNK = 16
"""Clips of a source that are cut together: a long film keeps many cores busy, and what crosses the
object store at a time is 100 MB rather than all clips of the film."""


@dataclass(frozen=True)
class Chunk:
    """Clips of one source."""

    source: Source
    clips: tuple[ClipRange, ...]


def cut_on_ray(
    chunks: Sequence[Chunk], folder: Path, config: ClipConfig, workers: int
) -> Iterator[tuple[Chunk, list[Written]]]:
    """Write the clips of each chunk into `folder`; what is there already is not cut again.

    At most `workers` tasks of one core run at a time. Raises OSError when `folder` cannot be
    written.
    """
    import ray

    connect()
    cut = ray.remote(num_cpus=1, max_retries=3)(_cut)
    waiting = iter(chunks)
    running: dict[Any, tuple[Chunk, list[Written]]] = {}
    while True:
        while len(running) < max(1, workers) and (chunk := next(waiting, None)) is not None:
            paths = {clip: clip_path(folder, clip.clip_id) for clip in chunk.clips}
            there = {clip: present(clip, path, config) for clip, path in paths.items()}
            missing = [clip for clip, written in there.items() if written is None]
            known = [written for written in there.values() if written is not None]
            if missing:
                running[cut.remote(chunk.source, missing, config)] = chunk, known
            else:
                yield chunk, known
        if not running:
            return
        (ended,), _ = ray.wait(list(running))
        chunk, known = running.pop(ended)
        yield (
            chunk,
            known + [_kept(written, content, folder) for written, content in ray.get(ended)],
        )


def _cut(
    source: Source, clips: Sequence[ClipRange], config: ClipConfig
) -> list[tuple[Written, bytes]]:
    """On a node: each clip with the content of its file, empty where there is none."""
    with contextlib.ExitStack() as stack:
        try:
            here = stack.enter_context(near(source))
        except StorageError as error:
            return [(Written(one.clip_id, Path(), error=str(error)), b"") for one in clips]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycaptioner-")))
        done = write_clips(here.path, clips, folder, config)
        return [(one, b"" if one.error else one.path.read_bytes()) for one in done]


def _kept(written: Written, content: bytes, folder: Path) -> Written:
    path = clip_path(folder, written.clip_id)
    if not written.error:
        with replacing(path) as part:
            part.write_bytes(content)
    return replace(written, path=path)
