"""All measures of a clip, from its one FrameBatch."""

from __future__ import annotations

from captioner.experts.boxes import Box
from captioner.frames import FrameBatch
from captioner.video import VideoInfo
from curation.measure import borders, embedding, motion, overlays, quality, safety

MEASURES_VERSION = "6"
"""Rows measured by another version are measured anew."""


class Measures(
    quality.Quality,
    motion.Motion,
    borders.Borders,
    overlays.Overlays,
    safety.Safety,
    embedding.Embedding,
):
    """The columns of all families."""


def measure_clip(batch: FrameBatch, info: VideoInfo, source_bytes: int) -> Measures:
    """Measure a clip of a source that has `source_bytes` bytes and what `info` says."""
    rate = source_bytes / info.duration if info.duration else None
    clip = quality.Clip(info.width, info.height, batch.fps, batch.duration, rate)
    border = borders.measure(batch)
    inside = Box(*border.border_box) if border.border_box else Box(0.0, 0.0, 1.0, 1.0)
    inset = Box(*border.border_inset_box) if border.border_inset_box else None
    families = (
        border,
        quality.measure(batch, clip, inside),
        motion.measure(batch),
        overlays.measure(batch, inside, inset),
        safety.measure(batch),
        embedding.measure(batch),
    )
    values = {name: value for family in families for name, value in family.model_dump().items()}
    return Measures.model_validate(values)
