"""What an engine did and how long it waited: on the terminal, in run.json and for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Gauge:
    """What engines did since their first clip; gauges of several engines add up.

    `clips` were answered, with `statuses`; `prompt_tokens` and `tokens` were read and written.
    `running` and `waiting` are seconds since the engine's first clip, and those among them in which
    it had no clip at all (each of `engines` counts its own). `queue` clips are ready and not yet
    taken, `in_flight` ones are taken. `deaths`: how often the process of an engine died.
    """

    clips: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    running: float = 0.0
    waiting: float = 0.0
    queue: int = 0
    in_flight: int = 0
    deaths: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    engines: int = 1

    def __add__(self, other: Gauge) -> Gauge:
        """Both together."""
        return Gauge(
            clips=self.clips + other.clips,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            tokens=self.tokens + other.tokens,
            running=self.running + other.running,
            waiting=self.waiting + other.waiting,
            queue=self.queue + other.queue,
            in_flight=self.in_flight + other.in_flight,
            deaths=self.deaths + other.deaths,
            statuses=dict(Counter(self.statuses) + Counter(other.statuses)),
            engines=self.engines + other.engines,
        )

    @property
    def wait_share(self) -> float:
        """Share of the time in which the engines had nothing to do, 0 to 1."""
        return self.waiting / self.running if self.running else 0.0

    @property
    def clips_per_second(self) -> float:
        """Of all engines together."""
        return self._rate(self.clips)

    @property
    def tokens_per_second(self) -> float:
        """Written, not read; of all engines together."""
        return self._rate(self.tokens)

    def facts(self) -> dict[str, Any]:
        """The gauge for run.json."""
        return {
            "clips": self.clips,
            "statuses": dict(self.statuses),
            "clips_per_second": round(self.clips_per_second, 3),
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "wait_share": round(self.wait_share, 4),
            "queue_depth": self.queue,
            "in_flight": self.in_flight,
            "engines": self.engines,
            "engine_deaths": self.deaths,
        }

    def line(self) -> str:
        """The gauge for a person, short."""
        tokens = f", {self.tokens_per_second:.0f} tokens/s" if self.tokens else ""
        return (
            f"{self.clips_per_second:.2f} clips/s{tokens}, {self.queue} queued, "
            f"engine waits {self.wait_share:.0%}"
        )

    def _rate(self, count: int) -> float:
        return count * self.engines / self.running if self.running else 0.0


class Board:
    """The latest gauge of each engine of a cluster."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def tell(self, engine: str, gauge: Gauge) -> None:
        """Note what an engine says."""
        self._gauges[engine] = gauge

    def total(self) -> Gauge:
        """All engines together."""
        return sum(self._gauges.values(), Gauge(engines=0))


GAUGES = {
    "clips_per_second": "Clips that the engine answers a second",
    "tokens_per_second": "Tokens that the engine writes a second",
    "wait_share": "Share of the time in which the engine has no clip, 0 to 1",
    "queue_depth": "Clips that are ready and not yet taken by the engine",
    "in_flight": "Clips that the engine is working on",
    "engine_deaths": "How often the engine's process died",
    "clips": "Clips that the engine has answered",
    "tokens": "Tokens that the engine has written",
    "prompt_tokens": "Tokens that the engine has read",
}
"""Prometheus gauges, each with the prefix ray_skycaptioner_ that Ray and we put before it; and
skycaptioner_statuses, clips by `status`. All carry the label `engine`."""


class RayMetrics:
    """Tells a gauge to Ray, whose agent on each node serves it to Prometheus."""

    def __init__(self, engine: str) -> None:
        from ray.util import metrics

        self._tags = {"engine": engine}
        self._gauges = {
            name: metrics.Gauge(f"skycaptioner_{name}", said, tag_keys=("engine",))
            for name, said in GAUGES.items()
        }
        self._statuses = metrics.Gauge(
            "skycaptioner_statuses", "Clips by the status of their caption", ("engine", "status")
        )

    def tell(self, gauge: Gauge) -> None:
        """Publish it."""
        facts = gauge.facts()
        for name, metric in self._gauges.items():
            metric.set(facts[name], self._tags)
        for status, count in gauge.statuses.items():
            self._statuses.set(count, {**self._tags, "status": status})
