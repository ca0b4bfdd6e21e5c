"""Whether written clips are exact: `python -m eval.clips FILES... [--edits 30]`.

Every shot of the files, and of as many rendered edits, is written with `curation.clips` and, where
ffmpeg is there, with PySceneDetect's `split_video_ffmpeg`, given the same bounds. Each written file
is decoded again, and the frames at both of its ends are compared with the source's: one that looks
more like a frame on the other side of a bound is a neighbour's.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from scenedetect.output import split_video_ffmpeg

from captioner.decode_pyav import open_pyav
from captioner.frames import one_thread
from captioner.video import UnreadableVideoError
from curation.clips import ClipConfig, ClipRange, write_clips
from curation.scan import Shot, scan
from eval.edits import render

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Thumbs = NDArray[np.float32]
"""(N, 54, 96) grey levels."""

CONFIG = ClipConfig(crf=22, preset="veryfast")
"""PySceneDetect's own settings for libx264, so that both do the same work."""

FFMPEG = "-map 0:v:0 -c:v libx264 -preset veryfast -crf 22 -an"
"""PySceneDetect's default arguments less its sound and subtitles."""

ENDS = 6
"""Frames at either end of a clip that are looked at, and frames beyond it that they may be."""

CLEARER = 0.25
"""Grey levels, on average, by which a frame is more like another: own choice, over what x264 does
to two encodings of one frame at these settings."""

FIRST_SEED = 500
"""Of the rendered edits: none that a threshold was chosen on."""


@dataclass(frozen=True)
class Check:
    """What is in one written clip: frames that should be there, that are, and at its ends those of
    a neighbour; whether the first and last one are the shot's own first and last; and by how many
    seconds the last one is shown too late after the first."""

    expected: int
    found: int
    leaked: int
    first: bool
    last: bool
    late: float


@dataclass
class Side:
    """All checks of one writer, and the CPU-seconds that it took."""

    checks: list[Check]
    failed: int = 0
    cpu: float = 0.0


def check(clip: Path, shot: Shot, source: Thumbs, times: Sequence[float]) -> Check:
    """Compare a written clip with its source, whose frames are shown at `times` seconds."""
    thumbs, seen = _decoded(clip)
    start, end = shot.first_frame, shot.first_frame + shot.frames
    leaked = 0
    for thumb in thumbs[: min(ENDS, len(thumbs) // 2)]:
        leaked += _like(thumb, source, range(start - ENDS, start), range(start, start + ENDS))
    for thumb in thumbs[max(len(thumbs) - ENDS, len(thumbs) // 2) :]:
        leaked += _like(thumb, source, range(end, end + ENDS), range(end - ENDS, end))
    near = range(start - ENDS, end + ENDS)
    return Check(
        expected=shot.frames,
        found=len(thumbs),
        leaked=leaked,
        first=not _like(thumbs[0], source, near, range(start, start + 1)),
        last=not _like(thumbs[-1], source, near, range(end - 1, end)),
        late=(seen[-1] - seen[0]) - (times[end - 1] - times[start]),
    )


def _like(thumb: NDArray[np.float32], source: Thumbs, these: range, those: range) -> bool:
    """Whether a frame is more like one of these frames of the source than like any of those."""

    def nearest(frames: range) -> float:
        inside = source[max(0, frames.start) : max(0, frames.stop)]
        return float(np.abs(inside - thumb).mean((1, 2)).min()) if len(inside) else np.inf

    return nearest(these) < nearest(those) - CLEARER


def _decoded(path: Path) -> tuple[Thumbs, list[float]]:
    """All frames of a file, small, and their times in seconds."""
    thumbs, times = [], []
    with open_pyav(path, threads=1, exact=True) as video, one_thread():
        for frame in video.frames():
            grey = frame.picture().grey
            thumbs.append(cv2.resize(grey, (96, 54), interpolation=cv2.INTER_AREA))
            times.append(float(frame.pts * video.info.time_base))
    return np.asarray(thumbs, np.float32), times


def _ours(source: Path, shots: Sequence[Shot], folder: Path, side: Side) -> list[Path | None]:
    clips = [
        ClipRange(f"{i:05}", s.start_pts, s.end_pts, s.time_base, s.first_frame, s.frames)
        for i, s in enumerate(shots)
    ]
    before = time.process_time()
    written = write_clips(source, clips, folder, CONFIG)
    side.cpu += time.process_time() - before
    for clip in written:
        if clip.error is not None:
            typer.echo(f"{source.name}: {clip.error}", err=True)
    return [None if clip.error is not None else clip.path for clip in written]


def _theirs(source: Path, shots: Sequence[Shot], folder: Path, side: Side) -> list[Path | None]:
    with av.open(str(source)) as container:
        # ffmpeg counts the time that it is told from here.
        start = Fraction(container.start_time or 0, av.time_base)

    def at(shot: Shot, pts: int) -> FrameTimecode:
        shift = round(start / shot.time_base)
        return FrameTimecode(Timecode(pts - shift, shot.time_base), fps=shot.batch.fps)

    scenes = [(at(shot, shot.start_pts), at(shot, shot.end_pts)) for shot in shots]
    before = _children()
    split_video_ffmpeg(
        str(source),
        scenes,
        folder,
        arg_override=FFMPEG,
        formatter=lambda _, scene: f"{scene.index:05}.mp4",
    )
    side.cpu += _children() - before
    paths = [folder / f"{i:05}.mp4" for i in range(len(shots))]
    return [path if path.is_file() else None for path in paths]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _checked(
    paths: Sequence[Path | None],
    shots: Sequence[Shot],
    source: Thumbs,
    times: Sequence[float],
    to: Side,
) -> None:
    for path, shot in zip(paths, shots):
        try:
            if path is None:
                raise UnreadableVideoError("not written")
            to.checks.append(check(path, shot, source, times))
        except UnreadableVideoError:
            to.failed += 1


def _edits(folder: Path, count: int) -> Iterator[Path]:
    """Edits, every other one with a variable frame rate."""
    made = {True: 0, False: 0}
    seed = FIRST_SEED
    while sum(made.values()) < count:
        edit = render(seed)
        variable = edit.times is not None
        if made[variable] <= made[not variable]:
            made[variable] += 1
            yield edit.write(folder / f"edit-{seed}{'-vfr' if variable else ''}.mp4")
        seed += 1


@app.command()
def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Videos.")] = None,
    edits: Annotated[int, typer.Option(min=0, help="Rendered edits besides.")] = 0,
) -> None:
    """Write every shot and say what is in the files."""
    sides = {"curation.clips": Side([])}
    if shutil.which("ffmpeg"):
        sides["PySceneDetect split_video_ffmpeg"] = Side([])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for source in [*(files or []), *_edits(folder, edits)]:
            try:
                with scan(source, threads=1) as video:
                    shots = list(video)
            except UnreadableVideoError as error:
                typer.echo(f"{source.name}: {error}", err=True)
                continue
            thumbs, times = _decoded(source)
            for i, side in enumerate(sides.values()):
                out = folder / f"out-{i}"
                paths = (_theirs if i else _ours)(source, shots, out, side)
                _checked(paths, shots, thumbs, times, side)
                shutil.rmtree(out, ignore_errors=True)
    table = Table()
    for column in (
        "writer",
        "clips",
        "failed",
        "neighbour frames",
        "clips with one",
        "first frame own",
        "last frame own",
        "frames exact",
        "last frame in time, 1 ms",
        "CPU s",
    ):
        table.add_column(column)
    for name, side in sides.items():
        every = side.checks
        counts = (
            sum(c.leaked for c in every),
            sum(c.leaked > 0 for c in every),
            sum(c.first for c in every),
            sum(c.last for c in every),
            sum(c.found == c.expected for c in every),
            sum(abs(c.late) <= 0.001 for c in every),
        )
        table.add_row(name, str(len(every)), str(side.failed), *map(str, counts), f"{side.cpu:.1f}")
    Console(width=150).print(table)


if __name__ == "__main__":
    app()
