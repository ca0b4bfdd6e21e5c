import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.fields import confusion_table, score_field, table, wilson


def test_accuracy_is_over_the_answered_and_coverage_over_the_asked() -> None:
    score = score_field(
        "shot_type", ["long", "full", "full", "", "close"], ["long", "full", "long", "full", ""]
    )
    assert (score.asked, score.answered, score.right) == (4, 3, 2)
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.share_answered == pytest.approx(3 / 4)


def test_the_baseline_is_the_commonest_label() -> None:
    score = score_field("f", ["a", "a", "a", "b"], ["", "", "a", "b"])
    assert score.majority == pytest.approx(3 / 4)
    assert score.majority_answered == pytest.approx(1 / 2)


def test_several_answers_may_be_right() -> None:
    score = score_field("f", ["sad|happy", "sad|happy", "happy"], ["happy", "angry", "happy"])
    assert score.right == 2
    assert ("sad", "angry", 1) in score.confusion
    assert ("happy", "happy", 2) in score.confusion


def test_no_labels_and_no_answers() -> None:
    nothing = score_field("f", ["", ""], ["a", ""])
    assert (nothing.asked, nothing.answered) == (0, 0)
    assert math.isnan(nothing.accuracy)
    assert math.isnan(nothing.majority)
    silent = score_field("f", ["a", "b"], ["", ""])
    assert math.isnan(silent.accuracy)
    assert silent.share_answered == 0
    assert silent.interval == (0, 1)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_field("f", ["a", "b"], ["a"])


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I (method 3): 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for right, total, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_holds_the_share_and_mirrors(right: int, wrong: int) -> None:
    low, high = wilson(right, right + wrong)
    assert 0 <= low <= high <= 1
    if right + wrong:
        assert low <= right / (right + wrong) + 1e-12
        assert high >= right / (right + wrong) - 1e-12
    assert wilson(wrong, right + wrong) == pytest.approx((1 - high, 1 - low))


def test_wilson_refuses_what_is_no_proportion() -> None:
    for right, total in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(right, total)


def test_tables_show_every_number() -> None:
    score = score_field("shot", ["a", "a", "b", "b"], ["a", "b", "", "b"])
    line = table([score]).splitlines()[1].split()
    assert line[:5] == ["shot", "2", "3", "4", "0.67"]
    head, a, b = (row.split() for row in confusion_table(score).splitlines())
    assert head == ["shot", "a", "b", "-"]
    assert a == ["a", "1", "1", "0"]
    assert b == ["b", "0", "1", "1"]
