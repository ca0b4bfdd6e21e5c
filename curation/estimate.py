"""How long a run would take, from a rate measured on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.decode import UnreadableVideoError, open_video
from captioner.weights import cache_folder
from curation.ledger import replacing
from curation.rows import RowConfig, Work, make_rows
from curation.sources import Source

_RATES = "rates.json"


@dataclass(frozen=True)
class Estimate:
    """Seconds of video to do, CPU-seconds that a second of video takes, and how that is known."""

    video_seconds: float
    cpu_per_second: float
    measured_on: str
    unreadable: int

    def wall_seconds(self, workers: int) -> float:
        """With that many processes, each on a core of its own."""
        return self.video_seconds * self.cpu_per_second / max(1, workers)


def remember_rate(config: RowConfig, video_seconds: float, cpu_seconds: float) -> None:
    """Keep the rate of a run for the next estimate."""
    if video_seconds <= 0 or cpu_seconds <= 0:
        return
    with replacing(cache_folder() / _RATES) as part:
        part.write_text(json.dumps({**_rates(), _name(config): cpu_seconds / video_seconds}))


def estimate(sources: Sequence[Source], config: RowConfig) -> Estimate:
    """Look at each source's length; where no rate is known yet, caption the shortest to get one."""
    lengths = {source.path: _length(source) for source in sources}
    readable = [s for s in sources if lengths[s.path] is not None]
    total = sum(length or 0.0 for length in lengths.values())
    unreadable = len(sources) - len(readable)
    rate, measured_on = _rates().get(_name(config)), "the last run here"
    if rate is None and readable:
        shortest = min(readable, key=lambda s: lengths[s.path] or 0.0)
        measured_on = f"{shortest.path.name}, done now"
        started = time.process_time()
        rows = [made.row for made in make_rows(Work(shortest), config, config.captioner())]
        seconds = sum((row.end or 0) - (row.start or 0) for row in rows)
        rate = (time.process_time() - started) / max(seconds, 0.1)
    return Estimate(total, rate or 0.0, measured_on, unreadable)


def _name(config: RowConfig) -> str:
    """What a rate is good for."""
    return " ".join([config.engine or "no captions", *["measures"] * config.measures])


def _rates() -> dict[str, float]:
    try:
        rates = json.loads((cache_folder() / _RATES).read_text())
        return {str(engine): float(rate) for engine, rate in rates.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _length(source: Source) -> float | None:
    if source.error:
        return None
    try:
        with open_video(source.path, threads=1) as video:
            if video.info.duration is not None:
                return video.info.duration
            return (video.info.frames_expected or 0) / video.info.fps
    except UnreadableVideoError:
        return None
