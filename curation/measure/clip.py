"""All measures of a clip, from its one FrameBatch."""

from __future__ import annotations

from captioner.frames import FrameBatch
from captioner.video import VideoInfo
from curation.measure import borders, embedding, motion, overlays, quality, safety

MEASURES_VERSION = "7"
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
    families = (
        border,
        quality.measure(batch, clip, border.inside),
        motion.measure(batch),
        overlays.measure(batch, border.inside, border.inset),
        safety.measure(batch),
        embedding.measure(batch),
    )
    values = {name: value for family in families for name, value in family.model_dump().items()}
    return Measures.model_validate(values)
