"""What Ray costs a clip: `python -m eval.ray_overhead [SOURCES] [CLIPS]`.

The pipeline's own shape (a block a source, one actor a core, rows of plain values streaming back)
over stages that do nothing, beside the same in a plain loop. Each source gives `CLIPS` rows of
about 4 KB, as large as a ledger row with its embedding.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

ROW = b"\0" * 4096


class _Nothing:
    """A worker whose stages do nothing."""

    def __init__(self, clips: int) -> None:
        self._clips = clips

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"id": item["id"], "event": {"clip": i, "row": ROW}} for i in range(self._clips)]


def plain(sources: int, clips: int) -> Iterator[dict[str, Any]]:
    """The rows in a plain loop."""
    worker = _Nothing(clips)
    for i in range(sources):
        yield from worker({"id": i})


def on_ray(sources: int, clips: int, workers: int) -> Iterator[dict[str, Any]]:
    """The rows through Ray Data, as `curation.pipeline.run_ray` does it."""
    import ray.data

    items = ray.data.range(sources, override_num_blocks=sources)
    rows = items.flat_map(
        _Nothing,
        fn_constructor_args=(clips,),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
    )
    yield from rows.iter_rows()


def main(sources: int = 200, clips: int = 10) -> None:
    """Print milliseconds a clip, without the start of Ray and of its actors."""
    import ray
    import ray.data

    ray.init(log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    workers = os.cpu_count() or 1
    started = time.monotonic()
    here = sum(1 for _ in plain(sources, clips))
    between = time.monotonic()
    few = sum(1 for _ in on_ray(workers, clips, workers))
    middle = time.monotonic()
    there = sum(1 for _ in on_ray(sources, clips, workers))
    ended = time.monotonic()
    start = middle - between
    cost = (ended - middle - start) / (there - few)
    print(
        f"{here} clips of {sources} sources: plain loop {(between - started) / here * 1e3:.3f} ms,"
    )
    print(f"Ray {cost * 1e3:.2f} ms a clip, {cost * clips * 1e3:.1f} ms a source;")
    print(f"start of the stage {start:.1f} s")


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
