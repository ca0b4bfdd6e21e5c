"""The same on a Ray cluster: one model a GPU, each in an actor of its own.

The driver reads prompts and given frames and writes files and rows, so that only it needs the
dataset and the output folder; the checkpoint has to be at the same path on every node. What goes
back and forth is small: a video travels encoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from curation.engine_ray import cluster_gpus, connect
from generation.config import GenerationConfig
from generation.frames import GenerationOptionError
from generation.make import Made, Work, failed, make
from generation.model import VideoModel

Load = Callable[[], VideoModel]

ATTEMPTS = 2
"""Times that a prompt is tried whose actor dies: the first death may be its node's."""


@dataclass(frozen=True)
class Pool:
    """How many models, and what each takes of its node. `gpus` is 0 for one that runs on cores."""

    models: int = 1
    gpus: float = 1.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if self.models < 1:
            raise GenerationOptionError(f"{self.models} models: ask for at least one")


def whole_cluster() -> Pool:
    """One model a GPU of the cluster; one on a core where there is none."""
    connect()
    gpus = int(cluster_gpus())
    return Pool(gpus) if gpus else Pool(1, gpus=0)


@dataclass(frozen=True)
class RayEngine:
    """An engine of `generation.run.run_by`: actors that each `load` the model of this `name`."""

    load: Load
    name: str
    config: GenerationConfig
    config_hash: str
    pool: Pool

    def __call__(self, works: Iterable[Work]) -> Iterator[Made]:
        """Make the works as actors are free. Raises GenerationOptionError where none loads."""
        import ray

        connect()
        # A restarted actor loads the model again when it is asked.
        kind: Any = ray.remote(
            num_gpus=self.pool.gpus, num_cpus=self.pool.cpus, max_restarts=-1, max_task_retries=0
        )(_Actor)
        actors = [kind.remote(self.load, self.config, self.config_hash) for _ in self._numbers]
        try:
            for refused in ray.get([actor.refusal.remote() for actor in actors]):
                if refused is not None:
                    raise GenerationOptionError(refused)
            yield from self._made(works, actors)
        finally:
            for actor in actors:
                ray.kill(actor)

    @property
    def _numbers(self) -> range:
        return range(self.pool.models)

    def _made(self, works: Iterable[Work], actors: list[Any]) -> Iterator[Made]:
        import ray

        idle, waiting = list(actors), ((work, 1) for work in works)
        following = next(waiting, None)
        again: list[tuple[Work, int]] = []
        running: dict[Any, tuple[Any, Work, int]] = {}
        restarting: dict[Any, tuple[Any, int]] = {}
        while running or again or following:
            if idle and (again or following):
                actor = idle.pop()
                if again:
                    work, attempt = again.pop()
                elif following:
                    (work, attempt), following = following, next(waiting, None)
                running[actor.make.remote(work)] = (actor, work, attempt)
                continue
            if not running and not restarting:
                raise GenerationOptionError("every model died as it loaded")
            [done], _ = ray.wait([*running, *restarting], num_returns=1)
            if done in restarting:
                idle += self._restarted(done, restarting)
                continue
            actor, work, attempt = running.pop(done)
            try:
                yield ray.get(done)
                idle.append(actor)
                continue
            except ray.exceptions.RayActorError as error:
                line = " ".join(str(error).split())[:500]
            restarting[actor.refusal.remote()] = (actor, 1)
            if attempt < ATTEMPTS:
                again.append((work, attempt + 1))
            else:
                reason = f"the process that generated it died, {attempt} times ({line})"
                yield failed(work, reason, self.name, self.config, self.config_hash)

    def _restarted(self, done: Any, restarting: dict[Any, tuple[Any, int]]) -> list[Any]:
        """The actor when it answers again; else it is asked anew, or given up as it only dies."""
        import ray

        actor, tried = restarting.pop(done)
        try:
            if (refused := ray.get(done)) is not None:
                raise GenerationOptionError(refused)
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.1)  # on its way, and no task reaches it
        except ray.exceptions.RayActorError:
            tried += 1
        else:
            return [actor]
        if tried <= ATTEMPTS:
            restarting[actor.refusal.remote()] = (actor, tried)
        return []


class _Actor:
    """A model in a process of its own, loaded when it is first asked."""

    def __init__(self, load: Load, config: GenerationConfig, config_hash: str) -> None:
        self._load = load
        self._config = config
        self._hash = config_hash
        self._model: VideoModel | None = None

    def refusal(self) -> str | None:
        """Why there is no model; None where there is."""
        try:
            self._loaded()
        except GenerationOptionError as error:
            return str(error)
        return None

    def make(self, work: Work) -> Made:
        """Generate one prompt."""
        return make(work, self._loaded(), self._config, self._hash)

    def _loaded(self) -> VideoModel:
        if self._model is None:
            self._model = self._load()
        return self._model
