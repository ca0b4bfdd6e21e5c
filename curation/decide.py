"""Decide: a preset's rules over a ledger's measures give keep, or drop with a reason in words.

No video is opened, and the work is done a column at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.preset import Preset, Rule, is_number, listed, quantity
from curation.rule_columns import column, durations, inputs, placed, whole

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

STAGE = "decide"
"""What the column `stage` says of a clip that a rule dropped."""


@dataclass(frozen=True)
class Decisions:
    """What the rules say of N clips.

    dropped: (R, N) bool, which rule drops which clip. No rule drops a row that is an error.
    failed: (N,) bool, rows that are errors and stay so.
    seconds: (N,) float64, 0 where it is not known.
    reason, stage: (N,) Arrow strings, null for a clip that is kept; those of errors as they were.
    """

    rules: tuple[Rule, ...]
    dropped: Bool
    failed: Bool
    seconds: Float
    reason: pa.Array
    stage: pa.Array

    @cached_property
    def first(self) -> NDArray[np.int_]:
        """(N,) int: the first rule that drops each clip, or -1."""
        return _first_true(self.dropped)

    @cached_property
    def keep(self) -> Bool:
        """(N,) bool."""
        return (self.first < 0) & ~self.failed

    @property
    def decision(self) -> pa.Array:
        """(N,) Arrow strings: keep, drop or error."""
        return pc.if_else(
            pa.array(self.failed), "error", pc.if_else(pa.array(self.keep), "keep", "drop")
        )

    def columns(self) -> dict[str, pa.Array]:
        """The columns of the ledger."""
        return {"decision": self.decision, "reason": self.reason, "stage": self.stage}


@dataclass(frozen=True)
class RuleCount:
    """Clips that a rule drops and no other rule does (`alone`), all that it drops, and the hours
    of both."""

    rule: str
    threshold: str
    alone: int
    hours_alone: float
    total: int
    hours: float


@dataclass(frozen=True)
class Moved:
    """Clips that changed sides."""

    kept_to_dropped: int
    dropped_to_kept: int


def decide(table: pa.Table, preset: Preset) -> Decisions:
    """Apply the rules to every row of a table of `needed` columns. Pure.

    Raises KeyError for a column that is not there; `load_preset` has checked for that.
    """
    rules = preset.rules
    failed = _mask(pc.equal(table["decision"], "error"))
    dropped = np.zeros((len(rules), len(table)), np.bool_)
    values = [column(table, rule.column) for rule in rules]
    for i, rule in enumerate(rules):
        dropped[i] = _fails(values[i], rule) & ~failed
    first = _first_true(dropped)
    reasons, rows = [table["reason"].filter(pa.array(failed))], [np.flatnonzero(failed)]
    for i, rule in enumerate(rules):
        rows.append(np.flatnonzero(first == i))
        reasons.append(_reasons(values[i].take(pa.array(rows[-1])), rule))
    texts = pa.concat_arrays([whole(pc.cast(some, pa.string())) for some in reasons])
    stage = pc.if_else(
        pa.array(first >= 0), STAGE, pc.if_else(pa.array(failed), table["stage"], None)
    )
    seconds = np.nan_to_num(durations(table), nan=0.0)
    return Decisions(
        rules=rules,
        dropped=dropped,
        failed=failed,
        seconds=seconds,
        reason=placed(texts, np.concatenate(rows), len(table)),
        stage=whole(pc.cast(stage, pa.string())),
    )


def needed(preset: Preset) -> list[str]:
    """The Parquet paths that `decide` and the preset's balance read."""
    return inputs(["clip_id", "decision", "reason", "stage", "duration", *preset.columns()])


def funnel(decisions: Decisions) -> list[RuleCount]:
    """What each rule drops, in the preset's order."""
    only = decisions.dropped.sum(axis=0) == 1
    counts = []
    for rule, dropped in zip(decisions.rules, decisions.dropped):
        alone = dropped & only
        counts.append(
            RuleCount(
                rule=rule.column,
                threshold=rule.threshold,
                alone=int(alone.sum()),
                hours_alone=float(decisions.seconds[alone].sum() / 3600),
                total=int(dropped.sum()),
                hours=float(decisions.seconds[dropped].sum() / 3600),
            )
        )
    return counts


def moved(before: Any, after: Any) -> Moved:
    """Clips that changed sides between two columns `decision`."""
    kept, keeps = _mask(pc.equal(before, "keep")), _mask(pc.equal(after, "keep"))
    dropped, drops = _mask(pc.equal(before, "drop")), _mask(pc.equal(after, "drop"))
    return Moved(int((kept & drops).sum()), int((dropped & keeps).sum()))


def _mask(column: Any) -> Bool:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)


def _first_true(dropped: Bool) -> NDArray[np.int_]:
    if not len(dropped):
        return np.full(dropped.shape[1], -1)
    return np.where(dropped.any(axis=0), dropped.argmax(axis=0), -1)


def _fails(values: Any, rule: Rule) -> Bool:
    """(N,) bool: the rows that the rule drops."""
    missing = _mask(pc.is_null(values, nan_is_null=True))
    fails = missing & (rule.missing == "drop")
    if rule.minimum is not None or rule.maximum is not None:
        numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
        fails |= (numbers < _or(rule.minimum, -np.inf)) | (numbers > _or(rule.maximum, np.inf))
    kind = values.type
    if rule.among is not None:
        fails |= ~missing & ~_mask(pc.is_in(values, value_set=pa.array(rule.among, kind)))
    if rule.not_among is not None:
        fails |= ~missing & _mask(pc.is_in(values, value_set=pa.array(rule.not_among, kind)))
    return fails


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def _reasons(values: Any, rule: Rule) -> Any:
    """In words, why the rule drops clips with these values, all of which fail it."""
    gap = f" {rule.unit}" if rule.unit else ""
    if is_number(values.type):
        numbers = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False))
        low, high = _or(rule.minimum, -np.inf), _or(rule.maximum, np.inf)
        shown = pc.cast(pa.array(_rounded(numbers, low, high)), pa.string())
        texts = pc.if_else(
            pa.array(numbers < low),
            pc.binary_join_element_wise(shown, f"{gap} is below {quantity(low, rule.unit)}", ""),
            pc.binary_join_element_wise(shown, f"{gap} is above {quantity(high, rule.unit)}", ""),
        )
        texts = pc.if_else(pa.array(np.isnan(numbers)), "is missing", texts)
    else:
        shown = pc.cast(values, pa.string())
        excluded = pc.is_in(values, value_set=pa.array(rule.not_among or (), values.type))
        texts = pc.if_else(
            excluded,
            pc.binary_join_element_wise(shown, "is excluded", " "),
            pc.binary_join_element_wise(shown, f"is not one of {listed(rule.among or ())}", " "),
        )
        texts = pc.fill_null(texts, "is missing")
    return pc.binary_join_element_wise(rule.column, texts, " ")


def _rounded(numbers: Float, low: float, high: float) -> Float:
    """To four significant digits, where that leaves a number outside of the bounds."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        digits = 3 - np.floor(np.log10(np.abs(numbers)))
        rounded = np.round(numbers * 10**digits) / 10**digits
    return np.where((rounded < low) | (rounded > high), rounded, numbers)
