"""Frames of a test set's clips for a report: from the captions' previews, else from the videos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from captioner.decode import open_video
from captioner.frames import ClipSampler, FrameBatch
from captioner.video import UnreadableVideoError
from curation.output import Output
from curation.rows import preview
from eval.predictions import Paired
from eval.testset import Truth


class Strips:
    """JPEG strips of clips. `captions` is where the predictions were read from: an output folder,
    or a file in one, has previews."""

    def __init__(self, truths: Sequence[Truth], paired: Paired, captions: Path) -> None:
        self._truths = {truth.clip.clip_id: truth for truth in truths}
        self._paired = paired
        self._out = Output(captions if captions.is_dir() else captions.parent)

    def jpeg(self, clip: str) -> bytes | None:
        """A clip's frames, None where neither preview nor video can be read."""
        prediction = self._paired.predictions.get(clip)
        name = prediction.clip_id or "" if prediction else ""
        # The name comes from a file of predictions: only an id of ours may become a path.
        if re.fullmatch("[0-9a-f]{24}", name) and self._out.preview(name).is_file():
            return self._out.preview(name).read_bytes()
        truth = self._truths[clip]
        try:
            batch = _read(truth.file, truth.clip.start, truth.clip.end)
        except UnreadableVideoError:
            return None
        return preview(batch) if batch.pictures else None


def _read(path: Path, start: float | None, end: float | None) -> FrameBatch:
    """The frames shown from `start` to `end` seconds. Raises UnreadableVideoError."""
    with open_video(path, threads=1) as video:
        sampler = ClipSampler(video.info.fps)
        begin = last = start or 0.0
        for frame in video.frames():
            time = float(frame.pts * video.info.time_base)
            if end is not None and time >= end:
                break
            if start is not None and time < start:
                continue
            last = time + float(frame.duration * video.info.time_base)
            sampler.offer(frame)
        if not sampler.seen:
            raise UnreadableVideoError("no frame between start and end")
        return sampler.batch(begin, last)
