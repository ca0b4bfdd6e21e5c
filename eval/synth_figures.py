"""A second synthetic set, of tiny clips: a figure before a wall, seen by a camera that moves.

    python -m eval.synth_figures OUT [--count 4000] [--seed 1]

Four seconds of 16 frames of 112 x 84, of which a small network can learn something in minutes. The
camera stands still, pans, tilts, rolls or zooms, each move as often as the others; the figure has
one of four heights, each a shot type, and one of four colours. The wall is grainy, and painted
redder to the right and bluer to the ground, so that each move also shows as a change of colours:
easier than real footage, and on purpose. Writes OUT/clips/*.mp4 and OUT/set.jsonl, labels in the
form of `eval.testset`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from eval.synth import Rgb, write_video
from eval.synth_moves import NAMES, past
from eval.testset import Clip, Labels, SubjectLabel

WIDTH, HEIGHT, FRAMES, FPS = 112, 84, 16, 4.0

MOVES: tuple[tuple[str, str | None, int], ...] = (
    ("static", None, 0),
    *(
        (NAMES[axis][i], axis, 1 - 2 * i)
        for axis in ("pan", "tilt", "roll", "zoom")
        for i in (0, 1)
    ),
)
"""Name, axis and direction."""

SLOWEST, FASTEST = 0.1, 0.25
"""Share of the frame a second (radians, for roll): 2.8 to 7 pixels a frame."""

SHOT_TYPES = {"close_up": 1.3, "medium_shot": 0.8, "full_shot": 0.45, "long_shot": 0.2}
"""Height of the figure, as a share of the frame's."""

SHADING, GRAIN = 120, 15
"""Levels of 255: how far the wall's colour goes from its middle, and the grain's deviation."""

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 210),
    "white": (235, 235, 235),
}


def render(out: Path, count: int, seed: int, workers: int) -> Path:
    """Write clips and labels; the same arguments give the same bytes."""
    (out / "clips").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        clips = list(pool.map(partial(_clip, out, seed), range(count), chunksize=64))
    text = "".join(f"{clip}\n" for clip in clips)
    (out / "set.jsonl").write_text(text, encoding="utf-8")
    return out / "set.jsonl"


def _clip(out: Path, seed: int, number: int) -> str:
    cv2.setNumThreads(1)
    move, axis, sign = MOVES[number % len(MOVES)]
    shot_type = list(SHOT_TYPES)[number // len(MOVES) % len(SHOT_TYPES)]
    rng = np.random.default_rng([seed, number])
    colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    speed = sign * float(np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))))
    path = out / "clips" / f"{number:05d}.mp4"
    write_video(path, _frames(rng, axis, speed, SHOT_TYPES[shot_type], COLOURS[colour]), FPS)
    clip = Clip(
        clip_id=f"figures-{seed}-{number:05d}",
        path=f"clips/{path.name}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        concept=move,
        rater="rendered",
        labels=Labels(
            subjects=(
                SubjectLabel(
                    type="Human", appearance=f"A figure in {colour}.", is_main_subject=True
                ),
            ),
            shot_type=shot_type,
            camera_motion=move,
        ),
    )
    return clip.model_dump_json(exclude_none=True, exclude_defaults=True)


def _frames(
    rng: np.random.Generator,
    axis: str | None,
    speed: float,
    height: float,
    colour: tuple[int, int, int],
) -> Iterator[Rgb]:
    wall = _wall(rng, 2 * WIDTH, 2 * HEIGHT)
    high = height * HEIGHT * float(rng.uniform(0.92, 1.08))
    x, y = WIDTH + float(rng.uniform(-0.08, 0.08)) * WIDTH, float(HEIGHT)
    figure = np.zeros(wall.shape[:2], np.uint8)
    body, head = (int(x), int(y + 0.12 * high)), (int(x), int(y - 0.34 * high))
    cv2.ellipse(figure, body, (int(0.175 * high), int(0.38 * high)), 0, 0, 360, 255, -1)
    cv2.circle(figure, head, max(1, int(0.13 * high)), 255, -1)
    shaded = np.clip(np.array(colour) + (wall.astype(float) - 128) * 0.7, 0, 255)
    wall[figure > 0] = shaded.astype(np.uint8)[figure > 0]
    yield from past(wall, axis, speed, (WIDTH, HEIGHT), FRAMES, FPS)


def _wall(rng: np.random.Generator, width: int, height: int) -> Rgb:
    """Grain, redder to the right and bluer to the ground, by a different start in each clip."""
    noise = rng.standard_normal((height, width)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(1.0, 2.0)))
    grain = GRAIN * (blurred - blurred.mean()) / blurred.std()
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * SHADING
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * SHADING
    base = rng.uniform(100, 150, 3)
    wall = np.stack([base[0] + across + grain, base[1] + grain, base[2] + down + grain], -1)
    return np.asarray(np.clip(wall, 0, 255), np.uint8)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    count: Annotated[int, typer.Option(min=1, help="Clips.")] = 4000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Render tiny clips with their labels."""
    typer.echo(f"{count} clips in {render(out, count, seed, workers)}")


if __name__ == "__main__":
    typer.run(main)
