"""OpenVid-1M's table: a CSV, its first two columns the video's name and the caption.

Source: github.com/NJU-PCALab/OpenVid-1M, openvid/datasets/datasets.py (DatasetFromCSV) and
configs/*/train; the header is that of OpenVid-1M.csv. The loader takes 16 frames of each video and
puts the next video in the place of one that has fewer. OpenVid's scores come from models of its
own, so that their columns are empty here: our measures are others.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from curation.layouts.clips import Clip
from curation.layouts.layout import File, Layout, Target, Text, Video

FRAMES = 16
"""`num_frames` of OpenVid's training configurations."""

HEADER = (
    *("video", "caption", "aesthetic score", "motion score", "temporal consistency score"),
    *("camera motion", "frame", "fps", "seconds"),
)


class OpenVid(Layout):
    """clips.csv (`data_path`) and video/ (`root`)."""

    name = "openvid-csv"

    def skips(self, clip: Clip, target: Target) -> str | None:
        """Another video would take the place of a short one."""
        if clip.frames < FRAMES:
            return f"shorter than {FRAMES} frames: the next clip would be read in its place"
        return None

    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """Videos, then the table."""
        for clip in clips:
            yield Video(f"video/{clip.clip_id}.mp4", clip.media)
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(_record(clip) for clip in clips)
        yield Text("clips.csv", text.getvalue())


def _record(clip: Clip) -> tuple[str | int | float, ...]:
    camera = "+".join(move.replace(" ", "_") for move in clip.camera)
    figures = camera, clip.frames, round(clip.fps, 6), round(clip.seconds, 6)
    return f"{clip.clip_id}.mp4", clip.caption, "", "", "", *figures
