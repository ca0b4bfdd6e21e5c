"""Captions to be scored, from wherever they come, each with the clip of the test set that it is of.

Read are an output folder of `caption` or `jobs.curate`, its captions.jsonl, SkyCaptioner's own CSV
(`path`, `structural_caption`) and JSONL of the same two names. A text goes through
`captioner.repair`, as our own captions do; what even so is no caption is an invalid one, not an
error: models write such things, and it counts as wrong.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from captioner.files import first_line
from captioner.repair import parse
from captioner.schema import ShotCaption
from eval.testset import Clip, TestsetError, Truth

Status = Literal["ok", "repaired", "truncated", "invalid", "error", "missing"]

MIN_OVERLAP = 0.5
"""Intersection over union, in time, of a clip and a shot that is taken for it: own choice; no two
shots can both have more."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A caption and where it stands.

    `place` is file:line (of Parquet: file:row, from 1), `source` the video's path as it was given,
    `start` and `end` seconds in it or None. `caption` is None when the status is invalid, error or
    missing; `problem` then says why.
    """

    place: str
    clip_id: str | None
    source: str
    sha256: str | None
    start: float | None
    end: float | None
    status: Status
    caption: ShotCaption | None
    problem: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        bounds = "" if self.start is None else f" {self.start:.2f} to {self.end or 0:.2f} s"
        return f"{self.clip_id or ''} {self.source}{bounds}".strip()


@dataclass(frozen=True)
class Paired:
    """`predictions` by clip_id of the test set; `problems` names what could not be placed: a line
    for each prediction of an unknown clip, and for each clip without a prediction."""

    predictions: Mapping[str, Prediction]
    problems: tuple[str, ...]


def read_predictions(path: Path) -> list[Prediction]:
    """All captions of a folder or file. Raises TestsetError when it holds none, OSError."""
    if path.is_dir():
        parts = sorted((path if path.name == "ledger" else path / "ledger").glob("*.parquet"))
        found = [one for part in parts for one in _of_ledger(part)]
    elif path.suffix == ".csv":
        found = list(_of_csv(path))
    else:
        found = list(_of_jsonl(path))
    if not found:
        raise TestsetError([f"{path}: no captions in it; name an output of caption, or its file"])
    return found


def pair(truths: Sequence[Truth], predictions: Iterable[Prediction]) -> Paired:
    """The prediction of each clip: by clip_id, else by the file's content or name and the bounds.

    Raises TestsetError when two predictions are of one clip.
    """
    by_id = {truth.clip.clip_id: truth.clip for truth in truths}
    by_file = _by_file(by_id.values())
    found: dict[str, Prediction] = {}
    elsewhere: defaultdict[str, list[Prediction]] = defaultdict(list)
    unknown, twice = [], []
    for one in predictions:
        if one.clip_id in by_id:
            if (earlier := found.setdefault(one.clip_id or "", one)) is not one:
                twice.append(f"{one.place}: a second caption of {one.clip_id}: see {earlier.place}")
        elif (key := _keys(one.sha256, one.source)[0]) in by_file:
            elsewhere[key].append(one)
        else:
            unknown.append(one)
    for key, shots in elsewhere.items():
        left = set(range(len(shots)))
        for clip in by_file[key]:
            number = _covering(clip, shots, alone=len(by_file[key]) == 1)
            if clip.clip_id not in found and number is not None:
                found[clip.clip_id] = shots[number]
                left.discard(number)
        unknown += [shots[number] for number in sorted(left)]
        twice += _same_bounds(shots)
    if twice:
        raise TestsetError(twice)
    problems = [
        f"{one.place}: not a clip of the test set: {one.name}" + _other_content(one, by_file)
        for one in unknown
    ]
    problems += [
        f"{one.place}: no caption of clip {one.clip.clip_id}"
        for one in truths
        if one.clip.clip_id not in found
    ]
    return Paired(found, tuple(problems))


def _by_file(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    grouped: defaultdict[str, list[Clip]] = defaultdict(list)
    hashes: defaultdict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for key in _keys(clip.sha256, clip.path):
            grouped[key].append(clip)
            hashes[key].add(clip.sha256)
    # A name that two files have tells nothing.
    return {key: group for key, group in grouped.items() if len(hashes[key]) == 1}


def _keys(sha256: str | None, path: str) -> list[str]:
    """What a file is known by: its content, where that is known, and else its name."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return [*([f"sha256 {sha256}"] if sha256 else []), f"name {name}"]


def _other_content(one: Prediction, by_file: Mapping[str, list[Clip]]) -> str:
    """Says so where only the name of the file is the same: it may have changed."""
    content, *name = _keys(one.sha256, one.source)
    if content in by_file or not name or name[0] not in by_file:
        return ""
    return " (a file of this name is, with other content)"


def _covering(clip: Clip, shots: Sequence[Prediction], alone: bool) -> int | None:
    """The shot that has most of the clip and little else. A caption of a whole file is of a clip
    with bounds only where that is `alone` in the test set."""
    if len(shots) == 1 and (clip.start is None or (shots[0].start is None and alone)):
        return 0
    last = max((shot.end or 0.0 for shot in shots), default=0.0)
    start, end = clip.start or 0.0, last if clip.end is None else clip.end
    overlaps = [_overlap((start, end), (s.start or 0.0, s.end or 0.0)) for s in shots]
    best = max(range(len(shots)), key=lambda i: overlaps[i])
    return best if overlaps[best] > MIN_OVERLAP else None


def _overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    both = min(first[1], second[1]) - max(first[0], second[0])
    either = max(first[1], second[1]) - min(first[0], second[0])
    return max(0.0, both) / either if either > 0 else 0.0


def _same_bounds(shots: Sequence[Prediction]) -> Iterator[str]:
    counts = Counter((shot.start, shot.end) for shot in shots)
    for shot in shots:
        if counts[shot.start, shot.end] > 1:
            yield f"{shot.place}: one of several captions of {shot.name}"


# --- the forms ------------------------------------------------------------------------------------

_COLUMNS = (
    *("clip_id", "source", "source_sha256", "start", "end", "reason", "error"),
    *("caption", "caption_status"),
)


def _of_ledger(part: Path) -> Iterator[Prediction]:
    try:
        rows = pq.read_table(part, columns=list(_COLUMNS)).to_pylist()
    except (pa.ArrowException, ValueError) as error:
        told = first_line(error)[:80]
        raise TestsetError([f"{part}: not a part of a ledger: {told}"]) from None
    for number, row in enumerate(rows, 1):
        status: Status = row["caption_status"] or ("error" if row["error"] else "missing")
        yield _prediction(
            f"{part}:{number}", row, row["source_sha256"], row["caption"], status,
            row["error"] or row["reason"] or "it was not captioned",
        )  # fmt: skip


def _of_jsonl(path: Path) -> Iterator[Prediction]:
    problems = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and ("clip_id" in record or _path(record)):
                yield _of_record(f"{path}:{number}", record)
            else:
                problems.append(f"{path}:{number}: not a JSON object with a clip_id or a path")
    if problems:
        raise TestsetError(problems)


def _of_csv(path: Path) -> Iterator[Prediction]:
    csv.field_size_limit(1 << 24)
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        if "structural_caption" not in (reader.fieldnames or ()):
            raise TestsetError([f"{path}:1: no column structural_caption"])
        for row in reader:
            yield _of_record(f"{path}:{reader.line_num}", dict(row))


def _of_record(place: str, record: Mapping[str, Any]) -> Prediction:
    text = record.get("structural_caption")
    caption = record.get("caption", text)
    status = record.get("caption_status") or ("ok" if caption else "missing")
    problem = record.get("error") or record.get("reason") or "it was not captioned"
    digest = record.get("source_sha256") or record.get("sha256")
    return _prediction(place, record, digest, caption, status, problem)


def _prediction(
    place: str, row: Mapping[str, Any], sha256: str | None, caption: Any, status: Any, problem: str
) -> Prediction:
    parsed = None
    if isinstance(caption, str) and caption.strip():
        read = parse(caption)
        status, parsed, problem = read.status, read.caption, "; ".join(read.notes)
    elif caption:
        try:
            parsed, problem = ShotCaption.model_validate(caption), ""
        except (ValidationError, RecursionError) as error:
            status, problem = "invalid", " ".join(str(error).splitlines()[1:3]) or "not a caption"
    elif status in ("ok", "repaired", "truncated"):
        status, problem = "missing", "there is a status but no caption"
    return Prediction(
        place, row.get("clip_id") or None, _path(row), sha256,
        _seconds(row.get("start")), _seconds(row.get("end")), status, parsed, problem,
    )  # fmt: skip


def _path(row: Mapping[str, Any]) -> str:
    return str(row.get("source") or row.get("path") or row.get("video") or "")


def _seconds(value: Any) -> float | None:
    return float(value) if value not in (None, "") else None
