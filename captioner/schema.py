"""The structured shot caption, defined once.

The models below are the only definition: the JSON schema for constrained decoding, the Arrow
schema of the dataset and the list of scored fields are derived from them. Fields, order and option
lists are those of SkyCaptioner-V1 (SkyReels-V2, skycaptioner_v1/scripts/vllm_struct_caption.py and
examples/test_result.csv). An empty string means that nothing was seen, as in the published outputs.
"""

from __future__ import annotations

import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

ShotType = Literal[
    "long_shot", "full_shot", "medium_shot", "close_up", "extreme_close_up", "other", ""
]
ShotAngle = Literal["eye_level", "high_angle", "low_angle", "other", ""]
ShotPosition = Literal[
    "front_view",
    "back_view",
    "side_view",
    "over_the_shoulder",
    "overhead_view",
    "point_of_view",
    "aerial_view",
    "overlooking_view",
    "other",
    "",
]

SUBJECT_TYPES = ("Human", "Animal", "Sport", "Scenery", "Plant", "Vehicles", "Food", "Text")
"""Types seen in published prompts and outputs (the full taxonomy is not published), and the two
that the experts add: Food and Text."""

# Bounds: the longest published string has 514 characters (an action) and the longest list four
# subjects; SkyCaptioner stops at 2,048 tokens, about 8,000 characters for everything.
Sentence = Annotated[str, Field(max_length=600)]
Narrative = Annotated[str, Field(max_length=1500)]
Word = Annotated[str, Field(max_length=40)]
MAX_SUBJECTS = 8


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SubjectTypes(_Model):
    """What a subject is: `type` such as Human or Animal, `sub_type` such as Woman or Insect."""

    type: Word = ""
    sub_type: Word = ""


class Subject(_Model):
    """One subject of the shot. `expression` is for people and animals only, else empty."""

    types: SubjectTypes = Field(alias="TYPES", default=SubjectTypes())
    appearance: Narrative = ""
    action: Narrative = ""
    expression: Narrative = ""
    position: Sentence = ""
    is_main_subject: bool = False


class ShotCaption(_Model):
    """SkyCaptioner's structured caption of one shot."""

    subjects: Annotated[tuple[Subject, ...], Field(max_length=MAX_SUBJECTS)] = ()
    shot_type: ShotType = ""
    shot_angle: ShotAngle = ""
    shot_position: ShotPosition = ""
    camera_motion: Sentence = ""
    environment: Narrative = ""
    lighting: Narrative = ""

    def to_json(self) -> str:
        """The caption as SkyCaptioner writes it: its keys, its order, on one line."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> ShotCaption:
        """The caption in a JSON text; pydantic.ValidationError where it does not fit."""
        return ShotCaption.model_validate_json(text)

    @property
    def main_subject(self) -> Subject | None:
        """The first subject marked as the main one."""
        return next((s for s in self.subjects if s.is_main_subject), None)


SHOT_FIELDS = tuple(name for name in ShotCaption.model_fields if name != "subjects")
SUBJECT_FIELDS = (
    *(f"TYPES_{name}" for name in SubjectTypes.model_fields),
    *(name for name in Subject.model_fields if name != "types"),
)
FIELDS = SHOT_FIELDS + SUBJECT_FIELDS
"""The 13 fields that the paper scores, under its names (skycaptioner_v1/README.md)."""


def options(field: str) -> tuple[str, ...]:
    """The closed list of a shot field, without the empty one; () for free text."""
    annotation = ShotCaption.model_fields[field].annotation
    return tuple(v for v in get_args(annotation) if isinstance(v, str) and v)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a caption, every field required, nothing beside them allowed."""
    schema = ShotCaption.model_json_schema(by_alias=True)
    for model in (schema, *schema["$defs"].values()):
        model["required"] = list(model["properties"])
        for field in model["properties"].values():
            field.pop("default", None)
    return schema


def arrow_type() -> pa.StructType:
    """The Arrow type of a caption."""
    return arrow_struct(ShotCaption)


def arrow_struct(model: type[BaseModel]) -> pa.StructType:
    """The Arrow struct of a pydantic model; a field's description becomes its metadata."""
    return pa.struct(
        [
            pa.field(
                field.alias or name,
                _arrow_type(field.annotation),
                metadata={"description": field.description} if field.description else None,
            )
            for name, field in model.model_fields.items()
        ]
    )


_SCALARS = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _arrow_type(annotation: Any) -> pa.DataType:
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return arrow_struct(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arrow_type(inner[0])
    if origin is Literal:
        return pa.string()
    if origin in (list, tuple):
        return pa.list_(_arrow_type(inner[0]))
    if origin in (Union, UnionType):
        return _arrow_type(next(a for a in inner if a is not type(None)))
    raise TypeError(f"no Arrow type for {annotation}")
