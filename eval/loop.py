"""Adherence: what a video model made of its prompts, field by field, beside the real clips.

Generated clips go through the production pipeline: one decode finds their shots, measures and
captions them. The prompt's structured caption is the truth that the caption of what came out is
compared with (`eval.fields`), and the picture's measures stand beside those of real clips of the
same concept, which were measured when they were curated.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from captioner.schema import FIELDS, SUBJECT_TYPES, ShotCaption, Subject, arrow_type
from curation.balance import NONE, concepts
from curation.dataset import MANIFEST, open_shards, read_manifest, read_shard
from curation.ledger import Ledger, Row, replacing
from curation.ledger_columns import LedgerError, ledger_schema, read_columns
from curation.loop_weights import LoopWeights, Seen, intervals
from curation.output import Output
from curation.rule_columns import DERIVED, column, inputs, is_fact
from curation.sources import Source
from eval.camera_text import read_camera
from eval.evaluation import read_items, to_json, write_items
from eval.fields import Item, compare, wilson
from eval.judge import Judge, judge_items
from eval.scores import Difference, differences
from eval.testset import SHOT_LABELS, Labels, SubjectLabel
from generation.ledger import Generation

MEASURES = (
    "motion_camera_amount",
    "motion_subject_amount",
    "motion_static",
    "motion_abrupt",
    "motion_slideshow",
    "quality_flicker",
    "quality_frozen",
    "quality_black",
    "quality_sharpness",
)
"""Columns that generated clips are compared with real ones by."""

RESAMPLES = 1000
"""Of the bootstrap of a median: its 2.5 % quantile then rests on 25 of them."""

_BY = ("subject_type", "camera_move", "shot_type", "shot_angle", "shot_position", "camera_motion")
"""Columns that concepts are looked for in where nobody says what they are of."""


class LoopError(ValueError):
    """Generations or real clips that cannot be compared, in one line with the remedy."""


# --- the real clips -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Real:
    """The real clips: the columns `by` that make their concepts; the concept of each by clip_id;
    and each measure's finite values by concept."""

    by: tuple[str, ...]
    concept: Mapping[str, str]
    measures: Mapping[str, Mapping[str, list[float]]]
    motion: Mapping[str, float]


def read_real(folder: Path, by: Sequence[str] = (), split: str | None = None) -> Real:
    """The clips of a dataset's split (train), or the kept ones of a curation; no video is opened.

    `by` are the columns that the balance goes by; without them they are found by what the rows'
    concepts are, subject_type where the rows have none. Raises LoopError, DatasetError and
    LedgerError.
    """
    for name in by:
        if name not in Row.model_fields and name not in DERIVED and not is_fact(name):
            raise LoopError(f"--by {name}: the ledger has no such column")
    wanted = inputs(["clip_id", "concept", *MEASURES, *(by or _BY)])
    table = _real_table(folder, wanted, split)
    if not len(table):
        raise LoopError(f"{folder} holds no clip that is kept: curate and decide first")
    recorded = table["concept"]
    balanced = recorded.null_count < len(recorded)
    columns = tuple(by) or (_columns_of(table) if balanced else _BY[:1])
    made = concepts([column(table, name) for name in columns])
    if balanced:
        made = _checked(recorded, made, columns, folder)
    ids, names = table["clip_id"].to_pylist(), made.to_pylist()
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measure in MEASURES:
        for name, value in zip(names, table[measure].to_pylist()):
            if value is not None and math.isfinite(value):
                values[name][measure].append(float(value))
    motion = zip(ids, map(motion_amount, table.select(_MOTION).to_pylist()))
    return Real(
        by=columns,
        concept=dict(zip(ids, names)),
        measures={name: dict(of) for name, of in values.items()},
        motion={clip: amount for clip, amount in motion if amount is not None},
    )


def _real_table(folder: Path, wanted: list[str], split: str | None) -> pa.Table:
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        shards = open_shards(folder, manifest, split or "train")
        if not shards:
            raise LoopError(f"{folder} has no clips in its split {split or 'train'}: name another")
        return pa.concat_tables([read_shard(folder / one.file, wanted) for one in shards])
    parts = Output(folder).ledger.parts()
    if not parts:
        raise LoopError(f"{folder} is neither a dataset nor the output of jobs.curate")
    if missing := set(MEASURES) - set(ledger_schema(parts).names):
        raise LedgerError(f"{folder} has no column {min(missing)}: curate it with this release")
    table, _ = read_columns(parts, [*wanted, "decision"])
    return table.filter(pc.equal(table["decision"], "keep"))


def _columns_of(table: pa.Table) -> tuple[str, ...]:
    """The one column whose values are the concepts that the rows have."""
    recorded = table["concept"]
    known = table.filter(pc.is_valid(recorded))
    for name in _BY:
        made = concepts([column(known, name)])
        if made.to_pylist() == known["concept"].to_pylist():
            return (name,)
    example = known["concept"][0].as_py()
    raise LoopError(
        f"the concepts of the real clips, such as {example!r}, are of none of {', '.join(_BY)}: "
        "say with --by which columns the preset balances by"
    )


def _checked(recorded: Any, made: pa.Array, columns: Sequence[str], folder: Path) -> pa.Array:
    """The concepts that the rows have, those made of the columns where they have none."""
    pairs = zip(recorded.to_pylist(), made.to_pylist())
    wrong = next(((a, b) for a, b in pairs if a is not None and a != b), None)
    if wrong:
        raise LoopError(
            f"{folder} was balanced by other columns than --by {' --by '.join(columns)}: a clip is "
            f"{wrong[0]!r} there, not {wrong[1]!r}"
        )
    return made


_MOTION = ("motion_camera_amount", "motion_subject_amount")


def motion_amount(row: Mapping[str, Any]) -> float | None:
    """How much moves in a clip, camera and subjects together; None where it is not known."""
    values = [row[name] for name in _MOTION if row.get(name) is not None]
    return sum(values) if values and all(map(math.isfinite, values)) else None


# --- what came out --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """A generation and what came of it.

    `caption` is what the captioner says of the video, None with the reason in `why` where there is
    no video or no caption. Of a video with cuts the longest shot is captioned and measured; `cuts`
    counts them, None without a video. `measures` are the finite ones. `items` compare the caption
    with the prompt's; their clip_id is the generation's.
    """

    generation: Generation
    concept: str
    caption: ShotCaption | None
    why: str
    measures: Mapping[str, float]
    cuts: int | None
    items: tuple[Item, ...]

    @property
    def right(self) -> int:
        """Right answers."""
        return sum(item.verdict == "right" for item in self.items)

    @property
    def ruled(self) -> int:
        """Answers that are right or wrong."""
        return sum(item.verdict in ("right", "wrong") for item in self.items)

    @property
    def adherence(self) -> float | None:
        """Share of right answers (0-1); None where the prompt's caption says nothing to check."""
        return self.right / self.ruled if self.ruled else None

    @property
    def pairing(self) -> str:
        """What a generation of another round is known by: its prompt's clip and its seed."""
        return f"{self.generation.clip_id}:{self.generation.seed}"


def video_of(generation: Generation, folder: Path) -> Path | None:
    """A generation's file; None where it has none. Raises LoopError for one outside the folder."""
    if generation.video is None:
        return None
    path = folder / generation.video
    if not path.resolve().is_relative_to(folder.resolve()):
        raise LoopError(f"the video {generation.video!r} leads out of {folder}: generate anew")
    return path


def score(
    generations: Sequence[Generation],
    folder: Path,
    sources: Sequence[Source],
    ledger: Ledger,
    real: Real,
    judge: Judge,
) -> list[Scored]:
    """Compare every generation with its prompt, in their order.

    `sources` are the videos as they were captioned, `ledger` holds their rows. Raises LoopError.
    """
    by_path = {path: one for one in sources for path in (one.path, *one.copies)}
    scored = []
    for one in generations:
        path = video_of(one, folder)
        rows = _rows_of(by_path.get(path) if path else None, ledger)
        concept = real.concept.get(one.clip_id, one.concept or NONE)
        scored.append(_scored(one, concept, rows))
    judge_items([item for one in scored for item in one.items], judge)
    return scored


def _rows_of(source: Source | None, ledger: Ledger) -> list[Row]:
    if source is None or ledger.state_of(source.key) is None:
        return []
    return ledger.read(ledger.part(source.key))


def _scored(one: Generation, concept: str, rows: Sequence[Row]) -> Scored:
    shots = [row for row in rows if row.frames is not None]
    longest = max(shots, key=lambda row: (row.frames or 0, -row.shot), default=None)
    caption = longest.caption if longest else None
    why = "" if caption else _why(one, longest or next(iter(rows), None))
    measures = {
        name: float(value)
        for name in MEASURES
        if longest and (value := getattr(longest, name)) is not None and math.isfinite(value)
    }
    cuts = len(shots) - 1 if shots else None
    items = compare(one.generation_id, labels_of(one.caption), caption, why).items
    return Scored(one, concept, caption, why, measures, cuts, tuple(items))


def _why(one: Generation, row: Row | None) -> str:
    """Why a generation has no caption, in a line."""
    if one.status == "error" or one.video is None:
        return f"not generated: {_last_line(one.error)}"
    if row is None:
        return "the video was not looked at"
    told = _last_line(row.error) if row.error else row.caption_note or row.caption_status or ""
    return f"{row.reason or 'no caption'}: {told}"


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1][:300] if lines else "no reason given"


def labels_of(caption: ShotCaption) -> Labels:
    """What a caption asks for, as labels: fields that say nothing are not asked."""
    shot: dict[str, Any] = {name: getattr(caption, name) or None for name in SHOT_LABELS}
    if read_camera(caption.camera_motion) is None:
        shot["camera_motion"] = None
    subjects = tuple(map(_subject_label, caption.subjects)) or None
    return Labels.model_validate({**shot, "subjects": subjects})


def _subject_label(subject: Subject) -> SubjectLabel:
    kind = subject.types.type
    return SubjectLabel(
        type=kind if kind in SUBJECT_TYPES else None,
        sub_type=subject.types.sub_type or None,
        appearance=subject.appearance or None,
        action=subject.action or None,
        expression=subject.expression or None,
        position=subject.position or None,
        is_main_subject=subject.is_main_subject,
    )


# --- in figures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldLine:
    """A concept's field: `right` of `asked` answers, with the 95 % interval of the share."""

    concept: str
    field: str
    asked: int
    right: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class MeasureLine:
    """A concept's measure: clips and median of both kinds (None without any), and the 95 % interval
    of generated minus real, by a bootstrap."""

    concept: str
    measure: str
    generated: int
    real: int
    generated_median: float | None
    real_median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ConceptLine:
    """A concept: `generations`, of which `failed` came to no caption and `cut` have cuts inside;
    the mean share missed, with the interval that the weights go by, and the new factor."""

    concept: str
    generations: int
    failed: int
    cut: int
    real: int
    missed: float | None
    low: float
    high: float
    factor: float


@dataclass(frozen=True)
class Changed:
    """How a concept (or all, "") changed since the round before, on the prompts of both."""

    concept: str
    prompts: int
    differences: tuple[Difference, ...]


def field_lines(scored: Iterable[Scored]) -> list[FieldLine]:
    """A line for each concept and field that was asked, in their order; all together first, ""."""
    right: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    for one in scored:
        for item in one.items:
            if item.verdict in ("right", "wrong"):
                for concept in ("", one.concept):
                    asked[concept, item.field] += 1
                    right[concept, item.field] += item.verdict == "right"
    keys = sorted(asked, key=lambda key: (key[0], FIELDS.index(key[1])))
    return [
        FieldLine(
            *key, asked[key], right[key], right[key] / asked[key], *wilson(right[key], asked[key])
        )
        for key in keys
    ]


def measure_lines(scored: Sequence[Scored], real: Real, seed: int = 0) -> list[MeasureLine]:
    """A line for each concept that was generated, and each measure."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in scored:
        for name in MEASURES:
            if name in one.measures:
                values[one.concept][name].append(one.measures[name])
    return [
        _measure_line(concept, name, values[concept][name], real, seed)
        for concept in sorted({one.concept for one in scored})
        for name in MEASURES
    ]


def _measure_line(concept: str, name: str, made: list[float], real: Real, seed: int) -> MeasureLine:
    true = real.measures.get(concept, {}).get(name, [])
    low, high = median_difference(made, true, seed) if made and true else (None, None)
    return MeasureLine(concept, name, len(made), len(true), _median(made), _median(true), low, high)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def median_difference(
    first: Sequence[float], second: Sequence[float], seed: int
) -> tuple[float, float]:
    """95 % interval of median(first) - median(second): percentiles of a bootstrap in which both
    are drawn anew (Efron 1979). The order of the values makes no difference."""
    rng = np.random.default_rng(seed)

    def medians(values: Sequence[float]) -> Any:
        sample = np.sort(np.asarray(values, np.float64))
        return np.median(sample[rng.integers(0, len(sample), (RESAMPLES, len(sample)))], axis=1)

    low, high = np.percentile(medians(first) - medians(second), (2.5, 97.5))
    return float(low), float(high)


def seen(scored: Iterable[Scored]) -> dict[str, Seen]:
    """What the weights are made of: of each concept the share that each generation missed.

    One that was asked nothing that can be checked counts only where it failed.
    """
    shares: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for one in scored:
        if one.caption is None:
            shares[one.concept].append((1.0, one.ruled))
        elif one.ruled:
            shares[one.concept].append((1 - one.right / one.ruled, one.ruled))
    return {name: Seen.of(of) for name, of in sorted(shares.items())}


def changed(before: Path, scored: Sequence[Scored], seed: int = 0) -> list[Changed]:
    """What changed since the round in the folder `before`: all prompts, then each concept's.

    Raises LoopError, eval.testset.TestsetError and OSError.
    """
    path = before / GENERATIONS
    try:
        table = pq.read_table(path, columns=["generation_id", "pairing"])
    except (OSError, pa.ArrowException):
        raise LoopError(f"{path} cannot be read: give --before the output of jobs.loop") from None
    known = dict(zip(table["generation_id"].to_pylist(), table["pairing"].to_pylist()))
    old, _ = read_items(before / ITEMS)
    first = [replace(item, clip_id=known.get(item.clip_id, "")) for item in old]
    first.sort(key=lambda item: item.clip_id)
    there = {item.clip_id for item in first}
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        if one.pairing in there:
            groups[""].append(one)
            groups[one.concept].append(one)
    return [
        Changed(name, len({one.pairing for one in group}), _differences(first, group, seed))
        for name, group in sorted(groups.items())
    ]


def _differences(
    first: Sequence[Item], group: Sequence[Scored], seed: int
) -> tuple[Difference, ...]:
    second = [
        replace(item, clip_id=one.pairing)
        for one in sorted(group, key=lambda one: one.pairing)
        for item in one.items
    ]
    return tuple(differences(first, second, seed).values())


# --- kept and shown -------------------------------------------------------------------------------

ITEMS = "items.parquet"
GENERATIONS = "scored.parquet"


@dataclass(frozen=True)
class Loop:
    """A round: what came out, its figures, and the weights for the next."""

    scored: Sequence[Scored]
    concepts: Sequence[ConceptLine]
    fields: Sequence[FieldLine]
    measures: Sequence[MeasureLine]
    changed: Sequence[Changed]
    weights: LoopWeights
    judge: str
    problems: Sequence[str]


def concept_lines(scored: Sequence[Scored], real: Real, weights: LoopWeights) -> list[ConceptLine]:
    """A line for each concept that was generated or has real clips."""
    counts = Counter(real.concept.values())
    last = weights.history[-1].seen
    ends = intervals(last)
    lines = []
    for name in sorted({one.concept for one in scored} | counts.keys()):
        own = [one for one in scored if one.concept == name]
        known = last.get(name, Seen())
        low, high = ends.get(name, (0.0, 1.0))
        lines.append(
            ConceptLine(
                concept=name,
                generations=len(own),
                failed=sum(one.caption is None for one in own),
                cut=sum(bool(one.cuts) for one in own),
                real=counts[name],
                missed=known.rate if known.samples else None,
                low=low,
                high=high,
                factor=weights.factors.get(name, 1.0),
            )
        )
    return lines


def problems(scored: Sequence[Scored], real: Real) -> list[str]:
    """What went wrong or could not be compared, a line each."""
    lines = [f"{one.generation.generation_id}: {one.why}" for one in scored if one.why]
    strange = Counter(one.concept for one in scored if one.generation.clip_id not in real.concept)
    lines += [
        f"{count} generations of {name!r} are of clips that are not among the real ones"
        for name, count in sorted(strange.items())
    ]
    made = {one.concept for one in scored}
    lines += [
        f"concept {name!r} has real clips but no generation: its factor stays"
        for name in sorted(set(real.concept.values()) - made)
    ]
    lines += [
        f"concept {name!r} has no real clips to compare with"
        for name in sorted(made - set(real.concept.values()))
    ]
    nothing = sum(not one.ruled and one.caption is not None for one in scored)
    if nothing:
        lines.append(f"{nothing} generations have a prompt whose caption asks nothing checkable")
    return lines


def write_loop(loop: Loop, folder: Path) -> None:
    """Write adherence.json, adherence.md and the Parquet files that the next round reads."""
    write_items([item for one in loop.scored for item in one.items], loop.judge, folder / ITEMS)
    with replacing(folder / GENERATIONS) as part:
        pq.write_table(_scored_table(loop.scored), part, compression="zstd")
    with replacing(folder / "adherence.json") as part:
        part.write_text(to_json(summary(loop)), encoding="utf-8")
    with replacing(folder / "adherence.md") as part:
        part.write_text(markdown(loop), encoding="utf-8")


def _scored_table(scored: Sequence[Scored]) -> pa.Table:
    rows = [
        {
            **one.generation.model_dump(include=set(_FROM_GENERATION)),
            "concept": one.concept,
            "pairing": one.pairing,
            "why": one.why,
            "caption": json.loads(one.caption.to_json()) if one.caption else None,
            "right": one.right,
            "ruled": one.ruled,
            "cuts": one.cuts,
            **{name: one.measures.get(name) for name in MEASURES},
        }
        for one in scored
    ]
    return pa.Table.from_pylist(rows, schema=_SCORED)


_FROM_GENERATION = ("generation_id", "clip_id", "task", "prompt", "model", "video", "status")
_SCORED = pa.schema(
    [
        *((name, pa.string()) for name in (*_FROM_GENERATION, "concept", "pairing", "why")),
        ("caption", arrow_type()),
        *((name, pa.int64()) for name in ("right", "ruled", "cuts")),
        *((name, pa.float64()) for name in MEASURES),
    ]
)


def summary(loop: Loop) -> dict[str, Any]:
    """The figures as plain values; the same videos give the same bytes."""
    figures: dict[str, Any] = _rounded(
        {
            "round": loop.weights.round,
            "by": list(loop.weights.by),
            "judge": loop.judge,
            "generations": len(loop.scored),
            "failed": sum(one.caption is None for one in loop.scored),
            "with_cuts": sum(bool(one.cuts) for one in loop.scored),
            "concepts": [asdict(one) for one in loop.concepts],
            "fields": [asdict(one) for one in loop.fields],
            "measures": [asdict(one) for one in loop.measures],
            "changed": [asdict(one) for one in loop.changed],
            "problems": list(loop.problems),
        }
    )
    return figures


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


SHOWN = 20
"""Problems told in the text; adherence.json has all."""


def markdown(loop: Loop) -> str:
    """The figures as Markdown."""
    tables = [
        f"# Round {loop.weights.round}: adherence by {' and '.join(loop.weights.by)}",
        "Missed: the mean share of the prompt's fields that the video's caption gets wrong, with "
        "its 95 % interval. A prompt that came to no caption is missed whole.",
        _table(
            ("concept", "generations", "failed", "with cuts", "real clips", "missed", "factor"),
            [
                (
                    one.concept,
                    one.generations,
                    one.failed,
                    one.cut,
                    one.real,
                    _share(one.missed, one.low, one.high),
                    f"{one.factor:.3f}",
                )
                for one in loop.concepts
            ],
        ),
        f"Accuracy by field (free text judged by {loop.judge}):",
        _table(
            ("concept", "field", "n", "accuracy"),
            [
                (
                    one.concept or "all",
                    one.field,
                    one.asked,
                    _share(one.accuracy, one.low, one.high),
                )
                for one in loop.fields
            ],
        ),
        "Medians of the picture's measures, and the 95 % interval of generated minus real:",
        _table(
            ("concept", "measure", "n", "generated", "n real", "real", "difference"),
            [
                (
                    one.concept,
                    one.measure,
                    one.generated,
                    _number(one.generated_median),
                    one.real,
                    _number(one.real_median),
                    _between(one.low, one.high),
                )
                for one in loop.measures
            ],
        ),
    ]
    if loop.changed:
        tables += [
            "Since the round before, on the prompts of both:",
            _table(
                ("concept", "prompts", "field", "before", "now", "difference"),
                [
                    (
                        one.concept or "all",
                        one.prompts,
                        field.field,
                        _number(field.first),
                        _number(field.second),
                        _between(field.low, field.high),
                    )
                    for one in loop.changed
                    for field in one.differences
                ],
            ),
        ]
    if loop.problems:
        more = len(loop.problems) - SHOWN
        lines = [f"- {_plain(line)}" for line in loop.problems[:SHOWN]]
        lines += [f"- and {more} more in adherence.json"] if more > 0 else []
        tables += [f"{len(loop.problems)} problems:", "\n".join(lines)]
    return "\n\n".join(tables) + "\n"


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _plain(cell: object) -> str:
    """Text that Markdown takes as it is: captions and concepts are not ours."""
    text = " ".join(str(cell).split())
    return "".join(f"\\{letter}" if letter in "\\|`*[]<>#" else letter for letter in text)


def _share(value: float | None, low: float, high: float) -> str:
    return "-" if value is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _between(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:+.4g} to {high:+.4g}"
