"""Factors on the balance's shares, from what a trained model misses: concepts missed more often
than others get more of the next dataset.

The rule, for each concept that was seen often enough, of whose answers a share was missed:

    interval = Wilson's, 95 %, of that share, over as many trials as the answers are worth: fewer
               than there are, where those of one video are right or wrong together (Kish's
               effective sample size, the design effect pooled over concepts)
    typical  = the median of the intervals' centres
    sure     = the point of the interval nearest to `typical`: chance moves little
    wanted   = (sure + smoothing) / (typical + smoothing), kept within 1/bound to bound
    factor   = before ** (1 - temper) * wanted ** temper

A factor is a mean (geometric) of numbers within the bounds and so never leaves them, and what a
round pushed is forgotten by `1 - temper` a round: it follows what is missed now, and cannot grow
by itself. A concept that is never learnt comes to rest at the bound; the median keeps it from
taking from all others. Concepts seen too seldom keep their factor. Own choice, and tested by
simulation: nothing of the kind is published.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curation.balance import BalanceConfig, Factor
from curation.interval import wilson
from curation.ledger import replacing
from curation.preset import Preset
from curation.rule_columns import DERIVED, is_named

FILE = "loop_weights.json"


class LoopWeightsError(ValueError):
    """Weights that cannot be read or used; the message says what to do."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Model):
    """The constants of the rule: own choice.

    bound: no share is multiplied or divided by more. temper: the part of the way to the wanted
    factor that a round goes. smoothing: a miss rate that makes no difference to nothing missed.
    min_samples: generations of a concept without which nothing is said of it.
    """

    bound: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 4.0
    temper: Annotated[float, Field(gt=0, le=1)] = 0.5
    smoothing: Annotated[float, Field(gt=0, le=1)] = 0.05
    min_samples: Annotated[int, Field(ge=1)] = 5


class Seen(_Model):
    """What came of a concept: `samples` generations with `answers` fields together; `misses` is the
    sum of each one's share of wrong answers (0-1), `squares` that of their squares."""

    samples: Annotated[int, Field(ge=0)] = 0
    answers: Annotated[int, Field(ge=0)] = 0
    misses: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    squares: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _can_be(self) -> Seen:
        if not self.squares - 1e-6 <= self.misses <= self.samples + 1e-6:
            raise ValueError(f"{self.misses:g} misses of {self.samples} samples")
        if self.answers < self.samples:
            raise ValueError(f"{self.samples} samples with {self.answers} answers")
        return self

    @staticmethod
    def of(shares: Iterable[tuple[float, int]]) -> Seen:
        """Of each generation the share that it missed, and of how many answers."""
        known = sorted(shares)
        return Seen(
            samples=len(known),
            answers=sum(max(1, answers) for _, answers in known),
            misses=round(math.fsum(share for share, _ in known), 9),
            squares=round(math.fsum(share**2 for share, _ in known), 9),
        )

    @property
    def rate(self) -> float:
        """Share missed (0-1); nan without samples."""
        return min(1.0, self.misses / self.samples) if self.samples else math.nan


class Round(_Model):
    """A round: what was seen of each concept, and the factors after it."""

    round: Annotated[int, Field(ge=1)]
    seen: dict[str, Seen]
    factors: dict[str, Factor]


class LoopWeights(_Model):
    """loop_weights.json: factors by concept after `round`, and every round up to it.

    `by` are the columns whose values make the concept, as in `BalanceConfig`.
    """

    round: Annotated[int, Field(ge=1)]
    by: Annotated[tuple[str, ...], Field(min_length=1)]
    factors: dict[str, Factor]
    rule: Rule
    history: tuple[Round, ...]


def next_weights(
    seen: Mapping[str, Seen],
    by: tuple[str, ...],
    before: LoopWeights | None = None,
    rule: Rule | None = None,
    number: int | None = None,
) -> LoopWeights:
    """The weights after another round; `number` is by default one more than `before`'s.

    Raises LoopWeightsError where `before` is of other columns or of no earlier round.
    """
    rule = rule or Rule()
    if before is not None and before.by != by:
        raise LoopWeightsError(
            f"the round before weighed {_listed(before.by)}, this one {_listed(by)}: balance by "
            "the same columns, or begin anew without --before"
        )
    last = before.round if before else 0
    number = last + 1 if number is None else number
    if number <= last:
        raise LoopWeightsError(
            f"round {number} does not come after round {last}: leave --round out"
        )
    factors = next_factors(seen, before.factors if before else {}, rule)
    this = Round(round=number, seen=dict(sorted(seen.items())), factors=factors)
    history = (*(before.history if before else ()), this)
    return LoopWeights(round=number, by=by, factors=factors, rule=rule, history=history)


def next_factors(
    seen: Mapping[str, Seen], before: Mapping[str, float], rule: Rule
) -> dict[str, float]:
    """The factors after a round, by concept in order of name; see the module."""
    enough = {name: one for name, one in seen.items() if one.samples >= rule.min_samples}
    factors = {name: before.get(name, 1.0) for name in sorted({*before, *seen})}
    ends = intervals(enough)
    typical = statistics.median((low + high) / 2 for low, high in ends.values()) if ends else 0.0
    for name, (low, high) in ends.items():
        sure = min(max(typical, low), high)
        wanted = _within((sure + rule.smoothing) / (typical + rule.smoothing), rule.bound)
        factor = factors[name] ** (1 - rule.temper) * wanted**rule.temper
        factors[name] = _within(round(factor, 6), rule.bound)
    return factors


def intervals(seen: Mapping[str, Seen]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each concept's miss rate; (0, 1) without samples."""
    together = _together(seen.values())
    return {name: _interval(one, together) for name, one in sorted(seen.items())}


def _together(seen: Iterable[Seen]) -> float:
    """How far the answers of one video are right or wrong together (0-1): the variance of the
    videos' shares within a concept over that of videos that are missed whole or not at all."""
    known = [one for one in seen if one.samples]
    whole = math.fsum(one.samples * one.rate * (1 - one.rate) for one in known)
    own = math.fsum(one.squares - one.misses * one.rate for one in known)
    return min(1.0, max(0.0, own / whole)) if whole > 1e-9 else 1.0


def _interval(one: Seen, together: float) -> tuple[float, float]:
    if not one.samples:
        return 0.0, 1.0
    trials = one.samples / max(together, one.samples / one.answers)
    return wilson(one.rate, trials)


def _within(value: float, bound: float) -> float:
    return min(max(value, 1 / bound), bound)


# --- the file -------------------------------------------------------------------------------------


def read_weights(path: Path) -> LoopWeights:
    """The weights in a file. Raises LoopWeightsError."""
    try:
        return LoopWeights.model_validate_json(path.read_bytes())
    except OSError as error:
        told = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: {first['msg']}" if place else first["msg"]
    raise LoopWeightsError(f"{path}: {told}; give the {FILE} that jobs.loop wrote")


def write_weights(weights: LoopWeights, path: Path) -> None:
    """Write the weights; the same values give the same bytes. Raises OSError."""
    values = weights.model_dump(mode="json")
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- the next balance -----------------------------------------------------------------------------


def with_loop(preset: Preset, weights: LoopWeights, schema: pa.Schema) -> Preset:
    """The preset with the factors on its balance's shares.

    Without a balance nothing is left out, and the factors become sampling weights. `schema` is the
    ledger's. Raises LoopWeightsError where the weights are of other columns than the balance.
    """
    balance = preset.balance
    if balance is None:
        balance = BalanceConfig(by=weights.by, to="tempered", alpha=1.0, mode="weight")
        for name in weights.by:
            if name not in schema.names and name not in DERIVED and not is_named(name):
                raise LoopWeightsError(f"the weights are of {name}, which the ledger does not have")
    elif balance.by != weights.by:
        raise LoopWeightsError(
            f"the weights are of {_listed(weights.by)}, preset {preset.name} balances by "
            f"{_listed(balance.by)}: give jobs.loop --by as in the preset"
        )
    factors = {
        name: factor * balance.factors.get(name, 1.0) for name, factor in weights.factors.items()
    }
    more: dict[str, Any] = {"factors": {**balance.factors, **factors}}
    return replace(preset, balance=balance.model_copy(update=more))


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)
