"""Preference pairs for DPO, without people: a real clip against what was generated for its prompt,
and generations of one prompt against each other.

SkyReels-V2's automatic pairs prefer the real clip to what a model makes of its caption, and its DPO
rounds take the best and the worst of several videos of a prompt (arXiv 2504.13074, reinforcement
learning). Here adherence ranks the generations, and among equals the amount of motion: nearer to
that of the real clip is better. Ties are left out.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from captioner.schema import arrow_struct
from curation.ledger import replacing
from eval.loop import Real, Scored, motion_amount

MOTION_MARGIN = 0.25
"""How much farther from the real clip's motion, in octaves, is worse: own choice, a fifth more or
less motion than the other."""

_LEAST_MOTION = 0.01
"""Motion, in the unit of the measures, below which a clip counts as still."""


class Pair(BaseModel):
    """A row: `chosen` is preferred to `rejected`."""

    model_config = ConfigDict(frozen=True)

    prompt: str = Field(description="what both were, or would have been, generated from")
    chosen: str = Field(description="path of the better video, beside the file of pairs")
    rejected: str = Field(description="path of the worse video, beside the file of pairs")
    kind: Literal["real", "adherence", "motion"] = Field(
        description="real clip against generated, or two generations that differ in this"
    )
    margin: float = Field(
        description="real, adherence: share of fields (0-1) that the rejected has wrong beyond the "
        "chosen; motion: octaves that it is farther from the real clip's amount of motion"
    )
    reasons: list[str] = Field(description="what the rejected has wrong and the chosen has not")
    task: str = Field(description="t2v, i2v or df")
    concept: str = Field(description="what the real clip counts as")
    clip_id: str = Field(description="the real clip of the prompt")
    chosen_id: str = Field(description="generation_id, or clip_id of a real clip")
    rejected_id: str = Field(description="generation_id")


def make_pairs(
    scored: Sequence[Scored], real: Real, reals: Mapping[str, str], videos: Mapping[str, str]
) -> list[Pair]:
    """The pairs, in order of prompt.

    `reals` has the path of each real clip by clip_id, `videos` that of each generation. What has no
    path, or no caption to rank it by, is in no pair.
    """
    usable = [
        one
        for one in scored
        if one.caption and one.ruled and one.generation.generation_id in videos
    ]
    groups: dict[tuple[str, str, str], list[Scored]] = defaultdict(list)
    for one in usable:
        groups[one.generation.clip_id, one.generation.task, one.generation.prompt].append(one)
    pairs: list[Pair] = []
    for _, group in sorted(groups.items()):
        group.sort(key=lambda one: (one.generation.seed, one.generation.generation_id))
        clip = group[0].generation.clip_id
        if clip in reals:
            pairs += [_against_real(one, reals[clip], videos) for one in group]
        pairs += _between(group, real.motion.get(clip), videos)
    return pairs


def _against_real(one: Scored, path: str, videos: Mapping[str, str]) -> Pair:
    missed = 1.0 - (one.adherence or 0.0)
    clip = one.generation.clip_id
    return _pair(one, "real", missed, _wrong(one), path, clip, videos)


def _between(
    group: Sequence[Scored], motion: float | None, videos: Mapping[str, str]
) -> Iterator[Pair]:
    """Every two of a prompt that differ."""
    for i, first in enumerate(group):
        for second in group[i + 1 :]:
            if ranked := _ranked(first, second, motion):
                better, worse, kind, margin, reasons = ranked
                name = better.generation.generation_id
                yield _pair(worse, kind, margin, reasons, videos[name], name, videos)


Kind = Literal["real", "adherence", "motion"]


def _ranked(
    first: Scored, second: Scored, motion: float | None
) -> tuple[Scored, Scored, Kind, float, list[str]] | None:
    """The better and the worse of two, by what and by how much, and why; None for a tie."""
    by_adherence = (first.adherence or 0.0) - (second.adherence or 0.0)
    if abs(by_adherence) > 1e-9:
        better, worse = (first, second) if by_adherence > 0 else (second, first)
        had = set(_wrong(better))
        reasons = [reason for reason in _wrong(worse) if reason not in had]
        return better, worse, "adherence", abs(by_adherence), reasons
    one, other = _motion_error(first, motion), _motion_error(second, motion)
    if one is None or other is None or abs(one - other) < MOTION_MARGIN:
        return None
    better, worse = (first, second) if one < other else (second, first)
    told = f"motion {max(one, other):.2f} octaves off the real clip's, not {min(one, other):.2f}"
    return better, worse, "motion", abs(one - other), [told]


def _motion_error(one: Scored, real: float | None) -> float | None:
    """Octaves between the motion of a generation and of its real clip."""
    made = motion_amount(one.measures)
    if made is None or real is None:
        return None
    return abs(math.log2(max(made, _LEAST_MOTION) / max(real, _LEAST_MOTION)))


def _wrong(one: Scored) -> list[str]:
    return [
        f"{item.field}: {item.answer or 'nothing'}, not {' or '.join(item.truth)}"
        for item in one.items
        if item.verdict == "wrong"
    ]


def _pair(
    worse: Scored,
    kind: Kind,
    margin: float,
    reasons: list[str],
    chosen: str,
    chosen_id: str,
    videos: Mapping[str, str],
) -> Pair:
    of = worse.generation
    return Pair(
        prompt=of.prompt,
        chosen=chosen,
        rejected=videos[of.generation_id],
        kind=kind,
        margin=round(margin, 6),
        reasons=reasons,
        task=of.task,
        concept=worse.concept,
        clip_id=of.clip_id,
        chosen_id=chosen_id,
        rejected_id=of.generation_id,
    )


def write_pairs(pairs: Sequence[Pair], folder: Path) -> None:
    """Write preferences.jsonl and preferences.parquet, whose columns are described in its schema.

    Raises OSError.
    """
    rows = [pair.model_dump() for pair in pairs]
    with replacing(folder / "preferences.jsonl") as part:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.write_text("".join(lines), encoding="utf-8")
    with replacing(folder / "preferences.parquet") as part:
        table = pa.Table.from_pylist(rows, schema=pa.schema(list(arrow_struct(Pair))))
        pq.write_table(table, part, compression="zstd")
