"""musubi-tuner: pairs of video and .txt, a JSONL of them for each frame rate, and dataset.toml.

Source: github.com/kohya-ss/musubi-tuner of 2026-06-24, docs/dataset_config.md and
src/musubi_tuner/dataset/image_video_dataset.py. One `source_fps` holds for all the videos of a
dataset, so that clips of different rates need a dataset each. It leaves frames out to reach the
model's rate and takes nothing of a video that is then shorter than all `target_frames`, without a
word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import ClassVar

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, json_lines, pair, toml


class Musubi(Layout):
    """videos/, metadata-RATE.jsonl and dataset.toml, which names them by absolute paths."""

    name = "musubi"
    models: ClassVar[Mapping[str, float]] = {"wan": 16.0, "hunyuan-video": 24.0}
    side = 16

    def skips(self, clip: Clip, target: Target) -> str | None:
        """Videos that are too short give no sample; slow ones would play too fast."""
        rate = self.models[target.model]
        fps = float(_rate(clip))
        if fps < rate:
            return f"fewer than {rate:g} frames a second: it would play too fast"
        if kept_frames(clip.frames, fps, rate) < target.shortest:
            return f"shorter than {target.shortest} frames at {rate:g} a second"
        return None

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Pairs, then the lists, then the configuration."""
        for clip in clips:
            yield from pair(clip, "videos")
        lines = [
            "[general]",
            f"resolution = {toml([target.width, target.height])}",
            'caption_extension = ".txt"',
            "batch_size = 1",
            "enable_bucket = true",
            "bucket_no_upscale = false",
        ]
        for rate in sorted({_rate(clip) for clip in clips}, key=float):
            metadata = f"metadata-{rate}.jsonl"
            yield Text(metadata, json_lines(_record(c, folder) for c in clips if _rate(c) == rate))
            lines += [
                "",
                "[[datasets]]",
                f"video_jsonl_file = {toml((folder / metadata).as_posix())}",
                f"cache_directory = {toml((folder / f'cache-{rate}').as_posix())}",
                f"target_frames = {toml(target.frames)}",
                'frame_extraction = "head"',
                f"source_fps = {rate}",
            ]
        yield Text("dataset.toml", "\n".join(lines) + "\n")


def kept_frames(frames: int, fps: float, rate: float) -> int:
    """How many of `frames` frames at `fps` are left at `rate` a second: the first of each step, as
    musubi-tuner's own running sum gives it."""
    steps = accumulate(repeat(rate / fps, frames - 1), initial=0.0)
    return len({int(at) for at in steps})


def _rate(clip: Clip) -> str:
    """A decimal number, as `source_fps` wants it; one digit, so that 23.976 and 24 are together."""
    return f"{clip.fps:.1f}"


def _record(clip: Clip, folder: Path) -> dict[str, str]:
    video = folder / "videos" / f"{clip.clip_id}.mp4"
    return {"video_path": video.as_posix(), "caption": clip.caption}
