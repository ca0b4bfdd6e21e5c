"""Structured caption to prose, for text-to-video (T2V) and image-to-video (I2V) training.

By template: nothing is said that the structured caption does not say. The order and the choice of
fields are those of the released fusion prompts (SkyReels-V2,
skycaptioner_v1/scripts/vllm_fusion_caption.py): T2V tells shot, subjects, environment and lighting;
I2V, where the first frame shows all that, only what moves; camera motion always closes the text.
"""

from __future__ import annotations

from captioner.schema import ShotCaption, Subject

_SHOT = {
    "long_shot": "long shot",
    "full_shot": "full shot",
    "medium_shot": "medium shot",
    "close_up": "close-up",
    "extreme_close_up": "extreme close-up",
}
_ANGLE = {
    "eye_level": "at eye level",
    "high_angle": "from a high angle",
    "low_angle": "from a low angle",
}
_POSITION = {
    "front_view": "seen from the front",
    "back_view": "seen from behind",
    "side_view": "seen from the side",
    "over_the_shoulder": "over the shoulder",
    "overhead_view": "from straight above",
    "point_of_view": "from a point of view",
    "aerial_view": "from the air",
    "overlooking_view": "overlooking the scene",
}


def t2v(caption: ShotCaption, screen_text: tuple[str, ...] = ()) -> str:
    """Prose for text-to-video: all that the caption says. `screen_text` is text in the picture."""
    view = [_ANGLE.get(caption.shot_angle, ""), _POSITION.get(caption.shot_position, "")]
    shot = _SHOT.get(caption.shot_type, "shot" if any(view) else "")
    main = caption.main_subject
    opening = " ".join(filter(None, [shot and _article(shot), *view]))
    if main:
        opening = f"{opening} of {_name(main)}" if opening else _name(main)
    sentences = [opening]
    for subject in caption.subjects:
        if subject is not main and subject.types.type:
            sentences.append(_name(subject))
        sentences += [subject.action, subject.appearance, subject.expression, subject.position]
    sentences += [caption.environment, caption.lighting]
    if screen_text:
        sentences.append("Text on screen: " + "; ".join(f'"{line}"' for line in screen_text))
    return _join([*sentences, caption.camera_motion])


def i2v(caption: ShotCaption) -> str:
    """Prose for image-to-video: who acts and how, and how the camera moves."""
    sentences = []
    for subject in caption.subjects:
        if subject.action or subject.expression:
            sentences += [_name(subject), subject.action, subject.expression]
    return _join([*sentences, caption.camera_motion])


def _name(subject: Subject) -> str:
    """`a woman`; `text` and scenery take no article."""
    if subject.types.type == "Human" and subject.types.sub_type in ("", "Other"):
        return "a person"
    name = (subject.types.sub_type or subject.types.type).replace("_", " ").lower()
    if name in ("", "other"):
        name = subject.types.type.lower() or "a subject"
    return name if subject.types.type in ("Text", "Scenery", "Food", "Sport") else _article(name)


def _article(noun: str) -> str:
    return (
        noun if noun.startswith(("a ", "an ")) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    )


def _join(sentences: list[str]) -> str:
    """The sentences that say something, each with its capital and its full stop."""
    ended = []
    for sentence in sentences:
        if text := sentence.strip().rstrip("."):
            stop = "" if text.endswith(("!", "?", '."')) else "."
            ended.append(text[0].upper() + text[1:] + stop)
    return " ".join(ended)
