from collections.abc import Collection
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.sample_check import (
    CATEGORIES,
    PHASES,
    Category,
    bad_share,
    clean_sample,
    draw,
    outcome,
    sample_size,
    together,
)

PRE, POST = PHASES["pre-training"], PHASES["post-training"]


def test_the_limits_are_the_papers() -> None:
    assert (PRE.rate, PRE.total, *PRE.by_category.values()) == (0.0001, 0.15, 0.03, 0.05, 0.07)
    assert (POST.rate, POST.total, *POST.by_category.values()) == (0.001, 0.03, 0.005, 0.01, 0.015)
    assert set(PRE.by_category) == set(POST.by_category) == set(CATEGORIES)


@pytest.mark.parametrize(
    ("batch", "rate", "size"),
    [
        (1_000_000, 1e-4, 100),
        (1_000_001, 1e-4, 101),
        (20_000, 1e-4, 2),
        (3, 1e-4, 1),
        (0, 0.1, 0),
        (1000, 0.003, 3),
    ],
)
def test_sample_size(batch: int, rate: float, size: int) -> None:
    assert sample_size(batch, rate) == size


@given(st.sets(st.text(max_size=4), max_size=40), st.integers(0, 50), st.integers(0, 3), st.data())
def test_a_draw_follows_from_seed_and_ids(
    ids: set[str], count: int, seed: int, data: st.DataObject
) -> None:
    drawn = draw(ids, count, seed)
    assert len(set(drawn)) == len(drawn) == min(count, len(ids))
    assert draw(data.draw(st.permutations(sorted(ids))), count, seed) == drawn
    assert draw(ids, count + 5, seed)[: len(drawn)] == drawn, "a larger sample begins with it"


def test_every_clip_is_as_likely() -> None:
    ids = [str(i) for i in range(10)]
    first = [draw(ids, 3, seed) for seed in range(2000)]
    counts = [sum(name in drawn for drawn in first) for name in ids]
    # 600 expected of each, standard deviation 20.5: five of them.
    assert all(abs(count - 600) < 103 for count in counts), counts


def slow_interval(bad: int, checked: int, batch: int) -> tuple[Fraction, Fraction]:
    """All shares that neither tail excludes, by counting samples with whole numbers."""
    tail, whole = Fraction(25, 1000), comb(batch, checked)
    fits = []
    for k in range(batch + 1):
        ways = [comb(k, i) * comb(batch - k, checked - i) for i in range(checked + 1)]
        if min(sum(ways[: bad + 1]), sum(ways[bad:])) > tail * whole:
            fits.append(k)
    return Fraction(min(fits), batch), Fraction(max(fits), batch)


@given(st.integers(1, 40), st.data())
def test_the_interval_is_the_slow_one(batch: int, data: st.DataObject) -> None:
    checked = data.draw(st.integers(1, batch))
    bad = data.draw(st.integers(0, checked))
    assert bad_share(bad, checked, batch) == pytest.approx(slow_interval(bad, checked, batch))


@pytest.mark.parametrize(("batch", "checked"), [(30, 7), (60, 25), (25, 25)])
def test_it_holds_the_truth_as_often_as_it_says(batch: int, checked: int) -> None:
    for k in range(batch + 1):
        held = sum(
            comb(k, bad) * comb(batch - k, checked - bad)
            for bad in range(max(0, checked - (batch - k)), min(k, checked) + 1)
            if bad_share(bad, checked, batch)[0] <= k / batch <= bad_share(bad, checked, batch)[1]
        )
        assert held / comb(batch, checked) >= 0.95


def test_in_a_large_batch_it_is_clopper_and_pearsons() -> None:
    # 5 of 100: 0.0164 to 0.1128 (Clopper and Pearson 1934, as tabled).
    assert bad_share(5, 100, 10**8) == pytest.approx((0.0164, 0.1128), abs=1e-4)
    assert bad_share(7, 50, 50) == (0.14, 0.14), "all were checked"
    assert bad_share(0, 0, 50) == (0.0, 1.0)


@given(st.integers(1, 2000), st.sampled_from([0.15, 0.03, 0.005, 0.9]))
def test_a_clean_sample_is_the_smallest_that_is_sure(batch: int, limit: float) -> None:
    size = clean_sample(limit, batch)
    assert bad_share(0, size, batch)[1] < limit
    assert size <= 1 or bad_share(0, size - 1, batch)[1] >= limit


def judged(good: int, **bad: int) -> list[Collection[Category]]:
    return [()] * good + [(name,) for name in CATEGORIES for _ in range(bad.get(name, 0))]


def test_the_papers_sample_is_too_small_to_be_sure() -> None:
    found = outcome(PRE, 1_000_000, 100, judged(100))
    assert found.accepted
    assert not found.is_sure, "100 good ones leave up to 3.6 % bad: over 3 %"
    assert "basic quality" in found.warning
    assert "post processing" not in found.warning, "its 7 % is safe"
    assert found.needed == clean_sample(0.03, 1_000_000) == 122
    assert outcome(PRE, 1_000_000, 122, judged(122)).is_sure


@pytest.mark.parametrize(
    ("bad", "accepted"),
    [
        ({}, True),
        ({"type": 4}, True),
        ({"type": 5}, False),  # "below 5 %": 5 of 100 is not
        ({"basic_quality": 3}, False),
        ({"post_processing": 6}, True),
        ({"post_processing": 7}, False),
        ({"type": 4, "post_processing": 6, "basic_quality": 2}, True),
    ],
)
def test_a_limit_is_kept_below(bad: dict[str, int], accepted: bool) -> None:
    assert outcome(PRE, 10_000, 100, judged(100 - sum(bad.values()), **bad)).accepted is accepted


def test_a_clip_that_is_bad_twice_counts_once_in_all() -> None:
    found = outcome(PRE, 1000, 10, [("type", "basic_quality", "type"), *judged(9)])
    assert [share.bad for share in found.shares] == [1, 1, 1, 0]


def test_a_rejection_is_sure_when_one_limit_is_surely_broken() -> None:
    found = outcome(PRE, 100_000, 100, judged(70, basic_quality=30))
    assert not found.accepted
    assert found.is_sure
    assert found.warning == ""


def test_nothing_checked_accepts_nothing() -> None:
    found = outcome(PRE, 1000, 10, [])
    assert not found.accepted
    assert found.undecided == 10
    assert found.in_words.startswith("undecided")


def test_more_judged_than_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="2 judged of 1 drawn"):
        outcome(PRE, 1000, 1, judged(2))


def test_half_of_the_raters_are_enough() -> None:
    assert together([("type",), ()]) == {"type"}
    assert together([("type", "basic_quality"), ("basic_quality",), ("basic_quality",)]) == {
        "basic_quality"
    }
    assert together([]) == frozenset()
