import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner import fusion
from captioner.merge import PAPER, MergeRuleError, Rule, filled, merge, parse_rules
from captioner.result import Camera, CaptionResult, FieldSource
from captioner.schema import FIELDS, SHOT_FIELDS, ShotCaption, Subject, SubjectTypes
from tests.captioner.test_schema import captions

CAMERA = Camera(("pan_right",), 0, 0, 0, 0.1, 0, 0, 0, False)


def subject(kind: str, sub_type: str = "", main: bool = False, **said: str) -> Subject:
    return Subject(types=SubjectTypes(type=kind, sub_type=sub_type), is_main_subject=main, **said)


def by_model(caption: ShotCaption | None, **said: Any) -> CaptionResult:
    sources = {name: FieldSource("vllm") for name in filled(caption)} if caption else {}
    status = "ok" if caption else "error"
    return CaptionResult(status, "vllm", caption, sources, raw="{...}", **said)


def by_experts(caption: ShotCaption, confidence: float | None = 0.9) -> CaptionResult:
    sources = {name: FieldSource("experts.x", confidence) for name in filled(caption)}
    return CaptionResult("ok", "experts", caption, sources, camera=CAMERA, screen_text=("EXIT",))


MODEL = ShotCaption(
    subjects=(
        subject("Sport", "Football", action="a man runs"),
        subject("Human", "Man", True, appearance="a grey shirt", expression="a gentle gaze"),
        subject("Human", "Woman", expression="open lips"),
    ),
    shot_type="full_shot",
    shot_angle="low_angle",
    camera_motion="the camera moves forward",
    environment="a field",
)
SEEN = ShotCaption(
    subjects=(subject("Human", "Woman", True, expression="The expression is happy."),),
    shot_type="medium_shot",
    shot_position="front_view",
    camera_motion="the camera pans right",
)


def test_the_papers_rules_override_what_its_experts_know() -> None:
    merged = merge(by_model(MODEL), by_experts(SEEN), PAPER)
    assert merged.caption is not None
    assert merged.caption.shot_type == "medium_shot"
    assert merged.caption.shot_angle == "low_angle"  # the experts saw none
    assert merged.caption.shot_position == "front_view"  # the model saw none
    assert merged.caption.camera_motion == "the camera pans right"
    assert merged.caption.environment == "a field"
    assert [s.expression for s in merged.caption.subjects] == [
        "",
        "a gentle gaze",
        "The expression is happy.",
    ]
    assert [s.types for s in merged.caption.subjects] == [s.types for s in MODEL.subjects]
    assert merged.sources["shot_type"] == FieldSource("experts.x", 0.9)
    assert merged.sources["shot_angle"] == FieldSource("vllm")
    assert merged.sources["expression"] == FieldSource("experts.x + vllm", 0.9)


def test_status_and_text_are_the_models_and_the_measurements_the_experts() -> None:
    vlm = replace(by_model(MODEL), status="repaired")
    merged = merge(vlm, by_experts(SEEN), PAPER)
    assert (merged.status, merged.engine, merged.raw) == ("repaired", "vllm", "{...}")
    assert (merged.camera, merged.screen_text) == (CAMERA, ("EXIT",))
    assert merged.caption is not None
    assert merged.t2v == fusion.t2v(merged.caption, ("EXIT",))
    assert merged.i2v == fusion.i2v(merged.caption)
    assert merged.t2v.endswith("The camera pans right.")


@pytest.mark.parametrize(
    ("rule", "confidence", "said"),
    [
        ("vlm", 1.0, "full_shot"),
        ("expert", 0.1, "medium_shot"),
        ("expert", None, "medium_shot"),
        ("expert>0.8", 0.9, "medium_shot"),
        ("expert>0.8", 0.8, "full_shot"),
        ("expert > .8", 0.81, "medium_shot"),
        ("expert>0.8", None, "full_shot"),
    ],
)
def test_an_expert_overrides_above_its_confidence(
    rule: str, confidence: float | None, said: str
) -> None:
    merged = merge(by_model(MODEL), by_experts(SEEN, confidence), parse_rules(f"shot_type={rule}"))
    assert merged.caption is not None
    assert merged.caption.shot_type == said
    expert = FieldSource("experts.x", confidence)
    assert merged.sources["shot_type"] == (expert if said == "medium_shot" else FieldSource("vllm"))
    assert merged.caption.camera_motion == MODEL.camera_motion


def test_both_says_the_experts_first_and_names_the_two() -> None:
    rules = parse_rules("camera_motion=both,shot_type=both,shot_position=both,expression=both")
    merged = merge(by_model(MODEL), by_experts(SEEN), rules)
    assert merged.caption is not None
    assert merged.caption.camera_motion == "the camera pans right, the camera moves forward"
    assert merged.sources["camera_motion"] == FieldSource("experts.x + vllm", 0.9)
    assert merged.caption.subjects[2].expression == "The expression is happy. open lips"
    # An option has room for one: the other is kept in the source.
    assert merged.caption.shot_type == "medium_shot"
    assert merged.sources["shot_type"] == FieldSource("experts.x (vllm: full_shot)", 0.9)
    assert merged.caption.shot_position == "front_view"
    assert merged.sources["shot_position"] == FieldSource("experts.x", 0.9)


def test_both_says_once_what_the_two_agree_on() -> None:
    agreeing = MODEL.model_copy(
        update={"camera_motion": "The camera pans right.", "shot_type": "medium_shot"}
    )
    rules = parse_rules("camera_motion=both,shot_type=both")
    merged = merge(by_model(agreeing), by_experts(SEEN), rules)
    assert merged.caption is not None
    assert merged.caption.camera_motion == "the camera pans right"
    assert merged.sources["camera_motion"].source == "experts.x + vllm"
    assert merged.sources["shot_type"].source == "experts.x + vllm"


def test_both_keeps_to_the_experts_where_there_is_no_room_for_two() -> None:
    talkative = MODEL.model_copy(update={"camera_motion": "x" * 595})
    merged = merge(by_model(talkative), by_experts(SEEN), parse_rules("camera_motion=both"))
    assert merged.caption is not None
    assert merged.caption.camera_motion == "the camera pans right"
    assert merged.sources["camera_motion"].source == "experts.x (vllm: in raw)"


# --- subjects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subjects", "changed"),
    [
        ((subject("Human", "Man", True), subject("Human", "Woman")), 1),  # sub-type before main
        ((subject("Human", "Man"), subject("Human", "Man", True)), 1),  # then the main one
        ((subject("Human", "Man"), subject("Human", "Man")), 0),  # then the first
        (
            (subject("Sport", "Woman", True), subject("Animal", "Insect")),
            None,
        ),  # never another type
        ((), None),
    ],
)
def test_the_experts_main_subject_is_matched(
    subjects: tuple[Subject, ...], changed: int | None
) -> None:
    model = MODEL.model_copy(update={"subjects": subjects})
    merged = merge(by_model(model), by_experts(SEEN), parse_rules("expression=expert"))
    assert merged.caption is not None
    said = [s.expression for s in merged.caption.subjects]
    assert [i for i, text in enumerate(said) if text] == ([] if changed is None else [changed])
    assert ("expression" in merged.sources) == (changed is not None)


def test_a_type_takes_its_sub_type_along() -> None:
    seen = ShotCaption(subjects=(subject("Human", "Woman", True, expression="happy"),))
    model = ShotCaption(subjects=(subject("Sport", "Football", True, action="runs"),))
    merged = merge(by_model(model), by_experts(seen), parse_rules("TYPES_type=expert"))
    assert merged.caption is not None
    assert merged.caption.subjects == (subject("Human", "Woman", True, action="runs"),)
    assert merged.sources["TYPES_sub_type"] == FieldSource("experts.x", 0.9)

    unsure = merge(by_model(model), by_experts(seen), parse_rules("TYPES_sub_type=expert"))
    assert unsure.caption == model  # a Woman is no kind of Sport


def test_a_type_without_a_sub_type_leaves_none() -> None:
    seen = ShotCaption(subjects=(subject("Human", "", True),))
    model = ShotCaption(subjects=(subject("Sport", "Football", True),))
    merged = merge(by_model(model), by_experts(seen), parse_rules("TYPES_type=expert"))
    assert merged.caption == seen
    assert "TYPES_sub_type" not in merged.sources


def test_a_subject_that_the_model_did_not_see_is_added_where_types_are_the_experts() -> None:
    nobody = MODEL.model_copy(update={"subjects": ()})
    rules = parse_rules("TYPES_type=expert,expression=expert")
    merged = merge(by_model(nobody), by_experts(SEEN), rules)
    assert merged.caption is not None
    assert merged.caption.subjects == SEEN.subjects
    assert set(merged.sources) == set(filled(merged.caption))


def test_the_main_subject_can_be_the_experts() -> None:
    merged = merge(by_model(MODEL), by_experts(SEEN), parse_rules("is_main_subject=expert"))
    assert merged.caption is not None
    assert [s.is_main_subject for s in merged.caption.subjects] == [False, False, True]
    assert merged.sources["is_main_subject"] == FieldSource("experts.x", 0.9)


# --- for any captions -----------------------------------------------------------------------------

rules = st.dictionaries(
    st.sampled_from(FIELDS),
    st.sampled_from([Rule("vlm"), Rule("expert"), Rule("expert", 0.5), Rule("both")]),
)


@given(captions, captions, rules, st.sampled_from([None, 0.3, 0.7]))
def test_every_field_is_one_of_the_two_and_says_whose(
    said: ShotCaption, seen: ShotCaption, rules: dict[str, Rule], confidence: float | None
) -> None:
    merged = merge(by_model(said), by_experts(seen, confidence), rules)
    assert merged.caption is not None
    assert set(merged.sources) == set(filled(merged.caption))
    for name in SHOT_FIELDS:
        now, model, expert = (getattr(c, name) for c in (merged.caption, said, seen))
        rule = rules.get(name, Rule("vlm"))
        above = rule.above is None or (confidence or 0) > rule.above
        if rule.kind == "vlm" or not above or not expert:
            assert now == model
        elif rule.kind == "expert" or not model:
            assert now == expert
        else:
            assert now.startswith(expert.rstrip(" ."))
    # Subjects are never lost; one is added only where there was none.
    assert len(merged.caption.subjects) in (len(said.subjects), max(1, len(said.subjects)))


@given(captions, captions)
def test_without_rules_the_caption_is_the_models(said: ShotCaption, seen: ShotCaption) -> None:
    merged = merge(by_model(said), by_experts(seen), {})
    assert merged.caption == said
    assert merged.sources == by_model(said).sources


@given(captions, captions)
def test_merging_again_changes_nothing(said: ShotCaption, seen: ShotCaption) -> None:
    once = merge(by_model(said), by_experts(seen), PAPER)
    assert merge(once, by_experts(seen), PAPER).caption == once.caption


# --- failures -------------------------------------------------------------------------------------


def test_without_the_models_caption_there_is_none() -> None:
    failed = by_model(None, error="out of memory")
    merged = merge(failed, by_experts(SEEN), PAPER)
    assert (merged.status, merged.caption, merged.error) == ("error", None, "out of memory")
    assert merged.camera == CAMERA


def test_experts_that_failed_leave_the_models_caption_and_their_reason() -> None:
    failed = CaptionResult("error", "experts", None, error="no such weights")
    merged = merge(by_model(MODEL), failed, PAPER)
    assert (merged.status, merged.caption) == ("ok", MODEL)
    assert merged.error == "experts: no such weights"


# --- rules ----------------------------------------------------------------------------------------


def test_rules_are_read() -> None:
    assert parse_rules("camera_motion=expert>0.8, lighting = both ,shot_type=vlm") == {
        "camera_motion": Rule("expert", 0.8),
        "lighting": Rule("both"),
        "shot_type": Rule("vlm"),
    }
    assert parse_rules("paper") == PAPER
    assert set(PAPER) == {
        *("shot_type", "shot_angle", "shot_position", "camera_motion", "expression")
    }
    changed = {**PAPER, "expression": Rule("vlm")}
    assert parse_rules("paper,expression=vlm") == parse_rules("expression=vlm,paper") == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lens=vlm", "merge rule 'lens=vlm': no field 'lens'; the fields are shot_type, "),
        ("shot_type=experts", "merge rule 'shot_type=experts': no rule 'experts'; write vlm, "),
        ("shot_type=", "merge rule 'shot_type=': no rule ''; write vlm, expert, "),
        ("shot_type=expert>2", "merge rule 'shot_type=expert>2': a confidence is within 0 to 1"),
        ("shot_type=expert>x", "no rule 'expert>x'"),
        ("shot_type=vlm,shot_type=both", "merge rule 'shot_type=both': shot_type has a rule"),
        ("action=expert", "merge rule 'action=expert': no expert looks at action"),
        ("papers", "merge rule 'papers' is no preset: write paper or FIELD=RULE"),
        ("", "merge rules '' name no field"),
        (" , ", "name no field"),
    ],
)
def test_a_wrong_rule_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(MergeRuleError) as refused:
        parse_rules(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_rules_or_is_refused(text: str) -> None:
    with contextlib.suppress(MergeRuleError):
        assert parse_rules(text)
