"""Preference pairs: what is better is chosen, ties are left out."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from captioner.schema import ShotCaption
from eval.fields import labels_of
from eval.loop import Real, Scored
from eval.preferences import MOTION_MARGIN, make_pairs, write_pairs
from tests.eval.test_loop import REAL, scored

TRUTH = ShotCaption(camera_motion="the camera pans left", shot_type="close_up")
HALF = ShotCaption(camera_motion="the camera pans left", shot_type="long_shot")
NONE = ShotCaption(camera_motion="the camera remains static", shot_type="long_shot")
CAPTIONS = (TRUTH, HALF, NONE)


def sample(number: int, caption: ShotCaption | None, motion: float = 0.1, **more: object) -> Scored:
    measures = {"motion_camera_amount": motion, "motion_subject_amount": 0.0}
    return scored(number, TRUTH, caption, measures=measures, **more)


def pairs(*samples: Scored, real: Real = REAL, reals: dict[str, str] | None = None):
    videos = {
        one.generation.generation_id: f"g/{one.generation.generation_id}.mp4" for one in samples
    }
    return make_pairs(samples, real, {} if reals is None else reals, videos)


def test_the_real_clip_is_preferred_to_what_was_generated() -> None:
    (pair,) = pairs(sample(1, HALF), reals={"clip": "r/clip.mp4"})
    assert (pair.kind, pair.chosen, pair.chosen_id) == ("real", "r/clip.mp4", "clip")
    assert (pair.margin, pair.reasons) == (0.5, ["shot_type: long_shot, not close_up"])
    assert pair.rejected_id == f"{1:024x}"


def test_adherence_decides_first() -> None:
    (pair,) = pairs(sample(1, NONE, 0.1), sample(2, HALF, 9.0))
    assert (pair.kind, pair.chosen_id, pair.margin) == ("adherence", f"{2:024x}", 0.5)
    assert pair.reasons == ["camera_motion: the camera remains static, not the camera pans left"]


def test_motion_decides_among_equals_and_the_nearer_to_real_is_better() -> None:
    (pair,) = pairs(sample(1, HALF, 0.4), sample(2, HALF, 0.09))
    assert (pair.kind, pair.chosen_id) == ("motion", f"{2:024x}")
    assert pair.reasons == ["motion 2.00 octaves off the real clip's, not 0.15"]
    assert not pairs(sample(1, HALF, 0.1), sample(2, HALF, 0.11))
    unknown = Real(REAL.by, REAL.concept, REAL.measures, {})
    assert not pairs(sample(1, HALF, 0.4), sample(2, HALF, 0.09), real=unknown)


def test_what_cannot_be_ranked_is_in_no_pair() -> None:
    reals = {"clip": "r/clip.mp4"}
    assert not pairs(sample(1, None), reals=reals)
    assert not make_pairs([sample(1, HALF)], REAL, reals, {})
    other_prompt = sample(2, TRUTH, prompt="another")
    assert not pairs(sample(1, NONE), other_prompt)


SAMPLES = st.lists(st.tuples(st.sampled_from(CAPTIONS), st.sampled_from((0.1, 0.2, 0.8))))


@given(SAMPLES)
def test_pairs_follow_one_order_and_no_tie_is_among_them(drawn) -> None:
    samples = [sample(n, caption, motion) for n, (caption, motion) in enumerate(drawn)]
    by_id = {one.generation.generation_id: one for one in samples}

    def rank(name: str) -> tuple[float, float]:
        one = by_id[name]
        return one.adherence or 0.0, -one.measures["motion_camera_amount"]

    found = pairs(*samples)
    assert all(rank(pair.chosen_id) > rank(pair.rejected_id) for pair in found)
    differ = sum(
        rank(a) != rank(b) for i, a in enumerate(sorted(by_id)) for b in sorted(by_id)[i + 1 :]
    )
    assert len(found) == differ
    assert all(pair.margin >= MOTION_MARGIN for pair in found if pair.kind == "motion")


def test_the_files_hold_the_same_rows(tmp_path: Path) -> None:
    found = pairs(sample(1, NONE), sample(2, TRUTH), reals={"clip": "r/ü.mp4"})
    assert len(found) == 3
    write_pairs(found, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "preferences.jsonl").open(encoding="utf-8")]
    table = pq.read_table(tmp_path / "preferences.parquet")
    assert table.to_pylist() == lines == [pair.model_dump() for pair in found]
    assert table.schema.field("margin").metadata[b"description"]
    write_pairs([], tmp_path)
    assert pq.read_table(tmp_path / "preferences.parquet").schema.equals(table.schema)


def test_labels_ask_only_what_the_prompt_says() -> None:
    labels = labels_of(TRUTH)
    assert (labels.shot_type, labels.shot_angle, labels.subjects) == ("close_up", None, None)
