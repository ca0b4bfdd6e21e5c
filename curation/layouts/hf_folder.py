"""Hugging Face's VideoFolder: videos, and metadata.jsonl with a line for each.

Source: huggingface.co/docs/datasets/video_dataset (VideoFolder). `file_name` is relative to the
metadata file and becomes the column `video`. It has no rules of frames and sizes. JSONL, not CSV,
in which a caption such as "NA" would be read as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, Video, json_lines


class HfFolder(Layout):
    """metadata.jsonl and videos/."""

    name = "hf-folder"

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Videos, then the metadata."""
        for clip in clips:
            yield Video(f"videos/{clip.clip_id}.mp4", clip.media)
        records = ({"file_name": f"videos/{clip.clip_id}.mp4"} | facts(clip) for clip in clips)
        yield Text("metadata.jsonl", json_lines(records))


def facts(clip: Clip) -> dict[str, Any]:
    """What is known of a clip, flat, no value null: readers take types from the first rows."""
    return {
        "caption": clip.caption,
        "structural_caption": clip.structured,
        "clip_id": clip.clip_id,
        "source": clip.source,
        "start": clip.start,
        "end": clip.end,
        "frames": clip.frames,
        "fps": round(clip.fps, 6),
        "width": clip.width,
        "height": clip.height,
        "concept": clip.concept,
        "licence": clip.licence,
    }
