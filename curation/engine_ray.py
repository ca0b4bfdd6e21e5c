"""The same works on a Ray cluster: cores that decode stream into a pool of engines, one a GPU.

Ray Data runs two actor pools, each growing and shrinking between its bounds with the cluster. Why
our own engine class and not `ray.data.llm` (Ray 2.60): its `ray[llm]` extra pins vLLM 0.29, whose
temporal positions of video are wrong; its multimodal stage fails to import with the vLLM that is
right; its metrics need `ray[serve]`; a bad video ends the whole job even with
`should_continue_on_error`; and nothing of it would run with another engine than vLLM. It is no
faster (`eval.ray_llm`).
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from captioner.engine_config import EngineOptionError
from curation.engine_metrics import Board, Gauge, RayMetrics
from curation.engine_process import EngineLostError, EngineProcess, Served
from curation.events import Event
from curation.feed import Stage, stages
from curation.rows import Made, RowConfig, Work
from curation.scorers import MODELS
from curation.worker import Ended, Limits, Worker

BLOCK_BYTES = 8 << 20
"""Clips move in blocks of about this size, 20 clips as JPEG: small enough that a film streams to
the engine while it is being decoded, large enough for Ray's overhead a block, about 10 ms."""

BLOCKS_AT_ONCE = 4
"""Blocks that an engine works on at a time: while one ends, the others keep it busy."""


@dataclass(frozen=True)
class EnginePool:
    """How many engines, and what each takes of its node. `gpus` may be 0 for an engine that runs
    on cores; with several GPUs an engine splits its model over them."""

    smallest: int = 1
    largest: int = 1
    gpus: float = 1.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.largest:
            raise EngineOptionError(
                f"{self.smallest} to {self.largest} engines: the smallest is at least 1 and no "
                "more than the largest"
            )


def connect() -> None:
    """Join the Ray cluster that is there, or start one here."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)


def cluster_gpus() -> float:
    """GPUs of the cluster as it is now."""
    return _resources().get("GPU", 0.0)


def cluster_cores() -> int:
    """Cores of the cluster as it is now."""
    return max(1, int(_resources().get("CPU", 1.0)))


def _resources() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def identify(config: Served[Any], pool: EnginePool) -> dict[str, str]:
    """The identity of the engine as a node of its kind tells it: it is started there once.

    Raises EngineOptionError when it refuses, EngineLostError when it fails.
    """
    import ray

    @ray.remote(num_gpus=pool.gpus, num_cpus=pool.cpus)
    def ask() -> dict[str, str] | EngineOptionError | EngineLostError:
        try:
            with EngineProcess(config) as engine:
                return engine.identity
        except (EngineOptionError, EngineLostError) as error:
            return error

    answer: dict[str, str] | EngineOptionError | EngineLostError = ray.get(ask.remote())
    if isinstance(answer, Exception):
        raise answer
    return answer


def run_ray(
    todo: Sequence[Work],
    config: RowConfig,
    workers: int,
    limits: Limits | None = None,
    pool: EnginePool | None = None,
    board: Board | None = None,
    scorers: EnginePool | None = None,
) -> Iterator[Event]:
    """Do the works on the cluster; gauges of the engines in `pool` go to `board`.

    Each of at most `workers` actors takes one core and watches over one process, as on one machine.
    Ray starts an actor that is lost with its node anew and repeats what it had: for a decoding one
    its work, for an engine its blocks in flight.
    """
    import ray.data

    connect()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.target_max_block_size = BLOCK_BYTES
    rows = ray.data.range(len(todo), override_num_blocks=max(1, len(todo))).flat_map(
        _Decoding,
        fn_constructor_args=(todo, config, limits),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, workers)),
    )
    pools = {MODELS: scorers or EnginePool(gpus=0.0)}
    for stage in stages(config):
        own = pools.get(stage.serves.name, pool or EnginePool())
        rows = rows.map_batches(
            _Asking,
            fn_constructor_args=(stage,),
            batch_size=None,  # a block as it comes
            num_cpus=own.cpus,
            num_gpus=own.gpus,
            compute=ray.data.ActorPoolStrategy(
                min_size=own.smallest,
                max_size=own.largest,
                max_concurrent_calls_per_actor=BLOCKS_AT_ONCE,
                max_tasks_in_flight_per_actor=2 * BLOCKS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
        )
    yield from _in_order(_received(rows.iter_rows(), todo, board or Board()))


@dataclass(frozen=True)
class _Sent:
    """An event on its way: `rows` are how many clips come before an end, `gauge` the engine's."""

    event: Made | Ended
    rows: int = 0
    engine: str = ""
    gauge: Gauge | None = None


def _packed(number: int, sent: _Sent) -> dict[str, Any]:
    return {"id": number, "event": pickle.dumps(sent, protocol=5)}


class _Decoding:
    """Does works in an actor of one core; clips stream out while the film is being decoded."""

    def __init__(self, todo: Sequence[Work], config: RowConfig, limits: Limits | None) -> None:
        self._todo = todo
        self._worker = Worker(config, limits)

    def __call__(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        number, clips = item["id"], set[str]()
        making = self._worker.make(self._todo[number])
        while True:
            try:
                made = next(making)
            except StopIteration as stop:
                yield _packed(number, _Sent(stop.value, len(clips)))
                return
            clips.add(made.row.clip_id)
            yield _packed(number, _Sent(made))


class _Asking:
    """A stage's engine in an actor of its own; blocks go through it side by side."""

    def __init__(self, stage: Stage[Any]) -> None:
        import ray

        self._name = ray.get_runtime_context().get_actor_id() or str(os.getpid())
        self._stage = stage
        self._engine = EngineProcess(stage.serves)
        self._metrics = RayMetrics(stage.serves.name)

    def __call__(self, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # All clips of the block go in before any is waited for.
        asked = [
            (number, sent, self._ask(sent))
            for number, sent in zip(block["id"].tolist(), map(pickle.loads, block["event"]))
        ]
        for number, sent, future in asked:
            done = sent
            if future is not None:
                made = self._stage.answered(sent.event, future.result())
                gauge = self._engine.gauge()
                self._metrics.tell(gauge)
                captions = self._stage.serves.name != MODELS
                done = _Sent(made, engine=self._name, gauge=gauge if captions else None)
            packed = _packed(number, done)
            yield {"id": [packed["id"]], "event": [packed["event"]]}

    def _ask(self, sent: _Sent) -> Future[Any] | None:
        asked = self._stage.asked(sent.event) if isinstance(sent.event, Made) else None
        return None if asked is None else self._engine.submit(asked)


def _received(
    rows: Iterable[dict[str, Any]], todo: Sequence[Work], board: Board
) -> Iterator[tuple[Work, _Sent]]:
    for row in rows:
        sent: _Sent = pickle.loads(row["event"])  # noqa: S301 - our own events, from our own actors
        if sent.gauge is not None:
            board.tell(sent.engine, sent.gauge)
        yield todo[row["id"]], sent


def _in_order(received: Iterable[tuple[Work, _Sent]]) -> Iterator[Event]:
    """A work ends after all of its rows: blocks may overtake each other on the cluster."""
    clips: dict[tuple[str, int], set[str]] = defaultdict(set)
    torn: set[tuple[str, int]] = set()
    ends: dict[tuple[str, int], tuple[Ended, int]] = {}
    for work, sent in received:
        if isinstance(sent.event, Made):
            clips[work.key].add(sent.event.row.clip_id)
            if not sent.event.final:
                torn.add(work.key)
            yield work, sent.event
        else:
            ends[work.key] = sent.event, sent.rows
        if work.key in ends:
            ended, rows = ends[work.key]
            if len(clips[work.key]) >= rows:
                del ends[work.key], clips[work.key]
                yield work, replace(ended, final=ended.final and work.key not in torn)
