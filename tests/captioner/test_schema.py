import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from captioner.schema import (
    FIELDS,
    MAX_SUBJECTS,
    ShotCaption,
    Subject,
    SubjectTypes,
    arrow_type,
    json_schema,
    options,
)

subjects = st.builds(
    Subject,
    types=st.builds(SubjectTypes, type=st.text(max_size=40), sub_type=st.text(max_size=40)),
    appearance=st.text(max_size=50),
    action=st.text(max_size=50),
    expression=st.text(max_size=50),
    position=st.text(max_size=50),
    is_main_subject=st.booleans(),
)
captions = st.builds(
    ShotCaption,
    subjects=st.lists(subjects, max_size=3).map(tuple),
    shot_type=st.sampled_from([*options("shot_type"), ""]),
    shot_angle=st.sampled_from([*options("shot_angle"), ""]),
    shot_position=st.sampled_from([*options("shot_position"), ""]),
    camera_motion=st.text(max_size=50),
    environment=st.text(max_size=50),
    lighting=st.text(max_size=50),
)


@given(captions)
def test_json_comes_back_unchanged(caption: ShotCaption) -> None:
    assert ShotCaption.from_json(caption.to_json()) == caption
    assert ShotCaption.from_json(caption.to_json()).to_json() == caption.to_json()


@given(captions)
def test_arrow_comes_back_unchanged(caption: ShotCaption) -> None:
    array = pa.array([caption.model_dump(by_alias=True)], type=arrow_type())
    assert ShotCaption.model_validate(array.to_pylist()[0]) == caption


def test_the_keys_and_their_order_are_those_of_the_published_outputs() -> None:
    keys = list(json.loads(ShotCaption(subjects=(Subject(),)).to_json()))
    assert keys == [
        *("subjects", "shot_type", "shot_angle", "shot_position"),
        *("camera_motion", "environment", "lighting"),
    ]
    subject = json.loads(ShotCaption(subjects=(Subject(),)).to_json())["subjects"][0]
    assert list(subject) == [
        *("TYPES", "appearance", "action", "expression", "position", "is_main_subject"),
    ]
    assert list(subject["TYPES"]) == ["type", "sub_type"]


def test_the_scored_fields_are_the_papers_thirteen() -> None:
    assert sorted(FIELDS) == sorted(
        [
            *("shot_type", "shot_angle", "shot_position", "camera_motion", "expression"),
            *("TYPES_type", "TYPES_sub_type", "appearance", "action", "position"),
            *("is_main_subject", "environment", "lighting"),
        ]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"shot_type": "wide"},
        {"lens": "50 mm"},
        {"camera_motion": "x" * 601},
        {"subjects": [{}] * (MAX_SUBJECTS + 1)},
        {"subjects": [{"TYPES": {"type": "x" * 41}}]},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ShotCaption.model_validate(wrong)


def test_the_json_schema_requires_every_field_and_bounds_every_string() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    assert all(set(m["required"]) == set(m["properties"]) for m in models)
    assert all(m["additionalProperties"] is False for m in models)
    fields = [f for m in models for f in m["properties"].values()]
    assert all("maxLength" in f or "enum" in f for f in fields if f.get("type") == "string")
    assert all("maxItems" in f for f in fields if f.get("type") == "array")
