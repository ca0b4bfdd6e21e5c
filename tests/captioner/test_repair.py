"""Broken outputs, in `broken/`: `by_hand.jsonl` after the issues that users report, with what is
to come out; `mutated.jsonl` from captions of our own and from the published outputs of
SkyCaptioner-V1 (SkyReels-V2, skycaptioner_v1/examples/test_result.csv), by
`python -m eval.repair --write`, with the fields that are whole in them.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.loops import cut_loops
from captioner.repair import Parsed, parse
from captioner.schema import MAX_SUBJECTS, ShotCaption
from eval.repair import (
    BREAKS,
    CAPTIONS,
    broken_outputs,
    check,
    damaged,
    invented,
    leaves,
    score,
)
from tests.captioner.test_schema import captions

BROKEN = Path(__file__).parent / "broken"
SEEDS = st.integers(0, 2**32)


def corpus(name: str) -> list[dict[str, Any]]:
    with (BROKEN / name).open(encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def said(parsed: Parsed) -> dict[str, Any]:
    """What is not empty in the caption, by path, blanks as single spaces."""
    tree = parsed.caption.model_dump(by_alias=True) if parsed.caption else {}
    return {path: plain(value) for path, value in leaves(tree).items()}


def plain(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


# --- the corpus -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", corpus("by_hand.jsonl"), ids=lambda case: case["kind"])
def test_outputs_broken_by_hand_say_what_they_say_and_no_more(case: dict[str, Any]) -> None:
    parsed = parse(case["text"], case["finished"])
    assert said(parsed) == {path: plain(value) for path, value in case["kept"].items()}
    assert parsed.status == case["status"]
    check(case["text"], parsed)


def test_whole_fields_of_mutated_outputs_are_kept() -> None:
    """All of them, but where a single mark is wrong: there nine of ten."""
    cases = corpus("mutated.jsonl")
    assert len(cases) + len(corpus("by_hand.jsonl")) >= 300
    fields = kept = 0
    for case in cases:
        parsed = parse(case["text"], case["finished"])
        check(case["text"], parsed)
        found = said(parsed)
        lost = {p: v for p, v in case["kept"].items() if found.get(p) != plain(v)}
        if " mark" in case["kind"]:
            fields += len(case["kept"])
            kept += len(case["kept"]) - len(lost)
        else:
            assert not lost, (case["kind"], lost, parsed.notes)
            assert parsed.status in ("repaired", "truncated"), case["kind"]
    assert kept / fields > 0.9


def test_truncated_outputs_keep_their_whole_fields_and_say_nothing_else() -> None:
    only = {kind: BREAKS[kind] for kind in ("cut", "loop to the end", "subjects in a loop")}
    outputs = [one for one in broken_outputs(CAPTIONS, 30, seed=1) if one.kind in only]
    assert len(outputs) >= 300
    result = score(outputs, lambda one: _tree(parse(one.text, one.finished)))["all"]
    assert result.kept / result.fields > 0.95
    assert result.wrong == 0
    statuses = {parse(one.text, one.finished).status for one in outputs}
    assert statuses == {"truncated", "invalid"}  # invalid: nothing whole before the cut


def _tree(parsed: Parsed) -> Any:
    return parsed.caption.model_dump(by_alias=True) if parsed.caption else None


# --- properties -----------------------------------------------------------------------------------


@given(captions)
def test_a_valid_caption_is_read_as_it_is(caption: ShotCaption) -> None:
    parsed = parse(caption.to_json())
    if parsed.status == "ok":
        assert parsed.caption == caption
        assert parsed.notes == ()
    else:  # random captions may hold loops and control characters
        causes = ("loop", "control", "repeated subjects")
        assert all(any(cause in note for cause in causes) for note in parsed.notes)


@settings(deadline=None, max_examples=300)
@given(SEEDS)
def test_damaged_text_raises_nothing_and_nothing_is_invented(seed: int) -> None:
    rng = random.Random(seed)
    texts = [json.dumps(caption) for caption in CAPTIONS]
    text = damaged(texts, rng)
    check(text, parse(text, finished=rng.random() < 0.5))


@settings(deadline=None, max_examples=300)
@given(st.text() | st.text("{}[]\",:\\ \n'`tsubject_hoyplgn"), st.booleans())
def test_any_text_raises_nothing(text: str, finished: bool) -> None:
    check(text, parse(text, finished))
    check('{"lighting": "' + text, parse('{"lighting": "' + text, finished))


@settings(deadline=None)
@given(SEEDS, st.data())
def test_more_of_the_text_never_says_less(seed: int, data: st.DataObject) -> None:
    """Each whole field of a shorter piece stands as it is in every longer one."""
    text = json.dumps(CAPTIONS[seed % len(CAPTIONS)])
    shorter, longer = sorted(data.draw(st.integers(2, len(text))) for _ in range(2))
    before, after = (said(parse(text[:at], finished=False)) for at in (shorter, longer))
    for path, value in before.items():
        assert after[path] == value or str(after[path]).startswith(str(value))


def test_what_is_invented_is_found() -> None:
    """The check that the properties rest on."""
    caption = ShotCaption.model_validate(CAPTIONS[0])
    text = caption.to_json()
    assert invented(text, caption) == []
    other = caption.model_copy(update={"lighting": "Red neon.", "shot_type": "long_shot"})
    assert invented(text, other) == ["shot_type", "lighting"]
    swapped = caption.model_copy(update={"lighting": "shadows without light"})
    assert invented(text, swapped) == ["lighting"]


# --- bounds ---------------------------------------------------------------------------------------


def test_the_bounds_of_the_schema_are_kept_with_a_note() -> None:
    words = " ".join(f"w{i}" for i in range(900))
    one = {**CAPTIONS[1]["subjects"][0], "action": f"It sleeps. {words}"}
    many = [{**one, "position": f"place {i}"} for i in range(12)]
    tree = {**CAPTIONS[1], "subjects": many, "lighting": words}
    parsed = parse(json.dumps(tree))
    assert parsed.caption is not None
    assert parsed.status == "repaired"
    assert len(parsed.caption.subjects) == MAX_SUBJECTS
    assert parsed.caption.subjects[0].action == "It sleeps."
    assert 1400 < len(parsed.caption.lighting) <= 1500
    assert words.startswith(parsed.caption.lighting + " ")
    notes = "; ".join(parsed.notes)
    assert "12 subjects, the first 8 kept" in notes
    assert "lighting: 4389 characters, shortened to 1500" in notes


def test_notes_are_short_whatever_the_text() -> None:
    wild = {"lighting": "Night.", "k" * 5000: 1, "shot_type": "x" * 9000}
    parsed = parse(json.dumps(wild))
    assert parsed.caption is not None
    assert parsed.caption.lighting == "Night."
    assert all(len(note) < 200 for note in parsed.notes)


HUGE = {
    "curly": "{",
    "square": "[",
    "quotes": '"',
    "keys": '{"subjects":[',
    "quotes in a string": ('{"lighting": "', '"'),
    "closing brackets": ('{"subjects":[{"TYPES":{"type":"Human"', "]"),
    "commas in a string": ('{"lighting": "', '",'),
    "apostrophes": ("{'lighting': '", "' 'a"),
    "blanks": ('{"lighting": "', '" '),
    "loops in loops": ('{"lighting": "', "a b a b c "),
    "subjects": ('{"subjects":[', '{"position":"a b."},'),
    "special tokens": "<|a|>x",
}


@pytest.mark.parametrize("kind", HUGE)
def test_time_is_linear_in_the_length(kind: str) -> None:
    given_ = HUGE[kind]
    head, unit = given_ if isinstance(given_, tuple) else ("", given_)

    def seconds(length: int) -> float:
        text = head + unit * (length // len(unit))
        started = time.process_time()
        parse(text, finished=False)
        return time.process_time() - started

    small, large = min(seconds(20_000) for _ in range(3)), seconds(320_000)
    assert large < 16 * 4 * small + 0.2  # quadratic would be 256 times


# --- loops ----------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from("abcdefghij"), max_size=20),
    st.lists(st.sampled_from("klmnopqrst"), min_size=4, max_size=12, unique=True),
    st.integers(3, 40),
    st.lists(st.sampled_from("uvwxyz"), max_size=20),
)
def test_a_repeated_run_is_kept_once(
    before: list[str], run: list[str], times: int, after: list[str]
) -> None:
    once = " ".join([*before, *run, *after])
    looped = " ".join([*before, *run * times, *after])
    assert cut_loops(looped).replace("  ", " ") in (once, cut_loops(once))


@given(st.lists(st.integers(), unique=True, max_size=50))
def test_what_is_no_loop_stays(words: list[int]) -> None:
    text = " ".join(f"word{one}" for one in words)
    assert cut_loops(text) == text
    assert cut_loops("very, very, very good") == "very, very, very good"
