"""How busy decoding keeps an engine: `python -m eval.feed [VIDEOS...] [--workers N] [--load 1]`.

The engine is a stand-in: it takes one clip at a time, for a fixed time, which is set so that it
captions as fast as this machine's CPUs decode and hand over the whole set (times --load),
measured first in the same run. Everything else is real: files, workers, frames, their order and
their way to the engine's process, and back. Beside it the same with the largest files first, and
two loops over the files as given, with as many processes and the same decoder:

- no overlap: decode a batch of four, then caption it;
- prefetched: batches are decoded ahead by processes, and the engine gets one after another, as in
  the released script (SkyReels-V2, skycaptioner_v1/scripts/vllm_struct_caption.py, a DataLoader
  and `llm.generate` of four).

`waits` is the share of the time, from its first clip on, in which the engine has nothing to do.
On a machine that others use too, decoding gets slower and faster from one minute to the next, so
`unavoidable` is what an engine would wait that got each clip the moment it is decoded, computed
from the times of these moments in our run: what is above it is what feeding costs. Without VIDEOS
it renders some.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import cv2
import typer
from rich.console import Console
from rich.table import Table

from captioner.decode import read_clip
from captioner.engine_config import EngineConfig
from captioner.engines.vlm import Generation, Request
from captioner.policies import native
from captioner.schema import ShotCaption
from curation.engine_process import EngineProcess
from curation.events import Event
from curation.feed import captions, feed
from curation.pipeline import run_workers
from curation.rows import Made, RowConfig, Work
from curation.scan import ScanConfig
from curation.sources import Hashes, identify, in_turn, largest_first
from eval.synth import still, write_video

K = TypeVar("K")

SECONDS = "SKYCAPTIONER_STAND_IN_SECONDS"
"""Environment variable: seconds that the stand-in takes a clip."""

BATCH = 4
"""Clips a batch, the released script's default."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class StandIn:
    """A captioner.engines.vlm.Generator that takes a fixed time a clip, and no CPU."""

    name = "stand-in"

    def __init__(self) -> None:
        self._seconds = float(os.environ[SECONDS])

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """The same empty caption for each."""
        return [generation for _, generation in self.stream(enumerate(requests))]

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """One after another."""
        for key, _ in requests:
            time.sleep(self._seconds)
            yield key, Generation(ShotCaption().to_json(), "stop")

    def identity(self) -> dict[str, str]:
        """Its name."""
        return {"engine": self.name}


@dataclass(frozen=True)
class Fed:
    """How an engine was fed: clips, and seconds from its first clip to the end of its last one,
    `waiting` of them without a clip, `starved` of these because none was decoded."""

    clips: int
    running: float
    waiting: float
    starved: float | None = None

    @property
    def wait_share(self) -> float:
        """0 to 1."""
        return self.waiting / self.running


def rate(works: Sequence[Work], config: RowConfig, workers: int, engine: EngineConfig) -> float:
    """Seconds a clip in which the CPUs decode all of the works and hand them to an engine that
    takes no time, from when as many clips more as there are workers are done: all have started."""
    os.environ[SECONDS] = "0"
    done: list[float] = []
    with EngineProcess(engine) as process:
        events = run_workers([*works[:workers], *works], config, workers)
        for _, event in feed(events, captions(engine), process):
            if isinstance(event, Made):
                done.append(time.monotonic())
    return (done[-1] - done[workers - 1]) / len(works)


def streamed(
    works: Sequence[Work], config: RowConfig, workers: int, engine: EngineConfig, seconds: float
) -> Fed:
    """Our way, to an engine that takes `seconds` a clip."""
    os.environ[SECONDS] = str(seconds)
    decoded: list[float] = []

    def noted() -> Iterator[Event]:
        for work, event in run_workers(works, config, workers):
            if isinstance(event, Made):
                decoded.append(time.monotonic())
            yield work, event

    with EngineProcess(engine) as process:
        for _ in feed(noted(), captions(engine), process):
            pass
        gauge = process.gauge()
    return Fed(gauge.clips, gauge.running, gauge.waiting, unavoidable(decoded, seconds))


def unavoidable(decoded: Sequence[float], seconds: float) -> float:
    """Seconds that an engine waits after its first clip if it gets each at once when it is decoded
    (Lindley's recursion for one server)."""
    waiting, free = 0.0, decoded[0]
    for ready in decoded:
        waiting += max(0.0, ready - free)
        free = max(free, ready) + seconds
    return waiting


def in_batches(videos: Sequence[Path], seconds: float, workers: int, prefetched: bool) -> Fed:
    """A batch is decoded, then captioned; `prefetched`: the next ones are decoded meanwhile."""
    batches = [videos[at : at + BATCH] for at in range(0, len(videos), BATCH)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        if prefetched:
            decoded: Iterator[list[int]] = pool.imap(_decode_batch, batches)
        else:
            decoded = (pool.map(_decode, batch) for batch in batches)
        clips, waiting, last, first = 0, 0.0, 0.0, 0.0
        for batch in decoded:
            now = time.monotonic()
            first = first or now
            waiting += now - (last or now)
            time.sleep(seconds * len(batch))
            last = time.monotonic()
            clips += len(batch)
    return Fed(clips, last - first, waiting)


def _decode(video: Path) -> int:
    cv2.setNumThreads(1)
    return len(native(read_clip(video, threads=1)).frames)


def _decode_batch(videos: Sequence[Path]) -> list[int]:
    return [_decode(video) for video in videos]


def _rendered(folder: Path, clips: int) -> list[Path]:
    """Pans of 2 to 6 s in 480p."""
    videos = []
    for seed in range(clips):
        frames, picture = 50 + 25 * (seed % 5), still(seed, 1600, 480)
        pan = (picture[:, 2 * i : 2 * i + 854] for i in range(frames))
        videos.append(write_video(folder / f"{seed}.mp4", pan, 25.0))
    return videos


@app.command()
def main(
    videos: Annotated[list[Path] | None, typer.Argument(help="Clips; each is taken whole.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    load: Annotated[
        float, typer.Option(min=0.1, max=10, help="Speed of the engine, 1: that of decoding.")
    ] = 1.0,
    clips: Annotated[int, typer.Option(min=20, help="Clips to render.")] = 60,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 1,
) -> None:
    """Feed a stand-in engine."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = list(videos) if videos else _rendered(Path(scratch), clips)
        sources = list(identify(paths, Hashes(Path(scratch) / "hashes.json").sha256))
        works = [Work(source) for source in in_turn(sources)]
        falling = [Work(source) for source in largest_first(sources)]
        engine = EngineConfig("eval.feed:StandIn", known=(("engine", "stand-in"),))
        config = RowConfig(ScanConfig("none"), engine.name, options=engine)
        table = Table()
        for column in ("feeding", "clips", "service ms", "waits", "unavoidable"):
            table.add_column(column, justify="right" if table.columns else "left")
        for _ in range(repeat):
            seconds = rate(works, config, workers, engine) / load
            found = {
                "streamed (ours)": streamed(works, config, workers, engine, seconds),
                "streamed, largest first": streamed(falling, config, workers, engine, seconds),
                "batches, prefetched": in_batches(paths, seconds, workers, prefetched=True),
                "batches, no overlap": in_batches(paths, seconds, workers, prefetched=False),
            }
            for name, fed in found.items():
                least = "" if fed.starved is None else f"{fed.starved / fed.running:.1%}"
                figures = (str(fed.clips), f"{seconds * 1e3:.0f}", f"{fed.wait_share:.1%}")
                table.add_row(name, *figures, least)
        Console().print(table)


if __name__ == "__main__":
    app()
