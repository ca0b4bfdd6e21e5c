"""Between those who decode and the engine: clips go in as they are made, rows come out as they end.

Decoding never waits for a caption and the engine never for a batch: a bounded number of clips is
on its way, and whoever is too fast waits for the other.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from captioner.result import CaptionResult
from curation.engine_process import EngineProcess
from curation.events import Event
from curation.rows import Made, Work, captioned
from curation.worker import Ended

AHEAD = 128
"""Clips on their way at most: vLLM runs 64 at a time (captioner.engines.vllm.VllmOptions), and as
many again wait for it as JPEG, 26 MB."""


@dataclass(frozen=True)
class _Asked:
    work: Work


@dataclass(frozen=True)
class _Answered:
    work: Work
    made: Made
    future: Future[CaptionResult]


_Message = tuple[Work, Made | Ended] | _Asked | _Answered | BaseException | None


def feed(events: Iterator[Event], engine: EngineProcess, ahead: int = AHEAD) -> Iterator[Event]:
    """The events, each clip captioned; a work ends after all of its rows.

    A work with a clip that the engine failed on is not final: the next run tries again. Raises
    EngineLostError, and what `events` raises.
    """
    inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    room = threading.Semaphore(ahead)
    stopped = threading.Event()
    pull = threading.Thread(target=_pull, args=(events, engine, inbox, room, stopped), daemon=True)
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
                    told = answered(made, future.result())
                    if not told.final:
                        torn.add(work.key)
                    yield work, told
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


def _end(work: Work, ended: Ended, torn: set[tuple[str, int]]) -> Event:
    return work, replace(ended, final=ended.final and work.key not in torn)


def _pull(
    events: Iterator[Event],
    engine: EngineProcess,
    inbox: queue.SimpleQueue[_Message],
    room: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        for work, event in events:
            if not isinstance(event, Made) or event.clip is None:
                inbox.put((work, event))
                continue
            while not room.acquire(timeout=0.5):
                if stopped.is_set():
                    return
            inbox.put(_Asked(work))
            engine.submit(event.clip).add_done_callback(partial(_tell, inbox, work, event))
    except BaseException as error:
        inbox.put(error)
    finally:
        inbox.put(None)


def _tell(
    inbox: queue.SimpleQueue[_Message], work: Work, made: Made, future: Future[CaptionResult]
) -> None:
    inbox.put(_Answered(work, made, future))
