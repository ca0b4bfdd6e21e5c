"""The labelled test set: its format, its validation, how one is drawn.

    python -m eval.testset build CURATED -o set.jsonl --clips 1000 --not-in TRAINING
    python -m eval.testset import-labels labels.csv -o set.jsonl
    python -m eval.testset validate set.jsonl

A JSONL (or Parquet) file has a line (row) for each clip and rater:

    {"clip_id": "...", "path": "clips/a.mp4", "sha256": "...", "start": 0.0, "end": 5.2,
     "rater": "anna", "labels": {"shot_type": "close_up", "camera_motion": "pan_left",
     "subjects": [{"type": "Human", "is_main_subject": true, "position": "On the left."}]}}

`path` is relative to the file's folder; `start` and `end` are seconds in it, null for all of it. A
field that is left out was not asked, "cannot_tell" was asked and could not be told, a list holds
answers that are all right. Lines of one clip by several raters make one truth: see `truth`.
People label on the page of `eval.review label`, whose export is such a file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from captioner.files import first_line
from captioner.schema import MAX_SUBJECTS, SHOT_FIELDS, SUBJECT_TYPES, options
from curation.ledger import arrow_schema, replacing
from eval.camera_text import read_camera

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

CANNOT_TELL = "cannot_tell"

Answer = str | tuple[str, ...] | None
"""A right answer, several right answers, `CANNOT_TELL`, or None where nobody was asked."""

CLOSED = tuple(name for name in SHOT_FIELDS if options(name))
FREE = ("environment", "lighting")
SHOT_LABELS = (*CLOSED, "camera_motion", *FREE)


class TestsetError(ValueError):
    """What is wrong with a test set or with predictions for it: a line each, naming file and line.

    `problems` holds all of them, the message the first ones.
    """

    SHOWN = 20
    __test__ = False  # pytest takes classes of this name for tests

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - self.SHOWN
        lines = [*problems[: self.SHOWN], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubjectLabel(_Model):
    """What is true of one subject. Answers as in `Labels`."""

    type: Answer = None
    sub_type: Answer = None
    appearance: Answer = None
    action: Answer = None
    expression: Answer = None
    position: Answer = None
    is_main_subject: bool | None = None

    @field_validator("type")
    @classmethod
    def _is_type(cls, value: Answer) -> Answer:
        return _listed(value, SUBJECT_TYPES)


class Labels(_Model):
    """What a rater says of a clip, by the schema's fields.

    `main_subject_only`: `subjects` holds the main subject and no other, and is compared with the
    main subject of a caption; else it holds every subject that matters.
    """

    subjects: Annotated[tuple[SubjectLabel, ...], Field(max_length=MAX_SUBJECTS)] | None = None
    main_subject_only: bool = False
    shot_type: Answer = None
    shot_angle: Answer = None
    shot_position: Answer = None
    camera_motion: Answer = None
    environment: Answer = None
    lighting: Answer = None

    @field_validator(*CLOSED)
    @classmethod
    def _is_option(cls, value: Answer, info: Any) -> Answer:
        return _listed(value, options(info.field_name))

    @field_validator("camera_motion")
    @classmethod
    def _is_motion(cls, value: Answer) -> Answer:
        for one in answers(value):
            if read_camera(one) is None:
                raise ValueError(f"{one!r} says nothing of the camera, such as pan_left or static")
        return value


class Clip(_Model):
    """One line: a clip, and what one rater says of it."""

    clip_id: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    concept: str | None = None
    rater: str | None = None
    labels: Labels = Labels()


@dataclass(frozen=True)
class Line:
    """A clip with the place it was read from, as `file:line`, and the file's folder."""

    clip: Clip
    place: str
    folder: Path

    @property
    def file(self) -> Path:
        """Where the video is."""
        return self.folder / self.clip.path


@dataclass(frozen=True)
class Truth:
    """What is held to be true of a clip. `disputed` are shot fields without a majority; `place` is
    the clip's first line, as `file:line`."""

    clip: Clip
    file: Path
    labels: Labels
    raters: int
    disputed: tuple[str, ...] = ()
    place: str = ""


def answers(value: Answer) -> tuple[str, ...]:
    """The right answers, none where nobody was asked or could tell."""
    if value is None or value == CANNOT_TELL:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple([one for one in value if one != CANNOT_TELL])


def read_testset(path: Path) -> list[Line]:
    """The lines of a test set. Raises TestsetError naming every line that is wrong, OSError."""
    lines, problems = [], []
    for number, text in _records(path):
        place = f"{path}:{number}"
        try:
            lines.append(Line(Clip.model_validate_json(text), place, path.parent))
        except ValidationError as error:
            problems += [f"{place}: {one}" for one in _in_words(error)]
    problems += _contradictions(lines)
    if problems:
        raise TestsetError(problems)
    if not lines:
        raise TestsetError([f"{path}: no clip in it"])
    return lines


def write_testset(clips: Sequence[Clip], path: Path) -> None:
    """Write clips, as Parquet where the name ends so. `path`s in them are taken as they are."""
    records = [clip.model_dump(mode="json", exclude_unset=True) for clip in clips]
    with replacing(path) as part:
        if path.suffix == ".parquet":
            columns = [name for name in Clip.model_fields if name != "labels"]
            table = {name: [record.get(name) for record in records] for name in columns}
            table["labels"] = [json.dumps(record.get("labels", {})) for record in records]
            pq.write_table(pa.table(table, _PARQUET), part)
        else:
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            part.write_text(text, encoding="utf-8")


_PARQUET = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "path", "sha256")]
    + [("start", pa.float64()), ("end", pa.float64())]
    + [(name, pa.string()) for name in ("concept", "rater", "labels")]
)
"""`labels` is JSON, as an answer is a string or a list."""


def truths(lines: Sequence[Line]) -> list[Truth]:
    """One truth for each clip, in the order of the file."""
    by_clip: dict[str, list[Line]] = {}
    for line in lines:
        by_clip.setdefault(line.clip.clip_id, []).append(line)
    return [truth(group) for group in by_clip.values()]


def truth(lines: Sequence[Line]) -> Truth:
    """What the raters of one clip agree on.

    A shot field has the answer that most raters allow; where several have equally many, each of
    them is right and the field is disputed. Free text of several raters is all right. Subjects,
    of which there is no majority, are those of the first rater who names any.
    """
    labels = [line.clip.labels for line in lines]
    merged: dict[str, Answer] = {}
    disputed = []
    for name in SHOT_LABELS:
        asked = [value for one in labels if (value := getattr(one, name)) is not None]
        told = [answers(value) for value in asked if answers(value)]
        best = tuple(dict.fromkeys(one for group in told for one in group))
        if len(told) > 1 and name not in FREE:
            best = _most(told, name)
            disputed += [name] * (len(best) > 1)
        merged[name] = best or (CANNOT_TELL if asked else None)
    subjects = next((one for one in labels if one.subjects is not None), Labels())
    return Truth(
        clip=lines[0].clip,
        file=lines[0].file,
        labels=subjects.model_copy(update=merged),
        raters=sum(one != Labels() for one in labels),
        disputed=tuple(disputed),
        place=lines[0].place,
    )


def _most(told: Sequence[tuple[str, ...]], field: str) -> tuple[str, ...]:
    """The answers that most raters allow, by what they mean, in the words first used."""
    words: dict[str, str] = {}
    votes: Counter[str] = Counter()
    for group in told:
        for meaning, one in {_canonical(field, one): one for one in group}.items():
            votes[meaning] += 1
            words.setdefault(meaning, one)
    most = max(votes.values())
    return tuple(words[meaning] for meaning, count in votes.items() if count == most)


def changed_files(lines: Iterable[Line]) -> tuple[list[str], list[str]]:
    """Problems of files whose content has changed, and the clips whose file is not there."""
    changed, gone = [], []
    hashes: dict[Path, str | None] = {}
    for line in lines:
        if line.file not in hashes:
            hashes[line.file] = sha256(line.file) if line.file.is_file() else None
        found = hashes[line.file]
        if found is None:
            gone.append(f"{line.place}: {line.file} is not there")
        elif found != line.clip.sha256:
            changed.append(
                f"{line.place}: {line.file} has changed since it was labelled: its sha256 is "
                f"{found[:12]}…, not {line.clip.sha256[:12]}…"
            )
    return changed, gone


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _records(path: Path) -> Iterator[tuple[int, str]]:
    """The JSON of each line with its number, from 1. Raises TestsetError, OSError."""
    if path.suffix != ".parquet":
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
        return
    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise TestsetError([f"{path}: not a Parquet file: {error}"]) from None
    for number, row in enumerate(rows, 1):
        record = {name: value for name, value in row.items() if value is not None}
        labels = record.pop("labels", None) or "{}"
        # A text that is no JSON is told by the model, as that of a line is.
        yield number, json.dumps(record)[:-1] + f', "labels": {labels}}}'


def _in_words(error: ValidationError) -> Iterator[str]:
    """What is wrong with a line, in words: one line an error."""
    seen = set()
    for one in error.errors(include_url=False):
        # The branches of a union (str, list) are no part of a field's name.
        where = ".".join(str(p) for p in one["loc"] if not str(p).startswith(("tuple", "str", "v")))
        told = one["msg"].removeprefix("Value error, ")
        if (where, told) not in seen:
            seen.add((where, told))
            yield f"{where}: {told}" if where else told


def _contradictions(lines: Sequence[Line]) -> Iterator[str]:
    """Two truths for one clip, by one rater; one clip with two files or bounds."""
    first: dict[str, Line] = {}
    raters: dict[tuple[str, str | None], Line] = {}
    for line in lines:
        clip = line.clip
        if (clip.start is None) != (clip.end is None) or not _in_order(clip):
            yield f"{line.place}: start and end are both given, the start first, or neither"
        known = first.setdefault(clip.clip_id, line)
        same = (clip.sha256, clip.start, clip.end)
        if same != (known.clip.sha256, known.clip.start, known.clip.end):
            yield f"{line.place}: clip {clip.clip_id} is another clip at {known.place}"
        earlier = raters.setdefault((clip.clip_id, clip.rater), line)
        if earlier is not line:
            by = f" by {clip.rater}" if clip.rater else ""
            yield f"{line.place}: a second truth{by} for {clip.clip_id}: see {earlier.place}"


def _in_order(clip: Clip) -> bool:
    return clip.start is None or clip.end is None or clip.start < clip.end


def _listed(value: Answer, allowed: Sequence[str]) -> Answer:
    for one in answers(value):
        if one not in allowed:
            raise ValueError(f"{one!r} is none of {', '.join(allowed)}, {CANNOT_TELL}")
    return value


def _canonical(field: str, answer: str) -> str:
    move = read_camera(answer) if field == "camera_motion" else None
    return move.name if move else answer


# --- drawing a test set ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A clip that may be drawn, and the concepts that it stands for, such as shot_type=close_up."""

    clip: Clip
    concepts: tuple[str, ...]


CONCEPTS = ("shot_type", "shot_angle", "shot_position", "camera", "subject")
"""What a drawn set is stratified over."""


def draw(candidates: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most `count` of the candidates, the scarce concepts first.

    Each draw takes a clip of the concept that has fewest clips so far, so that a concept with few
    candidates has all of them in before a common one has more. The order and the number of the
    candidates of other concepts make no difference to which of its clips a concept offers next:
    that follows from the seed and the clip's id.
    """
    ranked = sorted(candidates, key=lambda one: _rank(one.clip.clip_id, seed))
    queues: dict[str, list[Candidate]] = {}
    for one in reversed(ranked):
        for concept in one.concepts or ("none",):
            queues.setdefault(concept, []).append(one)
    drawn: dict[str, Candidate] = {}
    counts = dict.fromkeys(sorted(queues), 0)
    while counts and len(drawn) < count:
        concept = min(counts, key=lambda name: (counts[name], name))
        queue = queues[concept]
        while queue and queue[-1].clip.clip_id in drawn:
            queue.pop()
        if not queue:
            del counts[concept]
            continue
        one = queue.pop()
        drawn[one.clip.clip_id] = one
        for name in one.concepts or ("none",):
            if name in counts:
                counts[name] += 1
    return sorted(drawn.values(), key=lambda one: one.clip.clip_id)


def _rank(clip_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{clip_id}".encode()).hexdigest()


def candidates(table: pa.Table) -> list[Candidate]:
    """The captioned clips of a ledger's table (columns of `_FOR_BUILDING`)."""
    found = []
    for row in table.select(_FOR_BUILDING).to_pylist():
        if row["source_sha256"] is None or row["decision"] == "error":
            continue
        concepts = _concepts(row)
        clip = Clip(
            clip_id=row["clip_id"],
            path=row["source"],
            sha256=row["source_sha256"],
            start=row["start"],
            end=row["end"],
            concept=",".join(concepts) or None,
        )
        found.append(Candidate(clip, concepts))
    return found


_FOR_BUILDING = [
    *("clip_id", "source", "source_sha256", "start", "end", "decision", "motion_camera", "caption")
]


def _concepts(row: Mapping[str, Any]) -> tuple[str, ...]:
    caption = row["caption"] or {}
    found = [f"{name}={caption[name]}" for name in CLOSED if caption.get(name)]
    if motion := (row["motion_camera"] or [caption.get("camera_motion")])[0]:
        move = read_camera(motion)
        found += [f"camera={name}" for name in sorted(move.elements)] if move else []
    main = [s for s in caption.get("subjects") or () if s["is_main_subject"]]
    return (*found, *(f"subject={s['TYPES']['type']}" for s in main[:1] if s["TYPES"]["type"]))


def apart(table: pa.Table, training: pa.Table) -> tuple[pa.Table, str]:
    """The rows of no source that is trained on and of no near-duplicate, and in words what went."""
    sources = pc.is_in(table["source_sha256"], training["source_sha256"].unique())
    left = table.filter(pc.invert(pc.fill_null(sources, False)))
    duplicates = _near_duplicates(left, training)
    kept = left.filter(pc.invert(pc.is_in(left["clip_id"], pa.array(duplicates, pa.string()))))
    shared = len(table) - len(left)
    return kept, (
        f"{shared} clips of sources that are trained on and {len(duplicates)} near-duplicates of "
        "training clips were left out"
    )


def _near_duplicates(table: pa.Table, training: pa.Table) -> list[str]:
    """Clips of the first table that share a cluster of near-duplicates with one of the second."""
    from curation.dedupe import DedupeConfig
    from curation.verdict import clusters

    both = pa.concat_tables([table, training])
    names = clusters(both, DedupeConfig()).to_pylist()
    trained = set(names[len(table) :]) - {None}
    clips = table["clip_id"].to_pylist()
    return [clip for clip, name in zip(clips, names) if name in trained]


# --- labels from elsewhere ------------------------------------------------------------------------

LABEL_WORDS = {
    "Vehicle": "Vehicles", "happy": "happiness", "sad": "sadness", "angry": "anger",
}  # fmt: skip
"""Words that label files use for the schema's and the expression expert's."""

LABEL_COLUMNS = {
    "shot_type": "shot_type_conf",
    "shot_angle": "shot_angle_conf",
    "shot_position": "shot_position_conf",
    "camera_motion": "camera_motion_conf",
    "subject_type": "subject_conf",
    "expression": "expression_conf",
}
"""The columns of a table of labels, and those of their confidence, high or low."""


def import_labels(path: Path, folder: Path, low: bool = False) -> list[Clip]:
    """The clips of a label table as `eval.experts` reads it, one rater, whole files.

    Columns: `file` (in `folder`), and for each of shot_type, shot_angle, shot_position,
    camera_motion, subject_type and expression a label and its confidence, high or low; labels of
    low confidence are left out unless `low`. ">" in an expression separates what follows one
    another: each is a right answer. Raises TestsetError, OSError.
    """
    clips: list[Clip] = []
    problems = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        wanted = ["file", *LABEL_COLUMNS, *LABEL_COLUMNS.values()]
        if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
            raise TestsetError([f"{path}:1: no column {', '.join(missing)}"])
        for row in reader:
            place = f"{path}:{reader.line_num}"
            given = {
                name: LABEL_WORDS.get(row[name], row[name])
                for name, sure in LABEL_COLUMNS.items()
                if row[name] and (low or row[sure] == "high")
            }
            video = folder / row["file"]
            if not given:
                continue
            if not video.is_file():
                problems.append(f"{place}: {video} is not there")
                continue
            try:
                clips.append(_labelled(row["file"], sha256(video), given))
            except ValidationError as error:
                problems += [f"{place}: {one}" for one in _in_words(error)]
    if problems:
        raise TestsetError(problems)
    return clips


def _labelled(name: str, digest: str, given: dict[str, str]) -> Clip:
    subject: dict[str, Any] = {}
    if kind := given.pop("subject_type", ""):
        subject["type"] = kind
    if expression := given.pop("expression", ""):
        words = dict.fromkeys(LABEL_WORDS.get(one, one) for one in expression.split(">"))
        subject["expression"] = tuple(words)
    labels: dict[str, Any] = dict(given)
    if subject:
        main = SubjectLabel.model_validate(subject | {"is_main_subject": True})
        labels |= {"subjects": (main,), "main_subject_only": True}
    return Clip(
        clip_id=Path(name).stem,
        path=name,
        sha256=digest,
        rater="imported",
        labels=Labels.model_validate(labels),
    )


# --- commands -------------------------------------------------------------------------------------


@app.command()
def build(
    ledger: Annotated[Path, typer.Argument(help="The output of jobs.curate or caption.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .parquet file.")],
    clips: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 1000,
    not_in: Annotated[
        list[Path] | None,
        typer.Option(help="Outputs that are trained on: none of their sources or near-duplicates."),
    ] = None,
    per_source: Annotated[
        int | None, typer.Option(min=1, help="Clips of one source at most.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other clips.")] = 0,
) -> None:
    """Draw clips to label, the rare shot types, angles, positions and moves first."""
    try:
        table = _ledger_table(ledger)
        for folder in not_in or []:
            table, told = apart(table, _ledger_table(folder))
            typer.echo(f"{folder}: {told}")
        found = candidates(table)
        if per_source:
            found = _some_a_source(found, per_source, seed)
        drawn = draw(found, clips, seed)
        if not drawn:
            raise TestsetError([f"{ledger}: no clip is left to draw from"])
        write_testset([_beside(one.clip, output) for one in drawn], output)
    except TestsetError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or output}: {error.strerror or error}")
    typer.echo(f"{len(drawn)} of {len(found)} clips drawn, as asked: {clips}")
    for name, count in sorted(Counter(c for one in drawn for c in one.concepts).items()):
        there = sum(name in one.concepts for one in found)
        typer.echo(f"  {name:<32}{count:>6} of {there}")
    typer.echo(f"{output}")


def _some_a_source(found: Sequence[Candidate], most: int, seed: int) -> list[Candidate]:
    taken: Counter[str] = Counter()
    some = []
    for one in sorted(found, key=lambda one: _rank(one.clip.clip_id, seed)):
        taken[one.clip.sha256] += 1
        if taken[one.clip.sha256] <= most:
            some.append(one)
    return some


def _beside(clip: Clip, output: Path) -> Clip:
    """The clip with its path relative to the file it goes into, where there is such a path."""
    if "://" in clip.path:
        return clip
    try:
        path = os.path.relpath(clip.path, output.parent)
    except ValueError:  # another drive
        path = str(Path(clip.path).resolve())
    return clip.model_copy(update={"path": path})


def _ledger_table(folder: Path) -> pa.Table:
    """Every row of an output folder, the columns that this module reads."""
    from curation.verdict import FOR_CLUSTERS

    parts = sorted((folder if folder.name == "ledger" else folder / "ledger").glob("*.parquet"))
    if not parts:
        raise TestsetError([f"{folder}: no ledger in it; name the output of jobs.curate"])
    columns = list(dict.fromkeys([*_FOR_BUILDING, *FOR_CLUSTERS]))
    schema = pa.schema([arrow_schema().field(name) for name in columns])
    try:
        tables = [pq.read_table(part, columns=columns) for part in parts]
        return pa.concat_tables([one.cast(schema) for one in tables])
    except (pa.ArrowException, KeyError, ValueError) as error:
        told = first_line(error)
        raise TestsetError([f"{folder}: no ledger of this version: {told[:80]}"]) from None


@app.command("import-labels")
def import_command(
    labels: Annotated[Path, typer.Argument(help="A CSV file, as eval.experts reads it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .parquet file.")],
    clips: Annotated[
        Path | None, typer.Option(help="Folder of the videos; by default that of the table.")
    ] = None,
    low: Annotated[bool, typer.Option(help="Labels of low confidence too.")] = False,
) -> None:
    """Make a test set of a table of labels."""
    folder = clips or labels.parent
    try:
        found = import_labels(labels, folder, low)
        placed = [one.model_copy(update={"path": str(folder / one.path)}) for one in found]
        write_testset([_beside(one, output) for one in placed], output)
    except TestsetError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or labels}: {error.strerror or error}")
    typer.echo(f"{len(found)} labelled clips\n{output}")


@app.command()
def validate(testset: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")]) -> None:
    """Check every line and every file. Exit code 2: something is wrong, each told in a line."""
    from eval.agreement import between_raters

    try:
        lines = read_testset(testset)
        changed, gone = changed_files(lines)
        if changed or gone:
            raise TestsetError([*changed, *gone])
    except TestsetError as error:
        _fail("\n".join(error.problems))
    except OSError as error:
        _fail(f"{error.filename or testset}: {error.strerror or error}")
    agreed = between_raters(lines)
    found = truths(lines)
    raters = sorted({line.clip.rater for line in lines if line.clip.rater})
    typer.echo(f"{len(found)} clips, {len(lines)} lines, raters: {', '.join(raters) or 'none'}")
    for name in SHOT_LABELS:
        given = [one for one in found if answers(getattr(one.labels, name))]
        disputed = sum(name in one.disputed for one in found)
        kappa = f", {agreed[name].in_words}" if name in agreed else ""
        typer.echo(f"  {name:<16}{len(given):>6} labelled, {disputed} disputed{kappa}")
    subjects = sum(len(one.labels.subjects or ()) for one in found)
    typer.echo(f"  {'subjects':<16}{subjects:>6} labelled")


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
