"""Targets of fine-tuning: each clip's caption as a model is to write it, from whoever knows best.

Teacher captions, the sub-experts' fields and people's labels become one caption a clip, by a
precedence a field (`finetune.disagreement`), with the provenance of each field, in the folder that
`finetune.targets` describes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from captioner.engines.checkpoint import interface
from captioner.merge import filled
from captioner.schema import FIELDS, SHOT_FIELDS, ShotCaption, options
from curation.balance import Balance, BalanceConfig, BalanceError, balance, concepts
from curation.dataset import split_of
from eval.fields import SCORERS
from eval.predictions import Prediction, pair
from eval.testset import (
    Line,
    TestsetError,
    Truth,
    read_testset,
    truths,
)
from finetune.disagreement import (
    KINDS,
    PRECEDENCE,
    Claims,
    Disagreement,
    Kind,
    Resolved,
    of_machine,
    of_people,
    resolve,
)
from finetune.inputs import USABLE, Place, Rows, ledger_parts, read_columns, read_labels, read_rows
from finetune.targets import (
    SPLITS,
    LeftOut,
    Provenance,
    Split,
    Target,
    TargetError,
    answer,
    first_problem,
    write_targets,
)

SHARES: Mapping[Split, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}
"""Of the sources: own choice; the paper tells no shares."""

MAX_CHARACTERS = 8000
"""Characters of an answer at most: SkyCaptioner stops at 2,048 tokens (vllm_struct_caption.py),
which are about as many of English JSON."""


# --- what is asked --------------------------------------------------------------------------------


def _settings(value: Any, example: str) -> list[tuple[str, str]]:
    """Names and values of texts such as `shot_type=0.8`, the name "" where a text has none."""
    parts = [part for one in value for part in str(one).replace(",", " ").split()]
    pairs = [("", part) if "=" not in part else tuple(part.split("=", 1)) for part in parts]
    for part, (_, told) in zip(parts, pairs):
        if not told or part.startswith("="):
            raise ValueError(f"{part!r} is not written as {example}")
    return [(name, told) for name, told in pairs]


def _of_fields(value: Any) -> Any:
    """`0.5` of all fields, `shot_type=0.8` of one; what comes later counts."""
    if not isinstance(value, list):
        return value
    asked: dict[str, str] = {}
    for name, told in _settings(value, "0.5 or shot_type=0.8"):
        asked |= {name: told} if name else dict.fromkeys(FIELDS, told)
    return asked


def _of_precedence(value: Any) -> Any:
    """`human>experts>teacher` of all fields, `lighting=teacher` of one; others as by default."""
    if not isinstance(value, list):
        return value
    asked: dict[str, Any] = dict(PRECEDENCE)
    for name, told in _settings(value, "human>teacher or lighting=human>teacher"):
        order = tuple(dict.fromkeys(part.strip() for part in told.split(">")))
        if unknown := [kind for kind in order if kind not in KINDS]:
            raise ValueError(f"no source {unknown[0]!r}; they are {', '.join(KINDS)}")
        asked |= {name: order} if name else dict.fromkeys(FIELDS, order)
    return asked


def _of_splits(value: Any) -> Any:
    """`train=0.9` and so on; a split that is not named gets nothing."""
    if not isinstance(value, list):
        return value
    asked = dict(_settings(value, "train=0.9"))
    if unknown := [name for name in asked if name not in SPLITS]:
        raise ValueError(f"no split {unknown[0]!r}; they are {', '.join(SPLITS)}")
    return asked if asked else {**SHARES}


def _of_balance(value: Any) -> Any:
    """`by=shot_type`, or a YAML file of `curation.balance.BalanceConfig`."""
    if not isinstance(value, str):
        return value
    if value.startswith("by="):
        return {"by": [name.strip() for name in value[3:].split(",")]}
    try:
        read = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{value}: {error.strerror}: give a YAML file, or by=shot_type") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{value} is no YAML: {' '.join(str(error).split())[:80]}") from None
    return read.get("balance", read) if isinstance(read, dict) else read


class LabelsConfig(BaseModel):
    """What targets are made of, and which of them are kept.

    teacher: outputs of caption or jobs.curate, or datasets; of two that captioned a clip the first.
    experts: another such output, of which the rows of the engine `experts` are read.
    human: labelled test sets (`eval.testset`). not_in: test sets whose sources are left out.
    confidence: by field, what an expert must be surer than (0 to 1).
    precedence: by field, whose claim is taken; a kind that is not named is never asked.
    splits: shares of the sources. seed: draws the splits, and the clips where not all are wanted.
    balance: the shares of concepts (`BY`). count: targets at most.
    partial: also clips that no teacher captioned, where there are teachers; what nobody says of
    them is trained as empty.

    `confidence`, `precedence`, `splits` and `balance` may be given as the texts of a command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: tuple[Path, ...] = ()
    experts: Path | None = None
    human: tuple[Path, ...] = ()
    not_in: tuple[Path, ...] = ()
    confidence: Annotated[
        dict[str, Annotated[float, Field(ge=0, lt=1)]], BeforeValidator(_of_fields)
    ] = {}
    precedence: Annotated[dict[str, tuple[Kind, ...]], BeforeValidator(_of_precedence)] = dict(
        PRECEDENCE
    )
    splits: Annotated[
        dict[Split, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_of_splits)
    ] = dict(SHARES)
    balance: Annotated[BalanceConfig | None, BeforeValidator(_of_balance)] = None
    count: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    max_characters: Annotated[int, Field(ge=1)] = MAX_CHARACTERS
    partial: bool = False

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not (self.teacher or self.experts or self.human):
            raise ValueError("give --teacher, --experts or --human: there is nothing to learn from")
        if not sum(self.splits.values()) > 0:
            raise ValueError("the splits have no share above 0")
        for name in (*self.confidence, *self.precedence):
            if name not in FIELDS:
                raise ValueError(f"no field {name!r}; the fields are {', '.join(FIELDS)}")
        if missing := [name for name in FIELDS if name not in self.precedence]:
            raise ValueError(f"no precedence of {', '.join(missing)}")
        if self.balance is not None:
            if self.balance.mode != "select":
                raise ValueError("targets are not weighted: balance them with `mode: select`")
            if unknown := [name for name in self.balance.by if name not in BY]:
                raise ValueError(f"no targets by {unknown[0]!r}; there are {', '.join(BY)}")
        return self


def make_config(**values: Any) -> LabelsConfig:
    """The configuration. Raises TargetError, one line that says what to mend."""
    try:
        return LabelsConfig.model_validate(values)
    except ValidationError as error:
        raise TargetError(first_problem(error)) from None


# --- from clips to targets ------------------------------------------------------------------------


REASONS = {
    "dropped": "dropped by an input's decision",
    "test set": "of a source that a test set is to be apart from",
    "labelled twice": "its labels are of a clip that has others",
    "no teacher": "no teacher's caption of it is usable",
    "nothing": "nobody says anything of it",
    "video": "its video is not there",
    "schema": "what is said of it does not fit the schema",
    "too long": "its answer has too many characters",
    "duplicate": "a near-duplicate of it is in a smaller split",
    "not chosen": "not among those that balance and count take",
}
"""Why a clip is left out, in words."""

REFUSED = ("video", "schema", "too long")
"""Reasons that somebody should look at."""


@dataclass(slots=True)
class Clip:
    """A clip of the input: where it is, and who says something of it. `at` are its seconds in its
    source, whatever file it is in; `status` that of a teacher's caption that cannot be used."""

    clip_id: str
    at: tuple[float | None, float | None]
    video: str
    start: float | None
    end: float | None
    sha256: str | None
    source: str
    concept: str | None
    cluster: str | None = None
    teacher: Place | None = None
    experts: Place | None = None
    human: Truth | None = None
    status: str = "missing"

    @property
    def order(self) -> tuple[str, float, str]:
        """By source and time."""
        return self.source, self.at[0] or 0.0, self.clip_id


@dataclass
class Built:
    """What was made: targets of each split, what was left out, and the statistics of the targets.

    `balance` is None where none was asked. `ties` counts by field the clips that as many raters
    gave one label as gave another: they have none.
    """

    config: LabelsConfig
    left_out: list[LeftOut] = field(default_factory=list)
    balance: Balance | None = None
    disagreement: Disagreement = field(default_factory=Disagreement)
    ties: Counter[str] = field(default_factory=Counter)
    counts: Counter[Split] = field(default_factory=Counter)

    def leave_out(self, clip_id: str, why: str, detail: str = "") -> None:
        """Note a clip that is no target."""
        self.left_out.append(LeftOut(clip_id, why, detail))

    def about(self) -> dict[str, Any]:
        """What labels.json tells beside the counts of targets."""
        contract = interface("")
        why = Counter(one.why for one in self.left_out)
        return {
            "left_out": {name: why[name] for name in REASONS if why[name]},
            "prompt": contract["prompt"],
            "schema": contract["schema"],
            "config": self.config.model_dump(mode="json"),
            "balance": [asdict(one) for one in self.balance.concepts] if self.balance else None,
            "statistics": {"ties": dict(sorted(self.ties.items())), **self.disagreement.report()},
        }


def build(config: LabelsConfig, out: Path) -> Built:
    """Make the targets of a configuration and write them to `out`.

    The clips are gone through twice, so that no more than one target is held. Raises TargetError,
    and OSError when `out` cannot be written.
    """
    built = Built(config)
    lines = read_labels(config.human)
    labelled = truths(lines)
    built.ties.update(name for one in labelled for name in one.disputed)
    maker = _Maker(config, out, _raters(lines))
    clips, concept = [], {}
    for clip in _clips(labelled, built):
        made = maker.target(clip)
        if isinstance(made, LeftOut):
            built.left_out.append(made)
        else:
            clips.append(clip)
            concept[clip.clip_id] = [_by(made[0], name) for name in _balanced_by(config)]
    clips = _chosen(_apart(clips, built), concept, built)
    if not clips:
        why = Counter(one.why for one in built.left_out).most_common(1)
        raise TargetError("no target is left" + (f": {REASONS[why[0][0]]}" if why else ""))
    built.left_out.sort(key=lambda one: (one.why, one.clip_id))

    def targets() -> Iterator[Target]:
        for clip in clips:
            made = maker.target(clip)
            if not isinstance(made, LeftOut):
                built.disagreement.add(made[1])
                yield made[0]

    built.counts = write_targets(out, targets(), built.left_out, built.about)
    return built


def _split(clip: Clip, config: LabelsConfig) -> Split:
    """As the dataset draws it, so that a clip is in the same split of both."""
    shares: dict[str, float] = {n: config.splits[n] for n in SPLITS if config.splits.get(n)}
    return cast(Split, split_of(clip.source, shares, config.seed))


@dataclass(frozen=True)
class _Maker:
    """Makes the target of a clip; `raters` by clip of the test sets."""

    config: LabelsConfig
    out: Path
    raters: Mapping[str, Sequence[str]]
    there: dict[str, bool] = field(default_factory=dict)

    def target(self, clip: Clip) -> tuple[Target, Resolved] | LeftOut:
        """The target with who claimed what, or why there is none."""
        if self.config.teacher and not clip.teacher and not self.config.partial:
            return LeftOut(clip.clip_id, "no teacher", f"its caption is {clip.status}")
        if not self._is_there(clip.video):
            return LeftOut(clip.clip_id, "video", f"there is no {clip.video}")
        try:
            resolved = resolve(self.claims(clip), self.config.precedence)
            target = self._target(clip, resolved)
        except ValidationError as error:
            return LeftOut(clip.clip_id, "schema", first_problem(error))
        if not filled(target.caption):
            return LeftOut(clip.clip_id, "nothing")
        if (length := len(answer(target))) > self.config.max_characters:
            told = f"{length:,} characters, more than {self.config.max_characters:,}"
            return LeftOut(clip.clip_id, "too long", told)
        return target, resolved

    def _target(self, clip: Clip, resolved: Resolved) -> Target:
        return Target(
            clip_id=clip.clip_id,
            video=_video(clip.video, self.out),
            start=clip.start,
            end=clip.end,
            sha256=clip.sha256,
            source=clip.source,
            concept=clip.concept,
            caption=ShotCaption.model_validate(resolved.caption()),
            sources={
                name: Provenance(source=by.source, confidence=by.confidence)
                for name, by in resolved.sources().items()
            },
            split=_split(clip, self.config),
        )

    def claims(self, clip: Clip) -> dict[Kind, Claims]:
        """What each kind of source says of the clip. Raises ValidationError."""
        said: dict[Kind, Claims] = {}
        if clip.human:
            said["human"] = of_people(clip.human, self.raters[clip.human.clip.clip_id])
        if clip.experts:
            said["experts"] = of_machine(clip.experts.row(), self.config.confidence)
        if clip.teacher:
            said["teacher"] = of_machine(clip.teacher.row(), {})
        return said

    def _is_there(self, video: str) -> bool:
        if video not in self.there:
            self.there[video] = "://" in video or Path(video).is_file()
        return self.there[video]


def _video(given: str, out: Path) -> str:
    """The path of a video as a target has it: absolute paths stay, others are from `out` on."""
    if "://" in given or Path(given).is_absolute():
        return given
    return os.path.relpath(given, out)


# --- the clips of the input -----------------------------------------------------------------------

_FACTS = (
    *("clip_id", "source", "source_sha256", "start", "end", "concept"),
    *("duplicate_cluster", "caption_status", "caption_engine"),
)


def _clips(labelled: Sequence[Truth], built: Built) -> list[Clip]:
    """The clips that may be targets, by source and time, with who says something of them."""
    config = built.config
    teachers = [read_rows(path) for path in config.teacher]
    experts = [read_rows(config.experts)] if config.experts else []
    clips: dict[str, Clip] = {}
    for rows in teachers:
        for found, facts, place in _rows(rows):
            clip = clips.setdefault(found.clip_id, found)
            if facts["caption_status"] in USABLE:
                clip.teacher = clip.teacher or place
            else:
                clip.status = facts["caption_status"] or clip.status
    for rows in experts:
        for found, facts, place in _rows(rows):
            clip = clips.setdefault(found.clip_id, found)
            if facts["caption_status"] in USABLE and facts["caption_engine"] == "experts":
                clip.experts = place
    _label(clips, labelled, built)
    for name in sorted(frozenset().union(*(rows.dropped for rows in (*teachers, *experts)))):
        clips.pop(name, None)
        built.leave_out(name, "dropped")
    apart = _hashes(config.not_in)
    for name in [one.clip_id for one in clips.values() if {one.source, one.sha256} & apart]:
        del clips[name]
        built.leave_out(name, "test set")
    return sorted(clips.values(), key=lambda clip: clip.order)


def _rows(rows: Rows) -> Iterator[tuple[Clip, dict[str, Any], Place]]:
    """Each clip of a ledger or dataset with the facts of its row, and where that is."""
    for part in rows.parts:
        for number, facts in enumerate(part.select(_FACTS).to_pylist()):
            yield _clip(facts, rows.videos.get(facts["clip_id"])), facts, Place(part, number)


def _clip(facts: Mapping[str, Any], file: str | None) -> Clip:
    """A row's clip: a part of its source, or a file of its own."""
    part = file is None
    return Clip(
        clip_id=facts["clip_id"],
        at=(facts["start"], facts["end"]),
        video=facts["source"] if file is None else file,
        start=facts["start"] if part else None,
        end=facts["end"] if part else None,
        sha256=facts["source_sha256"] if part else None,
        source=facts["source_sha256"] or facts["source"],
        concept=facts["concept"],
        cluster=facts["duplicate_cluster"],
    )


def _label(clips: dict[str, Clip], labelled: Sequence[Truth], built: Built) -> None:
    """Give the clips their labels; labels of other clips are clips of their own."""
    names = {truth.clip.clip_id for truth in labelled}
    hashes = {truth.clip.sha256 for truth in labelled}
    near = [
        Prediction(one.clip_id, one.clip_id, one.video, one.source, *one.at, "ok", None)
        for one in clips.values()
        if one.clip_id in names or one.source in hashes
    ]
    try:
        found = pair(labelled, near).predictions
    except TestsetError as error:
        raise TargetError(error.problems[0]) from None
    for truth in labelled:
        name = truth.clip.clip_id
        if name not in found:
            clips[name] = _labelled(truth)
            continue
        clip = clips[found[name].clip_id or ""]
        if clip.human is None:
            clip.human, clip.concept = truth, clip.concept or truth.clip.concept
        else:
            built.leave_out(name, "labelled twice", f"see {clip.human.place}")


def _labelled(truth: Truth) -> Clip:
    clip = truth.clip
    return Clip(
        clip_id=clip.clip_id,
        at=(clip.start, clip.end),
        video=str(truth.file),
        start=clip.start,
        end=clip.end,
        sha256=clip.sha256,
        source=clip.sha256,
        concept=clip.concept,
        human=truth,
    )


def _hashes(testsets: Sequence[Path]) -> set[str | None]:
    """The content of the files that test sets are of. Raises TargetError."""
    try:
        return {line.clip.sha256 for path in testsets for line in read_testset(path)}
    except TestsetError as error:
        raise TargetError(error.problems[0]) from None
    except OSError as error:
        raise TargetError(f"{error.filename}: {error.strerror}") from None


def _raters(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Who labelled each clip."""
    raters: dict[str, set[str]] = {}
    for line in lines:
        raters.setdefault(line.clip.clip_id, set()).update({line.clip.rater or ""} - {""})
    return {clip: sorted(names) for clip, names in raters.items()}


# --- which of them --------------------------------------------------------------------------------

_SMALLEST_FIRST = ("test", "validation", "train")


def _apart(clips: Sequence[Clip], built: Built) -> list[Clip]:
    """The clips without those that have a near-duplicate in a smaller split: what is measured on
    test and validation is to be new to the model, and they are small, so training gives way."""
    config = built.config
    split = {clip.clip_id: _split(clip, config) for clip in clips}
    if len(set(split.values())) < 2:
        return list(clips)
    gone: dict[str, str] = {}
    recorded = {clip.clip_id: clip.cluster for clip in clips if clip.cluster}
    for clusters in (recorded, _clusters(clips, config)):
        first: dict[str, Split] = {}
        for name, cluster in clusters.items():
            best = min(first.get(cluster, split[name]), split[name], key=_SMALLEST_FIRST.index)
            first[cluster] = best
        for name, cluster in clusters.items():
            if split[name] != first[cluster]:
                gone[name] = f"{split[name]}, its near-duplicate in {first[cluster]}"
    for name, told in gone.items():
        built.leave_out(name, "duplicate", told)
    return [clip for clip in clips if clip.clip_id not in gone]


def _clusters(clips: Sequence[Clip], config: LabelsConfig) -> dict[str, str]:
    """Groups of near-duplicates among the clips whose ledgers have what tells them: the clips with
    the names of their groups. Datasets have not, only the groups that curation found in them."""
    from curation.dedupe import DedupeConfig
    from curation.verdict import FOR_CLUSTERS, clusters

    wanted = pa.array([clip.clip_id for clip in clips], pa.string())
    tables = []
    for path in (*config.teacher, *([config.experts] if config.experts else [])):
        for part in ledger_parts(path):
            table = read_columns(part, FOR_CLUSTERS)
            known = pc.and_(pc.is_in(table["clip_id"], wanted), pc.is_valid(table["embedding"]))
            tables.append(table.filter(known))
    if not sum(len(table) for table in tables):
        return {}
    both = pa.concat_tables(tables)
    _, once = np.unique(both["clip_id"].to_numpy(), return_index=True)
    both = both.take(pa.array(np.sort(once)))
    names = clusters(both, DedupeConfig()).to_pylist()
    return {clip: name for clip, name in zip(both["clip_id"].to_pylist(), names) if name}


BY = (
    *("concept", "subject_type", "subject_sub_type", "camera_motion"),
    *(name for name in SHOT_FIELDS if options(name)),
)
"""What targets can be balanced by: the row's concept, or else its subject's type, and fields."""


def _by(target: Target, name: str) -> str | None:
    caption = target.caption
    if name in SHOT_FIELDS:
        said = str(getattr(caption, name))
        return SCORERS[name].normal(said) if said else None
    types = caption.main_subject.types if caption.main_subject else None
    if name == "subject_sub_type":
        return types.sub_type if types else None
    subject = types.type if types else None
    return target.concept or subject if name == "concept" else subject


def _balanced_by(config: LabelsConfig) -> Sequence[str]:
    return config.balance.by if config.balance else ()


def _chosen(
    clips: Sequence[Clip], concept: Mapping[str, Sequence[str | None]], built: Built
) -> list[Clip]:
    """As many of the clips as balance and count take. Raises TargetError."""
    config = built.config
    if not clips or not (config.balance or config.count):
        return list(clips)
    named = [concept[clip.clip_id] for clip in clips]
    columns = [pa.array(column, pa.string()) for column in zip(*named)]
    # Without a balance there is one concept, of which `count` are drawn.
    kinds = concepts(columns) if columns else pa.array(["any"] * len(clips))
    asked = config.balance or BalanceConfig(by=("concept",))
    if "seed" not in asked.model_fields_set:
        asked = asked.model_copy(update={"seed": config.seed})
    names = pa.array([clip.clip_id for clip in clips])
    try:
        outcome = balance(names, kinds, asked)
        if config.count and outcome.keep.sum() > config.count:
            share = {"total": config.count / len(clips)}
            outcome = balance(names, kinds, asked.model_copy(update=share))
    except BalanceError as error:
        raise TargetError(str(error)) from None
    if config.balance:
        built.balance = outcome
    kept = []
    for clip, keep in zip(clips, outcome.keep.tolist()):
        if keep:
            kept.append(clip)
        else:
            built.leave_out(clip.clip_id, "not chosen")
    return kept
