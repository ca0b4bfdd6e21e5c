"""Between those who decode and an engine: clips go in as they are made, rows come out as they end.

Decoding never waits for a caption and the engine never for a batch: a bounded number of clips is
on its way, and whoever is too fast waits for the other. Models that score clips are fed alike,
before the engine that captions them.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

from captioner.handover import Prepared
from captioner.result import CaptionResult
from curation.engine_process import EngineProcess, R, Served
from curation.events import Event
from curation.rows import Made, RowConfig, Work, captioned, scored
from curation.scorers import ScoreResult
from curation.worker import Ended

AHEAD = 128
"""Clips on their way at most: vLLM runs 64 at a time (captioner.engines.vllm.VllmOptions), and as
many again wait for it as JPEG, 26 MB."""


@dataclass(frozen=True)
class Stage(Generic[R]):
    """A stage apart: what `serves` it, what it is `asked` of a row (None: nothing), and the row
    with what it `answered`."""

    serves: Served[R]
    asked: Callable[[Made], Prepared | None]
    answered: Callable[[Made, R], Made]


def stages(config: RowConfig) -> list[Stage[Any]]:
    """The stages apart of a configuration, in their order."""
    found: list[Stage[Any]] = []
    if config.models is not None:
        found.append(Stage(config.models, _pictures, partial(told, config)))
    if config.captioning is not None and config.is_apart:
        found.append(captions(config.captioning))
    return found


def captions(engine: Served[CaptionResult]) -> Stage[CaptionResult]:
    """The stage of an engine that captions."""
    return Stage(engine, _clip, answered)


def _pictures(made: Made) -> Prepared | None:
    return made.pictures


def _clip(made: Made) -> Prepared | None:
    return made.clip


@dataclass(frozen=True)
class _Asked:
    work: Work


@dataclass(frozen=True)
class _Answered:
    work: Work
    made: Made
    future: Future[Any]


_Message = tuple[Work, Made | Ended] | _Asked | _Answered | BaseException | None


def feed(
    events: Iterator[Event], stage: Stage[R], engine: EngineProcess[R], ahead: int = AHEAD
) -> Iterator[Event]:
    """The events, rows with what the stage made of their clips; a work ends after all of its rows.

    A work with a clip that the engine failed on is not final: the next run tries again. Raises
    EngineLostError, and what `events` raises.
    """
    inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    room = threading.Semaphore(ahead)
    stopped = threading.Event()
    pull = threading.Thread(
        target=_pull, args=(events, stage, engine, inbox, room, stopped), daemon=True
    )
    pull.start()
    open_clips: Counter[tuple[str, int]] = Counter()
    torn: set[tuple[str, int]] = set()
    ends: dict[tuple[str, int], tuple[Work, Ended]] = {}
    pulling = True
    try:
        while pulling or open_clips.total():
            match inbox.get():
                case None:
                    pulling = False
                case BaseException() as error:
                    raise error
                case _Asked(work):
                    open_clips[work.key] += 1
                case _Answered(work, made, future):
                    room.release()
                    open_clips[work.key] -= 1
                    done = stage.answered(made, future.result())
                    if not done.final:
                        torn.add(work.key)
                    yield work, done
                    if not open_clips[work.key] and work.key in ends:
                        yield _end(*ends.pop(work.key), torn)
                case work, Ended() as ended:
                    if open_clips[work.key]:
                        ends[work.key] = work, ended
                    else:
                        yield _end(work, ended, torn)
                case work, made:
                    yield work, made
    finally:
        stopped.set()
        pull.join(timeout=5)


def answered(made: Made, result: CaptionResult) -> Made:
    """The row with its caption. An engine's error may be a server's or a GPU's: not final."""
    row = captioned(made.row, result)
    return replace(made, row=row, clip=None, final=result.status != "error")


def told(config: RowConfig, made: Made, result: ScoreResult) -> Made:
    """The row with its scores; its clip is captioned only where they let it be kept."""
    row = scored(made.row, result)
    clip = made.clip if row.decision != "error" and config.wants_caption(row) else None
    return replace(made, row=row, clip=clip, pictures=None, final=made.final and row.error is None)


def _end(work: Work, ended: Ended, torn: set[tuple[str, int]]) -> Event:
    return work, replace(ended, final=ended.final and work.key not in torn)


def _pull(
    events: Iterator[Event],
    stage: Stage[R],
    engine: EngineProcess[R],
    inbox: queue.SimpleQueue[_Message],
    room: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        for work, event in events:
            asked = stage.asked(event) if isinstance(event, Made) else None
            if not isinstance(event, Made) or asked is None:
                inbox.put((work, event))
                continue
            while not room.acquire(timeout=0.5):
                if stopped.is_set():
                    return
            inbox.put(_Asked(work))
            engine.submit(asked).add_done_callback(partial(_tell, inbox, work, event))
    except BaseException as error:
        inbox.put(error)
    finally:
        inbox.put(None)


def _tell(inbox: queue.SimpleQueue[_Message], work: Work, made: Made, future: Future[Any]) -> None:
    inbox.put(_Answered(work, made, future))
