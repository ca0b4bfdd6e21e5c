import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.fields import SCORERS, Item
from eval.scores import average, camera_result, differences, field_result, field_results


def item(clip: int, truth: str, answer: str, field: str = "shot_type") -> Item:
    one = SCORERS[field].item(f"{clip:05}", -1, -1, (truth,), answer)
    one.verdict = one.verdict or "wrong"
    return one


def free(clip: int, right: bool, field: str = "action") -> Item:
    return Item(f"{clip:05}", field, 0, 0, ("x",), "y", (), "", "right" if right else "wrong")


CLASSES = ["close_up", "long_shot", "full_shot"]
answered = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, ""])), min_size=1
)


@given(answered)
def test_counts_add_up(pairs: list[tuple[str, str]]) -> None:
    result = field_result("shot_type", [item(i, *pair) for i, pair in enumerate(pairs)])
    assert result.ruled == len(pairs)
    assert result.right == sum(a == b for a, b in pairs) == sum(c.right for c in result.classes)
    assert (
        result.answered == sum(b != "" for _, b in pairs) == sum(c.answered for c in result.classes)
    )
    assert sum(count for *_, count in result.confusion) == len(pairs)
    assert sum(c.true for c in result.classes) == len(pairs)
    truths = [a for a, _ in pairs]
    assert result.baseline == max(map(truths.count, truths)) / len(pairs)
    low, high = result.interval
    assert low <= (result.accuracy or 0) <= high
    for one in result.classes:
        if one.answered:
            assert one.precision[0] <= one.right / one.answered <= one.precision[1]


def test_several_right_answers_and_what_cannot_be_told() -> None:
    items = [
        SCORERS["shot_type"].item("a", -1, -1, ("close_up", "medium_shot"), "medium shot"),
        SCORERS["shot_type"].item("b", -1, -1, ("close_up", "medium_shot"), "long_shot"),
        Item("c", "shot_type", -1, -1, (), "long_shot", (), "", "cannot_tell"),
    ]
    result = field_result("shot_type", items)
    assert (result.ruled, result.right, result.untold) == (2, 1, 1)
    assert set(result.confusion) == {
        ("medium_shot", "medium_shot", 1),
        ("close_up", "long_shot", 1),
    }
    assert result.baseline == 1.0, "close_up is right for both"


def test_the_average_is_of_fields_not_of_answers() -> None:
    items = [free(i, True) for i in range(9)] + [item(0, "close_up", "long_shot")]
    results = field_results(items)
    assert [*results] == ["shot_type", "action"]
    assert average(results) == pytest.approx(0.5)
    assert results["action"].baseline is None
    assert average({}) is None


def test_free_text_without_a_ruling_is_left_out_and_counted() -> None:
    open_one = Item("a", "action", 0, 0, ("x",), "y", (), "", "unjudged")
    result = field_result("action", [free(0, True), open_one])
    assert (result.ruled, result.accuracy, result.unjudged) == (1, 1.0, 1)


def test_camera_motion_has_partial_credit_apart_from_exact() -> None:
    items = [
        item(0, "pan_left+tilt_up", "the camera slowly pans left", "camera_motion"),
        item(1, "slow pan_left", "the camera slowly pans left", "camera_motion"),
        item(2, "slow pan_left", "the camera quickly pans right", "camera_motion"),
        item(3, "static", "", "camera_motion"),
    ]
    camera = camera_result(items)
    assert camera is not None
    assert camera.axes["pan"] == (2, 4)
    assert camera.axes["tilt"] == (2, 4)
    assert camera.axes["roll"] == (3, 4)
    assert camera.speed == (1, 2)
    assert camera.partial == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert field_result("camera_motion", items).right == 1
    assert camera_result([free(0, True)]) is None
    either = SCORERS["camera_motion"].item("a", -1, -1, ("static", "pan_left"), "pans left")
    one = camera_result([either])
    assert one is not None
    assert (one.axes["pan"], one.partial) == ((1, 1), 1.0), "the nearest of the right answers"


# --- differences ----------------------------------------------------------------------------------


def outcomes(n: int, share: float, seed: int, per_clip: int = 1) -> list[Item]:
    rng = random.Random(seed)
    return [free(i, rng.random() < share) for i in range(n) for _ in range(per_clip)]


def test_the_same_captions_do_not_differ() -> None:
    items = outcomes(50, 0.6, 0)
    found = differences(items, items)
    assert {name: (one.value, one.low, one.high) for name, one in found.items()} == {
        "action": (0, 0, 0), "avg": (0, 0, 0),
    }  # fmt: skip
    assert not found["avg"].significant


def test_a_difference_is_repeatable_and_found() -> None:
    before, after = outcomes(300, 0.5, 1), outcomes(300, 0.75, 2)
    one, other = differences(before, after, seed=3), differences(before, after, seed=3)
    assert one == other
    assert one["action"].significant
    assert one["action"].low < one["action"].value < one["action"].high
    turned = differences(after, before, seed=3)["action"]
    assert (turned.low, turned.high) == pytest.approx((-one["action"].high, -one["action"].low))
    wide = differences(before, after, seed=3, alpha=0.001)["action"]
    assert wide.low < one["action"].low
    assert wide.high > one["action"].high


def test_pairing_narrows_the_interval() -> None:
    before = outcomes(200, 0.6, 1)
    after = [free(i, item.verdict == "right" or i % 20 == 0) for i, item in enumerate(before)]
    unrelated = outcomes(200, 0.65, 9)
    paired, other = differences(before, after)["action"], differences(before, unrelated)["action"]
    assert paired.high - paired.low < 0.5 * (other.high - other.low)


def test_answers_of_one_clip_are_no_independent_trials() -> None:
    once, often = (
        differences(outcomes(60, 0.5, 1), outcomes(60, 0.6, 2))["action"],
        differences(
            [one for one in outcomes(60, 0.5, 1) for _ in range(8)],
            [one for one in outcomes(60, 0.6, 2) for _ in range(8)],
        )["action"],
    )
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """60 experiments in which nothing differs: 95 % intervals leave 0 out in 3 of them, or so."""
    rng = random.Random(0)
    missed = 0
    for _ in range(60):
        before = [free(i, rng.random() < 0.7) for i in range(80)]
        after = [free(i, rng.random() < 0.7) for i in range(80)]
        missed += differences(before, after)["action"].significant
    assert missed <= 8  # P(more than 8 of 60 at 0.05) is 0.3 %


def test_only_clips_of_both_are_compared() -> None:
    found = differences([free(0, True), free(1, False)], [free(1, True), free(2, False)])
    assert (found["action"].first, found["action"].second) == (0, 1)
    assert differences([free(0, True)], [free(1, True)]) == {}
