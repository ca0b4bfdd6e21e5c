"""What becomes of every clip: the rules, then crop, duplicates and balance, over a whole ledger.

No video is opened: each step reads columns that measuring wrote and drops some of the clips that
the steps before it kept, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.balance import Balance, BalanceConfig, balance, concepts
from curation.crop import CropConfig, crops
from curation.decide import Decisions, decide, needed
from curation.dedupe import Clips, DedupeConfig, dedupe
from curation.preset import Preset
from curation.rule_columns import column, inputs, placed, whole

Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]

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
    reason, stage = rules.reason, rules.stage
    steps: list[Step] = []

    def drop(name: str, rows: Ints, reasons: pa.Array) -> None:
        nonlocal reason, stage
        gone = np.zeros(len(keep), np.bool_)
        gone[rows] = True
        keep[rows] = False
        reason = pc.replace_with_mask(reason, pa.array(gone), reasons)
        stage = pc.if_else(pa.array(gone), name, stage)
        steps.append(Step(name, len(rows), float(rules.seconds[rows].sum() / 3600)))

    rows, rectangles, uncroppable = _crops(table, keep, preset.crop.make(CropConfig))
    drop("crop", *uncroppable)
    copies, duplicate_of, elsewhere = _duplicates(table, keep)
    near = pc.binary_join_element_wise("near-duplicate of", duplicate_of, " ")
    more = pc.if_else(elsewhere, ", of another output", "")
    drop("dedupe", copies, pc.binary_join_element_wise(near, more, ""))
    concept, weight, balanced = pa.nulls(0, pa.string()), np.zeros(0), None
    weighed = np.zeros(0, np.int64)
    if preset.balance is not None:
        weighed = np.flatnonzero(keep)
        concept, balanced = _balanced(table, weighed, preset.balance)
        weight = balanced.weight
        drop("balance", weighed[~balanced.keep], _left_out(concept, balanced))
    cropped = keep[rows]
    columns = {
        "decision": pc.if_else(
            pa.array(rules.failed), "error", pc.if_else(pa.array(keep), "keep", "drop")
        ),
        "reason": reason,
        "stage": stage,
        "crop": placed(_lists(rectangles[cropped]), rows[cropped], len(table)),
        "duplicate_of": placed(duplicate_of, copies, len(table)),
        "concept": placed(concept, weighed, len(table)),
        "sampling_weight": placed(pa.array(weight, pa.float64()), weighed, len(table)),
    }
    return Verdict(columns, rules, tuple(steps), balanced)


def _lists(rows: Ints) -> pa.Array:
    """(N, 4) numbers as N lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 4).cast(pa.list_(pa.int64()))


Dropped = tuple[Ints, pa.Array]
"""Rows and a reason for each."""


def _crops(table: pa.Table, keep: Bool, config: CropConfig) -> tuple[Ints, Ints, Dropped]:
    """Rows to be cropped and (N, 4) x, y, w, h of each, and rows that cannot be."""
    some = np.flatnonzero(keep & _needs_crop(table))
    values = table.select(_CROP_INPUTS).take(some)
    sizes = np.stack([np.asarray(values[name]) for name in ("width", "height")], axis=1)
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (len(some), 1))
    border = whole(values["border_box"])
    boxes[np.unique(_parents(border))] = _edges(border)
    over = [whole(values[name]) for name in _OVER]
    owner = np.concatenate([_parents(one) for one in over])
    order = np.argsort(owner, kind="stable")
    edges = np.concatenate([_edges(pc.list_flatten(one)) for one in over])
    found, reasons = crops(boxes, edges[order], owner[order], sizes, config)
    uncroppable = np.fromiter(reasons, np.int64, len(reasons))
    cut = (found != np.concatenate([np.zeros_like(sizes), sizes], axis=1)).any(axis=1)
    cut[uncroppable] = False
    texts = pa.array(reasons.values(), pa.string())
    return some[cut], found[cut], (some[uncroppable], texts)


def _parents(lists: pa.Array) -> Ints:
    """The row of each item of the lists."""
    return np.asarray(pc.list_parent_indices(lists), np.int64)


def _edges(boxes: pa.Array) -> NDArray[np.float64]:
    """(N, 4) from lists of four, without those that are null or empty."""
    return np.asarray(pc.list_flatten(boxes), np.float64).reshape(-1, 4)


def _needs_crop(table: pa.Table) -> Bool:
    """(N,) bool: whether there is a border or something over the picture."""
    needs = np.zeros(len(table), np.bool_)
    for name in ("border_box", *_OVER):
        needs |= np.asarray(pc.fill_null(pc.list_value_length(table[name]), 0)) > 0
    return needs


def _duplicates(table: pa.Table, keep: Bool) -> tuple[Ints, pa.Array, pa.Array]:
    """The kept rows that have a better one in their cluster, the clip_id of that one, and whether
    it is in another output.

    The best has the highest quality score, of equals the smallest clip_id; one outside stays
    whatever its quality.
    """
    clustered = np.flatnonzero(keep & np.asarray(pc.is_valid(table["duplicate_cluster"])))
    values = table.select(["duplicate_cluster", "quality_score", "clip_id"]).take(clustered)
    quality = pc.fill_null(values["quality_score"], 0.0)
    values = values.set_column(1, "quality_score", quality).combine_chunks()
    by = [("duplicate_cluster", "ascending"), ("quality_score", "descending")]
    order = np.asarray(pc.sort_indices(values, sort_keys=[*by, ("clip_id", "ascending")]))
    cluster = pc.dictionary_encode(whole(values["duplicate_cluster"]))
    codes = np.asarray(cluster.indices, np.int64)
    best = np.zeros(len(cluster.dictionary), np.int64)
    # The last one put in a place stays there.
    best[codes[order[::-1]]] = order[::-1]
    name = values["clip_id"].take(pa.array(best[codes]))
    outside = pc.starts_with(values["duplicate_cluster"], OUTSIDE)
    other = pc.utf8_slice_codeunits(values["duplicate_cluster"], len(OUTSIDE))
    name = pc.if_else(outside, other, name)
    goes = pc.or_(outside, pc.not_equal(name, values["clip_id"]))
    rows = clustered[np.asarray(goes, np.bool_)]
    return rows, whole(name.filter(goes)), whole(outside.filter(goes))


def _balanced(table: pa.Table, rows: Ints, config: BalanceConfig) -> tuple[pa.Array, Balance]:
    """The concept of each of the rows, and their balance."""
    kept = table.take(rows)
    of_kept = concepts([column(kept, name) for name in config.by])
    return of_kept, balance(kept["clip_id"], of_kept, config)


def _left_out(concept: pa.Array, balanced: Balance) -> pa.Array:
    """Why clips of these concepts are left out."""
    shares = {one.name: one.target for one in balanced.concepts}
    out = pc.dictionary_encode(concept.filter(pa.array(~balanced.keep)))
    names = out.dictionary.to_pylist()
    texts = [f"more {name} than {100 * shares[name]:.3g} %" for name in names]
    return pa.array(texts, pa.string()).take(out.indices)


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
