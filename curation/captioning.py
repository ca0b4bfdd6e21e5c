"""The engine of a run, and the models that score its clips: here, or as pools on a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from captioner.engine_config import EngineConfig, EngineOptionError
from curation.engine_metrics import Board, Gauge
from curation.engine_process import EngineProcess, is_refusal, missing
from curation.engine_ray import EnginePool, cluster_gpus, connect, identify, run_ray
from curation.events import Event
from curation.feed import stages
from curation.pipeline import run_local
from curation.rows import RowConfig, Work
from curation.scorers import Scoring
from curation.worker import Limits


@dataclass(frozen=True)
class Captioning:
    """What captions a run: the engine's configuration as settled (`why` it was chosen), how works
    are `run` with it, what it did so far (None for an engine within the workers), and the `models`
    that score the clips before."""

    config: EngineConfig
    why: str
    run: Callable[..., Iterator[Event]]
    gauge: Callable[[], Gauge | None]
    models: Scoring | None = None

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
    asked: EngineConfig,
    ray: bool = False,
    engines: int | None = None,
    models: Scoring | None = None,
) -> Iterator[Captioning]:
    """Start the engine that was asked for; on Ray at most `engines`, by default one a GPU.

    Engine and models themselves start with the first work, before any video of it is decoded: a run
    that has nothing to do loads none. Raises captioner.engine_config.EngineOptionError for options,
    a model or an endpoint that cannot be used, and curation.scorers.ScorerError; running raises
    curation.engine_process.EngineLostError for an engine that cannot be kept alive.
    """
    if ray:
        connect()
        yield _on_ray(asked, engines, models)
        return
    config, why = asked.chosen()
    if config.is_apart:
        config = config.knowing(identity(config))
    if models is not None:
        models = models.knowing(models.identity())
    here = _Here(config.name)
    try:
        yield Captioning(config, why, here.run, here.gauge, models)
    finally:
        here.close()


def identity(config: EngineConfig) -> dict[str, str]:
    """What the engine says of itself before it loads anything. Raises EngineOptionError."""
    try:
        return config.identity()
    except ImportError as error:
        raise EngineOptionError(missing(config.name, error)) from None
    except ValueError as error:
        if is_refusal(error):
            raise EngineOptionError(str(error)) from None
        raise


class _Here:
    """Processes of this machine, started when there is something to do."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._processes: dict[str, EngineProcess[Any]] = {}

    def run(
        self, todo: Sequence[Work], config: RowConfig, workers: int, limits: Limits | None = None
    ) -> Iterator[Event]:
        if todo:
            for stage in stages(config):
                if stage.serves.name not in self._processes:
                    self._processes[stage.serves.name] = EngineProcess(stage.serves)
            yield from run_local(todo, config, workers, limits, self._processes)

    def gauge(self) -> Gauge | None:
        process = self._processes.get(self._engine)
        return process.gauge() if process else None

    def close(self) -> None:
        for process in self._processes.values():
            process.close()


def _on_ray(asked: EngineConfig, engines: int | None, models: Scoring | None) -> Captioning:
    gpus = cluster_gpus()
    config, why = asked.chosen(gpu=gpus > 0)
    # Models that score are small beside an engine: they share its GPU.
    beside = _BESIDE if gpus and models is not None else 0.0
    scorers = EnginePool(largest=max(1, int(gpus)), gpus=beside)
    if models is not None:
        models = models.knowing(identify(models, scorers))
    board = Board()
    run = partial(run_ray, board=board, scorers=scorers)
    if not config.is_apart:
        return Captioning(config, why, run, lambda: None, models)
    # A server computes elsewhere; the others take a GPU each where there are any.
    own = 1.0 - beside if gpus and config.name in ("vllm", "transformers") else 0.0
    pool = EnginePool(largest=engines or max(1, int(gpus) if own else 1), gpus=own)
    known = config.knowing(identify(config, pool))
    return Captioning(known, why, partial(run, pool=pool), board.total, models)


_BESIDE = 0.1
"""Of a GPU: what vLLM leaves of its memory (captioner.engines.vllm.MEMORY)."""
