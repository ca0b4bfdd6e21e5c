"""How right the embedded experts are on a folder of labelled clips.

    python -m eval.experts FOLDER                   the table, the misses, CPU time by expert
    python -m eval.experts FOLDER --change flip     the same clips mirrored (small, dark, jpeg)
    python -m eval.experts FOLDER --low             labels of low confidence too

FOLDER holds the videos and labels.csv: a `file` column and, for each field of `FIELDS`, a column
with the label and one with its confidence, `high` or `low`. ">" in an expression joins what follows
one another, "+" in a camera motion what happens at once; any part is a right answer.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.decode import read_clip
from captioner.experts.camera import measure_camera
from captioner.experts.expression import main_expression
from captioner.experts.lighting import lighting
from captioner.experts.shot import shot_angle, shot_position, shot_type
from captioner.experts.sightings import look
from captioner.experts.subjects import describe_subjects
from captioner.experts.text import read_text
from captioner.frames import FrameBatch, Picture
from eval.fields import FieldScore, confusion_table, score_field, table
from eval.testset import LABEL_COLUMNS, LABEL_WORDS

Value = TypeVar("Value")
Rgb = NDArray[np.uint8]

FIELDS = LABEL_COLUMNS
"""The columns of labels, and those of their confidence."""


@dataclass
class Answers:
    """The answers for one clip by field, and the CPU seconds of each expert."""

    fields: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, work: Callable[[], Value]) -> Value:
        """The result of the work, with its CPU time noted under the name."""
        start = time.process_time()
        result = work()
        self.seconds[name] = time.process_time() - start
        return result


def answer(batch: FrameBatch) -> Answers:
    """All closed fields of one clip, as the experts see them."""
    answers = Answers()
    sightings = answers.timed("look", lambda: look(batch))
    text = answers.timed("text", lambda: read_text(batch))
    subjects = answers.timed("subjects", lambda: describe_subjects(sightings, text))
    kind = answers.timed("shot_type", lambda: shot_type(sightings, subjects))
    position = answers.timed("shot_position", lambda: shot_position(sightings))
    angle = answers.timed("shot_angle", lambda: shot_angle(sightings))
    expression = answers.timed("expression", lambda: main_expression(sightings))
    answers.timed("lighting", lambda: lighting(batch))
    camera = answers.timed("camera", lambda: measure_camera(batch))
    answers.fields = {
        "subject_type": subjects[0].type if subjects else "",
        "shot_type": kind.value if kind else "",
        "shot_position": position.value if position else "",
        "shot_angle": angle.value if angle else "",
        "camera_motion": camera.moves[0].replace(" ", "_") if camera and camera.moves else "",
        "expression": expression.name if expression else "",
    }
    return answers


def changed(batch: FrameBatch, change: str) -> FrameBatch:
    """The clip as it would look to a viewer who gives the same answers: mirrored, at half its
    size, darker or coarsely coded. Raises KeyError for another change."""
    edit: Callable[[Rgb], Rgb] = {
        "flip": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
        "small": lambda rgb: _rgb(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=3)),
        "dark": lambda rgb: _rgb(rgb * 0.6),
        "jpeg": _coarse,
    }[change]
    pictures = tuple(Picture.from_rgb(edit(p.rgb), p.time, p.index) for p in batch.pictures)
    return replace(batch, pictures=pictures)


def read_labels(path: Path, low: bool) -> dict[str, dict[str, str]]:
    """Labels by file and field, in the schema's words, alternatives joined by "|"; those of low
    confidence are empty unless `low`."""
    labels = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels[row["file"]] = {
                name: _in_our_words(row[name]) if low or row[sure] == "high" else ""
                for name, sure in FIELDS.items()
            }
    return labels


def report(
    labels: dict[str, dict[str, str]], answers: dict[str, Answers], names: Sequence[str]
) -> tuple[list[FieldScore], list[str]]:
    """A score for each of these fields, and a line for each wrong answer."""
    scores, misses = [], []
    for name in names:
        pairs = [(clip, labels[clip][name], answers[clip].fields[name]) for clip in answers]
        scores.append(score_field(name, [p[1] for p in pairs], [p[2] for p in pairs]))
        misses += [
            f"{name}: {clip}: {got}, not {wanted}"
            for clip, wanted, got in pairs
            if wanted and got and got not in wanted.split("|")
        ]
    return scores, misses


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--change", choices=["flip", "small", "dark", "jpeg"])
    parser.add_argument("--low", action="store_true", help="score labels of low confidence too")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # CPU times are those of one thread
    labels = read_labels(options.folder / "labels.csv", options.low)
    answers: dict[str, Answers] = {}
    for clip in [clip for clip, fields in labels.items() if any(fields.values())]:
        batch = read_clip(options.folder / clip)
        answers[clip] = answer(changed(batch, options.change) if options.change else batch)
    # Changes are made to the pictures, and camera motion is measured on the pairs beside them.
    names = [name for name in FIELDS if not options.change or name != "camera_motion"]
    scores, misses = report(labels, answers, names)
    print(table(scores), "", *(confusion_table(score) + "\n" for score in scores), sep="\n")
    print(*misses, "", sep="\n")
    # The first clip pays for loading the networks.
    timed = list(answers.values())[1:]
    for name in timed[0].seconds if timed else ():
        seconds = sorted(one.seconds[name] for one in timed)
        print(f"{name:<16}{seconds[len(seconds) // 2] * 1000:>7.0f} ms CPU (median a clip)")


def _in_our_words(label: str) -> str:
    parts = label.replace(">", "|").replace("+", "|").split("|")
    return "|".join(dict.fromkeys(LABEL_WORDS.get(part, part) for part in parts))


def _rgb(picture: NDArray[np.generic] | cv2.typing.MatLike) -> Rgb:
    return np.asarray(picture, np.uint8)


def _coarse(rgb: Rgb) -> Rgb:
    _, coded = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, 1), np.uint8)[:, :, ::-1])


if __name__ == "__main__":
    main()
