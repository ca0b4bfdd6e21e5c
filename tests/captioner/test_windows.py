import itertools
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner import fusion
from captioner.frames import FrameBatch, MotionPair, Picture
from captioner.merge import filled
from captioner.result import CaptionResult, FieldSource, Status
from captioner.schema import (
    MAX_SUBJECTS,
    SHOT_FIELDS,
    ShotCaption,
    Subject,
    SubjectTypes,
    options,
)
from captioner.windows import (
    MIN_PICTURES,
    merge_windows,
    motions_in_order,
    sentences_in_order,
    split,
    worst,
)
from tests.captioner.test_schema import captions

PLANE = np.zeros((8, 8), np.uint8)


def batch(pictures: int, seconds: float, pairs: int = 0, start: float = 3.0) -> FrameBatch:
    times = [start + seconds * i / pictures for i in range(pictures)]
    begins = [start + seconds * i / max(1, pairs) for i in range(pairs)]
    return FrameBatch(
        tuple(Picture(PLANE, PLANE, PLANE, time, index=i) for i, time in enumerate(times)),
        tuple(MotionPair(PLANE, PLANE, time, time + seconds / pairs) for time in begins),
        start,
        start + seconds,
        24.0,
    )


@given(st.integers(1, 130), st.floats(0.1, 1000), st.integers(0, 64), st.floats(0.01, 1000))
def test_windows_are_the_clip_again_in_order(
    pictures: int, seconds: float, pairs: int, window: float
) -> None:
    clip = batch(pictures, seconds, pairs)
    windows = split(clip, window)
    assert tuple(itertools.chain(*(w.pictures for w in windows))) == clip.pictures
    assert [p.start for w in windows for p in w.pairs] == [p.start for p in clip.pairs]
    assert (windows[0].start, windows[-1].end) == (clip.start, clip.end)
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))
    for one in windows:
        assert all(one.start <= picture.time <= one.end for picture in one.pictures)
        assert one.fps == clip.fps


@given(st.integers(1, 130), st.floats(0.1, 1000), st.floats(0.01, 1000))
def test_windows_hold_what_a_model_looks_at(pictures: int, seconds: float, window: float) -> None:
    windows = split(batch(pictures, seconds), window)
    sizes = [len(one) for one in windows]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(MIN_PICTURES, pictures)
    if len(windows) > 1:
        assert seconds > window
    if pictures // MIN_PICTURES >= seconds / window:  # pictures enough for the windows asked for
        assert len(windows) >= seconds / window - 1e-5


def test_a_clip_of_a_windows_length_stays_whole() -> None:
    clip = batch(32, 10.0)
    assert len(split(clip, 10.0)) == 1
    assert [len(one) for one in split(clip, 9.9)] == [16, 16]
    assert [one.start for one in split(clip, 5.0)] == [3.0, 8.0]
    assert len(split(batch(31, 10.0), 5.0)) == 1  # too few pictures for two
    assert len(split(batch(32, 10.0), 1.0)) == 2  # nor for ten


@pytest.mark.parametrize("window", [0, -1, float("nan")])
def test_a_window_is_longer_than_nothing(window: float) -> None:
    with pytest.raises(ValueError, match="is not longer than 0 s"):
        split(batch(32, 10.0), window)


# --- one caption of several -----------------------------------------------------------------------


def window(status: Status = "ok", error: str | None = None, **said: Any) -> CaptionResult:
    if status in ("invalid", "error"):
        return CaptionResult(status, "vllm", None, raw=f"raw {status}", error=error)
    caption = ShotCaption(**said)
    sources = {name: FieldSource("vllm", 0.5) for name in filled(caption)}
    return CaptionResult(status, "vllm", caption, sources, raw=caption.to_json(), error=error)


def merged(*results: CaptionResult) -> ShotCaption:
    caption = merge_windows(results).caption
    assert caption is not None
    return caption


def subject(kind: str, sub_type: str = "", main: bool = False, **said: str) -> Subject:
    return Subject(types=SubjectTypes(type=kind, sub_type=sub_type), is_main_subject=main, **said)


def test_options_are_decided_by_majority_and_then_by_time() -> None:
    long, close, none = (window(shot_type=name) for name in ("long_shot", "close_up", ""))
    assert merged(long, close, close).shot_type == "close_up"
    assert merged(long, close).shot_type == "long_shot"
    assert merged(close, long).shot_type == "close_up"
    assert merged(none, none, long).shot_type == "long_shot"
    assert merged(none, none).shot_type == ""


def test_camera_motion_is_told_in_order() -> None:
    pan, tilt, still = (
        window(camera_motion=text) for text in ("the camera pans right", "the camera tilts up.", "")
    )
    assert merged(pan, tilt).camera_motion == "the camera pans right, then the camera tilts up"
    assert merged(tilt, pan).camera_motion == "the camera tilts up, then the camera pans right"
    assert merged(pan, still, pan).camera_motion == "the camera pans right"
    assert (
        merged(pan, tilt, pan).camera_motion
        == "the camera pans right, then the camera tilts up, then the camera pans right"
    )
    assert merged(still, still).camera_motion == ""


def test_actions_are_told_in_order_and_not_twice() -> None:
    sits = subject("Human", "Woman", True, action="A woman sits in a car. She speaks.")
    leaves = subject("Human", "Woman", True, action="A woman sits in a car. She leaves it")
    caption = merged(window(subjects=(sits,)), window(subjects=(leaves,)))
    (woman,) = caption.subjects
    assert woman.action == "A woman sits in a car. She speaks. She leaves it."


def test_a_place_is_told_once_however_it_is_worded() -> None:
    car = window(environment="Interior of a car with dark upholstery.")
    again = window(environment="The dark interior of a car.")
    street = window(environment="A wet street at night.")
    assert merged(car, again).environment == "Interior of a car with dark upholstery."
    assert (
        merged(car, again, street).environment
        == "Interior of a car with dark upholstery. A wet street at night."
    )


def test_subjects_are_followed_by_type_and_appearance() -> None:
    red = "a red coat and long black hair"
    suit = "a grey suit and a white shirt"
    first = window(
        subjects=(
            subject("Human", "Man", appearance=suit, action="A man waits."),
            subject("Human", "Woman", True, appearance=red, action="A woman speaks."),
        )
    )
    second = window(
        subjects=(
            subject(
                "Human", "Woman", True, appearance="black hair, red coat", action="She laughs."
            ),
            subject("Human", "Man", appearance="a grey suit", position="on the right"),
            subject("Human", "Man", appearance="yellow overalls", action="A worker enters."),
            subject("Animal", "", appearance="a grey suit"),
        )
    )
    subjects = merged(first, second).subjects
    assert [(s.types.type, s.types.sub_type, s.is_main_subject) for s in subjects] == [
        ("Human", "Man", False),
        ("Human", "Woman", True),
        ("Human", "Man", False),
        ("Animal", "", False),
    ]
    assert [s.action for s in subjects] == [
        "A man waits.",
        "A woman speaks. She laughs.",
        "A worker enters.",
        "",
    ]
    assert [s.appearance for s in subjects] == [suit, red, "yellow overalls", "a grey suit"]
    assert subjects[0].position == "on the right"


def test_of_two_alike_the_likest_are_one() -> None:
    a, b = "a dark suit with a red tie", "a dark suit with a blue tie"
    first = window(subjects=(subject("Human", "Man", appearance=a, action="One sits."),))
    second = window(
        subjects=(
            subject("Human", "Man", appearance=b, action="One stands."),
            subject("Human", "Man", appearance=a, action="One sleeps."),
        )
    )
    assert [s.action for s in merged(first, second).subjects] == [
        "One sits. One sleeps.",
        "One stands.",
    ]


@pytest.mark.parametrize(
    "second",
    [
        subject("Human", "Man", appearance="yellow overalls"),
        subject("Human", "Woman", appearance="a grey suit"),
        subject("Animal", "Man", appearance="a grey suit"),
    ],
)
def test_another_look_or_type_is_another_subject(second: Subject) -> None:
    first = subject("Human", "Man", appearance="a grey suit")
    assert merged(window(subjects=(first,)), window(subjects=(second,))).subjects == (first, second)


def test_the_main_subject_may_change_its_looks() -> None:
    coat = subject("Human", "Woman", True, appearance="a red coat")
    dress = subject("Human", "Woman", True, appearance="silver dress")
    (woman,) = merged(window(subjects=(coat,)), window(subjects=(dress,))).subjects
    assert woman.appearance == "a red coat. silver dress."


def test_a_subject_gets_the_name_that_says_more() -> None:
    vague = window(subjects=(subject("Sport", "Other", True, appearance="a dark jersey"),))
    named = window(subjects=(subject("Sport", "Football", True, appearance="a dark jersey"),))
    for pair in ((vague, named), (named, vague)):
        assert [s.types.sub_type for s in merged(*pair).subjects] == ["Football"]


def test_the_main_subject_is_that_of_most_windows() -> None:
    def seen(main: str) -> CaptionResult:
        kinds = ("Human", "Animal")
        return window(subjects=tuple(subject(kind, main=kind == main) for kind in kinds))

    def chosen(*mains: str) -> list[str]:
        subjects = merged(*map(seen, mains)).subjects
        return [s.types.type for s in subjects if s.is_main_subject]

    assert chosen("Human", "Animal", "Animal") == ["Animal"]
    assert chosen("Human", "Animal") == ["Human"]
    assert chosen("", "") == []


def test_more_subjects_than_the_schema_takes_leave_the_main_and_the_steady_ones() -> None:
    names = [f"kind {i}" for i in range(12)]
    first = window(subjects=tuple(subject(name) for name in names[:8]))
    second = window(subjects=tuple(subject(name, main=name == names[11]) for name in names[4:12]))
    kept = [s.types.type for s in merged(first, second).subjects]
    assert kept == [*names[:3], *names[4:8], names[11]]
    assert len(kept) == MAX_SUBJECTS


# --- how it came about ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (("ok", "repaired"), "repaired"),
        (("truncated", "repaired", "ok"), "truncated"),
        (("ok", "invalid"), "invalid"),
        (("error", "invalid"), "error"),
    ],
)
def test_the_status_is_the_worst(statuses: tuple[Status, ...], status: str) -> None:
    result = merge_windows([window(one, error=None if one == "ok" else "bad") for one in statuses])
    assert result.status == status
    assert (result.caption is None) == (status in ("invalid", "error"))
    bad = [i for i, one in enumerate(statuses, 1) if one != "ok"]
    assert result.error == "; ".join(f"window {i} of {len(statuses)}: bad" for i in bad)
    assert result.raw is not None
    assert len(result.raw.splitlines()) == len(statuses)


def test_sources_name_all_who_said_a_field() -> None:
    first, second = window(lighting="dim", environment="a car"), window(lighting="a bright noon")
    second = CaptionResult(
        "ok", "vllm", second.caption, {"lighting": FieldSource("experts.lighting", 0.3)}
    )
    sources = merge_windows([first, second]).sources
    assert sources == {
        "lighting": FieldSource("vllm + experts.lighting", 0.3),
        "environment": FieldSource("vllm", 0.5),
    }


def test_no_window_is_a_bug() -> None:
    with pytest.raises(ValueError, match="at least one window"):
        merge_windows([])


# --- for any captions -----------------------------------------------------------------------------


@given(st.lists(captions, min_size=1, max_size=4))
def test_one_caption_of_any(said: list[ShotCaption]) -> None:
    results = [
        window(**{name: getattr(c, name) for name in ShotCaption.model_fields}) for c in said
    ]
    result = merge_windows(results)
    assert result == merge_windows(results)
    assert result.caption is not None
    assert set(result.sources) == set(filled(result.caption))
    if len(said) > 1:
        assert (result.t2v, result.i2v) == (fusion.t2v(result.caption), fusion.i2v(result.caption))
        assert sum(s.is_main_subject for s in result.caption.subjects) <= 1
    for name in SHOT_FIELDS:
        values = {getattr(caption, name) for caption in said}
        now = getattr(result.caption, name)
        if options(name):
            assert now in values
            assert now or values == {""}
    kinds = {s.types.type for caption in said for s in caption.subjects}
    assert {s.types.type for s in result.caption.subjects} <= kinds
    assert len(result.caption.subjects) >= min(
        MAX_SUBJECTS, max(len(caption.subjects) for caption in said)
    )


@given(captions, st.integers(2, 4))
def test_windows_that_agree_say_what_each_says(caption: ShotCaption, count: int) -> None:
    said = {name: getattr(caption, name) for name in ShotCaption.model_fields}
    result = merged(*[window(**said) for _ in range(count)])
    for name in SHOT_FIELDS:
        if options(name):
            assert getattr(result, name) == getattr(caption, name)
    assert result.environment == caption.environment.strip()
    assert result.lighting == caption.lighting.strip()
    assert len(result.subjects) == len(caption.subjects)


three_texts = st.tuples(
    *[st.sampled_from(["", "it pans", "it tilts.", "it pans, then it tilts"])] * 3
)


@given(three_texts)
def test_joining_motions_is_associative(texts: tuple[str, str, str]) -> None:
    a, b, c = texts
    left = motions_in_order([motions_in_order([a, b]), c])
    assert left == motions_in_order([a, motions_in_order([b, c])]) == motions_in_order(texts)


prose = st.lists(
    st.sampled_from(["He runs.", "He falls", "Why?", "他跑。", "Mr. X is up"]), max_size=4
)


@given(prose.map(" ".join), prose.map(" ".join), prose.map(" ".join))
def test_joining_actions_is_associative(a: str, b: str, c: str) -> None:
    def join(*texts: str) -> str:
        return sentences_in_order(texts, 1500)

    assert join(join(a, b), c) == join(a, join(b, c)) == join(a, b, c)


@given(st.lists(st.text(max_size=80), max_size=6), st.integers(1, 100))
def test_what_has_no_room_is_left_out_whole(texts: list[str], limit: int) -> None:
    said = sentences_in_order(texts, limit)
    assert len(said) <= limit
    assert sentences_in_order(texts, 10_000).startswith(said)


statuses = st.sampled_from(get_args(Status))


@given(statuses, statuses, statuses)
def test_the_worst_status_is_associative(a: Status, b: Status, c: Status) -> None:
    assert worst([worst([a, b]), c]) == worst([a, worst([b, c])]) == worst([c, b, a])


def test_an_answer_is_the_mean_of_the_windows_that_gave_one() -> None:
    said = [{"cat": 0.25}, {"cat": 0.75, "dog": 0.5}, {}]
    results = [replace(window(lighting="Soft."), answers=answers) for answers in said]
    assert merge_windows(results).answers == {"cat": 0.5, "dog": 0.5}
    assert merge_windows(results[:1]).answers == {"cat": 0.25}
