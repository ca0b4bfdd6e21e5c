"""Borders and divisions, on rendered shots whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.frames import FrameBatch
from curation.measure.borders import Borders, measure
from eval.overlays import CLEAN, DEFECTS, FIRES, Rendered, box_error, through_codec

PIXEL = 1 / 360
NAMES = tuple(name for name in FIRES if name.startswith("border_"))
SEED = 3


def measured(rendered: Rendered) -> Borders:
    return measure(FrameBatch.from_rgb(rendered.frames, 25.0))


def fired(found: Borders) -> set[str]:
    return {name for name in NAMES if (getattr(found, name) or 0.0) >= FIRES[name]}


@pytest.mark.parametrize(
    "case",
    [
        "letterbox", "letterbox-dark", "letterbox-subtitled", "pillarbox", "blurred-fill",
        "static-frame",
    ],
)  # fmt: skip
def test_the_picture_inside_its_borders_is_found_to_a_pixel_or_two(case: str) -> None:
    rendered = DEFECTS[case](SEED)
    found = measured(rendered)
    assert box_error(found.border_box, rendered.content) <= 2 * PIXEL
    assert fired(found) == {name for name in rendered.has if name in NAMES}


@pytest.mark.parametrize("seed", [770_528, 770_535, 770_584, 770_619])
def test_a_frame_is_found_though_much_of_the_picture_beside_it_stays_flat(seed: int) -> None:
    """Seeds in which less than half of a side's columns begin to change at the frame."""
    rendered = DEFECTS["static-frame"](seed)
    found = measure(through_codec(rendered))
    assert box_error(found.border_box, rendered.content) <= 2 * PIXEL
    assert fired(found) == set()


def test_the_share_of_the_bars_is_what_the_box_leaves() -> None:
    rendered = DEFECTS["letterbox"](SEED)
    found = measured(rendered)
    assert found.border_letterbox == pytest.approx(1 - rendered.content.height, abs=2 * PIXEL)
    assert found.border_pillarbox == 0.0


def test_bars_on_all_four_sides() -> None:
    pictures = CLEAN["plain"](SEED).frames[:30]
    frames = [np.zeros_like(picture) for picture in pictures]
    for frame, picture in zip(frames, pictures):
        frame[40:-40, 70:-70] = picture[40:-40, 70:-70]
    found = measure(FrameBatch.from_rgb(frames, 25.0))
    assert found.border_box == pytest.approx([70 / 640, 40 / 360, 570 / 640, 320 / 360], abs=PIXEL)


@pytest.mark.parametrize("case", ["split", "split-stacked", "picture-in-picture"])
def test_a_divided_frame_is_found(case: str) -> None:
    rendered = DEFECTS[case](SEED)
    assert fired(measured(rendered)) == rendered.has


def test_an_inset_is_found_where_it_is() -> None:
    frames = [np.array(frame) for frame in CLEAN["plain"](SEED).frames]
    for frame, other in zip(frames, CLEAN["plain"](SEED + 1).frames):
        frame[20:130, 400:600] = other[100:210, 200:400]
    found = measure(FrameBatch.from_rgb(frames, 25.0))
    assert found.border_picture_in_picture is not None
    assert found.border_picture_in_picture >= FIRES["border_picture_in_picture"]
    truth = [400 / 640, 20 / 360, 600 / 640, 130 / 360]
    assert found.border_inset_box == pytest.approx(truth, abs=0.02)
    assert measure(FrameBatch.from_rgb(CLEAN["plain"](SEED).frames, 25.0)).border_inset_box is None


@pytest.mark.parametrize(
    ("seed", "truth"),
    [
        (11_024, (32, 32, 226, 141)), (140_891, (471, 23, 617, 106)),
        (160_849, (376, 28, 612, 163)), (200_996, (434, 30, 610, 129)),
    ],
)  # fmt: skip
def test_an_inset_is_found_though_a_side_of_it_goes_on_in_the_scene(
    seed: int, truth: tuple[int, int, int, int]
) -> None:
    """Seeds in which an edge of one of the two pictures lies in line with a side of the inset."""
    found = measure(through_codec(DEFECTS["picture-in-picture"](seed)))
    assert fired(found) == {"border_picture_in_picture"}
    left, top, right, bottom = truth
    edges = [left / 640, top / 360, right / 640, bottom / 360]
    assert found.border_inset_box == pytest.approx(edges, abs=0.02)


@pytest.mark.parametrize(
    ("case", "seed"),
    [
        ("split", 30_607), ("split", 70_649), ("split-stacked", 70_798),
        ("picture-in-picture", 30_891), ("picture-in-picture", 70_856),
    ],
)  # fmt: skip
def test_a_slow_camera_is_told_from_one_at_rest(case: str, seed: int) -> None:
    """Seeds in which one side zooms or pans slowly, and nothing moves by a pixel in an eighth of a
    second."""
    rendered = DEFECTS[case](seed)
    assert fired(measure(through_codec(rendered))) == rendered.has


@pytest.mark.parametrize("seed", [192_149, 242_149])
def test_figures_that_fill_one_side_of_an_edge_are_no_second_camera(seed: int) -> None:
    """Seeds in which most points beside an upright edge lie on those who walk there."""
    assert fired(measure(through_codec(CLEAN["columns"](seed)))) == set()


@pytest.mark.parametrize("seed", [52_021, 72_056])
def test_figures_before_a_window_are_no_second_camera(seed: int) -> None:
    """Seeds in which the window shows enough to tell a camera by in two or three looks only, when
    somebody passes before it."""
    assert fired(measure(through_codec(CLEAN["window"](seed)))) == set()


def test_an_edge_that_sways_with_the_camera_is_no_seam() -> None:
    left, right = (CLEAN["plain"](seed).frames for seed in (SEED, SEED + 1))
    frames = [np.array(frame) for frame in left]
    for i, (frame, other) in enumerate(zip(frames, right)):
        at = 300 + 6 * int(np.sin(i / 4) > 0.3)
        frame[:, at:] = other[:, at:]
    assert fired(measure(FrameBatch.from_rgb(frames, 25.0))) == set()


@pytest.mark.parametrize(
    "case", ["plain", "dark", "window", "columns", "horizon", "soft-sides", "facade"]
)
def test_a_whole_picture_has_no_border(case: str) -> None:
    found = measured(CLEAN[case](SEED))
    assert found.border_box is None
    assert fired(found) == set()


def test_a_seam_needs_movement_on_one_side_at_least() -> None:
    frame = DEFECTS["split"](SEED).frames[0]
    found = measure(FrameBatch.from_rgb([frame] * 20, 25.0))
    assert found.border_split_screen is None
    assert found.border_picture_in_picture is None


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (300, 2), (31, 31), (32, 32), (1200, 40)])
@pytest.mark.parametrize("count", [1, 12])
def test_odd_content_is_measured_or_left_out(shape: tuple[int, int], count: int) -> None:
    rng = np.random.default_rng(0)
    for frames in (
        [np.zeros((*shape, 3), np.uint8)] * count,
        [rng.integers(0, 256, (*shape, 3), np.uint8) for _ in range(count)],
    ):
        found = measure(FrameBatch.from_rgb(frames, 25.0))
        assert (found.border_letterbox is None) == (min(shape) < 32)


def test_a_black_clip_has_no_bars() -> None:
    found = measure(FrameBatch.from_rgb([np.zeros((90, 160, 3), np.uint8)] * 5, 25.0))
    assert (found.border_box, found.border_letterbox, found.border_pillarbox) == (None, 0.0, 0.0)
