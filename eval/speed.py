"""Speed beside named peers: `python -m eval.speed [FILES...]`.

Each command runs as a process of its own, in turn with its peer (A B A B ...), and the operating
system's account of it is printed: CPU-seconds (user and system, all threads), wall seconds, peak
memory, and the median of the pairwise ratios of CPU-seconds. Without FILES it renders two, 1080p
and 480p. Ratios hold on a noisy machine; single times do not.
"""

from __future__ import annotations

import compileall
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from eval.synth import Rgb, still, write_video

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Usage:
    """What a finished process used: seconds, and peak resident memory in MiB."""

    cpu: float
    wall: float
    peak: float


_LAUNCHER = """
import json, os, subprocess, sys, tempfile, time
started = time.monotonic()
with tempfile.TemporaryFile() as said:
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if status:
        said.seek(0)
        sys.exit(said.read().decode(errors="replace") or f"status {status}")
print(json.dumps([used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024]))
"""
"""Started afresh for each command: the kernel counts the launcher's own memory to the peak."""


def compile_packages() -> None:
    """Byte-compile what is measured, as pip does for packages that it installs: in a checkout under
    PYTHONDONTWRITEBYTECODE each process would compile it anew."""
    for package in ("captioner", "curation", "jobs"):
        compileall.compile_dir(Path(__file__).parents[1] / package, quiet=1)


def usage_of(command: Sequence[str]) -> Usage:
    """Run a command to its end. Raises RuntimeError with what it said when it fails."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")
    return Usage(*json.loads(done.stdout))


def compare(ours: Sequence[str], peer: Sequence[str], runs: int) -> tuple[Usage, Usage, float]:
    """Medians of both commands and the median ratio of CPU-seconds, ours to the peer's."""
    usage_of(ours)
    pairs = [(usage_of(ours), usage_of(peer)) for _ in range(runs)]
    ratio = statistics.median(a.cpu / b.cpu for a, b in pairs)
    return _median([a for a, _ in pairs]), _median([b for _, b in pairs]), ratio


def _median(usages: Sequence[Usage]) -> Usage:
    return Usage(
        statistics.median(u.cpu for u in usages),
        statistics.median(u.wall for u in usages),
        statistics.median(u.peak for u in usages),
    )


# --- what is measured ---------------------------------------------------------------------------

_SCAN = """
import sys
from pathlib import Path
from curation.scan import scan
for shot in scan(Path(sys.argv[1]), threads=1):
    pass
"""
_CAPTION = "import sys; from captioner import Captioner; Captioner().caption(sys.argv[1])"

_CURATE = """
import sys
from pathlib import Path
from curation.measure.clip import measure_clip
from curation.scan import scan
path = Path(sys.argv[1])
with scan(path, threads=1) as shots:
    for shot in shots:
        measure_clip(shot.batch, shots.info, path.stat().st_size)
"""
_FARNEBACK = """
import sys, cv2
cv2.setNumThreads(1)
video = cv2.VideoCapture(sys.argv[1])
step, number, last = max(1, round(video.get(cv2.CAP_PROP_FPS) / 2)), 0, None
while video.grab():
    number += 1
    if number % step:
        continue
    grey = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2GRAY)
    if last is not None:
        cv2.calcOpticalFlowFarneback(last, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    last = grey
"""
"""Data-Juicer's motion filter: Farneback flow at full size, two frames a second."""

_OCR = """
import sys, cv2
from captioner.experts import text
cv2.setNumThreads(1)
text.DETECTOR_SIDE = 960
video, number = cv2.VideoCapture(sys.argv[1]), 0
while video.grab():
    number += 1
    if number % 3 == 0:
        text.find_text(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
"""
"""cosmos-curate's text filter: PaddleOCR's detector at its own size, every third frame."""


def _ours(script: str, file: Path) -> list[str]:
    return [sys.executable, "-c", script, str(file)]


def _ffmpeg(file: Path) -> list[str]:
    return ["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), "-an", "-f", "null", "-"]


def _scenedetect(file: Path) -> list[str]:
    command = Path(sys.executable).with_name("scenedetect")
    return [str(command), "-i", str(file), "-q", "detect-adaptive"]


def curation_pass(file: Path, runs: int, table: Table, beside_tools: bool) -> None:
    """Scan and all measures beside decoding alone, and beside three tools with a decode each."""
    ours, decoding, ratio = compare(_ours(_CURATE, file), _ffmpeg(file), runs)
    _add(table, "curation pass", file, ours, f"{ratio:.2f}")
    _add(table, "ffmpeg -an -f null -", file, decoding, "")
    if not beside_tools:
        return
    tools = {
        "scenedetect detect-adaptive": _scenedetect(file),
        "Farneback, 2 fps": _ours(_FARNEBACK, file),
        "OCR, every 3rd frame": _ours(_OCR, file),
    }
    total = 0.0
    for name, command in tools.items():
        used = usage_of(command)
        total += used.cpu
        _add(table, name, file, used, "")
    _add(table, "the three tools", file, Usage(total, 0.0, 0.0), f"{ours.cpu / total:.3f}")


@app.command()
def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Videos; rendered if none.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each command.")] = 3,
    seconds: Annotated[int, typer.Option(min=5, help="Length of the rendered videos.")] = 60,
    curation: Annotated[
        bool, typer.Option("--curation", help="Measure the whole curation pass instead.")
    ] = False,
    tools: Annotated[
        bool, typer.Option(help="With --curation: measure the separate tools, a minute for 10 s.")
    ] = True,
) -> None:
    """Measure scan and caption beside their peers, or the curation pass beside its own."""
    compile_packages()
    table = Table()
    for column in ("what", "file", "CPU s", "wall s", "peak MiB", "CPU ratio, ours to peer"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for file in files or rendered(Path(folder), seconds):
            if curation:
                curation_pass(file, runs, table, tools)
                continue
            peers = {"scenedetect detect-adaptive": _scenedetect(file)}
            if shutil.which("ffmpeg"):
                peers = {"ffmpeg -an -f null -": _ffmpeg(file), **peers}
            for name, peer in peers.items():
                ours, theirs, ratio = compare(_ours(_SCAN, file), peer, runs)
                _add(table, "scan", file, ours, f"{ratio:.2f}")
                _add(table, name, file, theirs, "")
        if curation:
            Console(width=120).print(table)
            return
        shot = write_video(Path(folder) / "shot-1080p-5s.mp4", footage(5, 1920, 1080), 25, crf=23)
        _add(
            table,
            "caption, experts",
            shot,
            _median([usage_of(_ours(_CAPTION, shot)) for _ in range(runs)]),
            "",
        )
        start = _median(
            [usage_of([sys.executable, "-c", "import curation.scan"]) for _ in range(runs)]
        )
        _add(table, "of which start-up of Python", shot, start, "")
    Console(width=120).print(table)
    if not shutil.which("ffmpeg"):
        typer.echo("no ffmpeg on this machine: not compared with it", err=True)


def _add(table: Table, what: str, file: Path, used: Usage, ratio: str) -> None:
    table.add_row(what, file.name, f"{used.cpu:.2f}", f"{used.wall:.2f}", f"{used.peak:.0f}", ratio)


def rendered(folder: Path, seconds: int) -> Iterator[Path]:
    """A 1080p and a 480p video of shots of three seconds."""
    for name, width, height in (("1080p", 1920, 1080), ("480p", 854, 480)):
        path = folder / f"rendered-{name}-{seconds}s.mp4"
        yield write_video(path, footage(seconds, width, height), 25, crf=23)


def footage(seconds: int, width: int, height: int) -> Iterator[Rgb]:
    """Shots of three seconds that pan over noisy pictures, 25 frames a second."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-2, 3, (8, height, width, 1), dtype=np.int16)
    for i in range(seconds * 25):
        shot, at = divmod(i, 75)
        if at == 0:
            picture = still(shot, width + 300, height).astype(np.int16)
        frame = picture[:, 4 * at : 4 * at + width] + noise[i % 8]
        yield np.asarray(np.clip(frame, 0, 255), np.uint8)


if __name__ == "__main__":
    app()
