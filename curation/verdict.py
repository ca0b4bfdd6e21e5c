"""What becomes of every clip: the rules, then crop, duplicates and balance, over a whole ledger.

No video is opened: each step reads columns that measuring wrote and drops some of the clips that
the steps before it kept, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from curation.balance import Balance, BalanceConfig, balance, concepts
from curation.crop import CropConfig, crop
from curation.decide import Decisions, decide, needed
from curation.dedupe import Clips, DedupeConfig, dedupe
from curation.preset import Preset
from curation.rule_columns import column, inputs

Bool = NDArray[np.bool_]
Objects = NDArray[np.object_]

COLUMNS = ("decision", "reason", "stage", "crop", "duplicate_of", "concept", "sampling_weight")
"""The columns that a verdict fills."""

_OVER = ("text_boxes", "overlay_logo_boxes")
_CROP_INPUTS = ("border_box", *_OVER, "width", "height")
_HASHES = ("hash_sequence", "hash_changes", "hash_times")

FOR_CLUSTERS = ("clip_id", "quality_score", "start", "end", "embedding", *_HASHES)
"""The columns that `clusters` reads, and `model_embedding` where the configuration says so."""


@dataclass(frozen=True)
class Step:
    """Clips and hours that a step after the rules dropped."""

    name: str
    clips: int
    hours: float


@dataclass(frozen=True)
class Verdict:
    """The outcome for N clips: `columns` holds those of `COLUMNS`, (N,) each; `rules` is what the
    rules alone say, `steps` what came after them, `balance` None where the preset has none."""

    columns: Mapping[str, pa.Array]
    rules: Decisions
    steps: tuple[Step, ...]
    balance: Balance | None

    @property
    def keep(self) -> Bool:
        """(N,) bool."""
        return np.asarray(pc.equal(self.columns["decision"], "keep"), np.bool_)


def columns_to_read(preset: Preset) -> list[str]:
    """The Parquet paths that `judge` reads."""
    more = [*COLUMNS, *_CROP_INPUTS, "duplicate_cluster", "quality_score"]
    return list(dict.fromkeys([*needed(preset), *inputs(more)]))


OUTSIDE = "outside:"
"""What the name of a cluster begins with whose clip of another output stays, before its clip_id."""


def judge(table: pa.Table, preset: Preset) -> Verdict:
    """Decide, crop, drop duplicates and balance. Pure: the same table gives the same verdict.

    Raises PresetError for wrong options of a step, BalanceError for a target out of reach.
    """
    rules = decide(table, preset)
    keep = rules.keep.copy()
    reason = np.array(rules.reason.to_pylist(), object)
    stage = np.array(rules.stage.to_pylist(), object)
    steps: list[Step] = []

    def drop(name: str, reasons: Mapping[int, str]) -> None:
        rows = list(reasons)
        keep[rows], reason[rows], stage[rows] = False, list(reasons.values()), name
        steps.append(Step(name, len(rows), float(rules.seconds[rows].sum() / 3600)))

    crops, uncroppable = _crops(table, keep, preset.crop.make(CropConfig))
    drop("crop", uncroppable)
    duplicate_of = _duplicates(table, keep)
    outside = pc.starts_with(pc.fill_null(table["duplicate_cluster"], ""), OUTSIDE).to_pylist()
    drop(
        "dedupe",
        {
            row: f"near-duplicate of {kept}" + (", of another output" if outside[row] else "")
            for row, kept in duplicate_of.items()
        },
    )
    concept, weight, balanced = _no_balance(len(table))
    if preset.balance is not None:
        concept, weight, balanced = _balanced(table, keep, preset.balance)
        drop("balance", _left_out(concept, keep, balanced))
    columns = {
        "decision": pa.array(np.where(rules.failed, "error", np.where(keep, "keep", "drop"))),
        "reason": pa.array(reason, pa.string()),
        "stage": pa.array(stage, pa.string()),
        "crop": _sparse({row: crops[row] for row in crops if keep[row]}, keep, _CROP),
        "duplicate_of": _sparse(duplicate_of, keep, pa.string()),
        "concept": pa.array(concept, pa.string()),
        "sampling_weight": pa.array(weight, pa.float64()),
    }
    return Verdict(columns, rules, tuple(steps), balanced)


_CROP = pa.list_(pa.int64())


def _sparse(values: Mapping[int, Any], like: Bool, kind: pa.DataType) -> pa.Array:
    """(N,) values by number of the row, null elsewhere."""
    return pa.array([values.get(row) for row in range(len(like))], kind)


def _crops(
    table: pa.Table, keep: Bool, config: CropConfig
) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Rows to be cropped with x, y, w, h, and rows that cannot be, with the reason."""
    crops: dict[int, list[int]] = {}
    reasons: dict[int, str] = {}
    some = np.flatnonzero(keep & _needs_crop(table))
    for row, values in zip(some.tolist(), table.select(_CROP_INPUTS).take(some).to_pylist()):
        box = Box(*values["border_box"]) if values["border_box"] else Box(0.0, 0.0, 1.0, 1.0)
        over = [Box(*one) for name in _OVER for one in values[name] or ()]
        found = crop(box, over, values["width"], values["height"], config)
        if isinstance(found, str):
            reasons[row] = found
        elif found != (0, 0, values["width"], values["height"]):
            crops[row] = list(found)
    return crops, reasons


def _needs_crop(table: pa.Table) -> Bool:
    """(N,) bool: whether there is a border or something over the picture."""
    needs = np.zeros(len(table), np.bool_)
    for name in ("border_box", *_OVER):
        needs |= np.asarray(pc.fill_null(pc.list_value_length(table[name]), 0)) > 0
    return needs


def _duplicates(table: pa.Table, keep: Bool) -> dict[int, str]:
    """For each kept row that has a better one in its cluster, the clip_id of that one.

    The best has the highest quality score, of equals the smallest clip_id; one outside stays
    whatever its quality.
    """
    clustered = np.flatnonzero(keep & np.asarray(pc.is_valid(table["duplicate_cluster"])))
    values = table.select(["duplicate_cluster", "quality_score", "clip_id"]).take(clustered)
    best: dict[str, tuple[float, str]] = {}
    rows = [
        (one["duplicate_cluster"], (-(one["quality_score"] or 0.0), one["clip_id"]))
        for one in values.to_pylist()
    ]
    for cluster, rank in rows:
        outside = (-math.inf, cluster.removeprefix(OUTSIDE))
        best[cluster] = (
            outside if cluster.startswith(OUTSIDE) else min(rank, best.get(cluster, rank))
        )
    return {
        row: best[cluster][1]
        for row, (cluster, rank) in zip(clustered.tolist(), rows)
        if rank != best[cluster]
    }


def _no_balance(n: int) -> tuple[Objects, Objects, None]:
    return np.full(n, None), np.full(n, None), None


def _balanced(
    table: pa.Table, keep: Bool, config: BalanceConfig
) -> tuple[Objects, Objects, Balance]:
    """The concept and the sampling weight of each kept row, None for the others."""
    kept = table.filter(pa.array(keep))
    of_kept = concepts([column(kept, name) for name in config.by])
    outcome = balance(kept["clip_id"], of_kept, config)
    concept, weight, _ = _no_balance(len(keep))
    concept[keep], weight[keep] = of_kept.to_pylist(), outcome.weight
    return concept, weight, outcome


def _left_out(concept: Objects, keep: Bool, balanced: Balance) -> dict[int, str]:
    shares = {one.name: one.target for one in balanced.concepts}
    out = np.flatnonzero(keep)[~balanced.keep].tolist()
    return {row: f"more {concept[row]} than {100 * shares[concept[row]]:.3g} %" for row in out}


def clusters(table: pa.Table, config: DedupeConfig, existing: pa.Table | None = None) -> pa.Array:
    """(N,) names of groups of near-duplicates, null for clips that have none.

    The tables have clip_id, quality_score, start, end, embedding and the hash columns. Whether a
    clip is kept makes no difference: another threshold gives another member, not another group.
    Clips of `existing`, of other outputs, stay: a group with one of them is named after it.
    """
    embedding = "embedding" if config.embedding == "own" else "model_embedding"
    seen = table.filter(pc.is_valid(table[embedding]))
    if not len(seen):
        return pa.nulls(len(table), pa.string())
    names: dict[str, str] = {}
    if existing is not None:
        existing = existing.filter(pc.is_valid(existing[embedding]))
        there = set(existing["clip_id"].to_pylist())
        names = {name: name for name in seen["clip_id"].to_pylist() if name in there}
        seen = seen.filter(pc.invert(pc.is_in(seen["clip_id"], pa.array(names, pa.string()))))
    known = _clips(existing, embedding) if existing is not None and len(existing) else None
    if len(seen):
        names |= dedupe(_clips(seen, embedding), known, config).duplicate_of
    own, heads = set(seen["clip_id"].to_pylist()), set(names.values())
    names |= {name: name for name in heads & own}
    found = (names.get(name) for name in table["clip_id"].to_pylist())
    return pa.array(
        [name if name is None or name in own else OUTSIDE + name for name in found], pa.string()
    )


def _clips(table: pa.Table, embedding: str) -> Clips:
    hashes, changes, times = (table[name].to_pylist() for name in _HASHES)
    seconds = pc.subtract(table["end"], table["start"])
    return Clips(
        ids=table["clip_id"].to_pylist(),
        embeddings=np.stack(table[embedding].to_numpy()).astype(np.float32),
        hashes=[_by_view(h, c, len(t)) for h, c, t in zip(hashes, changes, times)],
        times=[np.array(t) for t in times],
        quality=np.asarray(pc.fill_null(table["quality_score"], 0.0), np.float64),
        seconds=np.asarray(seconds, np.float64),
    )


def _by_view(hashes: list[int], changes: list[int], pictures: int) -> NDArray[np.uint64]:
    """(n, 2, V) from the columns of the ledger, in which the views of each picture follow each
    other."""
    both = [np.array(one, np.uint64).reshape(pictures, -1) for one in (hashes, changes)]
    return np.stack(both, axis=1)
