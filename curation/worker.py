"""A process that makes rows, and the watch over it from outside.

Video is untrusted: a decoder can crash, a stage can hang or eat the machine's memory. So rows are
made in a child process. When it dies or has to be ended, the clip that it had gets an error row
and a new child goes on behind it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import cv2

from curation.inputs import near
from curation.rows import Made, RowConfig, Scanned, Work, about_source, error_row, make_rows
from curation.stage_clock import StageClock
from curation.storage import StorageError

_CONTEXT = multiprocessing.get_context("spawn")

POLL = 0.1
"""Seconds between two looks at a child's memory and clock."""


@dataclass(frozen=True)
class Limits:
    """What a child may take: `seconds` a stage of one clip, or without a decoded frame while
    scanning; `memory` bytes resident in all. A 5 s 1080p shot takes 2 s and 0.6 GB."""

    seconds: float = 300.0
    memory: int = 8 << 30


@dataclass(frozen=True)
class Ended:
    """The end of a work: what its scan came to, CPU-seconds by stage, and whether its rows are
    `final` or should be tried again by the next run."""

    scanned: Scanned
    cpu: Mapping[str, float]
    final: bool = True


class _DiedError(Exception):
    """The child ended in the middle: `clip` is what it had, None while it was scanning."""

    def __init__(self, clip: str | None, reason: str) -> None:
        super().__init__(reason)
        self.clip = clip


class Worker:
    """Makes the rows of one work after another in a child process of its own."""

    def __init__(self, config: RowConfig, limits: Limits | None = None) -> None:
        self._config = config
        self._limits = limits or Limits()
        self._child: SpawnProcess | None = None
        self._clip: str | None = None
        self._stage = ""

    def make(self, work: Work) -> Generator[Made, None, Ended]:
        """Each row as it is made; returns how it ended. Never raises for what is in the source.

        A source that is not on this machine is fetched, for as long as the work takes.
        """
        try:
            with near(work.source) as source:
                return (yield from self._make(replace(work, source=source)))
        except StorageError as error:
            about = about_source(work.source, self._config.hash())
            yield Made(error_row(about, "open", str(error)), final=False)
            return Ended(Scanned(), {}, final=False)

    def _make(self, work: Work) -> Generator[Made, None, Ended]:
        made: dict[str, Made] = {}
        deaths = 0
        while True:
            try:
                return (yield from self._attempt(work, made))
            except _DiedError as death:
                done = {key: one.row for key, one in made.items()}
                work = replace(work, finished={**work.finished, **done})
                if death.clip is not None:
                    work = replace(work, failed={**work.failed, death.clip: str(death)})
                    continue
                # No clip to blame: once more, as the machine may have been at fault.
                deaths += 1
                if deaths > 1:
                    about = about_source(work.source, self._config.hash())
                    yield Made(error_row(about, "worker", str(death)))
                    return Ended(Scanned(), {}, final=False)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._pipe.close()
            self._child = None

    def _attempt(self, work: Work, made: dict[str, Made]) -> Generator[Made, None, Ended]:
        self._start()
        try:
            self._pipe.send(work)
            while True:
                match self._answer():
                    case Made() as one:
                        if one.row.clip_id not in made:
                            made[one.row.clip_id] = one
                            yield one
                    case ended:
                        return ended
        except (EOFError, BrokenPipeError, ConnectionResetError):
            assert self._child is not None  # noqa: S101
            self._child.join()
            code = self._child.exitcode or 0
            clip = self._clip
            self.close()
            raise _DiedError(clip, f"the worker process died ({named_exit(code)})") from None
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        if self._child is not None and self._child.is_alive():
            return
        self._pipe, theirs = _CONTEXT.Pipe()
        self._frames = _CONTEXT.Value("Q", 0, lock=False)
        # A child has one core: threads of NumPy's would wait for each other, 0.1 CPU-seconds of it.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._child = _CONTEXT.Process(
            target=_work_for_ever, args=(theirs, self._frames, self._config), daemon=True
        )
        self._child.start()
        theirs.close()
        self._clip, self._stage = None, ""

    def _answer(self) -> Made | Ended:
        """The child's next answer. Raises _DiedError when it goes over a limit, EOFError when it
        dies of itself."""
        since, frames = time.monotonic(), self._frames.value
        while True:
            while self._pipe.poll(POLL):
                answer = self._pipe.recv()
                if not isinstance(answer, _Stage):
                    return answer  # type: ignore[no-any-return]
                self._clip, since = answer.clip, time.monotonic()
                self._stage = answer.name
            if frames != self._frames.value:
                since, frames = time.monotonic(), self._frames.value
            # Starting Python on a busy machine can take longer than a stage may.
            self._check(time.monotonic() - since if self._stage else 0.0)

    def _check(self, seconds: float) -> None:
        assert self._child is not None  # noqa: S101
        memory = resident(self._child.pid or 0)
        reason = None
        if seconds > self._limits.seconds:
            reason = f"{self._stage} took longer than {self._limits.seconds:g} s"
        elif memory > self._limits.memory:
            reason = f"it took more than {self._limits.memory / 2**20:.0f} MiB of memory"
        if reason is not None:
            clip = self._clip
            self.close()
            raise _DiedError(clip, reason)


@dataclass(frozen=True)
class _Stage:
    """What the child begins to do."""

    name: str
    clip: str | None


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def named_exit(code: int) -> str:
    """How a process ended, from its exit code: `SIGSEGV`, `exit code 1`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


# --- in the child -------------------------------------------------------------------------------


def _work_for_ever(pipe: Connection, frames: Any, config: RowConfig) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    cv2.setNumThreads(1)
    captioner = config.captioner()

    clock = StageClock()

    def tell(stage: str, clip: str | None) -> None:
        clock.enter(stage)
        pipe.send(_Stage(stage, clip))

    def count_frame() -> None:
        frames.value += 1

    while True:
        work: Work = pipe.recv()
        making = make_rows(work, config, captioner, tell, count_frame)
        scanned = _send_all(making, pipe.send)
        clock.stop()
        pipe.send(Ended(scanned, dict(clock.spent)))
        clock.spent.clear()


def _send_all(making: Generator[Made, None, Scanned], send: Callable[[Made], None]) -> Scanned:
    while True:
        try:
            made = next(making)
        except StopIteration as stop:
            scanned: Scanned = stop.value
            return scanned
        send(made)


def die_with_parent(group: bool = False) -> None:
    """End this process, or its whole process group, with its parent: a child whose parent was
    killed would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel, group), daemon=True).start()


def _die_with(parent: int, group: bool) -> None:
    wait([parent])
    if group:
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
