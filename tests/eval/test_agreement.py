import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.agreement import between_raters, cohen_kappa
from eval.testset import read_testset

ratings = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1)


def kappa(shares: np.ndarray) -> float:
    chance = shares.sum(0) @ shares.sum(1)
    return float((np.trace(shares) - chance) / (1 - chance))


def test_kappa_of_a_known_table() -> None:
    """Sim and Wright 2005 and many textbooks: 20 yes-yes, 5, 10, 15 no-no gives 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohen_kappa(first, second)
    assert (found.n, found.observed, found.chance) == (50, 0.7, 0.5)
    assert found.kappa == pytest.approx(0.4)


@given(ratings)
def test_the_interval_is_the_delta_methods(pairs: list[tuple[str, str]]) -> None:
    """The variance from numerical derivatives of kappa by each cell's share."""
    found = cohen_kappa(*map(list, zip(*pairs)))
    if math.isnan(found.kappa):
        return
    names = "abc"
    counts = Counter(pairs)
    shares = np.array([[counts[a, b] for b in names] for a in names], float) / len(pairs)
    slope, step = np.zeros((3, 3)), 1e-6
    for cell in np.ndindex(3, 3):
        for sign in (1, -1):
            moved = shares.copy()
            moved[cell] += sign * step
            chance = moved.sum(0) @ moved.sum(1)
            slope[cell] += sign * float((np.trace(moved) - chance) / (1 - chance)) / (2 * step)
    variance = ((shares * slope**2).sum() - (shares * slope).sum() ** 2) / len(pairs)
    half = 1.959964 * math.sqrt(max(variance, 0.0))
    expected = (max(-1.0, kappa(shares) - half), min(1.0, kappa(shares) + half))
    assert found.interval == pytest.approx(expected, abs=1e-3)


@given(ratings)
def test_kappa_is_symmetric_and_1_for_the_same_ratings(pairs: list[tuple[str, str]]) -> None:
    first, second = map(list, zip(*pairs))
    one, other = cohen_kappa(first, second), cohen_kappa(second, first)
    assert one.kappa == pytest.approx(other.kappa, nan_ok=True)
    same = cohen_kappa(first, first)
    assert same.kappa == 1 if len(set(first)) > 1 else math.isnan(same.kappa)


def test_nothing_and_one_answer_only() -> None:
    assert cohen_kappa([], []).in_words == "nothing was rated by both"
    assert "one answer only" in cohen_kappa(["a"], ["a"]).in_words
    with pytest.raises(ValueError, match="shorter"):
        cohen_kappa(["a"], [])


def test_raters_of_a_test_set_are_compared_by_meaning(tmp_path: Path) -> None:
    said = [
        ("a", "anna", {"shot_type": "close_up", "camera_motion": "pan_left"}),
        ("a", "bert", {"shot_type": "close_up", "camera_motion": "the camera pans left"}),
        ("b", "anna", {"shot_type": "long_shot", "camera_motion": "static"}),
        ("b", "bert", {"shot_type": "full_shot", "camera_motion": "cannot_tell"}),
        ("c", "anna", {"shot_type": "full_shot"}),
    ]
    path = tmp_path / "set.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {"clip_id": clip, "path": f"{clip}.mp4", "sha256": "0" * 64, "rater": rater,
                 "labels": labels}
            ) + "\n"
            for clip, rater, labels in said
        )
    )  # fmt: skip
    found = between_raters(read_testset(path))
    assert {name: (one.n, one.observed) for name, one in found.items()} == {
        "shot_type": (2, 0.5),
        "camera_motion": (1, 1.0),
    }
