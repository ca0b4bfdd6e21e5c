"""The engine of a run, started and ready: on this machine, or as a pool on a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from captioner.engine_config import EngineConfig, EngineOptionError
from curation.engine_metrics import Board, Gauge
from curation.engine_process import EngineProcess, missing
from curation.engine_ray import EnginePool, cluster_gpus, connect, identify, run_ray
from curation.events import Event
from curation.pipeline import run_local
from curation.rows import RowConfig, Work
from curation.worker import Limits


@dataclass(frozen=True)
class Captioning:
    """What captions a run: the engine's configuration as settled (`why` it was chosen), how works
    are `run` with it, and what it did so far (None for an engine within the workers)."""

    config: EngineConfig
    why: str
    run: Callable[..., Iterator[Event]]
    gauge: Callable[[], Gauge | None]

    def facts(self) -> dict[str, Any]:
        """The engine for run.json."""
        gauge = self.gauge()
        return {
            "name": self.config.name,
            "why": self.why,
            "identity": self.config.identity(),
            **(gauge.facts() if gauge else {}),
        }


@contextlib.contextmanager
def start(
    asked: EngineConfig, ray: bool = False, engines: int | None = None
) -> Iterator[Captioning]:
    """Start the engine that was asked for; on Ray at most `engines`, by default one a GPU.

    The engine itself starts with the first work, before any video of it is decoded: a run that has
    nothing to do loads no model. Raises captioner.engine_config.EngineOptionError for options, a
    model or an endpoint that cannot be used; running raises curation.engine_process.EngineLostError
    for an engine that cannot be kept alive.
    """
    if ray:
        connect()
        yield _on_ray(asked, engines)
        return
    config, why = asked.chosen()
    if not config.is_apart:
        yield Captioning(config, why, run_local, lambda: None)
        return
    here = _Here(config)
    try:
        yield Captioning(config.knowing(identity(config)), why, here.run, here.gauge)
    finally:
        here.close()


def identity(config: EngineConfig) -> dict[str, str]:
    """What the engine says of itself before it loads anything. Raises EngineOptionError."""
    try:
        return config.identity()
    except ImportError as error:
        raise EngineOptionError(missing(config.name, error)) from None
    except ValueError as error:
        if type(error).__module__.startswith("captioner."):
            raise EngineOptionError(str(error)) from None
        raise


class _Here:
    """An engine process of this machine, started when there is something to do."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._process: EngineProcess | None = None

    def run(
        self, todo: Sequence[Work], config: RowConfig, workers: int, limits: Limits | None = None
    ) -> Iterator[Event]:
        if todo:
            self._process = self._process or EngineProcess(self._config)
            yield from run_local(todo, config, workers, limits, self._process)

    def gauge(self) -> Gauge | None:
        return self._process.gauge() if self._process else None

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


def _on_ray(asked: EngineConfig, engines: int | None) -> Captioning:
    gpus = cluster_gpus()
    config, why = asked.chosen(gpu=gpus > 0)
    if not config.is_apart:
        return Captioning(config, why, run_ray, lambda: None)
    # A server computes elsewhere; the others take a GPU each where there are any.
    own = 1.0 if gpus and config.name in ("vllm", "transformers") else 0.0
    pool = EnginePool(largest=engines or max(1, int(gpus * own)), gpus=own)
    board = Board()
    known = config.knowing(identify(config, pool))
    return Captioning(known, why, partial(run_ray, pool=pool, board=board), board.total)
