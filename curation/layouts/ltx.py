"""The LTX-2 trainer: dataset.json beside the videos.

Source: github.com/Lightricks/LTX-2, packages/ltx-trainer/docs/dataset-preparation.md and
scripts/process_videos.py. Buckets are WIDTHxHEIGHTxFRAMES with sides in multiples of 32 and 8N+1
frames; a video with fewer frames than the shortest bucket is left out; its frames are taken as they
are. Paths are relative to dataset.json and stay below its folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, Video


class Ltx(Layout):
    """dataset.json and videos/; process_dataset.py takes the buckets on its command line."""

    name = "ltx"
    models: ClassVar[Mapping[str, None]] = {"ltx-video": None}
    side = 32

    def skips(self, clip: Clip, target: Target) -> str | None:
        """Videos with too few frames are left out."""
        if clip.frames < target.shortest:
            return f"shorter than {target.shortest} frames"
        return None

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Videos, then the list."""
        for clip in clips:
            yield Video(f"videos/{clip.clip_id}.mp4", clip.media)
        records = [
            {"caption": clip.caption, "video": f"videos/{clip.clip_id}.mp4"} for clip in clips
        ]
        yield Text("dataset.json", json.dumps(records, ensure_ascii=False, indent=1) + "\n")
