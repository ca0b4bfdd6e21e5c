"""Shot boundaries against truth: `python -m eval.cuts FOLDER` or `python -m eval.cuts --rendered`.

FOLDER holds videos and a `labels.csv` with the columns `file`, `cut_frames` (numbers of the first
frame of each new shot, separated by spaces) and `cuts_conf` (rows with another value than high are
left out). `--rendered` makes videos whose truth is known exactly. PySceneDetect's two usual
detectors, with their default settings, run on the same files. Intervals are 95 %, by Wilson.
"""

from __future__ import annotations

import bisect
import csv
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from scenedetect import AdaptiveDetector, ContentDetector, SceneDetector, VideoOpenFailure, detect

from captioner.decode import open_video
from curation.cuts import joins
from curation.scan import ScanConfig, scan
from eval.edits import Event, load_footage, render
from eval.fields import wilson

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TOLERANCE = 2
"""Frames by which a boundary may be off, as in the project's acceptance test."""

HELD_OUT = 10_000
"""First seed of the rendered set: smaller ones were used while the detector was written."""

Span = tuple[int, int]
"""First frame of a transition and first frame after it; the same number twice for a cut."""

Finder = Callable[[Path], list[Span]]


@dataclass(frozen=True)
class Match:
    """One file: the true boundaries `hits` and `missed`, by index; predictions that are `wrong`."""

    hits: tuple[int, ...]
    missed: tuple[int, ...]
    wrong: tuple[Span, ...]


def match(found: Sequence[Span], truth: Sequence[Span], tolerance: int = TOLERANCE) -> Match:
    """Pair predictions with true boundaries, each with one, within `tolerance` frames.

    Intervals are paired from left to right by where they end, which pairs as many as can be.
    """
    left = sorted(found, key=lambda span: (span[1], span[0]))
    hits = []
    for i in sorted(range(len(truth)), key=lambda i: (truth[i][1], truth[i][0])):
        start, end = truth[i]
        for span in left:
            if span[0] <= end + tolerance and span[1] >= start - tolerance:
                left.remove(span)
                hits.append(i)
                break
    missed = tuple(i for i in range(len(truth)) if i not in hits)
    return Match(tuple(sorted(hits)), missed, tuple(sorted(left)))


@dataclass
class Score:
    """Counts over files: right and wrong predictions, boundaries missed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    """Right ones, by what joins the shots; "wrong: ..." by what was mistaken for a boundary."""

    @property
    def precision(self) -> float:
        """1 where nothing was predicted."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """1 where there was nothing to find."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)

    def add(self, matched: Match) -> None:
        """Count one file."""
        self.right += len(matched.hits)
        self.missed += len(matched.missed)
        self.wrong += len(matched.wrong)


def ours(path: Path) -> list[Span]:
    """What `curation.scan` finds between shots, before short shots are left out."""
    with scan(path, ScanConfig(), threads=1) as shots:
        for _ in shots:
            pass
        return [(b.start, b.end) for b in joins(shots.boundaries)]


def peer(make: Callable[[], SceneDetector]) -> Finder:
    """PySceneDetect as shipped; its times become numbers of frames by our timestamps."""

    def find(path: Path) -> list[Span]:
        with open_video(path, threads=1) as video:
            base = float(video.info.time_base)
            times = [frame.pts * base for frame in video.frames()]
        # Its times count from the first frame.
        times = [time - times[0] for time in times]
        try:
            scenes = detect(str(path), make(), start_in_scene=True, backend="pyav")
        except VideoOpenFailure:
            return []
        cuts = []
        for start, _ in scenes[1:]:
            at = bisect.bisect_left(times, start.seconds - 0.25 * (times[-1] / len(times)))
            cuts.append((at, at))
        return cuts

    return find


DETECTORS: dict[str, Finder] = {
    "curation.scan": ours,
    "PySceneDetect Adaptive(3)": peer(AdaptiveDetector),
    "PySceneDetect Content(27)": peer(ContentDetector),
}


def labelled(folder: Path) -> dict[Path, list[Span]]:
    """Files with labels of high confidence and their cuts."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cuts_conf"] == "high"]
    return {
        folder / row["file"]: [(int(cut), int(cut)) for cut in row["cut_frames"].split()]
        for row in rows
        if (folder / row["file"]).is_file()
    }


def score_folder(
    folder: Path, names: Iterable[str], say: Callable[[str], None]
) -> dict[str, Score]:
    """Each detector's score on the labelled files of a folder; `say` gets what it had wrong."""
    scores = {name: Score() for name in names}
    for path, truth in labelled(folder).items():
        for name, score in scores.items():
            matched = match(DETECTORS[name](path), truth)
            score.add(matched)
            if matched.missed or matched.wrong:
                missed = [truth[i][0] for i in matched.missed]
                say(f"{name}: {path.name}: missed {missed}, wrong {list(matched.wrong)}")
    return scores


def score_rendered(
    seeds: Sequence[int], names: Iterable[str], say: Callable[[str], None], footage: Path | None
) -> tuple[dict[str, Score], Counter[str]]:
    """Each detector's score on rendered edits, and how many joins of each kind there were.

    Where `footage` is a labelled folder, half of the edits are made of its files without cuts.
    """
    scores = {name: Score() for name in names}
    kinds: Counter[str] = Counter()
    whole = [path.name for path, cuts in labelled(footage).items() if not cuts] if footage else []
    clips = load_footage(footage, whole, 80) if footage else []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            edit = render(seed, clips if seed % 2 else ())
            path = edit.write(Path(folder) / f"{seed}.mp4")
            truth = [event for event in edit.events if event.boundary]
            kinds.update(event.name for event in truth)
            for name, score in scores.items():
                matched = match(DETECTORS[name](path), [(e.start, e.end) for e in truth])
                score.add(matched)
                score.by_kind.update(truth[i].name for i in matched.hits)
                for i in matched.missed:
                    say(f"{name}: seed {seed}: missed {truth[i]}")
                for span in matched.wrong:
                    cause = _cause(span, edit.events)
                    score.by_kind[f"wrong: {cause}"] += 1
                    say(f"{name}: seed {seed}: wrong {span}, {cause}")
            path.unlink()
    return scores, kinds


def _cause(span: Span, events: Sequence[Event]) -> str:
    for event in events:
        if span[0] <= event.end + TOLERANCE and span[1] >= event.start - TOLERANCE:
            return event.name
    return "nothing"


@app.command()
def main(
    folder: Annotated[Path | None, typer.Argument(help="Videos and their labels.csv.")] = None,
    rendered: Annotated[
        bool, typer.Option(help="Score on rendered edits; half of FOLDER's whole shots, if given.")
    ] = False,
    edits: Annotated[int, typer.Option(help="How many edits to render.")] = 60,
    seed: Annotated[int, typer.Option(help="First seed.")] = HELD_OUT,
    verbose: Annotated[bool, typer.Option(help="Each miss and each false alarm.")] = False,
) -> None:
    """Precision, recall and F1 of the shot boundaries, beside PySceneDetect's defaults."""
    if folder is None and not rendered:
        raise typer.BadParameter("give a FOLDER, or --rendered")
    say = typer.echo if verbose else lambda _: None
    if not rendered and folder is not None:
        _print(score_folder(folder, DETECTORS, say), Counter())
    else:
        _print(*score_rendered(range(seed, seed + edits), DETECTORS, say, folder))


def _print(scores: dict[str, Score], kinds: Counter[str]) -> None:
    table = Table(title=f"shot boundaries, within {TOLERANCE} frames, 95 % intervals")
    for column in ("", "found", "wrong", "missed", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if not column else "right")
    for name, s in scores.items():
        precision = _interval(s.precision, wilson(s.right, s.right + s.wrong))
        recall = _interval(s.recall, wilson(s.right, s.right + s.missed))
        counts = (str(s.right), str(s.wrong), str(s.missed))
        table.add_row(name, *counts, precision, recall, f"{s.f1:.3f}")
    console = Console(width=120)
    console.print(table)
    if kinds:
        detail = Table(title="by kind: found of all; then false alarms by what caused them")
        for column in ("", *scores):
            detail.add_column(column, justify="left" if not column else "right")
        for kind, count in sorted(kinds.items()):
            detail.add_row(kind, *(f"{s.by_kind[kind]} / {count}" for s in scores.values()))
        causes = {key for s in scores.values() for key in s.by_kind if key.startswith("wrong: ")}
        for cause in sorted(causes):
            detail.add_row(cause, *(str(s.by_kind[cause]) for s in scores.values()))
        console.print(detail)


def _interval(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


if __name__ == "__main__":
    app()
