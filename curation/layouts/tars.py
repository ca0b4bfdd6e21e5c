"""WebDataset: tars in which a sample's files follow each other under one name.

Source: github.com/webdataset/webdataset, README.md ("The WebDataset Format") and writer.py;
huggingface.co/docs/datasets/video_dataset (WebDataset). A sample's key ends at its first dot. It
has no rules of frames and sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from curation.layouts.clips import Clip, Media
from curation.layouts.hf_folder import facts
from curation.layouts.layout import File, Layout, Tar, Target

SHARD_BYTES = 512 << 20
"""A shard is closed when its videos reach this size, bytes: own choice, as for Parquet shards."""


class Tars(Layout):
    """train-00000.tar and so on, with CLIP.mp4, CLIP.txt (the caption) and CLIP.json.

    Samples are in order of clip_id, which is a hash: neighbours come from different sources.
    """

    name = "webdataset"

    def __init__(self, shard_bytes: int = SHARD_BYTES) -> None:
        self._shard_bytes = shard_bytes

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """The shards."""
        for number, shard in enumerate(self._shards(clips)):
            members = tuple(member for clip in shard for member in _members(clip))
            yield Tar(f"train-{number:05d}.tar", members)

    def _shards(self, clips: Sequence[Clip]) -> Iterator[list[Clip]]:
        shard: list[Clip] = []
        size = 0
        for clip in clips:
            shard.append(clip)
            size += clip.media.size
            if size >= self._shard_bytes:
                yield shard
                shard, size = [], 0
        if shard:
            yield shard


def _members(clip: Clip) -> Iterator[tuple[str, Media | str]]:
    known = json.dumps(facts(clip), ensure_ascii=False)
    yield f"{clip.clip_id}.json", known
    yield f"{clip.clip_id}.mp4", clip.media
    yield f"{clip.clip_id}.txt", clip.caption
