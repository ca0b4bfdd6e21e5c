"""The engine on top of a generator: what it asks, what it makes of the answer."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.engines.vlm import (
    RETRY_TEMPERATURE,
    TEMPERATURE,
    Generation,
    Request,
    VlmEngine,
    answer_schema,
    most_characters,
    shares_of,
)
from captioner.schema import ShotCaption, Subject, SubjectTypes
from tests.captioner.engines.conftest import clip

GOOD = ShotCaption(
    subjects=(Subject(types=SubjectTypes(type="Animal", sub_type="Cat"), action="It walks."),),
    shot_type="close_up",
    camera_motion="pans left",
)


class Scripted:
    """Answers by a function; `ahead` requests are pulled before the first answer leaves."""

    name = "scripted"
    context = 32_768

    def __init__(self, answer: Callable[[Request], Generation], ahead: int = 1) -> None:
        self.answer = answer
        self.ahead = ahead
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        return [generation for _, generation in self.stream(enumerate(requests))]

    def stream(self, requests: Iterable) -> Iterator:
        held = []
        for key, request in requests:
            self.asked.append(request)
            held.append((key, self.answer(request)))
            if len(held) == self.ahead:
                yield held.pop()
        yield from reversed(held)

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}


def said(text: str, finish: str = "stop") -> Generation:
    return Generation(text, finish)  # type: ignore[arg-type]


def test_a_good_answer_is_a_caption_with_its_prose_and_sources() -> None:
    generator = Scripted(lambda _: said(GOOD.to_json()))

    (result,) = VlmEngine(generator).caption([clip()])

    assert (result.status, result.caption, result.error) == ("ok", GOOD, None)
    assert result.raw == GOOD.to_json()
    filled = {"TYPES_type", "TYPES_sub_type", "action", "shot_type", "camera_motion"}
    assert set(result.sources) == filled
    assert {source.source for source in result.sources.values()} == {"scripted"}
    assert "walks" in result.t2v
    assert "walks" in result.i2v


def test_the_request_is_the_released_one() -> None:
    generator = Scripted(lambda _: said(GOOD.to_json()))

    VlmEngine(generator, policy="reference").caption([clip()])

    (request,) = generator.asked
    assert request.temperature == TEMPERATURE == 0.05
    assert request.video is not None
    assert request.video.frames.shape == (16, 420, 360, 3)
    assert request.schema == answer_schema()


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (said(GOOD.to_json()[:-40], "length"), "truncated"),
        (said("I cannot see a video."), "invalid"),
        (said(json.dumps({"camera_motion": "it pans left and " * 30})), "repaired"),
    ],
)
def test_a_bad_answer_is_asked_for_once_more(first: Generation, status: str) -> None:
    def answer(request: Request) -> Generation:
        return first if request.temperature == TEMPERATURE else said(GOOD.to_json())

    generator = Scripted(answer)

    (result,) = VlmEngine(generator).caption([clip()])

    assert [r.temperature for r in generator.asked] == [TEMPERATURE, RETRY_TEMPERATURE]
    assert (result.status, result.caption) == ("ok", GOOD)
    assert result.error is not None
    assert f"at first {status}" in result.error
    assert "again at temperature 0.7: ok" in result.error


def test_the_better_of_two_bad_answers_stays() -> None:
    def answer(request: Request) -> Generation:
        cold = request.temperature == TEMPERATURE
        return said(GOOD.to_json()[:-40], "length") if cold else said("no")

    (result,) = VlmEngine(Scripted(answer)).caption([clip()])

    assert result.status == "truncated"
    assert result.raw == GOOD.to_json()[:-40]
    assert result.error is not None
    assert "again at temperature 0.7: invalid" in result.error


def test_an_engines_error_is_the_rows_and_is_not_asked_again() -> None:
    generator = Scripted(lambda _: Generation("", "error", "the engine died"))

    (result,) = VlmEngine(generator).caption([clip()])

    assert (result.status, result.error, len(generator.asked)) == ("error", "the engine died", 1)


@given(st.lists(st.sampled_from(["good", "bad", "broken"]), max_size=12), st.integers(1, 5))
def test_every_clip_has_one_result_in_order_whatever_happens(kinds: list[str], ahead: int) -> None:
    answers = {0.0: "good", 1.0: "bad"}

    def answer(request: Request) -> Generation:
        assert request.video is not None
        kind = answers[request.video.times[0]]
        return said(GOOD.to_json() if kind == "good" else "no")

    good, bad = _told_apart()
    batches = [{"good": good, "bad": bad, "broken": None}[kind] for kind in kinds]
    engine = VlmEngine(Scripted(answer, ahead))

    results = engine.caption(batches)  # type: ignore[arg-type]

    expected = {"good": "ok", "bad": "invalid", "broken": "error"}
    assert [result.status for result in results] == [expected[kind] for kind in kinds]


def _told_apart() -> list:
    from dataclasses import replace

    from captioner.policies import native

    video = native(clip(frames=4))
    return [replace(video, times=(at, *video.times[1:])) for at in (0.0, 1.0)]


def test_the_budget_holds_the_longest_answer() -> None:
    schema = answer_schema(longest_string=50, most_subjects=2)
    text, word = "x" * 50, "x" * 40
    subject = Subject(
        types=SubjectTypes(type=word, sub_type=word),
        appearance=text, action=text, expression=text, position=text,
    )  # fmt: skip
    longest = ShotCaption(
        subjects=(subject, subject), shot_type="extreme_close_up", shot_angle="high_angle",
        shot_position="over_the_shoulder", camera_motion=text, environment=text, lighting=text,
    )  # fmt: skip

    assert 0 <= most_characters(schema) - len(longest.to_json()) < 20
    assert VlmEngine(Scripted(lambda _: said("")), longest_string=50).max_tokens > len(
        longest.to_json()
    )


def test_the_budget_leaves_room_for_the_prompt() -> None:
    generator = Scripted(lambda _: said(""))
    generator.context = 4096

    assert VlmEngine(generator).max_tokens < 4096 - 1560 - 420


def test_a_schema_without_bounds_has_no_budget() -> None:
    with pytest.raises(ValueError, match="no bound"):
        most_characters({"type": "object", "properties": {"a": {"type": "string"}}})


def test_the_identity_tells_what_changes_captions() -> None:
    generator = Scripted(lambda _: said(""))
    engines = [
        VlmEngine(generator),
        VlmEngine(generator, policy="reference"),
        VlmEngine(generator, temperature=1.0),
        VlmEngine(generator, max_tokens=100),
        VlmEngine(generator, longest_string=100, max_tokens=17_675),
    ]

    assert len({json.dumps(engine.identity(), sort_keys=True) for engine in engines}) == 5


# --- questions beside the caption -----------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["good", "bad", "broken"]), max_size=8),
    st.integers(1, 7),
    st.integers(0, 3),
)
def test_each_clip_has_the_answers_about_itself(kinds: list[str], ahead: int, asked: int) -> None:
    share = {0.0: 0.25, 1.0: 0.75}

    def answer(request: Request) -> Generation:
        assert request.video is not None
        told = share[request.video.times[0]]
        if not request.choices:
            return said(GOOD.to_json() if told == 0.25 else "no")
        assert (request.choices, request.max_tokens) == (("yes", "no"), 1)
        number = int(request.prompt.split()[1])
        return Generation("", "stop", shares=(told / (1 + number), 1 - told / (1 + number)))

    good, bad = _told_apart()
    batches = [{"good": good, "bad": bad, "broken": None}[kind] for kind in kinds]
    questions = {f"q{i}": f"Is {i} right?" for i in range(asked)}

    results = VlmEngine(Scripted(answer, ahead), questions=questions).caption(batches)  # type: ignore[arg-type]

    for kind, result in zip(kinds, results, strict=True):
        known = {"good": 0.25, "bad": 0.75}.get(kind)
        answers = {} if known is None else {f"q{i}": known / (1 + i) for i in range(asked)}
        assert result.answers == answers
        assert (result.caption == GOOD) == (kind == "good")


def test_a_question_that_is_not_answered_is_told_beside_the_caption() -> None:
    def answer(request: Request) -> Generation:
        if "a cat?" in request.prompt:
            return Generation("", "error", "Traceback\nValueError: out of room")
        return Generation("Maybe", "length") if request.choices else said(GOOD.to_json())

    questions = {"cat": "Is there a cat?", "dog": "Is there a dog?"}
    (result,) = VlmEngine(Scripted(answer), questions=questions).caption([clip()])

    assert (result.status, result.caption, result.answers) == ("ok", GOOD, {})
    assert result.error == (
        "question cat is not answered: ValueError: out of room; "
        "question dog is not answered: neither yes nor no"
    )


def test_the_identity_tells_the_questions() -> None:
    plain = VlmEngine(Scripted(lambda _: said(""))).identity()
    asking = VlmEngine(Scripted(lambda _: said("")), questions={"cat": "A cat?"}).identity()
    assert asking == {**plain, "question cat": "A cat?"}


def test_shares_are_of_the_choices_alone() -> None:
    likely = [("yes", 0.2), (" Yes", 0.1), ("NO", 0.1), ("yesterday", 0.3), ("", 0.3)]
    found = shares_of(("yes", "no"), [(token, math.log(share)) for token, share in likely])
    assert found == pytest.approx((0.75, 0.25))
    assert shares_of(("yes", "no"), [("maybe", -0.1)]) == ()
