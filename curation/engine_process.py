"""An engine in a process of its own, and the watch over it from outside.

Clips go in as they are ready and results come out as they are finished: there is no batch, and so
no barrier. An engine can crash (a driver, a kernel, memory): it is started anew, and the clips that
it had are tried again one at a time: the one that kills it gets an error, the others captions.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

from captioner.engine_config import EngineOptionError
from captioner.handover import Prepared, unpacked
from curation.engine_metrics import Gauge
from curation.worker import die_with_parent, named_exit

_CONTEXT = multiprocessing.get_context("spawn")

PATIENCE = 600.0
"""Seconds without any result after which an engine that has clips counts as hung. The first result
of a 7B model can take minutes: it compiles."""

MAX_DEATHS = 5
"""Deaths in a row, without a result between them, after which no more is tried."""

UNPACKED = 8
"""Clips that lie unpacked before the engine; the others wait as JPEG."""


K = TypeVar("K")


class Result(Protocol):
    """What became of a clip; `status` "error" where nothing did."""

    @property
    def status(self) -> str:
        """For counting."""
        ...


R = TypeVar("R", bound=Result)
R_co = TypeVar("R_co", bound=Result, covariant=True)


class Served(Protocol[R_co]):
    """What a process is made of: captioner.engine_config.EngineConfig, curation.scorers.Scoring."""

    @property
    def name(self) -> str:
        """What it is called where it fails."""
        ...

    def build(self) -> Any:
        """The engine, in its process. A ValueError of ours is a user's mistake, in one line."""
        ...

    def identity_of(self, engine: Any) -> dict[str, str]:
        """What its results depend on."""
        ...

    def warm_up(self, engine: Any) -> None:
        """Load what would be loaded at the first clip. Raises as `build` does."""
        ...

    def answers(self, engine: Any, clips: Iterable[tuple[K, Prepared]]) -> Iterator[tuple[K, R_co]]:
        """Each clip's result, as it is finished."""
        ...

    def failed(self, reason: str) -> R_co:
        """The result of a clip that the engine did not survive."""
        ...


class EngineLostError(RuntimeError):
    """The engine cannot be kept alive; the message has the reason of its last death."""


# --- what goes over the pipe, from the engine's side ----------------------------------------------


@dataclass(frozen=True)
class _Ready:
    identity: dict[str, str]


@dataclass(frozen=True)
class _Refused:
    """A user's mistake, in one line."""

    message: str


@dataclass(frozen=True)
class _Broke:
    """The engine raised; its process is about to end."""

    trace: str


@dataclass(frozen=True)
class _Took:
    number: int


@dataclass(frozen=True)
class _Told:
    number: int
    result: Any
    gauge: Gauge


@dataclass
class _Asked(Generic[R]):
    """A clip on its way. `alone`: nothing else is given to the engine while it has this one."""

    number: int
    prepared: Prepared
    future: Future[R]
    sent: bool = False
    taken: bool = False
    alone: bool = False


class EngineProcess(Generic[R]):
    """One engine; `submit` clips from any thread.

    Starting waits for the engine to be ready. Raises EngineOptionError when the engine refuses its
    options or its model, EngineLostError when it dies before it is ready.
    """

    def __init__(self, config: Served[R], patience: float = PATIENCE) -> None:
        self._config = config
        self._patience = patience
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._asked: dict[int, _Asked[R]] = {}
        self._suspects: deque[_Asked[R]] = deque()
        self._statuses: Counter[str] = Counter()
        self._before = Gauge(engines=0)
        self._now = Gauge()
        self._deaths = self._in_a_row = 0
        self._lost: EngineLostError | None = None
        self._closed = False
        self._starting = threading.Lock()
        """Held where `_child` is not a running process yet, and where no more may be started."""
        self._sockets = tempfile.TemporaryDirectory(
            prefix="skycaptioner-", ignore_cleanup_errors=True
        )
        _say_nothing_of_shared_memory()
        self._start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        atexit.register(self.close)  # before multiprocessing waits for the process to end

    def submit(self, prepared: Prepared) -> Future[R]:
        """Ask for a clip's result; the future ends with EngineLostError when no engine is left."""
        future: Future[R] = Future()
        with self._lock:
            if self._lost is not None:
                future.set_exception(self._lost)
                return future
            asked = _Asked(next(self._numbers), prepared, future)
            self._asked[asked.number] = asked
            if not any(other.alone for other in self._asked.values()):
                self._send(asked)
        return future

    def gauge(self) -> Gauge:
        """What it did so far."""
        with self._lock:
            taken = sum(asked.taken for asked in self._asked.values())
            done = self._before + self._now
            return replace(
                done,
                engines=1,
                queue=len(self._asked) - taken,
                in_flight=taken,
                deaths=self._deaths,
                clips=self._statuses.total(),
                statuses=dict(self._statuses),
            )

    def __enter__(self) -> EngineProcess[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; clips that are still with it are given up."""
        with self._starting:
            self._closed = True
        atexit.unregister(self.close)
        self._kill()
        self._child.join()
        if threading.current_thread() is not self._watcher:
            self._watcher.join(timeout=5)
        self._pipe.close()
        self._sockets.cleanup()

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid or 0

    def _kill(self) -> None:
        """End the process and those that it started: vLLM's would stay and hold the GPU."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._child.pid:
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.kill()

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        with self._starting:
            if self._closed:
                raise EngineLostError("the engine was closed")
            self._child: SpawnProcess = _CONTEXT.Process(
                target=_serve, args=(theirs, self._config, self._sockets.name), daemon=False
            )
            self._child.start()
        theirs.close()
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._child.join()
            died = f"the engine died as it started ({named_exit(self._child.exitcode or 0)})"
            raise EngineLostError(died) from None
        match answer:
            case _Refused(message):
                self._child.join()
                raise EngineOptionError(message)
            case _Broke(trace):
                self._child.join()
                raise EngineLostError(f"the engine failed as it started: {trace}")
            case _Ready(identity):
                self.identity = identity
        self._since = time.monotonic()

    def _send(self, asked: _Asked[R]) -> None:
        asked.sent = True
        try:
            self._pipe.send((asked.number, asked.prepared))
        except (BrokenPipeError, ConnectionResetError):
            asked.sent = False  # the watch sees that the engine died, and sends it again

    def _watch(self) -> None:
        broke = ""
        while not self._closed:
            try:
                if self._pipe.poll(0.2):
                    message = self._pipe.recv()
                    broke = message.trace if isinstance(message, _Broke) else broke
                    self._take(message)
                    continue
            except (EOFError, OSError):
                self._child.join(5)  # for the code that it ends with itself
                self._kill()
                self._child.join()
                self._died(broke or f"the engine died ({named_exit(self._child.exitcode or 0)})")
                broke = ""
                continue
            with self._lock:
                busy = any(asked.sent for asked in self._asked.values())
            if not busy:
                self._since = time.monotonic()
            elif time.monotonic() - self._since > self._patience:
                self._kill()
                broke = f"the engine gave no result for {self._patience:g} s and was ended"

    def _take(self, message: object) -> None:
        with self._lock:
            match message:
                case _Took(number):
                    self._asked[number].taken = True
                case _Told(number, result, gauge):
                    asked = self._asked.pop(number)
                    self._now, self._in_a_row = gauge, 0
                    self._since = time.monotonic()
                    self._finish(asked, result)
                    if asked.alone:
                        self._next_suspect()

    def _finish(self, asked: _Asked[R], result: R) -> None:
        self._statuses[result.status] += 1
        asked.future.set_result(result)

    def _died(self, reason: str) -> None:
        if self._closed:
            return
        with self._lock:
            self._deaths += 1
            self._in_a_row += 1
            self._before, self._now = self._before + self._now, Gauge(engines=0)
            for asked in list(self._asked.values()):
                if asked.alone and asked.taken:
                    del self._asked[asked.number]
                    self._finish(asked, self._config.failed(reason))
                elif asked.taken or (asked.alone and asked.sent):
                    asked.alone = True
                    self._suspects.append(asked)
                asked.sent = asked.taken = False
        try:
            if self._in_a_row >= MAX_DEATHS:
                raise EngineLostError(f"it died {self._in_a_row} times in a row; last: {reason}")
            self._start()
        except (EngineLostError, EngineOptionError) as error:
            self._give_up(EngineLostError(str(error)))
            return
        with self._lock:
            self._next_suspect()

    def _next_suspect(self) -> None:
        """Give the engine the next clip that may have killed it, or all that wait."""
        if self._suspects:
            self._send(self._suspects.popleft())
            return
        for asked in self._asked.values():
            if not asked.sent:
                self._send(asked)

    def _give_up(self, error: EngineLostError) -> None:
        with self._lock:
            self._lost, self._closed = error, True
            asked, self._asked = list(self._asked.values()), {}
        for one in asked:
            one.future.set_exception(error)


def missing(engine: str, error: ImportError) -> str:
    """What to do about an engine's packages that are not there, in a line."""
    return f"engine {engine} cannot be loaded: {error}; pip install 'skycaptioner[{engine}]'"


def is_refusal(error: Exception) -> bool:
    """Whether an error is ours and says in one line what a user can mend."""
    ours = type(error).__module__.startswith(("captioner.", "curation."))
    return ours and isinstance(error, ValueError)


def _say_nothing_of_shared_memory() -> None:
    """vLLM's stays when it is killed; Python's resource tracker removes it, and would warn that it
    does. The tracker is a process that starts with the first one of ours."""
    filters = os.environ.get("PYTHONWARNINGS", "")
    if _LEAKED not in filters:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (filters, _LEAKED)))


_LEAKED = "ignore:resource_tracker"


# --- in the engine's process ----------------------------------------------------------------------


def _serve(pipe: Connection, config: Served[Any], sockets: str) -> None:
    # vLLM's own do not go when it is killed (vllm/envs.py).
    os.environ["VLLM_RPC_BASE_PATH"] = sockets
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    die_with_parent(group=True)
    os.dup2(2, 1)  # what a library prints is no part of the job's output
    try:
        engine = config.build()
        identity = config.identity_of(engine)
        config.warm_up(engine)
    except ImportError as error:
        pipe.send(_Refused(missing(config.name, error)))
        return
    except Exception as error:
        if is_refusal(error):
            pipe.send(_Refused(str(error)))
        else:
            pipe.send(_Broke(traceback.format_exc()))
        return
    feeding = _Feeding(pipe, engine)
    feeding.send(_Ready(identity))
    try:
        while True:
            for number, result in config.answers(engine, feeding.clips()):
                feeding.tell(number, result)
    except BaseException:
        feeding.send(_Broke(traceback.format_exc()))
        raise


class _Feeding:
    """The pipe from inside: clips are read and unpacked ahead of the engine by threads."""

    def __init__(self, pipe: Connection, engine: Any) -> None:
        self._pipe = pipe
        self._engine = engine
        self._lock = threading.Lock()
        self._packed: queue.SimpleQueue[tuple[int, Prepared]] = queue.SimpleQueue()
        self._ready: queue.Queue[tuple[int, Prepared]] = queue.Queue(maxsize=UNPACKED)
        self._in_flight = 0
        self._first: float | None = None
        self._idle_since: float | None = None
        self._waited = 0.0
        for work in (self._read, self._unpack):
            threading.Thread(target=work, daemon=True).start()

    def clips(self) -> Iterator[tuple[int, Prepared]]:
        """The clips as the engine asks for them, until none is ready.

        An engine cannot hand over results while it waits for a clip, so it never does while it has
        one: the clips end, it finishes what it has, and is asked again with those that came
        meanwhile. While clips come faster than captions this does not happen.
        """
        clip = self._ready.get()
        while True:
            self._take(clip[0])
            yield clip
            try:
                clip = self._ready.get_nowait()
            except queue.Empty:
                return

    def _take(self, number: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._first = self._first or now
            if self._idle_since is not None:
                self._waited += now - self._idle_since
                self._idle_since = None
            self._in_flight += 1
            self._pipe.send(_Took(number))

    def tell(self, number: int, result: Any) -> None:
        """Hand over a result."""
        now = time.monotonic()
        with self._lock:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle_since = now
            counted = getattr(self._engine, "generator", None)
            gauge = Gauge(
                prompt_tokens=getattr(counted, "prompt_tokens", 0),
                tokens=getattr(counted, "tokens", 0),
                running=now - (self._first or now),
                waiting=self._waited,
            )
            self._pipe.send(_Told(number, result, gauge))

    def send(self, message: object) -> None:
        """Hand over anything else."""
        with self._lock:
            self._pipe.send(message)

    def _read(self) -> None:
        while True:
            self._packed.put(self._pipe.recv())

    def _unpack(self) -> None:
        while True:
            number, prepared = self._packed.get()
            self._ready.put((number, unpacked(prepared)))
