from hypothesis import given

from captioner import fusion
from captioner.schema import ShotCaption, Subject, SubjectTypes
from tests.captioner.test_schema import captions

WOMAN = Subject(
    types=SubjectTypes(type="Human", sub_type="Woman"),
    appearance="wearing a red coat",
    expression="looks happy",
    position="on the left",
    is_main_subject=True,
)
FULL = ShotCaption(
    subjects=(WOMAN,),
    shot_type="medium_shot",
    shot_angle="eye_level",
    shot_position="front_view",
    camera_motion="the camera pans right",
    lighting="dim light",
)


def test_text_to_video_says_all_that_the_caption_says() -> None:
    assert fusion.t2v(FULL, ("EXIT",)) == (
        "A medium shot at eye level seen from the front of a woman. Wearing a red coat."
        ' Looks happy. On the left. Dim light. Text on screen: "EXIT". The camera pans right.'
    )


def test_image_to_video_says_only_what_moves() -> None:
    assert fusion.i2v(FULL) == "A woman. Looks happy. The camera pans right."


def test_what_was_not_seen_is_not_said() -> None:
    assert fusion.t2v(ShotCaption()) == ""
    assert fusion.i2v(ShotCaption()) == ""
    assert fusion.t2v(ShotCaption(shot_angle="low_angle")) == "A shot from a low angle."
    assert fusion.t2v(ShotCaption(camera_motion="the camera tilts up")) == "The camera tilts up."


@given(captions)
def test_camera_motion_closes_the_text(caption: ShotCaption) -> None:
    motion = caption.camera_motion.strip().rstrip(".")
    for text in (fusion.t2v(caption), fusion.i2v(caption)):
        if motion:
            assert text.lower().rstrip(".").endswith(motion[1:].lower())
        assert text == text.strip()
