"""Adherence: figures of what came out, and the page, in real Chromium."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.schema import ShotCaption
from curation.layouts.clips import FileMedia
from curation.loop_weights import next_weights
from eval.fields import compare, labels_of
from eval.judge import SimilarityJudge, judge_items
from eval.loop import (
    MEASURES,
    Loop,
    LoopError,
    Real,
    Scored,
    changed,
    concept_lines,
    field_lines,
    markdown,
    measure_lines,
    median_difference,
    of_one_model,
    problems,
    seen,
    summary,
    write_loop,
)
from eval.loop_page import GENERATED, SHOWN, place_videos, write_page
from eval.loop_page import REAL as REAL_FOLDER
from eval.synth import write_video
from generation.ledger import Generation
from tests.clips import panning

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=\"document.title='taken over'\">"

REAL = Real(
    by=("shot_type",),
    concept={"clip": "close_up"},
    measures={"close_up": {"quality_sharpness": [0.5, 0.6, 0.7]}},
    motion={"clip": 0.1},
)


def scored(
    number: int,
    truth: ShotCaption,
    caption: ShotCaption | None,
    *,
    concept: str = "close_up",
    measures: dict[str, float] | None = None,
    cuts: int | None = 0,
    why: str = "",
    **generation: object,
) -> Scored:
    values = {
        "generation_id": f"{number:024x}", "clip_id": "clip", "source_sha256": None,
        "concept": concept, "task": "t2v", "prompt": "a prompt", "prompt_sent": "a prompt",
        "caption": truth, "seed": number, "model": "m", "config_hash": "0", "preset": "own",
        "frames": 9, "fps": 8.0, "width": 96, "height": 64, "status": "ok", "steps": 1,
        "video": f"videos/{number}.mp4",
    }  # fmt: skip
    made = Generation.model_validate(values | generation)
    told = "" if caption else why or "no video"
    items = compare(made.generation_id, labels_of(truth), caption, told).items
    judge_items(items, SimilarityJudge())
    return Scored(made, concept, caption, told, measures or {}, cuts, tuple(items))


RIGHT = ShotCaption(camera_motion="pans left", shot_type="close_up", lighting="warm light")
WRONG = ShotCaption(camera_motion="pans right", shot_type="close_up", lighting="warm light")


def a_loop(rows: list[Scored], before: list[Any] | None = None) -> Loop:
    weights = next_weights(seen(rows), REAL.by)
    return Loop(
        scored=rows,
        concepts=concept_lines(rows, REAL, weights),
        fields=field_lines(rows),
        measures=measure_lines(rows, REAL),
        changed=before or [],
        weights=weights,
        judge="similarity",
        problems=problems(rows, REAL),
    )


def test_a_field_is_asked_where_the_prompt_says_something() -> None:
    lines = {one.field: one for one in field_lines([scored(1, RIGHT, WRONG)]) if one.concept}
    assert {name: one.accuracy for name, one in lines.items()} == {
        "shot_type": 1.0,
        "camera_motion": 0.0,
        "lighting": 1.0,
    }


def test_a_prompt_that_came_to_nothing_is_missed_whole() -> None:
    rows = [scored(1, RIGHT, None), scored(2, RIGHT, RIGHT), scored(3, ShotCaption(), None)]
    rows += [scored(4, ShotCaption(), RIGHT)]
    found = seen(rows)["close_up"]
    assert (found.samples, found.misses) == (3, 2.0)
    assert "1 generations have a prompt whose caption asks nothing checkable" in problems(
        rows, REAL
    )


def test_camera_motion_that_cannot_be_read_and_odd_types_are_not_asked() -> None:
    odd = ShotCaption.model_validate(
        {
            "camera_motion": "hm",
            "subjects": [{"TYPES": {"type": "Robot"}, "is_main_subject": True}],
        }
    )
    labels = labels_of(odd)
    assert labels.camera_motion is None
    assert labels.subjects is not None
    assert labels.subjects[0].type is None


def test_one_model_is_scored_at_a_time() -> None:
    ways = (("a@1", "0"), ("a@1", "1"), ("b@2", "1"), ("b@2", "1"))
    made = [
        scored(number, RIGHT, RIGHT, model=model, config_hash=config).generation
        for number, (model, config) in enumerate(ways)
    ]
    assert of_one_model(made, "0") == made[:1]
    assert of_one_model(made, "b@2") == made[2:]
    for name in (None, "a@1", "1", "c"):
        with pytest.raises(LoopError):
            of_one_model(made, name)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-3, 3), st.randoms())
def test_the_interval_of_medians_is_seeded_ordered_and_moves_with_the_values(
    values: list[float], shift: float, random: Any
) -> None:
    low, high = median_difference([v + shift for v in values], values, 3)
    assert low <= high
    assert low <= shift + 1e-9
    assert high >= shift - 1e-9
    turned = list(values)
    random.shuffle(turned)
    assert median_difference([v + shift for v in turned], turned, 3) == (low, high)


def test_values_that_are_not_there_are_counted_out() -> None:
    rows = [scored(n, RIGHT, RIGHT, measures={"quality_sharpness": 0.2}) for n in range(4)]
    rows.append(scored(9, RIGHT, RIGHT, concept="unknown"))
    lines = {(one.concept, one.measure): one for one in measure_lines(rows, REAL)}
    sharp = lines["close_up", "quality_sharpness"]
    assert (sharp.generated, sharp.real, sharp.generated_median) == (4, 3, 0.2)
    assert sharp.high is not None
    assert sharp.high < 0
    nothing = lines["unknown", "quality_sharpness"]
    assert (nothing.generated, nothing.generated_median, nothing.low) == (0, None, None)
    assert len(lines) == 2 * len(MEASURES)


def test_rounds_are_compared_on_the_prompts_of_both(tmp_path: Path) -> None:
    first = [scored(n, RIGHT, WRONG) for n in range(6)]
    write_loop(a_loop(first), tmp_path)
    # Another model: other ids, the same clips and seeds; one prompt is new.
    second = [scored(n, RIGHT, RIGHT, generation_id=f"{100 + n:024x}", seed=n) for n in range(1, 7)]
    (whole, concept) = changed(tmp_path, second)
    assert (whole.concept, whole.prompts, concept.prompts) == ("", 5, 5)
    camera = next(one for one in whole.differences if one.field == "camera_motion")
    assert (camera.first, camera.second, camera.low) == (0.0, 1.0, 1.0)
    assert json.loads((tmp_path / "adherence.json").read_text())["generations"] == 6


def test_nothing_at_all_makes_tables_all_the_same() -> None:
    text = markdown(a_loop([]))
    assert "| close_up | 0 | 0 | 0 | 1 | - | 1.000 |" in text
    assert math.isclose(summary(a_loop([]))["concepts"][0]["high"], 1.0)


def test_text_of_models_cannot_break_the_markdown() -> None:
    rows = [scored(1, RIGHT, None, concept="a|b\n<i>", why="`x`\n| y |")]
    text = markdown(a_loop(rows))
    assert "a\\|b \\<i\\>" in text
    assert "\\`x\\` \\| y \\|" in text


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    video = write_video(tmp_path / "v.webm", panning(1, 9, 96, 64), 8.0, codec="libvpx-vp9")
    hostile = ShotCaption(
        camera_motion="pans left", environment=HOSTILE, lighting="</table>" + "wide" * 80
    )
    rows = [scored(n, RIGHT, WRONG) for n in range(SHOWN + 3)]
    rows += [scored(50, hostile, WRONG, concept=HOSTILE, prompt=HOSTILE, cuts=2)]
    rows += [scored(51, RIGHT, None, concept=HOSTILE, why=HOSTILE, video=None)]
    out = tmp_path / "out"
    media = {one.generation.generation_id: FileMedia(video) for one in rows[:-1]}
    reals, _ = place_videos({"clip": FileMedia(video)}, REAL_FOLDER, out)
    videos, missing = place_videos(
        media | {"../x": FileMedia(video), "gone": FileMedia(tmp_path / "gone")}, GENERATED, out
    )
    assert missing.startswith("gone (")
    assert all(path.startswith(f"{GENERATED}/") for path in videos.values())
    assert ".." not in videos["../x"]
    write_page(a_loop(rows), reals, videos, out / "loop.html")
    return out / "loop.html"


def test_videos_that_are_no_longer_wanted_go(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", panning(1, 9, 96, 64), 8.0)
    place_videos({"a": FileMedia(video), "b": FileMedia(video)}, GENERATED, tmp_path)
    place_videos({"b": FileMedia(video)}, GENERATED, tmp_path)
    assert [path.name for path in (tmp_path / GENERATED).iterdir()] == ["b.mp4"]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_both_clips_and_runs_nothing_of_theirs(
    page_file: Path, chromium: Any, width: int
) -> None:
    asked: list[str] = []
    page = chromium.new_context(viewport={"width": width, "height": 900}).new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert page.title() == "Round 1: prompts and what came out"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.inner_text("body")
    assert page.locator(".card").count() == SHOWN + 2
    assert page.locator(".card").last.locator("video").count() == 2
    page.wait_for_function("document.querySelector('video').readyState >= 1")
    assert page.evaluate("document.querySelector('video').videoWidth") == 96
    assert f"{SHOWN} of {SHOWN + 3}, the worst first" in page.inner_text("body")
    # Nothing but a table of figures, which scrolls by itself, is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    folder = page_file.parent.as_uri()
    assert all(url.startswith(folder) for url in asked)
