"""The largest clean rectangle, against brute force and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from captioner.experts.boxes import Box
from curation.crop import CropConfig, crop, crops

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
ANY = CropConfig(min_area=0.0, aspect_tolerance=1e9, min_width=0, min_height=0)
SUBTITLE = Box(0.2, 0.9, 0.8, 0.95)


def brute_force(mask: np.ndarray) -> tuple[int, int]:
    """Width and height of the largest rectangle of True cells, the first from the top left."""
    height, width = mask.shape
    return max(
        (
            (right - left, bottom - top)
            for bottom in range(1, height + 1)
            for right in range(1, width + 1)
            for top in range(bottom)
            for left in range(right)
            if mask[top:bottom, left:right].all()
        ),
        key=lambda size: size[0] * size[1],
        default=(0, 0),
    )


def hidden_cells(mask: np.ndarray) -> list[Box]:
    """A box over each False cell."""
    height, width = mask.shape
    return [
        Box(x / width, y / height, (x + 1) / width, (y + 1) / height)
        for y, x in np.argwhere(~mask).tolist()
    ]


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_the_rectangle_is_clean_and_as_large_as_any(mask: np.ndarray) -> None:
    height, width = mask.shape
    # Cells of two pixels a side, so that all edges are even.
    found = crop(WHOLE, hidden_cells(mask), 2 * width, 2 * height, ANY)
    assert not isinstance(found, str)
    x, y, w, h = (edge // 2 for edge in found)
    across, down = brute_force(mask)
    assert w * h == across * down
    assert mask[y : y + h, x : x + w].all()


def test_many_clips_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    count = rng.integers(0, 6, 200)
    owner = np.repeat(np.arange(200), count)
    # Edges in eighths, so that many rectangles are equally large.
    at = rng.integers(0, 8, (200 + len(owner), 2)) / 8
    edges = np.concatenate([at, at + rng.integers(0, 4, at.shape) / 8], axis=1)
    edges[:150] = 0.0, 0.0, 1.0, 1.0
    sizes = rng.integers(100, 400, (200, 2))
    config = CropConfig(min_area=0.3, aspect_tolerance=0.5)
    found, reasons = crops(edges[:200], edges[200:], owner, sizes, config)
    assert 20 < len(reasons) < 180
    for i, (width, height) in enumerate(sizes.tolist()):
        over = [Box(*one) for one in edges[200:][owner == i].tolist()]
        alone = crop(Box(*edges[i].tolist()), over, width, height, config)
        assert alone == reasons.get(i, tuple(found[i].tolist()))


def test_of_equally_large_rectangles_the_one_furthest_up_is_taken() -> None:
    assert crop(WHOLE, [Box(0.5, 0.5, 1.0, 1.0)], 200, 200, ANY) == (0, 0, 200, 100)
    assert crop(WHOLE, [Box(0.5, 0.0, 1.0, 0.5)], 200, 200, ANY) == (0, 0, 100, 200)


boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    *(st.floats(-0.1, 1.0), st.floats(-0.1, 1.0), st.floats(0.0, 0.5), st.floats(0.0, 0.5)),
)


@given(boxes, st.lists(boxes, max_size=4), st.integers(1, 24), st.integers(1, 24))
def test_boxes_give_what_the_mask_of_their_pixels_gives(
    inside: Box, over: list[Box], width: int, height: int
) -> None:
    mask = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            pixel = Box(x / width, y / height, (x + 1) / width, (y + 1) / height)
            mask[y, x] = _covers(inside, pixel) and not any(_touches(one, pixel) for one in over)
    found = crop(inside, over, width, height, ANY)
    if isinstance(found, str):
        assert not mask.any()
        return
    x, y, w, h = found
    assert mask[y : y + h, x : x + w].all()
    assert (x % 2, y % 2, w % 2, h % 2) == (0, 0, 0, 0)
    # Even numbers cost a column and a row on each side at most.
    full_w, full_h = brute_force(mask)
    assert w * h >= max(0, full_w - 2) * max(0, full_h - 2)


SLACK = 0.01
"""Pixels that a box may reach over: less is a rounding error."""


def _covers(box: Box, pixel: Box) -> bool:
    dx, dy = SLACK * pixel.width, SLACK * pixel.height
    return (
        box.left <= pixel.left + dx
        and box.top <= pixel.top + dy
        and box.right >= pixel.right - dx
        and box.bottom >= pixel.bottom - dy
    )


def _touches(box: Box, pixel: Box) -> bool:
    dx, dy = SLACK * pixel.width, SLACK * pixel.height
    return (
        box.left < pixel.right - dx
        and box.right > pixel.left + dx
        and box.top < pixel.bottom - dy
        and box.bottom > pixel.top + dy
    ) and bool(box.width and box.height)


def test_a_clean_frame_is_kept_whole() -> None:
    assert crop(WHOLE, [], 1920, 1080, CropConfig()) == (0, 0, 1920, 1080)


def test_a_subtitle_is_cut_off_and_the_shape_kept_within_the_tolerance() -> None:
    found = crop(WHOLE, [SUBTITLE], 1920, 1080, CropConfig(aspect_tolerance=0.05))
    assert not isinstance(found, str)
    x, y, w, h = found
    assert (y, h) == (0, 972)
    assert w / h == pytest.approx(16 / 9 * 1.05, abs=0.005)
    assert x == pytest.approx((1920 - w) / 2, abs=2)


def test_letterbox_bars_are_no_loss_unless_compared_with_the_frame() -> None:
    bars = Box(0.0, 0.128, 1.0, 0.872)
    assert crop(bars, [], 1920, 1080, CropConfig()) == (0, 140, 1920, 800)
    reason = crop(bars, [], 1920, 1080, CropConfig(compare="frame"))
    assert isinstance(reason, str)
    assert "under 80%" in reason


def test_text_over_the_middle_cannot_be_cropped() -> None:
    reason = crop(WHOLE, [Box(0.3, 0.45, 0.7, 0.55)], 1920, 1080, CropConfig())
    assert isinstance(reason, str)
    assert "of the picture, under 80%" in reason


def test_a_crop_under_the_minimum_size_is_refused() -> None:
    reason = crop(WHOLE, [SUBTITLE], 320, 180, CropConfig(min_height=170))
    assert isinstance(reason, str)
    assert "under 128x170" in reason


@pytest.mark.parametrize(
    "wrong",
    [{"min_area": 1.1}, {"aspect_tolerance": -0.1}, {"min_width": -1}, {"compare": "bars"}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CropConfig(**wrong)  # type: ignore[arg-type]


def test_nothing_inside_the_borders() -> None:
    assert isinstance(crop(Box(0.5, 0.5, 0.5, 0.5), [], 100, 100, ANY), str)
