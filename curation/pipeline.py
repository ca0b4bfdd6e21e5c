"""The stages in order, mapped over many sources by a plain loop of processes or by Ray Data.

A source, or each segment of a long one, is one work. Whoever does a work hands back its rows; the
driver alone writes: each row to the source's journal at once, and the ledger's part when all rows
of the source are in.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.engine_process import EngineProcess
from curation.engine_ray import run_ray as run_ray
from curation.events import Event
from curation.feed import feed, stages
from curation.ledger import Journal, Row, replacing
from curation.output import Output
from curation.rows import Made, RowConfig, Work, labels
from curation.segments import SeamError, Seams, Segment, check_seams
from curation.sources import Source, in_turn, largest_first
from curation.worker import Ended, Limits, Worker


@dataclass(frozen=True)
class Done:
    """A finished source: how many clips, how much of the video was done now, in seconds, and with
    what CPU-seconds by stage; the errors of its rows."""

    source: Source
    clips: int
    seconds: float
    cpu: Mapping[str, float]
    errors: tuple[str, ...]


Divided = Callable[[Sequence[Source]], Iterable[tuple[Source, list[Segment]]]]
"""Finds the segments of sources; those that are missing are one."""


def unfinished(sources: Sequence[Source], config: RowConfig, out: Output) -> list[Source]:
    """The sources that lack rows of this configuration."""
    config_hash = config.hash()

    def is_finished(source: Source) -> bool:
        state = out.ledger.state_of(source.key)
        if source.error or state is None or not state.final or state.config_hash != config_hash:
            return False
        if config.preset is None or config.engine is None:
            return True
        return all(config.is_finished(row) for row in out.ledger.read(out.ledger.part(source.key)))

    return [source for source in sources if not is_finished(source)]


def do(
    sources: Sequence[Source],
    config: RowConfig,
    out: Output,
    run: Callable[[Sequence[Work]], Iterator[Event]],
    afresh: bool = False,
    divided: Divided | None = None,
) -> Iterator[Done]:
    """Make the rows of the sources with an engine, `run`; each is yielded as it is written."""
    todo = list(works(sources, config, out, afresh, divided))
    finished = set()
    for done in gather(run(todo), todo, config, out):
        finished.add(done.source.key)
        yield done
    torn = [source for source in sources if source.key not in finished]
    todo = list(works(torn, config, out))
    yield from gather(run(todo) if todo else (), todo, config, out)


def works(
    sources: Sequence[Source],
    config: RowConfig,
    out: Output,
    afresh: bool = False,
    divided: Divided | None = None,
) -> Iterator[Work]:
    """What is to be done for each source, with the rows that an earlier run has finished, or
    without them (`afresh`). Sources that `divided` finds long are several works.

    The largest come first, so that no worker is left alone with one at the end; for an engine
    apart, in the order that keeps it busy (curation.sources.in_turn).
    """
    config_hash = config.hash()
    parts: dict[str, Sequence[Segment | None]] = {}
    if divided is not None and config.scan.detector != "none":
        parts = {source.key: found for source, found in divided(sources) if len(found) > 1}
    ordered = in_turn(sources) if config.is_apart else largest_first(sources)
    for source in ordered:
        journal = out.ledger.journal(source.key, config_hash)
        before = journal.rows()
        journal.restart(list(before.values()))
        journal.close()
        state = out.ledger.state_of(source.key)
        if state is not None and state.config_hash == config_hash and not afresh:
            rows = out.ledger.read(out.ledger.part(source.key))
            before = {row.clip_id: row for row in rows} | before
        finished = {
            key: row
            for key, row in before.items()
            if row.decision != "error" and config.is_finished(row)
        }
        for part in parts.get(source.key, [None]):
            yield Work(source, part, finished)


# --- the same works, in processes of this machine (on Ray: curation.engine_ray) -------------------


def run_local(
    todo: Sequence[Work],
    config: RowConfig,
    workers: int,
    limits: Limits | None = None,
    engines: Mapping[str, EngineProcess[Any]] | None = None,
) -> Iterator[Event]:
    """Do the works in that many processes of this machine.

    Clips for a stage apart go to its process in `engines`, by name, or to one that is started
    here. Raises EngineLostError when it cannot be kept alive, EngineOptionError when it cannot be
    started.
    """
    made = run_workers(todo, config, workers, limits)
    with contextlib.ExitStack() as own:
        for stage in stages(config):
            engine = (engines or {}).get(stage.serves.name)
            if engine is None:
                engine = own.enter_context(EngineProcess(stage.serves))
            made = feed(made, stage, engine)
        yield from made


def run_workers(
    todo: Sequence[Work], config: RowConfig, workers: int, limits: Limits | None = None
) -> Iterator[Event]:
    """Do all of the works that needs no engine apart, in that many processes of this machine."""
    waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for work in todo:
        waiting.put(work)
    # A worker that is ahead by more than this waits: what lies here is what a kill loses.
    events: queue.Queue[Event | BaseException | None] = queue.Queue(maxsize=max(1, workers))
    hands = [Worker(config, limits) for _ in range(max(1, workers))]
    stopped = threading.Event()

    def put(event: Event | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                events.put(event, timeout=0.5)
                return

    def run(worker: Worker) -> None:
        try:
            while not stopped.is_set():
                try:
                    work = waiting.get_nowait()
                except queue.Empty:
                    break
                making = worker.make(work)
                while not stopped.is_set():
                    try:
                        put((work, next(making)))
                    except StopIteration as stop:
                        put((work, stop.value))
                        break
        except BaseException as error:
            put(error)
        finally:
            worker.close()
            put(None)

    threads = [threading.Thread(target=run, args=(worker,), daemon=True) for worker in hands]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            event = events.get()
            if event is None:
                running -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event
    finally:
        stopped.set()
        for thread in threads:
            thread.join(timeout=5)


# --- the driver -----------------------------------------------------------------------------------


@dataclass
class _Gathering:
    """The rows of a source as they come in, and the ends of its segments by their first frames;
    `before`: the clips that an earlier run had done."""

    source: Source
    journal: Journal
    segments: Sequence[Segment | None]
    ended: dict[int, Ended] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)


def gather(
    events: Iterable[Event], todo: Sequence[Work], config: RowConfig, out: Output
) -> Iterator[Done]:
    """Write what comes in; a source is yielded when its part of the ledger is written.

    A source whose segments do not fit together is left: its rows stay in the journal, and it is to
    be done as a whole. Raises OSError when `out` cannot be written.
    """
    parts: dict[str, list[Segment | None]] = defaultdict(list)
    for work in todo:
        parts[work.source.key].append(work.segment)
    config_hash = config.hash()
    gathering: dict[str, _Gathering] = {}
    for work, event in events:
        key = work.source.key
        if key not in gathering:
            journal = out.ledger.journal(key, config_hash)
            gathering[key] = _Gathering(work.source, journal, parts[key])
        of = gathering[key]
        if isinstance(event, Made):
            _take(event, of, out)
            if event.row.clip_id in work.finished:
                of.before.add(event.row.clip_id)
            continue
        of.ended[work.key[1]] = event
        if len(of.ended) == len(of.segments):
            del gathering[key]
            if _fits(of):
                yield _write(of, out)
            else:
                of.journal.close()


def _fits(of: _Gathering) -> bool:
    """Whether the segments of a source give what one scan of it gives."""
    parts = [(s, of.ended[s.start].scanned.seams) for s in of.segments if s is not None]
    try:
        check_seams([(segment, seams or Seams(None, None)) for segment, seams in parts])
    except SeamError:
        return False
    return all(seams is not None for _, seams in parts)


def _take(made: Made, of: _Gathering, out: Output) -> None:
    row = made.row
    new = row.clip_id not in of.rows
    of.rows[row.clip_id] = row
    if made.preview is not None:
        with replacing(out.preview(row.clip_id)) as part:
            part.write_bytes(made.preview)
    if new and row.frames is not None:
        of.journal.add(row)


def _write(of: _Gathering, out: Output) -> Done:
    """Put the source's part into the ledger: shots in order, numbered, damage told in each row."""
    said = dict.fromkeys(warning for one in of.ended.values() for warning in one.scanned.warnings)
    warning = "; ".join(said) or None
    inside = sorted(of.rows.values(), key=lambda row: (row.start_pts is None, row.start_pts or 0))
    rows = [
        row.model_copy(update={"warning": warning, "shot": number})
        for number, row in enumerate(inside)
    ]
    out.ledger.write(of.source.key, rows, all(one.final for one in of.ended.values()))
    of.journal.discard()
    return Done(
        source=of.source,
        clips=sum(row.frames is not None for row in rows),
        seconds=sum(
            (row.end or 0) - (row.start or 0) for row in rows if row.clip_id not in of.before
        ),
        cpu=total(one.cpu for one in of.ended.values()),
        errors=tuple(row.error or "" for row in rows if row.decision == "error"),
    )


def total(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums by name."""
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        for name, value in part.items():
            sums[name] += value
    return dict(sums)


def relabel_moved(sources: Sequence[Source], out: Output) -> int:
    """Give the rows of files that have moved their new paths, and those of files about which
    something else is known the new facts; returns how many files."""
    moved = 0
    for source in sources:
        state, new = out.ledger.state_of(source.key), labels(source)
        if state is not None and state.model_dump(include=set(new)) != new:
            rows = out.ledger.read(out.ledger.part(source.key))
            changed = [Row.model_validate({**row.model_dump(by_alias=True), **new}) for row in rows]
            out.ledger.write(source.key, changed, state.final)
            moved += 1
    return moved


def forget_replaced(sources: Sequence[Source], out: Output) -> int:
    """Drop the rows of files whose content has changed since; returns how many files."""
    current = {s.label(path): s.key for s in sources for path in (s.path, *s.copies)}
    replaced = 0
    for path in out.ledger.parts():
        state = out.ledger.state_of(path.stem)
        if state is not None and current.get(state.source, path.stem) != path.stem:
            path.unlink()
            replaced += 1
    return replaced
