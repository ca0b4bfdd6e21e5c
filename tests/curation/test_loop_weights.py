"""The loop's weights: simulated rounds converge, and nothing runs away."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.balance import BalanceConfig
from curation.ledger import arrow_schema
from curation.loop_weights import (
    LoopWeights,
    LoopWeightsError,
    Rule,
    Seen,
    intervals,
    next_factors,
    next_weights,
    read_weights,
    with_loop,
    write_weights,
)
from curation.preset import Preset, load_preset
from eval.fields import wilson

RULE = Rule()
NAMES = ("a", "b", "c", "d", "e")


def whole(samples: int, misses: int) -> Seen:
    """Generations of one field each."""
    return Seen.of([(1.0, 1)] * misses + [(0.0, 1)] * (samples - misses))


def simulate(
    miss: Callable[[str, float], float], rounds: int, samples: int, seed: int = 0
) -> list[dict[str, float]]:
    """Factors after each round of a generator that misses `miss(concept, share)`; shares are those
    of a uniform balance with the factors."""
    rng = np.random.default_rng(seed)
    factors = dict.fromkeys(NAMES, 1.0)
    history = []
    for _ in range(rounds):
        total = sum(factors.values())
        seen = {
            name: whole(samples, int(rng.binomial(samples, miss(name, f / total))))
            for name, f in factors.items()
        }
        factors = next_factors(seen, factors, RULE)
        history.append(factors)
    return history


def learnt(name: str, share: float) -> float:
    """Concept a is hard: it is missed four times as often at the same share; all are missed less
    with a larger share."""
    return min(1.0, (0.08 if name == "a" else 0.02) / share)


def test_a_generator_that_learns_from_its_share_comes_to_rest() -> None:
    history = simulate(learnt, 40, 400)
    late = [factors["a"] for factors in history[20:]]
    assert min(late) > 1.3
    assert max(late) < RULE.bound
    assert statistics.pstdev(late) < 0.2 * statistics.mean(late)
    # Less is missed in all than without the weights.
    missed = {
        label: sum(learnt(n, f / sum(of.values())) for n, f in of.items())
        for label, of in (("with", history[-1]), ("without", dict.fromkeys(NAMES, 1.0)))
    }
    assert missed["with"] < missed["without"]
    assert all(0.5 < factors[n] < 1.5 for factors in history[20:] for n in NAMES[1:])


def test_a_concept_that_is_never_learnt_rests_at_the_bound_and_takes_no_more() -> None:
    history = simulate(lambda name, _: 0.95 if name == "a" else 0.05, 40, 40)
    assert history[0]["a"] == pytest.approx(RULE.bound**RULE.temper)
    assert all(factors["a"] <= RULE.bound for factors in history)
    assert all(factors["a"] > 0.99 * RULE.bound for factors in history[8:])
    assert all(0.75 < factors[n] < 1.33 for factors in history for n in NAMES[1:])


@pytest.mark.parametrize("samples", [5, 20, 100])
def test_chance_alone_moves_little(samples: int) -> None:
    found = np.array(
        [
            [factors[name] for name in NAMES]
            for seed in range(10)
            for factors in simulate(lambda *_: 0.2, 50, samples, seed)
        ]
    )
    assert np.median(found) == pytest.approx(1, abs=0.01)
    assert np.quantile(found, 0.05) > 0.9
    assert np.quantile(found, 0.95) < 1.1
    assert found.min() > 0.5
    assert found.max() < 2


def test_what_is_learnt_at_last_loses_its_weight() -> None:
    factors = dict.fromkeys(NAMES, 1.0) | {"a": RULE.bound}
    seen = {name: whole(50, 5) for name in NAMES}
    for _ in range(6):
        factors = next_factors(seen, factors, RULE)
    assert factors["a"] == pytest.approx(1, abs=0.05)


SHARES = st.integers(1, 13).flatmap(
    lambda fields: st.integers(0, fields).map(lambda wrong: (wrong / fields, fields))
)
SEEN = st.dictionaries(st.sampled_from(NAMES), st.lists(SHARES, max_size=40).map(Seen.of))
BEFORE = st.dictionaries(st.sampled_from(NAMES), st.floats(1 / RULE.bound, RULE.bound))


@given(SEEN, BEFORE)
def test_no_factor_leaves_the_bounds_and_few_samples_change_nothing(
    seen: dict[str, Seen], before: dict[str, float]
) -> None:
    factors = next_factors(seen, before, RULE)
    assert list(factors) == sorted({*seen, *before})
    for name, factor in factors.items():
        assert 1 / RULE.bound <= factor <= RULE.bound
        if name not in seen or seen[name].samples < RULE.min_samples:
            assert factor == before.get(name, 1.0)


@given(SEEN)
def test_the_order_of_the_concepts_makes_no_difference(seen: dict[str, Seen]) -> None:
    turned = dict(reversed(list(seen.items())))
    assert next_factors(seen, {}, RULE) == next_factors(turned, {}, RULE)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    misses, samples = counts
    found = intervals({"a": whole(samples, misses)})["a"]
    assert found == pytest.approx(wilson(misses, samples), abs=1e-9)


def test_answers_count_as_far_as_they_are_not_right_or_wrong_together() -> None:
    each = Seen.of([(1 / 13, 13)] * 40)  # always the same one of 13 fields
    some = Seen.of([(0.0, 13)] * 37 + [(1.0, 13)] * 3)  # all fields or none
    assert intervals({"a": each})["a"] == pytest.approx(wilson(40, 520))
    assert intervals({"a": some})["a"] == pytest.approx(wilson(3, 40))


def test_one_field_of_many_that_is_always_missed_is_found() -> None:
    seen = {name: Seen.of([(0.0, 13)] * 40) for name in NAMES}
    seen["a"] = Seen.of([(1 / 13, 13)] * 40)
    factors = next_factors(seen, {}, RULE)
    assert factors["a"] > 1.2
    assert all(factors[name] == 1 for name in NAMES[1:])


def rounds(*missed: int, by: tuple[str, ...] = ("shot_type",)) -> LoopWeights:
    weights = None
    for one in missed:
        seen = {name: whole(20, 0) for name in ("long_shot", "medium_shot")}
        seen["close_up"] = whole(20, one)
        weights = next_weights(seen, by, weights)
    assert weights is not None
    return weights


def test_every_round_is_kept_and_written_alike(tmp_path: Path) -> None:
    weights = rounds(20, 20, 0)
    assert [one.round for one in weights.history] == [1, 2, 3]
    assert weights.factors == weights.history[-1].factors
    path = tmp_path / "loop_weights.json"
    write_weights(weights, path)
    first = path.read_bytes()
    assert read_weights(path) == weights
    write_weights(read_weights(path), path)
    assert path.read_bytes() == first
    assert json.loads(first)["rule"]["bound"] == RULE.bound


def test_a_round_that_saw_nothing_keeps_the_factors() -> None:
    before = rounds(20)
    after = next_weights({}, ("shot_type",), before)
    assert (after.factors, after.round) == (before.factors, 2)


def test_rounds_that_do_not_fit_are_told() -> None:
    before = rounds(20)
    with pytest.raises(LoopWeightsError, match="balance by the same columns"):
        next_weights({}, ("camera_move",), before)
    with pytest.raises(LoopWeightsError, match="round 1 does not come after round 1"):
        next_weights({}, ("shot_type",), before, number=1)
    assert next_weights({}, ("shot_type",), before, number=7).round == 7


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"round": 0}', "no json"])
def test_what_is_no_weights_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(LoopWeightsError, match=r"w\.json: .*; give the loop_weights") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def preset(folder: Path, text: str) -> Preset:
    path = folder / "mine.yaml"
    path.write_text(f"rules: []\n{text}")
    return load_preset(path, arrow_schema())


def test_the_factors_go_into_the_balance(tmp_path: Path) -> None:
    weights = rounds(20)
    mine = preset(tmp_path, "balance: {by: [shot_type], to: uniform, factors: {close_up: 1.5}}")
    balance = with_loop(mine, weights, arrow_schema()).balance
    assert balance is not None
    assert balance.to == "uniform"
    assert balance.factors["close_up"] == pytest.approx(1.5 * weights.factors["close_up"])
    with pytest.raises(LoopWeightsError, match="--by as in the preset"):
        with_loop(mine, rounds(20, by=("camera_move",)), arrow_schema())


def test_without_a_balance_they_are_sampling_weights(tmp_path: Path) -> None:
    mine = preset(tmp_path, "")
    balance = with_loop(mine, rounds(20), arrow_schema()).balance
    assert isinstance(balance, BalanceConfig)
    assert (balance.mode, balance.by) == ("weight", ("shot_type",))
    with pytest.raises(LoopWeightsError, match="colour, which the ledger does not have"):
        with_loop(mine, rounds(20, by=("colour",)), arrow_schema())
