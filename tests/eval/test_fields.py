import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from captioner.schema import ShotCaption, options
from eval.fields import (
    SCORERS,
    Item,
    assign,
    compare,
    confusion_table,
    score_field,
    table,
    wilson,
)
from eval.testset import Labels, SubjectLabel, answers
from tests.eval import slow_reference


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


# --- captions against labels ----------------------------------------------------------------------

MOVES = {
    "": frozenset[str](),
    "the camera pans left": frozenset({"pan_left"}),
    "pan_left": frozenset({"pan_left"}),
    "tilt_down+pan_left": frozenset({"pan_left", "tilt_down"}),
    "The camera pans to the left and tilts down.": frozenset({"pan_left", "tilt_down"}),
    "use a tracking shot, the camera moves toward zooms in": frozenset({"push_in"}),
    "push_in": frozenset({"push_in"}),
    "the camera remains static": frozenset({"static"}),
    "static": frozenset({"static"}),
    "use a handheld shot": frozenset({"handheld"}),
}
"""Ways to say a motion, and what they mean."""

PLACES = ("On the left side of the frame.", "In the background.", "Centered in the picture.")
LOOKS = ("Wearing a red coat.", "White fur.", "Tall, covered with snow.")
DEEDS = ("Walks to the door.", "Sits still.", "")
FACES = ("The expression is happy.", "The expression is sad.", "Smoke and mirrors.", "")
KINDS = (("Human", "Woman"), ("Human", "Man"), ("Animal", "Mammal"), ("Scenery", "Mountain"))

subjects = st.builds(
    lambda kind, look, deed, face, place, main: {
        "TYPES": {"type": kind[0], "sub_type": kind[1]},
        "appearance": look,
        "action": deed,
        "expression": face,
        "position": place,
        "is_main_subject": main,
    },
    *map(st.sampled_from, (KINDS, LOOKS, DEEDS, FACES, PLACES)),
    st.booleans(),
)

captions = st.fixed_dictionaries(
    {
        "subjects": st.lists(subjects, max_size=4),
        **{
            name: st.sampled_from(("", *options(name)))
            for name in ("shot_type", "shot_angle", "shot_position")
        },
        "camera_motion": st.sampled_from([*MOVES]),
        "environment": st.sampled_from(("A forest.", "A kitchen at night.", "")),
        "lighting": st.sampled_from(("Bright.", "Dim and blue.", "")),
    }
)


def asked(caption: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """Labels that some of another caption's fields are taken for."""
    labels: dict[str, Any] = {
        name: caption[name]
        for name in ("shot_type", "shot_angle", "shot_position", "camera_motion")
        if caption[name] and draw(st.booleans())
    }
    labels |= {name: caption[name] for name in ("environment", "lighting") if draw(st.booleans())}
    labels["subjects"] = []
    for subject in caption["subjects"]:
        label = {**subject["TYPES"], **{k: v for k, v in subject.items() if k != "TYPES"}}
        if label["expression"] in FACES[:2] and draw(st.booleans()):
            label["expression"] = {FACES[0]: "happiness", FACES[1]: "sadness"}[label["expression"]]
        for name in draw(st.sets(st.sampled_from([*label]))):
            del label[name]
        labels["subjects"].append(label)
    return labels


def rights(labels: dict[str, Any], caption: dict[str, Any] | None) -> dict[str, list[bool]]:
    """What our scorer says; a text that words alone do not decide is another text."""
    parsed = ShotCaption.model_validate(caption) if caption is not None else None
    found: dict[str, list[bool]] = {}
    for item in compare("clip", Labels.model_validate(labels), parsed).items:
        found.setdefault(item.field, []).append(item.verdict == "right")
    return found


@given(st.data(), captions, st.none() | captions)
@settings(max_examples=200, deadline=None)
def test_the_scorer_says_what_a_slow_reference_says(
    data: st.DataObject, true: dict[str, Any], said: dict[str, Any] | None
) -> None:
    labels = asked(true, data.draw)
    if said is not None:
        # Of equally good assignments either is right: only a single best one can be compared.
        best = slow_reference.pairs(labels["subjects"], said["subjects"])
        total = slow_reference.total(labels["subjects"], said["subjects"])
        for i, j in best.items():
            others = [[*said["subjects"]], [*labels["subjects"]]]
            value = slow_reference.likeness(others[1][i], others[0][j])
            others[0][j] = {**others[0][j], "TYPES": {"type": "-", "sub_type": "-"},
                            "appearance": "", "position": "", "action": ""}  # fmt: skip
            rest = slow_reference.total(others[1], others[0])
            assume(rest < total - 1e-9 or value == 0)
    assert rights(labels, said) == slow_reference.score(labels, said, MOVES)


@given(st.data(), captions, captions)
@settings(deadline=None)
def test_the_order_of_the_subjects_makes_no_difference(
    data: st.DataObject, true: dict[str, Any], said: dict[str, Any]
) -> None:
    labels = asked(true, data.draw)
    shuffled = {**said, "subjects": data.draw(st.permutations(said["subjects"]))}
    assert rights(labels, shuffled) == rights(labels, said)
    turned = {**labels, "subjects": data.draw(st.permutations(labels["subjects"]))}
    counts = {name: sum(one) for name, one in rights(turned, said).items()}
    assert counts == {name: sum(one) for name, one in rights(labels, said).items()}


@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=4))
def test_the_assignment_has_the_greatest_sum(likeness: list[list[int]]) -> None:
    found = assign(likeness)
    assert len(set(found.values())) == len(found)
    assert all(likeness[i][j] > 0 for i, j in found.items())
    best = max(
        sum(row[j] for row, j in zip(likeness, columns)) for columns in permutations(range(4))
    )
    assert sum(likeness[i][j] for i, j in found.items()) == best


@given(captions)
def test_a_caption_of_its_own_labels_is_right_throughout(caption: dict[str, Any]) -> None:
    labels = {name: value for name, value in caption.items() if value and name != "subjects"}
    labels["subjects"] = [
        {**subject["TYPES"], **{k: v for k, v in subject.items() if k != "TYPES"}}
        for subject in caption["subjects"]
    ]
    assert all(all(one) for one in rights(labels, caption).values())


def item(field: str, truth: Any, answer: str) -> Item:
    return SCORERS[field].item("clip", -1, -1, answers(truth), answer)


@pytest.mark.parametrize(
    ("field", "truth", "answer"),
    [
        ("shot_type", "close_up", "Close-Up"),
        ("shot_type", "extreme_close_up", "extreme closeup"),
        ("shot_angle", ("low_angle", "eye_level"), "eye level"),
        ("TYPES_type", "Vehicles", "vehicle"),
        ("TYPES_type", "Human", "person"),
        ("TYPES_type", "Animal", "animals"),
        ("TYPES_sub_type", "Woman", "female"),
        ("TYPES_sub_type", "Ship", "boats"),
        ("TYPES_sub_type", "Grass", "grass"),
        ("expression", "happiness", "She smiles warmly at the camera."),
        ("expression", ("sadness", "anger"), "An angry stare."),
        ("expression", "", ""),
        ("camera_motion", "pan_left+tilt_down", "The camera tilts down, then pans left."),
        ("camera_motion", "push_in", "the camera dollies in slowly"),
    ],
)
def test_synonyms_are_right(field: str, truth: Any, answer: str) -> None:
    assert item(field, truth, answer).verdict == "right"


@pytest.mark.parametrize(
    ("field", "truth", "answer"),
    [
        ("shot_type", "close_up", "extreme_close_up"),
        ("shot_type", "close_up", ""),
        ("TYPES_sub_type", "Man", "Woman"),
        ("TYPES_sub_type", "Man", "Boy"),
        ("expression", "happiness", "The expression is sad."),
        ("expression", "", "The expression is sad."),
        ("camera_motion", "pan_left", "the camera pans right"),
        ("camera_motion", "pan_left", "the camera pans left and tilts up"),
        ("camera_motion", "static", "use a handheld shot"),
        ("lighting", "Bright daylight.", ""),
        ("environment", "", "A forest."),
    ],
)
def test_what_is_wrong_needs_no_judge(field: str, truth: Any, answer: str) -> None:
    assert item(field, truth, answer).verdict == "wrong"


def test_free_text_waits_for_a_judge() -> None:
    for field in ("appearance", "action", "position", "environment", "lighting", "expression"):
        assert item(field, "A red coat.", "A coat, red.").verdict is None
        assert item(field, "A red coat.", "A red coat.").verdict == "right"
    assert {name for name, one in SCORERS.items() if not one.closed} == {
        "appearance", "action", "position", "environment", "lighting", "expression",
    }  # fmt: skip


def test_a_missing_caption_is_wrong_in_every_field_asked() -> None:
    labels = Labels(
        shot_type="close_up",
        lighting="cannot_tell",
        subjects=(SubjectLabel(type="Human", expression=""),),
    )
    compared = compare("clip", labels, None, "invalid: no JSON object")
    ruled = {one.field: one.verdict for one in compared.items}
    assert ruled == {
        "shot_type": "wrong",
        "lighting": "cannot_tell",
        "TYPES_type": "wrong",
        "expression": "wrong",
    }
    assert compared.items[0].why == "invalid: no JSON object"


def test_of_a_main_subject_alone_the_captions_main_subject_is_asked() -> None:
    """Another subject that fits better is not what was asked for."""
    caption = ShotCaption.model_validate(
        {
            "subjects": [
                {"TYPES": {"type": "Human", "sub_type": "Man"}},
                {"TYPES": {"type": "Animal", "sub_type": "Mammal"}, "is_main_subject": True},
            ]
        }
    )
    subject = SubjectLabel(type="Human", is_main_subject=True)
    alone = compare("clip", Labels(subjects=(subject,), main_subject_only=True), caption)
    assert [(one.field, one.verdict) for one in alone.items] == [("TYPES_type", "wrong")]
    assert alone.extra == 0
    among = compare("clip", Labels(subjects=(subject,)), caption)
    assert [one.verdict for one in among.items] == ["right", "wrong"]
    assert among.extra == 1
