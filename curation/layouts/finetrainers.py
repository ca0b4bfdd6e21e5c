"""finetrainers: Hugging Face's VideoFolder with two columns, and the training configuration.

Source: github.com/a-r-r-o-w/finetrainers, docs/dataset/README.md (CSV/JSON/JSONL format),
finetrainers/data/dataset.py and examples/training/sft/wan. It spreads a bucket's frames over a
video, whatever its rate, and uses only the first frame of a video that is shorter than all buckets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, Video, json_lines


class Finetrainers(Layout):
    """data/metadata.jsonl, data/videos/ and, beside `data`, training.json for --dataset_config."""

    name = "finetrainers"
    models: ClassVar[Mapping[str, None]] = {
        "wan": None,
        "hunyuan-video": None,
        "ltx-video": None,
        "cogvideox": None,
    }

    def skips(self, clip: Clip, target: Target) -> str | None:
        """A short video would be trained on as a still."""
        if clip.frames < target.shortest:
            return f"shorter than {target.shortest} frames: only its first one would be used"
        return None

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Videos, then the metadata, then the configuration."""
        for clip in clips:
            yield Video(f"data/videos/{clip.clip_id}.mp4", clip.media)
        records = (
            {"file_name": f"videos/{clip.clip_id}.mp4", "caption": clip.caption} for clip in clips
        )
        yield Text("data/metadata.jsonl", json_lines(records))
        dataset = {
            "data_root": (folder / "data").as_posix(),
            "dataset_type": "video",
            "video_resolution_buckets": [
                [frames, target.height, target.width] for frames in target.frames
            ],
            "reshape_mode": "resize_crop",
            "remove_common_llm_caption_prefixes": False,
        }
        text = json.dumps({"datasets": [dataset]}, ensure_ascii=False, indent=2)
        yield Text("training.json", text + "\n")
