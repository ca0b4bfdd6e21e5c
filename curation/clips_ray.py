"""Clips cut on a Ray cluster: encoded where there are cores, written by the driver."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from curation.clips import ClipConfig, ClipRange, Written, clip_path, write_clips
from curation.inputs import near
from curation.ledger import replacing
from curation.ray_tasks import map_on_ray
from curation.sources import Source
from curation.storage import StorageError

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
    """Write the clips of each chunk into `folder`; at most `workers` tasks of one core at a time.

    Raises OSError when `folder` cannot be written.
    """
    for chunk, made in map_on_ray(partial(_cut, config=config), chunks, workers):
        yield chunk, [_kept(written, content, folder) for written, content in made]


def _cut(chunk: Chunk, config: ClipConfig) -> list[tuple[Written, bytes]]:
    """On a node: each clip with the content of its file, empty where there is none."""
    with tempfile.TemporaryDirectory(prefix="skycaptioner-") as folder:
        done = cut_chunk(chunk, Path(folder), config)
        return [(one, b"" if one.error else one.path.read_bytes()) for one in done]


def cut_chunk(chunk: Chunk, folder: Path, config: ClipConfig) -> list[Written]:
    """Write the clips of a chunk into `folder`, wherever its source is."""
    try:
        with near(chunk.source) as here:
            return write_clips(here.path, chunk.clips, folder, config)
    except StorageError as error:
        return [
            Written(one.clip_id, clip_path(folder, one.clip_id), error=str(error))
            for one in chunk.clips
        ]


def _kept(written: Written, content: bytes, folder: Path) -> Written:
    path = clip_path(folder, written.clip_id)
    if not written.error:
        with replacing(path) as part:
            part.write_bytes(content)
    return replace(written, path=path)
