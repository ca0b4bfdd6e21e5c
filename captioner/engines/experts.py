"""The engine without a VLM: sub-experts fill what they see, a template writes the prose."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import fields

from captioner import fusion
from captioner.experts.camera import CameraMotion, measure_camera, phrase
from captioner.experts.expression import Expression, main_expression
from captioner.experts.lighting import Lighting, lighting
from captioner.experts.shot import Answer, shot_angle, shot_position, shot_type
from captioner.experts.sightings import look
from captioner.experts.subjects import SubjectSighting, describe_subjects
from captioner.experts.text import read_text
from captioner.frames import FrameBatch, one_thread
from captioner.result import Camera, CaptionResult, FieldSource
from captioner.schema import MAX_SUBJECTS, ShotCaption, Subject, SubjectTypes
from captioner.weights import WEIGHTS

EXPERTS_VERSION = "1"
"""Raised when an expert's answers change, so that finished clips are captioned again."""


class ExpertsEngine:
    """Captions with the embedded experts; it needs neither a GPU nor a model hub."""

    name = "experts"

    def caption(self, batches: Sequence[FrameBatch]) -> list[CaptionResult]:
        """Caption every batch; one that breaks an expert gets the status error."""
        return [self._caption(batch) for batch in batches]

    def identity(self) -> dict[str, str]:
        """The experts' version and the weights they use."""
        weights = {weight.name: weight.sha256 for weight in WEIGHTS}
        return {"engine": self.name, "version": EXPERTS_VERSION, **weights}

    def _caption(self, batch: FrameBatch) -> CaptionResult:
        try:
            with one_thread():
                return self._look(batch)
        except Exception:
            return CaptionResult("error", self.name, None, error=traceback.format_exc())

    def _look(self, batch: FrameBatch) -> CaptionResult:
        motion = measure_camera(batch)
        lines = read_text(batch)
        sightings = look(batch)
        subjects = describe_subjects(sightings, lines)[:MAX_SUBJECTS]
        shot = {
            "shot_type": shot_type(sightings, subjects),
            "shot_angle": shot_angle(sightings),
            "shot_position": shot_position(sightings),
        }
        expression = main_expression(sightings)
        light = lighting(batch)
        caption = ShotCaption.model_validate(
            {
                "subjects": [_subject(one, expression) for one in subjects],
                **{field: answer.value for field, answer in shot.items() if answer},
                "camera_motion": phrase(motion) if motion else "",
                "lighting": light.phrase if light else "",
            }
        )
        screen_text = tuple(line.text for line in lines)
        return CaptionResult(
            "ok",
            self.name,
            caption,
            sources=_sources(caption, shot, motion, light, expression, subjects),
            t2v=fusion.t2v(caption, screen_text),
            i2v=fusion.i2v(caption),
            camera=_camera(motion) if motion else None,
            screen_text=screen_text,
        )


EXPRESSIONS = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "afraid",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "neutral": "neutral",
}
"""Words of a caption for the classes of the FER network."""


def _subject(seen: SubjectSighting, expression: Expression | None) -> Subject:
    is_face = seen.is_main_subject and seen.type == "Human"
    said = f"The expression is {EXPRESSIONS[expression.name]}." if expression and is_face else ""
    return Subject(
        TYPES=SubjectTypes(type=seen.type, sub_type=seen.sub_type),
        appearance=seen.appearance,
        expression=said,
        position=seen.position,
        is_main_subject=seen.is_main_subject,
    )


def _camera(motion: CameraMotion) -> Camera:
    return Camera(**{field.name: getattr(motion, field.name) for field in fields(Camera)})


def _sources(
    caption: ShotCaption,
    shot: dict[str, Answer | None],
    motion: CameraMotion | None,
    light: Lighting | None,
    expression: Expression | None,
    subjects: Sequence[SubjectSighting],
) -> dict[str, FieldSource]:
    """The expert, by its module, behind each field that is not empty."""
    sources = {
        field: FieldSource("experts.shot", answer.confidence)
        for field, answer in shot.items()
        if answer
    }
    if motion and caption.camera_motion:
        sources["camera_motion"] = FieldSource("experts.camera", motion.confidence)
    if light:
        sources["lighting"] = FieldSource("experts.lighting", light.confidence)
    if expression and any(subject.expression for subject in caption.subjects):
        sources["expression"] = FieldSource("experts.expression", expression.confidence)
    if subjects:
        seen = FieldSource("experts.subjects", subjects[0].confidence)
        filled = {
            "TYPES_type": True,
            "TYPES_sub_type": any(s.types.sub_type for s in caption.subjects),
            "appearance": any(s.appearance for s in caption.subjects),
            "position": any(s.position for s in caption.subjects),
            "is_main_subject": True,
        }
        sources |= {field: seen for field, there in filled.items() if there}
    return sources
