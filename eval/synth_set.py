"""The synthetic test set: shots whose camera motion is known exactly, as files with labels.

    python -m eval.synth_set render OUT [--from FOLDER] [--count 1000] [--seed 1]
    python -m eval.synth_set score OUT

`render` writes OUT/clips/*.mp4 and OUT/set.jsonl, a test set for `jobs.evaluate`: every move of
`eval.synth_moves` (six axes in three speeds, zoom against dolly, static, hand-held, followed and
crossed by a figure, letterbox, subtitles and logos, darkness, flicker), again and again with other
textures, sizes and rates. Textures are procedural, or cut from the pictures and videos of FOLDER.
`score` runs the camera expert on the files. Cuts, dissolves, fades, flashes and whip pans have a
renderer of their own: `python -m eval.cuts --rendered`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count as numbers
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from captioner.decode import open_video, read_clip
from captioner.experts.camera import measure_camera
from captioner.video import UnreadableVideoError
from eval.camera_text import AXES, CameraMove, read_camera
from eval.fields import wilson
from eval.synth import Rgb, still, write_video
from eval.synth_moves import MoveCase, cases
from eval.testset import Clip, Labels

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PICTURE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MOST_PICTURES = 200
"""Textures taken from a folder at most: they are kept in memory."""

SMALLEST = 240
"""Pixels of the shorter side, at least: a smaller picture enlarged has no detail to track."""

CRF = 23
"""x264's own default: what is watched online looks like it."""


@dataclass(frozen=True)
class Score:
    """What the expert said of a shot against what is true."""

    name: str
    true: tuple[str, ...]
    said: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the primary move is right."""
        return self.said[:1] == self.true[:1]

    def right_on(self, axis: str) -> bool:
        """Whether the sign on an axis (of `eval.camera_text.AXES`) is right."""
        i = AXES.index(axis)
        return _move(self.said).signs[i] == _move(self.true).signs[i]


def shots(seed: int, textures: tuple[Rgb, ...] = ()) -> Iterator[MoveCase]:
    """Shots without end, those of a seed after those of the one before; blank ones are left out.

    `textures` are (H, W, 3) uint8 RGB pictures that the scenes are made of; none: procedural ones.
    """
    picture = partial(crop_of, textures) if textures else still
    for one in numbers(seed):
        yield from (case for case in cases(one, picture) if case.moves)


def crop_of(textures: tuple[Rgb, ...], seed: int, width: int = 640, height: int = 360) -> Rgb:
    """A part of one of the textures, maybe mirrored, brought to a size: (height, width, 3)."""
    rng = np.random.default_rng(seed)
    whole = textures[int(rng.integers(len(textures)))]
    share = float(rng.uniform(0.6, 1.0)) * min(whole.shape[1] / width, whole.shape[0] / height)
    w, h = round(width * share), round(height * share)
    x, y = (int(rng.integers(free + 1)) for free in (whole.shape[1] - w, whole.shape[0] - h))
    part = whole[y : y + h, x : x + w]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    return np.asarray(cv2.resize(np.ascontiguousarray(part), (width, height)), np.uint8)


def textures_of(folder: Path) -> tuple[Rgb, ...]:
    """Pictures of a folder, and the first frame of each video; ValueError where there is none."""
    found: list[Rgb] = []
    for path in sorted(folder.rglob("*")):
        if len(found) == MOST_PICTURES:
            break
        picture = _picture(path)
        if picture is not None and min(picture.shape[:2]) >= SMALLEST:
            found.append(picture)
    if not found:
        raise ValueError(f"{folder} holds no picture or video of {SMALLEST} pixels or more")
    return tuple(found)


def _picture(path: Path) -> Rgb | None:
    if path.suffix.lower() in PICTURE_TYPES:
        read = cv2.imread(str(path))
        return None if read is None else np.asarray(read[..., ::-1], np.uint8)
    if not path.is_file():
        return None
    try:
        with open_video(path) as video:
            return next(iter(video.frames())).picture().rgb
    except (UnreadableVideoError, StopIteration):
        return None


def render(out: Path, textures: tuple[Rgb, ...], count: int, seed: int, workers: int) -> None:
    """Write the clips and the test set; the same arguments give the same shots."""
    (out / "clips").mkdir(parents=True, exist_ok=True)
    ranges = [(start, count, workers) for start in range(workers)]
    work = partial(_render_share, out, textures, seed)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        lines = [line for share in pool.map(work, ranges) for line in share]
    text = "".join(f"{line}\n" for _, line in sorted(lines))
    (out / "set.jsonl").write_text(text, encoding="utf-8")


def _render_share(
    out: Path, textures: tuple[Rgb, ...], seed: int, share: tuple[int, int, int]
) -> list[tuple[int, str]]:
    """Every n-th shot, and its line in the test set."""
    cv2.setNumThreads(1)
    start, count, step = share
    lines = []
    for i, shot in enumerate(islice(shots(seed, textures), count)):
        if i % step != start:
            continue
        path = out / "clips" / f"{i:05d}.mp4"
        write_video(path, shot.render(), shot.fps, crf=CRF)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        clip = Clip(
            clip_id=f"{seed}-{i:05d}",
            path=f"clips/{path.name}",
            sha256=digest,
            concept=shot.name,
            rater="rendered",
            labels=Labels(camera_motion="+".join(shot.moves)),
        )
        lines.append((i, clip.model_dump_json(exclude_none=True, exclude_defaults=True)))
    return lines


def score(folder: Path, workers: int) -> list[Score]:
    """What the camera expert says of every clip of a rendered set."""
    lines = (folder / "set.jsonl").read_text(encoding="utf-8").splitlines()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(pool.map(partial(_score_line, folder), lines, chunksize=8))


def _score_line(folder: Path, line: str) -> Score:
    cv2.setNumThreads(1)
    clip = Clip.model_validate_json(line)
    motion = measure_camera(read_clip(folder / clip.path, threads=1))
    true = str(clip.labels.camera_motion)
    return Score(clip.concept or "", tuple(true.split("+")), motion.moves if motion else ())


def _move(names: tuple[str, ...]) -> CameraMove:
    return read_camera("+".join(names)) or CameraMove()


@app.command("render")
def render_command(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Pictures and videos that scenes are made of.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Shots.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Render shots with their labels."""
    try:
        textures = textures_of(source) if source else ()
    except ValueError as error:
        typer.echo(f"synth_set: {error}", err=True)
        raise typer.Exit(2) from None
    render(out, textures, count, seed, workers)
    typer.echo(f"{count} shots in {out / 'set.jsonl'}")


@app.command("score")
def score_command(
    folder: Annotated[Path, typer.Argument(help="What `render` wrote.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Score the camera expert on rendered shots."""
    if not (folder / "set.jsonl").is_file():
        typer.echo(f"synth_set: {folder} has no set.jsonl: render one there first", err=True)
        raise typer.Exit(2)
    scores = score(folder, workers)
    answered = [one for one in scores if one.said]
    _print("answered", len(answered), len(scores))
    _print("exact", sum(one.exact for one in scores), len(scores))
    _print("exact of answered", sum(one.exact for one in answered), len(answered))
    for axis in AXES:
        moved = [one for one in answered if _move(one.true).signs[AXES.index(axis)]]
        _print(axis, sum(one.right_on(axis) for one in answered), len(answered))
        _print(f"{axis} where it moves", sum(one.right_on(axis) for one in moved), len(moved))
    for one in scores:
        if one.said and not one.exact:
            typer.echo(f"wrong: {one.name}: said {'+'.join(one.said)}")


def _print(what: str, right: int, of: int) -> None:
    low, high = wilson(right, of)
    typer.echo(
        f"{what:24} {right:5} of {of:5}  {right / max(1, of):.3f}  ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    app()
