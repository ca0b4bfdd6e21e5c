from pathlib import Path
from typing import Any

import pytest

from eval.evaluation import Evaluation, write_items
from eval.fields import SCORERS, Item
from eval.gate import GateError, failures, read_gate
from eval.scores import field_results


def items(wrong: range, of: int = 200, field: str = "shot_type") -> list[Item]:
    found = []
    for i in range(of):
        answer = "long_shot" if i in wrong else "close_up"
        one = SCORERS[field].item(f"{i:04}", -1, -1, ("close_up",), answer)
        one.verdict = one.verdict or "wrong"
        found.append(one)
    return found


def evaluation(found: list[Item], judge: str = "similarity", **statuses: int) -> Evaluation:
    counts = statuses or {"ok": 200}
    return Evaluation(found, field_results(found), None, counts, {}, judge, "", {}, ())


def gate(folder: Path, text: str) -> Path:
    path = folder / "gate.yaml"
    path.write_text(text)
    return path


def failed(path: Path, found: Evaluation) -> list[str]:
    return failures(read_gate(path), found)


def test_floors(tmp_path: Path) -> None:
    path = gate(tmp_path, "floors: {shot_type: 0.9, avg: 0.8, lighting: 0.1}")
    lacking = "lighting: nothing was asked, so its floor of 0.100 cannot be checked"
    assert failed(path, evaluation(items(range(10)))) == [lacking]
    assert failed(path, evaluation(items(range(60)))) == [
        "shot_type: 0.700 is below its floor of 0.900",
        "avg: 0.700 is below its floor of 0.800",
        lacking,
    ]


def test_the_floor_itself_is_enough(tmp_path: Path) -> None:
    path = gate(tmp_path, "floors: {shot_type: 0.9}")
    assert failed(path, evaluation(items(range(20)))) == []


def test_a_release_that_is_clearly_better(tmp_path: Path) -> None:
    write_items(items(range(10)), "similarity", tmp_path / "items.parquet")
    path = gate(tmp_path, "release: items.parquet")
    assert failed(path, evaluation(items(range(10)))) == []
    assert failed(path, evaluation(items(range(12)))) == [], "not clearly below"
    assert failed(path, evaluation(items(range(0)))) == []
    first, second = failed(path, evaluation(items(range(40))))
    assert first.startswith("shot_type: 0.800 is significantly below the release's 0.950 (-0.150,")
    assert second.startswith("avg: 0.800")


def test_releases_as_good_as_the_last_hardly_ever_fail(tmp_path: Path) -> None:
    """With 13 fields each at 95 % alone, one in four would."""
    import random

    write_items(_random(random.Random(0)), "similarity", tmp_path / "items.parquet")
    path = gate(tmp_path, "release: items.parquet")
    fails = sum(bool(failed(path, evaluation(_random(random.Random(i))))) for i in range(1, 13))
    assert fails <= 2


def _random(rng: Any) -> list[Item]:
    names = ("shot_type", "TYPES_sub_type", "action", "lighting", "position", "appearance")
    return [
        Item(f"{i:03}", name, -1, -1, ("x",), "y", ("x",), "y",
             "right" if rng.random() < 0.7 else "wrong")
        for i in range(60) for name in names
    ]  # fmt: skip


def test_another_judge_compares_closed_fields_only(tmp_path: Path) -> None:
    text = [Item(f"{i:04}", "action", 0, 0, ("x",), "y", (), "", "right") for i in range(200)]
    write_items([*items(range(10)), *text], "model", tmp_path / "items.parquet")
    now = [Item(f"{i:04}", "action", 0, 0, ("x",), "y", (), "", "wrong") for i in range(200)]
    found = failed(gate(tmp_path, "release: items.parquet"), evaluation([*items(range(10)), *now]))
    assert len(found) == 1
    assert "judged by model, this one's by similarity" in found[0]


def test_a_release_without_a_common_clip_says_nothing(tmp_path: Path) -> None:
    others = [Item("other", "shot_type", -1, -1, ("a",), "a", ("a",), "a", "right")]
    write_items(others, "similarity", tmp_path / "items.parquet")
    (line,) = failed(gate(tmp_path, "release: items.parquet"), evaluation(items(range(10))))
    assert "shares no clip" in line


def test_lost_captions_and_missing_rulings(tmp_path: Path) -> None:
    path = gate(tmp_path, "captions: 0.99")
    assert failed(path, evaluation(items(range(0)), ok=99, missing=1)) == []
    (line,) = failed(path, evaluation(items(range(0)), ok=95, invalid=3, missing=2))
    assert line == "captions: 0.950 of the clips have one, less than 0.990"
    open_one = Item("a", "action", 0, 0, ("x",), "y", (), "", "unjudged")
    assert failed(path, evaluation([open_one])) == [
        "action: 1 answers got no ruling from the judge"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "asks for nothing"),
        ("floors: {shot_size: 0.5}", "'shot_size' is none of shot_type,"),
        ("floors: {shot_type: 85}", "floors.shot_type: Input should be less than or equal to 1"),
        ("floor: {shot_type: 0.5}", "floor: Extra inputs"),
        ("floors: {shot_type", "gate.yaml:1: expected"),
        ("- 1", "gate.yaml: Input should be a valid dictionary"),
        ("release: gate.yaml", "not the items.parquet of an evaluation"),
    ],
)
def test_a_gate_that_cannot_be_used_is_a_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(GateError) as caught:
        read_gate(gate(tmp_path, text))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
