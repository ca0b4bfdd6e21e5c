"""diffusion-pipe: a folder of videos, each with a .txt of its name, and dataset.toml.

Source: github.com/tdrussell/diffusion-pipe of 2026-08-20, examples/dataset.toml, utils/dataset.py
and models/{wan/wan,hunyuan_video,ltx_video}.py. It reads a video at the model's own frame rate,
puts it in the longest frame bucket that it fills and drops what fills none; pictures are scaled and
cropped to the nearest aspect ratio, in multiples of 32 pixels. It knows SkyReels-V2 by the word
skyreels in the name of the checkpoint's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, pair, toml


class DiffusionPipe(Layout):
    """videos/CLIP.mp4 and videos/CLIP.txt; dataset.toml names the folder by its absolute path."""

    name = "diffusion-pipe"
    models: ClassVar[Mapping[str, float]] = {
        "wan": 16.0,
        "skyreels-v2": 24.0,
        "hunyuan-video": 24.0,
        "ltx-video": 25.0,
    }
    side = 32

    def skips(self, clip: Clip, target: Target) -> str | None:
        """Videos that fill no frame bucket are dropped."""
        rate = self.models[target.model]
        if int(clip.frames * rate / clip.fps) < target.shortest:
            return f"shorter than {target.shortest} frames at {rate:g} a second"
        return None

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Pairs, then the configuration."""
        for clip in clips:
            yield from pair(clip, "videos")
        lines = [
            f"resolutions = {toml([[target.width, target.height]])}",
            "enable_ar_bucket = true",
            "min_ar = 0.5",
            "max_ar = 2.0",
            "num_ar_buckets = 7",
            f"frame_buckets = {toml([1, *target.frames])}",
            "",
            "[[directory]]",
            f"path = {toml((folder / 'videos').as_posix())}",
            "num_repeats = 1",
        ]
        yield Text("dataset.toml", "\n".join(lines) + "\n")
