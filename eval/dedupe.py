"""Copies found among real clips: `python -m eval.dedupe FOLDER [--clips 1000]`.

Every shot of the videos in FOLDER is a clip, and copies of them are made as they come about:
decoded, changed, encoded again as small H.264 files and decoded once more. The embeddings and
hashes of all are deduplicated; beside it, in the same run, the usual way: a perceptual hash (pHash)
of the middle frame, copies within 10 bits. `--synthetic N` times N rendered rows instead.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from captioner.decode import open_video, read_clip
from captioner.frames import FrameBatch, one_thread
from captioner.video import UnreadableVideoError
from curation.dedupe import Clips, dedupe
from curation.measure import embedding
from curation.scan import ScanConfig, scan
from eval.synth import Rgb, write_video

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

CHANGES = ("scale", "crop", "subtitle", "colour", "shift")
KINDS = ("re-encode", *CHANGES, "mixture")

SHOTS = ScanConfig(min_shot=1.5, max_shot=5.0)
"""Shots of 1.5 s and more; long takes in parts of 4 s, which are no copies of one another."""

SIDE = 480
"""Pixels of the longer side of the copies at most."""

CRF, POOR_CRF = 26, 35
"""x264's constant rate factor of a copy, and of one that is re-encoded for its size."""

SHIFT = 0.5
"""Seconds by which a copy begins later."""

SAME = 4.0
"""Mean difference in grey levels, at every time, of footage that two files share."""

PHASH_BITS = 10
"""imagededup's default threshold for perceptual hashes (max_distance_threshold)."""


@dataclass(frozen=True)
class Seen:
    """A clip as both methods see it. `footage` is the original's number, `thumbnails` (8, 36, 64)
    grey, evenly spread."""

    clip_id: str
    source: str
    footage: int
    kind: str
    pixels: int
    seconds: float
    columns: embedding.Embedding
    phash: int
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """The shots to take of a source, and the copies to make of each."""

    path: Path
    shots: tuple[tuple[int, tuple[str, ...]], ...]
    seed: int


@app.command()
def main(
    folder: Annotated[Path | None, typer.Argument(help="folder of videos")] = None,
    clips: Annotated[int, typer.Option(help="copies to make")] = 1000,
    synthetic: Annotated[int, typer.Option(help="rendered rows to cluster instead")] = 0,
    seed: Annotated[int, typer.Option(help="seed of the changes")] = 0,
) -> None:
    """Recall, precision and time, beside pHash."""
    console = Console()
    if synthetic:
        _score_synthetic(console, synthetic, seed)
        return
    if folder is None or not folder.is_dir():
        raise typer.BadParameter("FOLDER is a folder of videos")
    begin = time.perf_counter()
    plans = plan(folder, clips, seed)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        seen = [one for many in pool.map(look, plans) for one in many]
    console.print(f"{len(seen)} clips made and measured in {time.perf_counter() - begin:.0f} s")
    _score(console, seen)


def plan(folder: Path, copies: int, seed: int) -> list[Plan]:
    """`copies` copies over the shots of a folder's videos: every kind, one shot after another."""
    counts: list[tuple[Path, int]] = []
    for path in sorted(folder.iterdir()):
        try:
            with scan(path, SHOTS, threads=1) as shots:
                counts.append(
                    (path, sum(shot.end - shot.start >= SHOTS.min_shot for shot in shots))
                )
        except UnreadableVideoError:
            continue
    total = sum(count for _, count in counts)
    plans, footage = [], 0
    for path, count in counts:
        shots_of = []
        for number in range(footage, footage + count):
            turns = range(number, copies, total)
            kinds = (KINDS[(number + i) % len(KINDS)] for i in range(len(turns)))
            shots_of.append((number, tuple(kinds)))
        plans.append(Plan(path, tuple(shots_of), seed))
        footage += count
    return plans


def look(task: Plan) -> list[Seen]:
    """The originals of one source and their copies, seen."""
    with scan(task.path, SHOTS, threads=1) as shots:
        taken = [shot for shot in shots if shot.end - shot.start >= SHOTS.min_shot]
    seen = []
    with one_thread(), tempfile.TemporaryDirectory() as scratch:
        frames = _frames(task.path, [(shot.first_frame, shot.frames) for shot in taken])
        for shot, pictures, (footage, kinds) in zip(taken, frames, task.shots):
            name = f"{task.path.name} {shot.first_frame}"
            seen.append(_see(f"{footage:04} original", name, footage, "original", shot.batch))
            rng = np.random.default_rng((task.seed, footage))
            for i, kind in enumerate(kinds):
                file = Path(scratch) / "copy.mp4"
                fps = len(pictures) / (shot.end - shot.start)
                write_copy(file, pictures, fps, kind, rng)
                copy = read_clip(file, threads=1)
                seen.append(_see(f"{footage:04} copy {i}", name, footage, kind, copy))
    return seen


def write_copy(
    path: Path, frames: Sequence[Rgb], fps: float, kind: str, rng: np.random.Generator
) -> None:
    """Write an H.264 file of (H, W, 3) frames after a change: one of `KINDS`."""
    changes = [kind] if kind in CHANGES else []
    if kind == "mixture":
        changes = [str(one) for one in rng.choice(CHANGES, 3, replace=False)]
    poor = kind in ("re-encode", "mixture")
    changed = list(frames)
    for change in CHANGES:
        if change in changes:
            changed = _changed(changed, fps, change, rng)
    even = [
        np.ascontiguousarray(one[: one.shape[0] // 2 * 2, : one.shape[1] // 2 * 2])
        for one in changed
    ]
    write_video(path, even, fps, crf=POOR_CRF if poor else CRF)


def _changed(frames: Sequence[Rgb], fps: float, change: str, rng: np.random.Generator) -> list[Rgb]:
    height, width = frames[0].shape[:2]
    if change == "shift":
        return list(frames[round(SHIFT * fps) :])
    if change == "scale":
        size = (round(width * (by := rng.uniform(0.4, 0.8))), round(height * by))
        return [
            np.asarray(cv2.resize(f, size, interpolation=cv2.INTER_AREA), np.uint8) for f in frames
        ]
    if change == "crop":
        # A tenth of the width and of the height goes, from any sides.
        top, left = int(rng.uniform(0, 0.1) * height), int(rng.uniform(0, 0.1) * width)
        return [
            f[top : top + round(0.9 * height), left : left + round(0.9 * width)] for f in frames
        ]
    if change == "colour":
        gamma, gains = rng.uniform(0.75, 1.35), rng.uniform(0.85, 1.15, 3)
        levels = (np.arange(256) / 255) ** gamma * 255
        table = np.clip(levels[:, None] * gains, 0, 255).astype(np.uint8)[None]
        return [np.asarray(cv2.LUT(f, table), np.uint8) for f in frames]
    return _subtitled(frames, fps, rng)


def _subtitled(frames: Sequence[Rgb], fps: float, rng: np.random.Generator) -> list[Rgb]:
    """Two lines of white text with a black edge, new ones every two seconds."""
    height, width = frames[0].shape[:2]
    font, scale = cv2.FONT_HERSHEY_DUPLEX, height / 420
    words = ("where", "is", "the", "captain", "we", "never", "saw", "him", "again", "tonight")
    out = []
    lines: list[str] = []
    for i, frame in enumerate(frames):
        if i % round(2 * fps) == 0:
            lines = [" ".join(rng.choice(words, 4)) for _ in range(2)]
        drawn = frame.copy()
        for row, line in enumerate(lines):
            (wide, _), _ = cv2.getTextSize(line, font, scale, 1)
            at = ((width - wide) // 2, round(height * (0.86 + 0.09 * row)))
            cv2.putText(drawn, line, at, font, scale, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(drawn, line, at, font, scale, (255, 255, 255), 1, cv2.LINE_AA)
        out.append(drawn)
    return out


def _frames(path: Path, shots: Sequence[tuple[int, int]]) -> Iterator[list[Rgb]]:
    """All the frames of each shot (first frame, number of frames), at most `SIDE` pixels a side."""
    waiting = list(shots)
    taken: list[Rgb] = []
    with open_video(path, threads=1) as video:
        for frame in video.frames():
            if not waiting:
                break
            first, count = waiting[0]
            if frame.index < first:
                continue
            rgb = frame.picture().rgb
            by = min(1.0, SIDE / max(rgb.shape[:2]))
            size = (round(rgb.shape[1] * by), round(rgb.shape[0] * by))
            taken.append(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8))
            if len(taken) == count:
                yield taken
                del waiting[0]
                taken = []


def _see(clip_id: str, source: str, footage: int, kind: str, batch: FrameBatch) -> Seen:
    greys = [picture.grey for picture in batch.pictures]
    eight = [greys[int((i + 0.5) * len(greys) / 8)] for i in range(8)]
    return Seen(
        clip_id,
        source,
        footage,
        kind,
        greys[0].size,
        batch.duration,
        embedding.measure(batch),
        phash(greys[len(greys) // 2]),
        np.stack([cv2.resize(grey, (64, 36), interpolation=cv2.INTER_AREA) for grey in eight]),
    )


def phash(grey: NDArray[np.uint8]) -> int:
    """The usual perceptual hash: 8 x 8 slowest waves of 32 x 32 pixels against their median."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    slow = cv2.dct(small)[:8, :8]
    return int.from_bytes(np.packbits(slow > np.median(slow)).tobytes())


def columns(seen: Sequence[Seen]) -> Clips:
    """The clips as `dedupe` takes them: the originals are best, then the larger pictures."""
    return Clips(
        [one.clip_id for one in seen],
        np.array([one.columns.embedding for one in seen], np.float32),
        [hashes(one.columns) for one in seen],
        [np.array(one.columns.hash_times, np.float64) for one in seen],
        np.array([quality(one) for one in seen]),
        np.array([one.seconds for one in seen], np.float64),
    )


def quality(seen: Seen) -> float:
    """Higher is better."""
    return seen.pixels * (2.0 if seen.kind == "original" else 1.0)


def hashes(seen: embedding.Embedding) -> NDArray[np.uint64]:
    """(n, 2, V) of the two columns."""
    both = np.array([seen.hash_sequence, seen.hash_changes], np.uint64)
    return both.reshape(2, -1, len(embedding.VIEWS)).swapaxes(0, 1)


def true_footage(seen: Sequence[Seen]) -> dict[int, int]:
    """For each original's number that of the first one with the same pictures: a folder may hold
    one clip in two files. Parts of one file are not compared."""
    same: dict[int, int] = {}
    originals = [one for one in seen if one.kind == "original"]
    for i, one in enumerate(originals):
        same[one.footage] = one.footage
        for other in originals[:i]:
            apart = np.abs(one.thumbnails.astype(np.float32) - other.thumbnails)
            elsewhere = one.source.rsplit(" ", 1)[0] != other.source.rsplit(" ", 1)[0]
            if elsewhere and apart.mean(axis=(1, 2)).max() <= SAME:
                same[one.footage] = same[other.footage]
                break
    return same


def _score(console: Console, seen: Sequence[Seen]) -> None:
    same = true_footage(seen)
    twice = [(one, first) for one, first in same.items() if one != first]
    names = {one.footage: one.source for one in seen}
    for one, first in twice:
        console.print(f"the same footage: {names[first]} and {names[one]} (by first frame)")
    truth = {one.clip_id: same[one.footage] for one in seen}
    table = Table("", "recall", "precision", "of", "wrong", "CPU s")
    missed: dict[str, list[Seen]] = {}
    for name, find in (("this", find_copies), ("pHash of the middle frame", find_by_phash)):
        begin = time.process_time()
        found = find(seen)
        seconds = time.process_time() - begin
        right = sum(truth[one] == truth[other] for one, other in found.items())
        of = len(seen) - len(set(truth.values()))
        table.add_row(
            name,
            f"{right / of:.3f}",
            f"{right / max(1, len(found)):.3f}",
            str(of),
            str(len(found) - right),
            f"{seconds:.1f}",
        )
        missed[name] = [one for one in seen if one.kind != "original" and one.clip_id not in found]
    console.print(table)
    kinds = Table("missed, by change", "of", *missed)
    counts = Counter(one.kind for one in seen)
    of_kind = {name: Counter(one.kind for one in many) for name, many in missed.items()}
    for kind in KINDS:
        kinds.add_row(kind, str(counts[kind]), *(str(of_kind[name][kind]) for name in missed))
    console.print(kinds)


def find_copies(seen: Sequence[Seen]) -> dict[str, str]:
    """Copies and what they are copies of, by `curation.dedupe`."""
    return dedupe(columns(seen)).duplicate_of


def find_by_phash(seen: Sequence[Seen]) -> dict[str, str]:
    """Copies and what they are copies of, by pHash alone: connected within `PHASH_BITS`."""
    all_hashes = np.array([one.phash for one in seen], np.uint64)
    order = sorted(range(len(seen)), key=lambda i: (-quality(seen[i]), seen[i].clip_id))
    kept: dict[str, str] = {}
    left = set(range(len(seen)))
    for best in order:
        if best not in left:
            continue
        left.remove(best)
        reached = [best]
        while reached:
            bits = np.bitwise_count(all_hashes ^ all_hashes[reached.pop()])
            near = [i for i in np.flatnonzero(bits <= PHASH_BITS).tolist() if i in left]
            left.difference_update(near)
            reached += near
            kept.update((seen[i].clip_id, seen[best].clip_id) for i in near)
    return kept


def render_rows(count: int, seed: int) -> tuple[Clips, NDArray[np.int64]]:
    """`count` rows, a fifth of them copies of others, and the (count,) truth: the footage of each.

    Embeddings share a mean direction as real ones do (cosine 0.4 by chance, 0.75 and more of
    copies); of two copies' hashes 7 or 8 bits of 64 differ.
    """
    rng = np.random.default_rng(seed)
    footage = np.arange(count)
    footage[count - count // 5 :] = rng.integers(0, count - count // 5, count // 5)
    shape = (count, embedding.DIMENSIONS)
    noise = rng.standard_normal(shape).astype(np.float32)
    own = rng.standard_normal(shape).astype(np.float32)[footage] + 0.57 * noise
    embeddings = own + 0.9 * rng.standard_normal(embedding.DIMENSIONS).astype(np.float32)
    embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    whole = (embedding.HASH_LOOKS, 2, len(embedding.VIEWS))
    seeds = [np.random.default_rng((seed, int(one))) for one in footage]
    hashes = [own.integers(1, 2**64, whole, np.uint64) ^ _few_bits(rng, whole) for own in seeds]
    times = np.linspace(0.0, 4.5, embedding.HASH_LOOKS)
    clips = Clips(
        [f"{i:08}" for i in range(count)],
        embeddings,
        hashes,
        [times] * count,
        rng.random(count, np.float64),
        np.full(count, 5.0),
    )
    return clips, footage


def _few_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Random words with 4 of 64 bits set on average."""
    coins = rng.integers(0, 2**64, (4, *shape), np.uint64)
    return np.asarray(np.bitwise_and.reduce(coins), np.uint64)


def _score_synthetic(console: Console, count: int, seed: int) -> None:
    clips, footage = render_rows(count, seed)
    begin, cpu = time.perf_counter(), time.process_time()
    found = dedupe(clips).duplicate_of
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    right = sum(footage[int(one)] == footage[int(other)] for one, other in found.items())
    of = count - len(np.unique(footage))
    console.print(
        f"{count} rows: {wall:.1f} s ({cpu:.1f} CPU s), recall {right / of:.4f}, "
        f"precision {right / max(1, len(found)):.4f}"
    )


if __name__ == "__main__":
    app()
