"""How long a run would take and how much room it needs, from what was measured on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from captioner.decode import open_video
from captioner.video import UnreadableVideoError
from captioner.weights import cache_folder
from curation.clips import ClipConfig, Cut, clip_range, write_clips
from curation.engine_metrics import Gauge
from curation.inputs import near
from curation.ledger import Row, replacing
from curation.pipeline import Done, total
from curation.rows import RowConfig, Work, make_rows
from curation.sources import Source
from curation.stage_clock import StageClock
from curation.storage import StorageError

_RATES = "rates.json"


class Clips(BaseModel, frozen=True):
    """What cutting clips takes: CPU-seconds and bytes a second of clip, and which share of the
    video is kept."""

    cpu: float
    bytes: float
    kept: float


class Rates(BaseModel, frozen=True):
    """What a second of video takes, measured on `video_seconds` of it.

    `cpu` is CPU-seconds by stage of the workers, `engine` the seconds that an engine of its own was
    busy; None where nothing is known.
    """

    video_seconds: float
    cpu: dict[str, float]
    engine: float | None = None
    clips: Clips | None = None

    @property
    def workers(self) -> float:
        """CPU-seconds of all stages that the workers do."""
        return sum(self.cpu.values())


@dataclass(frozen=True)
class Estimate:
    """Seconds of video to do, those of the longest source, the rates at which it would go, and
    where those are from."""

    video_seconds: float
    longest: float
    rates: Rates
    measured_on: str
    unreadable: int

    def wall_seconds(self, workers: int, segment: float) -> float:
        """Of making the rows with that many processes, each on a core of its own and with
        `segment` seconds of a source at most, and one engine, whichever takes longer."""
        a_worker_has = max(self.video_seconds / max(1, workers), min(self.longest, segment))
        engine = self.video_seconds * (self.rates.engine or 0.0)
        return max(a_worker_has * self.rates.workers, engine)


def rates(done: Sequence[Done], gauge: Gauge | None, clips: Clips | None = None) -> Rates | None:
    """What a run measured; None where it did nothing."""
    seconds = sum(one.seconds for one in done)
    spent = total(one.cpu for one in done)
    if seconds <= 0 or not spent:
        return None
    engine = (gauge.running - gauge.waiting) / seconds if gauge and gauge.clips else None
    cpu = {stage: value / seconds for stage, value in spent.items()}
    return Rates(video_seconds=seconds, cpu=cpu, engine=engine, clips=clips)


def clip_rates(cut: Cut, kept: float) -> Clips | None:
    """What cutting clips took, where the share `kept` of the video is; None where it cut none."""
    if not cut.seconds:
        return None
    return Clips(cpu=cut.cpu_seconds / cut.seconds, bytes=cut.bytes / cut.seconds, kept=kept)


def remember(config: RowConfig, measured: Rates | None) -> None:
    """Keep a run's rates for the next estimate; those of clips stay where it cut none."""
    if measured is None:
        return
    known = _remembered()
    name = _name(config)
    if measured.clips is None and name in known:
        measured = measured.model_copy(update={"clips": known[name].clips})
    with replacing(cache_folder() / _RATES) as part:
        part.write_bytes(_ALL_RATES.dump_json({**known, name: measured}))


def estimate(sources: Sequence[Source], config: RowConfig, clips: bool = False) -> Estimate:
    """Look at each source's length; where no rate is known yet, do the shortest to get one.

    With `clips` that is to say something of clips, too.
    """
    lengths = {source.path: _length(source) for source in sources}
    readable = [source for source in sources if lengths[source.path] is not None]
    seconds = sum(length or 0.0 for length in lengths.values())
    longest = max((length or 0.0 for length in lengths.values()), default=0.0)
    unreadable = len(sources) - len(readable)
    known = _remembered().get(_name(config))
    if known is not None and (known.clips or not clips):
        where = f"the last run here, {known.video_seconds:,.0f} s of video"
        return Estimate(seconds, longest, known, where, unreadable)
    if not readable:
        return Estimate(seconds, longest, Rates(video_seconds=0.0, cpu={}), "nothing", unreadable)
    shortest = min(readable, key=lambda source: lengths[source.path] or 0.0)
    where = f"{shortest.path.name}, done now"
    return Estimate(seconds, longest, _sample(shortest, config, clips), where, unreadable)


def _sample(source: Source, config: RowConfig, clips: bool) -> Rates:
    """The rates of one source, all of which is kept."""
    captioner = config.captioner()
    clock = StageClock()
    with near(source) as here:
        made = make_rows(Work(here), config, captioner, lambda stage, _: clock.enter(stage))
        rows = [one.row for one in made if one.row.frames is not None]
        clock.stop()
        seconds = max(0.1, sum((row.end or 0) - (row.start or 0) for row in rows))
        cpu = {stage: spent / seconds for stage, spent in clock.spent.items()}
        cut = _cut(here, rows, seconds) if clips and rows else None
    return Rates(video_seconds=seconds, cpu=cpu, clips=cut)


def _cut(source: Source, rows: Sequence[Row], seconds: float) -> Clips:
    with tempfile.TemporaryDirectory(prefix="skycaptioner-") as folder:
        ranges = [clip_range(row) for row in rows]
        written = write_clips(source.path, ranges, Path(folder), ClipConfig())
    return Clips(
        cpu=sum(one.cpu_seconds for one in written) / seconds,
        bytes=sum(one.bytes for one in written) / seconds,
        kept=1.0,
    )


def _length(source: Source) -> float | None:
    if source.error:
        return None
    try:
        with near(source) as here, open_video(here.path, threads=1) as video:
            if video.info.duration is not None:
                return video.info.duration
            return (video.info.frames_expected or 0) / video.info.fps
    except (UnreadableVideoError, StorageError):
        return None


# --- a plan --------------------------------------------------------------------------------------


PLANNED_BY = 16
"""Videos that a plan looks at."""


@dataclass(frozen=True)
class Cluster:
    """What a plan is for: cores and engines (GPUs), and what an hour of each costs."""

    cores: int
    engines: int = 1
    price: float | None = None
    engine_price: float | None = None


def plan(
    sources: Sequence[Source], known: Estimate, hours: float, cluster: Cluster
) -> dict[str, Any]:
    """The facts of a plan. Engines and cores work side by side: what takes longer counts."""
    readable = [source for source in sources if source.error is None]
    input_rate = sum(source.bytes for source in readable) / max(1e-9, known.video_seconds)
    stages, clips = dict(known.rates.cpu), known.rates.clips
    if clips is not None:
        stages["clips"] = clips.cpu * clips.kept
    core_hours = hours * sum(stages.values())
    engine = known.rates.engine
    engine_hours = None if engine is None else hours * engine
    wall = max(core_hours / cluster.cores, (engine_hours or 0.0) / cluster.engines)
    cost = None
    if cluster.price is not None or cluster.engine_price is not None:
        cost = core_hours * (cluster.price or 0) + (engine_hours or 0) * (cluster.engine_price or 0)
    written = None if clips is None else hours * 3600 * clips.kept * clips.bytes / 1e9
    return {
        "hours": hours,
        "measured_on": known.measured_on,
        "cpu_seconds_per_video_second": round(sum(stages.values()), 3),
        "cpu_seconds_per_video_second_by_stage": {k: round(v, 4) for k, v in stages.items()},
        "core_hours": round(core_hours, 2),
        "engine_hours": None if engine_hours is None else round(engine_hours, 2),
        "cores": cluster.cores,
        "engines": cluster.engines,
        "wall_hours": round(wall, 2),
        "cost": None if cost is None else round(cost, 2),
        "input_gigabytes": round(hours * 3600 * input_rate / 1e9, 1),
        "clips_gigabytes": None if written is None else round(written, 1),
        "kept": None if clips is None else round(clips.kept, 3),
        "of": [source.label(source.path) for source in readable[:3]],
    }


# --- what is remembered ---------------------------------------------------------------------------


def _name(config: RowConfig) -> str:
    """What a rate is good for."""
    parts = [config.engine or "no captions", *["measures"] * config.measures]
    return " ".join([*parts, *["models"] * (config.models is not None)])


_ALL_RATES = TypeAdapter(dict[str, Rates])


def _remembered() -> Mapping[str, Rates]:
    try:
        return _ALL_RATES.validate_json((cache_folder() / _RATES).read_bytes())
    except (OSError, ValidationError):
        return {}
