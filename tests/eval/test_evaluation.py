import json
from pathlib import Path
from typing import Any

import pytest

from captioner.schema import ShotCaption
from eval.drift import drift
from eval.evaluation import evaluate, read_items, summary, to_json, write_items
from eval.fields import Item
from eval.judge import PeopleVerdicts, Ruling, SimilarityJudge, read_verdicts
from eval.predictions import Paired, Prediction
from eval.testset import Clip, Labels, TestsetError, Truth

SUBJECTS = [
    {
        "TYPES": {"type": "Human", "sub_type": "Woman"}, "appearance": "A red coat.",
        "action": "Walks.", "position": "On the left.", "is_main_subject": True,
    },
    {
        "TYPES": {"type": "Animal", "sub_type": "Mammal"}, "appearance": "White fur.",
        "position": "On the right.", "is_main_subject": False,
    },
]  # fmt: skip
CAPTION = {"subjects": SUBJECTS, "shot_type": "close_up", "camera_motion": "pan_left"}
LABELS = {
    "shot_type": "close_up",
    "camera_motion": "pan_left",
    "subjects": [
        {"type": "Human", "sub_type": "Woman", "appearance": "A red coat.",
         "is_main_subject": True},
        {"type": "Animal", "appearance": "White fur.", "is_main_subject": False},
    ],
}  # fmt: skip


def truth(clip: str, labels: dict[str, Any] = LABELS) -> Truth:
    one = Clip(clip_id=clip, path=f"{clip}.mp4", sha256="0" * 64)
    return Truth(one, Path(f"{clip}.mp4"), Labels.model_validate(labels), 1)


def said(clip: str, caption: dict[str, Any] | None = CAPTION, status: Any = "ok") -> Prediction:
    parsed = ShotCaption.model_validate(caption) if caption is not None else None
    problem = "" if parsed else "no JSON object"
    return Prediction("p:1", clip, f"{clip}.mp4", None, None, None, status, parsed, problem)


def paired(*predictions: Prediction) -> Paired:
    return Paired({one.clip_id or "": one for one in predictions}, ())


def accuracies(found: Any) -> dict[str, tuple[int, int]]:
    return {name: (one.right, one.ruled) for name, one in found.results.items()}


def test_planted_cases() -> None:
    """Permuted subjects, synonyms, an empty field, an invalid and a missing caption."""
    permuted = {**CAPTION, "subjects": SUBJECTS[::-1]}
    synonyms = {**CAPTION, "shot_type": "close_up", "camera_motion": "The camera pans to the left."}
    empty = {**CAPTION, "shot_type": ""}
    clips = [truth(name) for name in ("same", "permuted", "synonyms", "empty", "invalid", "gone")]
    predictions = paired(
        said("same"),
        said("permuted", permuted),
        said("synonyms", synonyms),
        said("empty", empty, "repaired"),
        said("invalid", None, "invalid"),
    )
    found = evaluate(clips, predictions, SimilarityJudge())
    assert accuracies(found) == {
        "shot_type": (3, 6),
        "camera_motion": (4, 6),
        "TYPES_type": (8, 12),
        "TYPES_sub_type": (4, 6),
        "appearance": (8, 12),
        "is_main_subject": (8, 12),
    }
    assert found.statuses == {"ok": 3, "repaired": 1, "invalid": 1, "missing": 1}
    assert found.subjects == {"found": 8, "missed": 4, "extra": 0}
    whys = {item.clip_id: item.why for item in found.items if item.verdict == "wrong"}
    assert whys == {
        "empty": "", "invalid": "invalid: no JSON object", "gone": "no caption of this clip",
    }  # fmt: skip


def test_subjects_that_are_nobodys_are_counted() -> None:
    three = {**CAPTION, "subjects": [*SUBJECTS, {"TYPES": {"type": "Plant", "sub_type": "Tree"}}]}
    found = evaluate([truth("a")], paired(said("a", three)), SimilarityJudge())
    assert found.subjects == {"found": 2, "missed": 0, "extra": 1}
    nothing = evaluate([truth("a", {})], paired(said("a", three)), SimilarityJudge())
    assert nothing.subjects["extra"] == 0, "subjects were not asked for"


def test_people_alone_decide_where_nothing_is_labelled(tmp_path: Path) -> None:
    lines = [
        {"clip_id": "a", "field": "shot_type", "verdict": "right", "rater": "x"},
        {"clip_id": "a", "field": "action", "subject": 0, "verdict": "wrong", "rater": "x"},
        {"clip_id": "a", "field": "action", "subject": 5, "verdict": "wrong", "rater": "x"},
        {"clip_id": "b", "field": "lighting", "verdict": "wrong", "rater": "x"},
    ]
    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = evaluate(
        [truth("a", {}), truth("b", {})], paired(said("a")), SimilarityJudge(),
        read_verdicts([path]),
    )  # fmt: skip
    assert accuracies(found) == {"shot_type": (1, 1), "action": (0, 1)}
    assert found.problems == (
        "verdict on action of a is of another caption than this one",
        "verdict on lighting of b is of another caption than this one",
    )


def test_a_label_of_a_closed_field_decides_before_people(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    line = {"clip_id": "a", "field": "shot_type", "verdict": "wrong", "rater": "x"}
    path.write_text(json.dumps(line))
    found = evaluate([truth("a")], paired(said("a")), SimilarityJudge(), read_verdicts([path]))
    assert found.results["shot_type"].right == 1
    assert not found.problems


class Broken:
    name = "broken"
    about = ""

    def rule(self, items: list[Item]) -> list[Ruling]:
        return [Ruling("unjudged", "Traceback\n...\nValueError: no memory") for _ in items]


def test_what_no_judge_ruled_on_is_left_out_and_told() -> None:
    other = {**CAPTION, "subjects": [{**one, "appearance": "A coat."} for one in SUBJECTS]}
    found = evaluate([truth("a")], paired(said("a", other)), Broken())
    assert (found.results["appearance"].ruled, found.results["appearance"].unjudged) == (0, 2)
    assert found.problems == ("2 answers got no ruling: ValueError: no memory",)


def test_the_figures_are_the_same_bytes_each_time() -> None:
    clips = [truth(str(i)) for i in range(20)]
    predictions = paired(*(said(str(i)) for i in range(15)))
    one, other = (evaluate(clips, predictions, SimilarityJudge()) for _ in range(2))
    assert to_json(summary(one)) == to_json(summary(other))
    assert summary(one)["fields"]["shot_type"]["accuracy"] == 0.75


def test_items_are_kept(tmp_path: Path) -> None:
    labels = {**LABELS, "lighting": ["Warm.", "Cold."], "shot_angle": "cannot_tell"}
    found = evaluate([truth("a", labels)], paired(said("a")), SimilarityJudge(), PeopleVerdicts())
    path = tmp_path / "items.parquet"
    write_items(found.items, found.judge, path)
    assert read_items(path) == (list(found.items), "similarity")
    path.write_text("nothing")
    with pytest.raises(TestsetError, match="not the items"):
        read_items(path)


# --- drift ----------------------------------------------------------------------------------------


def test_drift_needs_no_labels() -> None:
    before = [said(str(i)) for i in range(10)]
    changed = {**CAPTION, "shot_type": "long_shot", "camera_motion": "the camera pans left"}
    after = [said(str(i), changed if i < 4 else CAPTION) for i in range(1, 12)]
    found = drift(before, after)
    assert (found.only_first, found.only_second) == (1, 2)
    fields = {one.field: one for one in found.fields}
    assert fields["shot_type"].clips == 9
    assert fields["shot_type"].changed == pytest.approx(3 / 9)
    assert fields["shot_type"].shift == pytest.approx(3 / 9)
    assert [name for name, _ in fields["shot_type"].moved] == ["close_up", "long_shot"]
    assert fields["camera_motion"].changed == 0, "said in other words"
    assert fields["environment"].filled == (0, 0)
    assert fields["TYPES_type"].filled == (1, 1)
    assert not drift([], before).fields
