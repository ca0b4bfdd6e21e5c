"""The instruction is the released one, character for character."""

import hashlib
import json

from captioner import prompts
from captioner.schema import ShotCaption, SubjectTypes, options


def test_the_instruction_is_the_released_one() -> None:
    digest = hashlib.sha256(prompts.STRUCTURED.encode()).hexdigest()

    assert digest == "dcbe6500a8aa00da27b0a2581d12ae8a9a54898237064965c5804152d9973fc2"


def test_the_instruction_asks_for_every_field_and_option() -> None:
    asked = json.loads(prompts.STRUCTURED.split("content: ", 1)[1])

    assert set(asked) == set(ShotCaption.model_fields)
    assert set(asked["subjects"][0]["TYPES"]) == set(SubjectTypes.model_fields)
    for field in ("shot_type", "shot_angle", "shot_position"):
        said = asked[field].partition("(Options: ")[2].removesuffix(")")
        assert tuple(said.split("/")) == options(field)
