"""The stages in order: a source becomes rows; a plain loop or a pool of processes maps that."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from captioner.captioner import Captioner
from captioner.decode import UnreadableVideoError, VideoInfo
from captioner.frames import FrameBatch
from captioner.result import CaptionResult
from curation.ledger import SCHEMA_VERSION, Row, clip_id, replacing
from curation.output import Output
from curation.scan import ScanConfig, Shot, scan
from curation.sources import Source, printable


@dataclass(frozen=True)
class CaptionConfig:
    """What the rows depend on."""

    scan: ScanConfig
    engine: str

    def hash(self) -> str:
        """16 hex digits; rows of another hash are made anew."""
        identity = {
            "schema": SCHEMA_VERSION,
            "scan": asdict(self.scan),
            "engine": Captioner(self.engine).engine.identity(),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Done:
    """A finished source: how many clips, how much video in seconds, the errors of its rows."""

    source: Source
    clips: int
    seconds: float
    cpu_seconds: float
    errors: tuple[str, ...]


def caption_source(
    source: Source,
    config: CaptionConfig,
    captioner: Captioner,
    finished: Mapping[str, Row],
    keep: Callable[[Row, FrameBatch], None],
    threads: int = 1,
) -> list[Row]:
    """A row for every shot of a source; one error row if it cannot be read. Never raises for it.

    Clips in `finished` (by clip_id) are not captioned again; each new row goes to `keep` at once.
    """
    about = _about(source, config.hash())
    if source.error is not None:
        return [_error_row(about, "open", source.error)]
    rows: list[Row] = []
    warnings: list[str] = []
    try:
        with scan(source.path, config.scan, threads) as shots:
            warnings = shots.warnings
            for shot in shots:
                row = finished.get(clip_id(str(source.sha256), shot.start_pts, shot.end_pts))
                if row is None:
                    result = captioner.caption(shot.batch)
                    row = _row(about, shots.info, shot, result)
                    keep(row, shot.batch)
                rows.append(row)
    except UnreadableVideoError as error:
        rows.append(_error_row(about, "open", str(error)))
    except OSError:
        raise
    except Exception:
        rows.append(_error_row(about, "caption", traceback.format_exc()))
    # Damage is known only when the whole source has gone by.
    warning = "; ".join(warnings) or None
    return [row.model_copy(update={"warning": warning}) for row in rows]


def _about(source: Source, config_hash: str) -> dict[str, object]:
    """The columns that all rows of a source share."""
    return {
        **_labels(source),
        "source_sha256": source.sha256,
        "source_bytes": source.bytes,
        "config_hash": config_hash,
    }


def _labels(source: Source) -> dict[str, object]:
    return {
        "source": printable(source.path),
        "source_copies": [printable(path) for path in source.copies],
    }


def _row(about: dict[str, object], info: VideoInfo, shot: Shot, result: CaptionResult) -> Row:
    sources = {
        name: {"source": seen.source, "confidence": seen.confidence}
        for name, seen in result.sources.items()
    }
    camera = {}
    if result.camera is not None:
        camera = {f"motion_{axis}": value for axis, value in asdict(result.camera).items()}
        camera["motion_camera"] = list(camera.pop("motion_moves"))
    return Row.model_validate(
        {
            **about,
            **camera,
            "clip_id": clip_id(str(about["source_sha256"]), shot.start_pts, shot.end_pts),
            "shot": shot.index,
            "start": shot.start,
            "end": shot.end,
            "start_pts": shot.start_pts,
            "end_pts": shot.end_pts,
            "time_base": str(shot.time_base),
            "first_frame": shot.first_frame,
            "frames": shot.frames,
            "fps": info.fps,
            "width": info.width,
            "height": info.height,
            "codec": info.codec,
            "decoder": info.decoder,
            "transition_in": shot.transition_in.kind if shot.transition_in else "start",
            "text_lines": list(result.screen_text),
            "decision": "error" if result.status == "error" else "keep",
            "reason": "captioning failed" if result.status == "error" else None,
            "stage": "caption" if result.status == "error" else None,
            "caption": result.caption,
            "caption_status": result.status,
            "caption_engine": result.engine,
            "caption_sources": sources if result.caption else None,
            "caption_t2v": result.t2v,
            "caption_i2v": result.i2v,
            "caption_raw": result.raw,
            "error": result.error,
        }
    )


_REASONS = {
    "open": "the file cannot be read as a video",
    "caption": "captioning failed",
    "worker": "the worker process died while it had this file",
}


def _error_row(about: dict[str, object], stage: str, error: str) -> Row:
    identity = str(about["source_sha256"] or about["source"])
    return Row.model_validate(
        {
            **about,
            "clip_id": clip_id(identity, None, None),
            "decision": "error",
            "reason": _REASONS[stage],
            "stage": stage,
            "error": error,
        }
    )


def work(source: Source, config: CaptionConfig, captioner: Captioner, out: Output) -> Done:
    """Caption a source and put its rows into the ledger. Raises OSError when `out` cannot be
    written."""
    started = time.process_time()
    journal = out.ledger.journal(source.key, config.hash())
    finished = journal.rows()
    journal.restart(list(finished.values()))

    def keep(row: Row, batch: FrameBatch) -> None:
        _write_preview(out.preview(row.clip_id), batch)
        journal.add(row)

    rows = caption_source(source, config, captioner, finished, keep)
    out.ledger.write(source.key, rows)
    journal.discard()
    return _done(source, rows, time.process_time() - started)


def unfinished(sources: Sequence[Source], config: CaptionConfig, out: Output) -> list[Source]:
    """The sources that have no rows of this configuration yet."""
    config_hash = config.hash()
    states = [(source, out.ledger.state_of(source.key)) for source in sources]
    return [
        source
        for source, state in states
        if source.error or state is None or not state.final or state.config_hash != config_hash
    ]


def relabel_moved(sources: Sequence[Source], out: Output) -> int:
    """Give the rows of files that have moved their new paths; returns how many files."""
    moved = 0
    for source in sources:
        state, labels = out.ledger.state_of(source.key), _labels(source)
        old = state and {"source": state.source, "source_copies": state.source_copies}
        if old and old != labels:
            rows = out.ledger.read(out.ledger.part(source.key))
            out.ledger.write(source.key, [row.model_copy(update=labels) for row in rows])
            moved += 1
    return moved


def forget_replaced(sources: Sequence[Source], out: Output) -> int:
    """Drop the rows of files whose content has changed since; returns how many files."""
    current = {printable(path): s.key for s in sources for path in (s.path, *s.copies)}
    replaced = 0
    for path in out.ledger.parts():
        state = out.ledger.state_of(path.stem)
        if state is not None and current.get(state.source, path.stem) != path.stem:
            path.unlink()
            replaced += 1
    return replaced


def _done(source: Source, rows: Sequence[Row], cpu_seconds: float) -> Done:
    return Done(
        source=source,
        clips=sum(row.frames is not None for row in rows),
        seconds=sum((row.end or 0) - (row.start or 0) for row in rows),
        cpu_seconds=cpu_seconds,
        errors=tuple(row.error or "" for row in rows if row.decision == "error"),
    )


PREVIEW_FRAMES = 4
PREVIEW_HEIGHT = 108
"""Pixels a frame."""


def _write_preview(path: Path, batch: FrameBatch) -> None:
    """Four frames in order of time: two by two, or side by side where they are upright."""
    small = []
    for picture in batch.uniform(PREVIEW_FRAMES):
        width = max(1, round(picture.width * PREVIEW_HEIGHT / picture.height))
        size = (min(width, 4 * PREVIEW_HEIGHT), PREVIEW_HEIGHT)
        small.append(cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA))
    if len(small) == PREVIEW_FRAMES and small[0].shape[1] > PREVIEW_HEIGHT:
        sheet = np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])
    else:
        sheet = np.hstack(small)
    strip = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, 80])
    with replacing(path) as part:
        part.write_bytes(jpeg.tobytes())


# --- engines: the same work, one source at a time or many ---------------------------------------


def run_local(
    sources: Sequence[Source], config: CaptionConfig, out: Output, workers: int
) -> Iterator[Done]:
    """Work through the sources in `workers` processes (1: in this one), as they finish.

    A worker that dies takes nothing with it: the files that were in work are tried again one by
    one, and the one that kills its worker gets an error row. Raises OSError when `out` cannot be
    written.
    """
    if workers <= 1:
        captioner = Captioner(config.engine)
        for source in sources:
            yield work(source, config, captioner, out)
        return
    suspects = yield from _run_pool(deque(sources), config, out, workers)
    for source in suspects:
        if (yield from _run_pool(deque([source]), config, out, 1)):
            row = _error_row(_about(source, config.hash()), "worker", _REASONS["worker"])
            out.ledger.write(source.key, [row], final=False)
            yield _done(source, [row], 0.0)


def _run_pool(
    waiting: deque[Source], config: CaptionConfig, out: Output, workers: int
) -> Generator[Done, None, list[Source]]:
    """Yield what is done; return the sources that were in work when a worker died."""
    suspects: list[Source] = []
    while waiting:
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _start_worker, (config, out)
        )
        running: dict[Future[Done], Source] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    source = waiting.popleft()
                    running[pool.submit(_work_in_worker, source)] = source
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done = future.result()
                    del running[future]
                    yield done
        except BrokenProcessPool:
            suspects += running.values()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return suspects


_worker: tuple[CaptionConfig, Output, Captioner] | None = None


def _start_worker(config: CaptionConfig, out: Output) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    cv2.setNumThreads(1)
    _worker = (config, out, Captioner(config.engine))


def _die_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([parent])
    os._exit(1)


def _work_in_worker(source: Source) -> Done:
    assert _worker is not None  # noqa: S101
    config, out, captioner = _worker
    return work(source, config, captioner, out)
