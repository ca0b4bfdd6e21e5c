"""`make loop-demo`: the loop closed once, with SkyReels-V2 pipelines of random weights.

Rendered films of three camera moves are curated and published; text-to-video, image-to-video and
diffusion forcing in two windows generate from their captions; what came out is captioned, scored
and turned into weights. The pipelines are the real classes, far too small and untrained: what they
generate is noise, so misses are what the loop has to find. The same command goes on where it was
stopped.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from eval.synth import still, write_video
from eval.synth_moves import NAMES, past

MOVES = {"static": (None, 0.0), "pan_left": ("pan", 0.2), "tilt_up": ("tilt", 0.2)}
"""Axis, and share of the frame a second."""

FILMS, FRAMES, FPS, WIDTH, HEIGHT = 5, 24, 12.0, 320, 180

PRESET = """\
# Everything is kept; each camera move is to be a third.
rules:
  - width: {min: 100 px}
balance: {by: [camera_move], to: uniform, mode: weight}
"""

SMALL = ["--height", "96", "--width", "160", "--steps", "2", "--dtype", "float32"]
TASKS = {
    "t2v": ["--frames", "9", "--count", "15"],
    "i2v": ["--frames", "9", "--count", "3"],
    "df": ["--frames", "17", "--base-frames", "13", "--overlap", "9", "--count", "3"],
}
"""Five of each concept from text: of fewer, the loop makes no weight."""


def main(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("demo/loop"),
) -> None:
    """Curate, publish, generate three ways, close the loop of each, and balance by the first."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # on models this small more threads only wait
    films, curated, dataset, preset = (
        folder / name for name in ("films", "curated", "dataset", "balance.yaml")
    )
    _render(films)
    preset.write_text(PRESET, encoding="utf-8")
    captions = ["--captions", "all", "--engine", "experts"]
    _run("curate", "-i", films, "-o", curated, "--preset", preset, *captions)
    _run("dataset", curated, "-o", dataset)
    models = {task: folder / "tiny" / task for task in TASKS}
    if not all((model / "model_index.json").is_file() for model in models.values()):
        _run("generation.tiny", folder / "tiny")
    for task, options in TASKS.items():
        made, loop = (folder / f"{name}-{task}" for name in ("generated", "loop"))
        given = ["--model", models[task], "--task", task, *options, *SMALL]
        _run("generate", dataset, "-o", made, *given)
        _run("loop", made, "--real", dataset, "-o", loop, "--engine", "experts", "--pairs")
    weights = folder / "loop-t2v" / "loop_weights.json"
    _run("decide", curated, "--preset", preset, "--from-loop", weights, "--dry-run")
    print("\nThe weights of these pipelines are random: they make noise, and misses are expected.")
    print(f"pages: {', '.join(str(folder / f'loop-{task}' / 'loop.html') for task in TASKS)}")


def _render(films: Path) -> None:
    """A film of each move over each of a few pictures, unless it is there."""
    films.mkdir(parents=True, exist_ok=True)
    for number, (move, (axis, speed)) in enumerate(MOVES.items()):
        for take in range(FILMS):
            path = films / f"{move}-{take}.mp4"
            if path.is_file():
                continue
            picture = still(100 * number + take, 2 * WIDTH, 2 * HEIGHT)
            sign = -1 if axis and NAMES[axis][0] != move else 1
            part = path.with_suffix(".part.mp4")
            write_video(part, past(picture, axis, sign * speed, (WIDTH, HEIGHT), FRAMES, FPS), FPS)
            part.replace(path)


def _run(job: str, *arguments: object) -> None:
    """A job as `python -m` runs it, told before it runs; ends the demo where it ends in a mistake.

    All in this process: each of its own would import PyTorch and diffusers anew.
    """
    module = job if "." in job else f"jobs.{job}"
    given = [str(one) for one in arguments]
    print(f"\n$ python -m {module} {shlex.join(given)}", flush=True)
    table = ["--table"] if module in _TABLED else []
    own, sys.argv = sys.argv, [module, *given, *table]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.argv = own


_TABLED = {"jobs.curate", "jobs.generate", "jobs.loop", "jobs.decide"}


if __name__ == "__main__":
    typer.run(main)
