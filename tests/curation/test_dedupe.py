from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.decode import read_clip
from captioner.frames import FrameBatch
from curation import dedupe as module
from curation.dedupe import Clips, DedupeConfig, dedupe
from curation.measure.embedding import measure
from eval.dedupe import hashes, render_rows
from eval.synth import Rgb, still, write_video

COPIES = ("again", "small", "crop", "subtitle", "colour", "shift")


def clips(named: dict[str, FrameBatch], quality: Sequence[float] | None = None) -> Clips:
    seen = [measure(batch) for batch in named.values()]
    return Clips(
        list(named),
        np.array([one.embedding for one in seen], np.float32),
        [hashes(one) for one in seen],
        [np.array(one.hash_times) for one in seen],
        np.array(quality if quality is not None else np.arange(len(seen), 0, -1), np.float64),
        np.array([batch.duration for batch in named.values()]),
    )


def walk(place: int, seed: int, frames: int = 75) -> list[Rgb]:
    """Someone wandering before a still camera: the place from one seed, the way from another."""
    rng = np.random.default_rng(seed)
    step = cv2.GaussianBlur(rng.standard_normal((frames, 2)), (1, 31), 0)
    ways = np.cumsum(step, axis=0)
    ways = 0.5 + 0.3 * (ways - ways.mean(0)) / np.abs(ways - ways.mean(0)).max(0)
    background, person = still(place, 320, 180), still(place + 1000, 320, 180)[:90, :60]
    out = []
    for x, y in ways:
        frame = background.copy()
        left, top = round(x * 260), round(y * 90)
        frame[top : top + 90, left : left + 60] = person
        out.append(frame)
    return out


def subtitled(frames: Sequence[Rgb]) -> list[Rgb]:
    out = [frame.copy() for frame in frames]
    for frame in out:
        cv2.putText(frame, "where is the captain", (60, 168), 0, 0.6, (255, 255, 255), 2)
    return out


def copies(frames: Sequence[Rgb]) -> dict[str, list[Rgb]]:
    tint = np.array([1.1, 1.0, 0.85])
    return {
        "again": list(frames),
        "small": [np.asarray(cv2.resize(f, (200, 112)), np.uint8) for f in frames],
        "crop": [np.ascontiguousarray(f[18:, :288]) for f in frames],
        "subtitle": subtitled(frames),
        "colour": [np.clip(f * tint, 0, 255).astype(np.uint8) for f in frames],
        "shift": list(frames[12:]),
    }


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """A clip, its copies encoded poorly, another walk in the same place, and another place."""
    folder = tmp_path_factory.mktemp("copies")
    walked = walk(1, 1)
    named = {"original": FrameBatch.from_rgb(walked, 25.0)}
    for name, frames in copies(walked).items():
        named[name] = read_clip(write_video(folder / f"{name}.mp4", frames, crf=35), threads=1)
    named["same place"] = FrameBatch.from_rgb(walk(1, 2), 25.0)
    named["same place later"] = FrameBatch.from_rgb(walk(1, 3), 25.0)
    named["elsewhere"] = FrameBatch.from_rgb(walk(2, 1), 25.0)
    return clips(named)


def test_copies_are_found_and_other_takes_of_a_place_are_not(real: Clips) -> None:
    found = dedupe(real)
    assert found.duplicate_of == dict.fromkeys(COPIES, "original")
    distances = [pair.distance for pair in found.pairs if "original" in (pair.first, pair.second)]
    assert len(distances) >= len(COPIES) - 1
    assert all(distance is not None and distance <= 16 for distance in distances)


def test_without_the_changes_over_time_other_takes_would_be_copies(real: Clips) -> None:
    """What the test above must tell apart is hard: the same pictures, but for the walk."""
    blind = dedupe(real, config=DedupeConfig(min_agreement=0.001, max_distance=20))
    assert blind.duplicate_of.get("same place") == "original"


def test_likeness_takes_other_takes_too(real: Clips) -> None:
    alike = dedupe(real, config=DedupeConfig(mode="likeness", likeness_cosine=0.9))
    assert alike.duplicate_of["same place"] == "original"
    assert "elsewhere" not in alike.duplicate_of
    assert any(pair.distance is None for pair in alike.pairs)


def test_a_still_is_a_copy_of_itself_and_not_of_another() -> None:
    named = {
        "still": FrameBatch.from_rgb([still(5, 320, 180)] * 30, 25.0),
        "still again": FrameBatch.from_rgb(subtitled([still(5, 320, 180)] * 25), 25.0),
        "other still": FrameBatch.from_rgb([still(6, 320, 180)] * 30, 25.0),
        "black": FrameBatch.from_rgb([np.zeros((180, 320, 3), np.uint8)] * 30, 25.0),
    }
    assert dedupe(clips(named)).duplicate_of == {"still again": "still"}


@pytest.mark.parametrize(("shared", "expected"), [(45, {"late": "early"}), (15, {})])
def test_parts_of_one_take_must_share_half(shared: int, expected: dict[str, str]) -> None:
    take = walk(3, 3, 150)
    named = {
        "early": FrameBatch.from_rgb(take[:75], 25.0),
        "late": FrameBatch.from_rgb(take[75 - shared : 150 - shared], 25.0),
    }
    assert dedupe(clips(named)).duplicate_of == expected


def test_the_best_stays_and_ties_go_to_the_smaller_id(real: Clips) -> None:
    best = replace(real, quality=np.where([i == "crop" for i in real.ids], 2.0, 1.0))
    assert set(dedupe(best).duplicate_of.values()) == {"crop"}
    level = replace(real, quality=np.ones(len(real)))
    assert set(dedupe(level).duplicate_of.values()) == {"again"}
    unknown = replace(real, quality=np.where([i == "crop" for i in real.ids], 0.0, np.nan))
    assert set(dedupe(unknown).duplicate_of.values()) == {"crop"}


def test_clips_of_an_existing_dataset_stay(real: Clips) -> None:
    names = {name: i for i, name in enumerate(real.ids)}
    existing = real.take(np.array([names["small"], names["crop"]]))
    new = real.take(np.array([i for name, i in names.items() if name not in ("small", "crop")]))
    found = dedupe(new, existing).duplicate_of
    assert found == dict.fromkeys(["original", "again", "subtitle", "colour", "shift"], "small")
    with pytest.raises(ValueError, match="one id"):
        dedupe(new, real)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False), st.integers(0, 100))
def test_order_does_not_matter_and_what_stays_is_no_duplicate(random: Random, seed: int) -> None:
    rows, truth = render_rows(120, seed)
    found = dedupe(rows).duplicate_of
    order = list(range(len(rows)))
    random.shuffle(order)
    assert dedupe(rows.take(np.array(order))).duplicate_of == found
    assert not set(found.values()) & set(found)
    assert all(truth[int(one)] == truth[int(other)] for one, other in found.items())
    assert len(found) == len(rows) - len(np.unique(truth))
    for one, other in found.items():
        assert rows.quality[int(one)] <= rows.quality[int(other)]


def test_the_index_finds_what_all_comparisons_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = render_rows(2000, 0)
    half = replace(rows, embeddings=rows.embeddings.astype(np.float16))
    exact = dedupe(rows).duplicate_of
    monkeypatch.setattr(module, "EXACT", 0)
    near = dedupe(half).duplicate_of
    assert len(near) >= 0.97 * len(exact)
    assert near.items() <= exact.items()
    assert dedupe(half).duplicate_of == near


def test_few_neighbours_still_join_a_crowd() -> None:
    one = render_rows(5, 0)[0]
    crowd = Clips(
        [f"{i:03}" for i in range(100)],
        np.repeat(one.embeddings[:1], 100, axis=0),
        [one.hashes[0]] * 100,
        [one.times[0]] * 100,
        np.ones(100),
        np.full(100, 5.0),
    )
    assert len(dedupe(crowd, config=DedupeConfig(neighbours=2)).duplicate_of) == 99


def test_nothing_to_compare() -> None:
    rows, _ = render_rows(10, 0)
    nobody = rows.take(np.arange(0))
    assert dedupe(nobody).duplicate_of == {}
    assert dedupe(rows.take(np.arange(1)), nobody).duplicate_of == {}
    unhashed = [np.zeros((0, 2, 6), np.uint64)] * 10
    blind = replace(rows, hashes=unhashed, times=[np.zeros(0)] * 10)
    assert dedupe(blind).duplicate_of == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "all"},
        {"neighbours": 0},
        {"max_distance": 32},
        {"still_distance": -1},
        {"min_overlap": 0},
        {"candidate_cosine": 1.1},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DedupeConfig(**wrong)


def test_columns_that_do_not_fit() -> None:
    rows, _ = render_rows(10, 0)
    with pytest.raises(ValueError, match="columns"):
        replace(rows, quality=rows.quality[:5])
    with pytest.raises(ValueError, match="one id"):
        replace(rows, ids=["a"] * 10)
    with pytest.raises(ValueError, match="its time"):
        replace(rows, times=[np.zeros(1)] * 10)
