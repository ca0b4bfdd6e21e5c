"""What lies over the picture, on rendered shots whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.experts.boxes import Box
from captioner.experts.text import read_line
from captioner.frames import FrameBatch
from curation.measure import borders, burned_text
from curation.measure.overlays import Overlays, measure
from eval.overlays import CLEAN, DEFECTS, FIRES, HEIGHT, WHOLE, WIDTH, Rendered, through_codec

NAMES = tuple(name for name in FIRES if not name.startswith("border_"))
SEED = 3


def measured(rendered: Rendered) -> Overlays:
    return measure(FrameBatch.from_rgb(rendered.frames, 25.0), rendered.content)


def fired(found: Overlays) -> set[str]:
    return {name for name in NAMES if (getattr(found, name) or 0.0) >= FIRES[name]}


def covered(truth: Box, boxes: list[list[float]] | None) -> float:
    """The largest overlap of a true box with a found one."""
    return max((truth.overlap(Box(*box)) for box in boxes or ()), default=0.0)


@pytest.mark.parametrize("case", ["subtitles", "banner", "watermark"])
def test_burned_in_text_is_found_where_it_is(case: str) -> None:
    rendered = DEFECTS[case](SEED)
    found = measured(rendered)
    assert rendered.has <= fired(found) <= rendered.has | rendered.may
    assert all(covered(line, found.text_boxes) > 0.5 for line in rendered.text)
    drawn = sum(line.area for line in rendered.text)
    assert found.text_area == pytest.approx(drawn, rel=0.6)


@pytest.mark.parametrize(
    ("case", "seed"), [("watermark", 771_447), ("watermark", 31_328), ("logo", 771_191)]
)
def test_a_word_that_stays_is_burned_in_though_the_detector_sees_it_askew(
    case: str, seed: int
) -> None:
    """Seeds in which letters below the line, or edges of the scene beside it, bend its box."""
    found = fired(measure(through_codec(DEFECTS[case](seed)), WHOLE))
    assert "text_area" in found
    assert "text_scene_area" not in found


def test_a_long_line_is_found_whole_and_read_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[np.ndarray] = []

    def remembered(rgb: np.ndarray, corners: np.ndarray) -> tuple[str, float]:
        read.append(corners)
        return read_line(rgb, corners)

    monkeypatch.setattr(burned_text, "read_line", remembered)
    rendered = DEFECTS["banner"](SEED)
    found = measured(rendered)
    (line,) = rendered.text
    assert line.width * WIDTH > 1.2 * burned_text.READ_LENGTH * line.height * HEIGHT
    assert covered(line, found.text_boxes) > 0.5
    lengths = [np.hypot(*(c[1] - c[0])) / np.hypot(*(c[3] - c[0])) for c in read]
    assert max(lengths) == pytest.approx(burned_text.READ_LENGTH, rel=0.01)


def test_subtitles_survive_the_codec() -> None:
    found = measure(through_codec(DEFECTS["subtitles"](SEED)), WHOLE)
    assert {"text_area", "text_subtitle"} <= fired(found)


@pytest.mark.parametrize("seed", [31_807, 81_891, 771_884])
def test_a_sign_at_the_centre_of_a_zoom_is_not_burned_in(seed: int) -> None:
    """Seeds in which a part of the sign hardly moves."""
    found = fired(measure(through_codec(CLEAN["scene-text"](seed)), WHOLE))
    assert found == {"text_scene_area"}


def test_a_sign_that_moves_with_the_scene_is_not_burned_in() -> None:
    found = measured(CLEAN["scene-text"](SEED))
    assert found.text_area == 0.0
    assert found.text_boxes == []


@pytest.mark.parametrize("case", ["logo", "logo-faint"])
def test_a_logo_is_found_where_it_is(case: str) -> None:
    rendered = DEFECTS[case](SEED)
    found = measured(rendered)
    assert "overlay_logo" in fired(found)
    assert covered(rendered.logos[0], found.overlay_logo_boxes) > 0.6


@pytest.mark.parametrize("seed", [72_994, 77_979, 80_970])
def test_a_line_of_the_scene_that_runs_into_a_logo_is_no_part_of_it(seed: int) -> None:
    """Seeds in which an edge goes from the logo to the edge of the picture."""
    rendered = DEFECTS["logo"](seed)
    found = measure(through_codec(rendered), WHOLE)
    assert "overlay_logo" in fired(found)
    assert covered(rendered.logos[0], found.overlay_logo_boxes) > 0.6


@pytest.mark.parametrize(
    ("case", "seed"),
    [
        ("logo", 31_100), ("logo", 31_149), ("logo", 71_219),
        ("logo-faint", 31_214), ("logo-faint", 31_221), ("logo-faint", 71_291),
        ("logo-faint", 11_256), ("logo-faint", 21_200), ("logo-faint", 111_242),
    ],
)  # fmt: skip
def test_a_logo_is_found_though_the_scene_shows_through_or_creeps(case: str, seed: int) -> None:
    """Seeds in which the camera zooms, so that the middle nearly stays, or edges of the scene are
    seen in the logo."""
    assert "overlay_logo" in fired(measure(through_codec(DEFECTS[case](seed)), WHOLE))


@pytest.mark.parametrize("seed", [770_800, 770_821, 770_926])
def test_an_inset_at_rest_is_no_logo(seed: int) -> None:
    """Seeds in which the inset is filmed by a camera at rest: its edges stay, as a logo's do."""
    batch = through_codec(DEFECTS["picture-in-picture"](seed))
    assert "overlay_logo" in fired(measure(batch, WHOLE))
    inset = borders.measure(batch).border_inset_box
    assert inset is not None
    assert measure(batch, WHOLE, Box(*inset)).overlay_logo_boxes == []


def test_where_nothing_moves_nobody_can_tell_a_logo() -> None:
    frame = DEFECTS["logo"](SEED).frames[0]
    found = measure(FrameBatch.from_rgb([frame] * 30, 25.0), WHOLE)
    assert found.overlay_logo is None
    assert found.overlay_logo_boxes is None
    assert found.overlay_sticker is None


@pytest.mark.parametrize("case", ["sticker", "sticker-jumping", "mosaic"])
def test_stickers_and_mosaic_are_found(case: str) -> None:
    rendered = DEFECTS[case](SEED)
    found = fired(measured(rendered))
    assert rendered.has <= found <= rendered.has | rendered.may


@pytest.mark.parametrize("seed", [41_649, 771_677])
def test_mosaic_is_found_on_the_grid_of_codecs_and_where_it_is_smeared(seed: int) -> None:
    assert "overlay_mosaic" in fired(measure(through_codec(DEFECTS["mosaic"](seed)), WHOLE))


@pytest.mark.parametrize("seed", [772_470, 772_484, 12_407, 22_435])
def test_rows_of_windows_are_no_mosaic(seed: int) -> None:
    """Seeds in which the windows are as far apart as blocks, and narrower."""
    assert fired(measure(through_codec(CLEAN["facade"](seed)), WHOLE)) == set()


def test_a_sticker_is_found_though_the_scene_shows_in_its_corners() -> None:
    assert "overlay_sticker" in fired(measure(through_codec(DEFECTS["sticker"](89_943)), WHOLE))


@pytest.mark.parametrize("seed", [31_647, 71_549, 771_535, 771_570, 771_626])
def test_a_leaping_sticker_is_found_though_the_scene_shows_in_its_corners(seed: int) -> None:
    rendered = DEFECTS["sticker-jumping"](seed)
    assert "overlay_sticker" in fired(measure(through_codec(rendered), WHOLE))


@pytest.mark.parametrize(("case", "seed"), [("scene-text", 11_828), ("facade", 22_414)])
def test_an_edge_along_the_camera_s_path_is_no_leaping_sticker(case: str, seed: int) -> None:
    """Seeds with a slow tilt: upright edges stay in each window, and are elsewhere in the next."""
    assert "overlay_sticker" not in fired(measure(through_codec(CLEAN[case](seed)), WHOLE))


@pytest.mark.parametrize("seed", [31_791, 31_847])
def test_what_creeps_at_the_centre_of_a_zoom_is_no_sticker(seed: int) -> None:
    assert fired(measure(through_codec(CLEAN["plain"](seed)), WHOLE)) == set()


@pytest.mark.parametrize("case", ["plain", "dark", "columns", "horizon", "facade"])
def test_clean_pictures_have_nothing_over_them(case: str) -> None:
    assert fired(measured(CLEAN[case](SEED))) == set()


def test_what_lies_outside_the_borders_is_left_out() -> None:
    rendered = DEFECTS["subtitles"](SEED)
    above = Box(0.0, 0.0, 1.0, min(line.top for line in rendered.text) - 0.02)
    found = measure(FrameBatch.from_rgb(rendered.frames, 25.0), above)
    assert found.text_area == 0.0


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (47, 90), (48, 48), (600, 60)])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_odd_content_is_measured_or_left_out(shape: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    for frames in (
        [np.zeros((*shape, 3), np.uint8)] * count,
        [rng.integers(0, 256, (*shape, 3), np.uint8) for _ in range(count)],
    ):
        found = measure(FrameBatch.from_rgb(frames, 25.0), WHOLE)
        assert (found.text_area is None) == (min(shape) < 48)
        measure(FrameBatch.from_rgb(frames, 25.0), Box(0.5, 0.5, 0.5, 0.5))
