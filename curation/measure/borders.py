"""What surrounds or divides the picture: bars, blurred fill, static frames, split screens, insets.

Thresholds were chosen on the shots that `eval.overlays` renders and on real clips; `python -m
eval.overlays` measures them.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from captioner.experts.boxes import Box
from captioner.frames import FrameBatch, MotionPair, one_thread
from curation.measure.bars import Area, extremes, inside_bars
from curation.measure.blurred_fill import inside_fill
from curation.measure.cameras import Part, long_looks
from curation.measure.columns import Columns, column
from curation.measure.picture_in_picture import find_inset
from curation.measure.seams import Planes, Seams, planes_of, seam_pixels, transposed
from curation.measure.split_screen import split_score
from curation.measure.static_frame import inside_frame

PICTURES = 10
"""Pictures looked at, spread over the clip: own choice, more did not change what was found."""

MIN_SIDE = 32
"""Pixels: smaller pictures are not measured."""

ACTIVE = 10
"""Levels by which a pixel beside a seam must change over time for its side to count as moving."""


class Borders(Columns):
    """Borders and divisions of the frame."""

    border_box: list[float] | None = column(
        "left, top, right, bottom of the picture inside its bars, blurred fill or static frame,"
        " y down; null where it fills the frame",
        low=0.0,
        high=1.0,
    )
    border_letterbox: float | None = column("share of the height in bars", low=0.0, high=1.0)
    border_pillarbox: float | None = column("share of the width in bars", low=0.0, high=1.0)
    border_blurred_fill: float | None = column(
        "share of the frame filled with a blurred copy of the picture", low=0.0, high=1.0
    )
    border_split_screen: float | None = column(
        "how surely the frame is two or more pictures side by side or stacked", low=0.0, high=1.0
    )
    border_picture_in_picture: float | None = column(
        "how surely a second picture is inset", low=0.0, high=1.0
    )
    border_inset_box: list[float] | None = column(
        "left, top, right, bottom of the rectangle that most surely is one, y down; null for none",
        low=0.0,
        high=1.0,
    )

    @property
    def inside(self) -> Box:
        """The picture inside its borders, all of it where there are none."""
        return Box(*self.border_box) if self.border_box else Box(0.0, 0.0, 1.0, 1.0)

    @property
    def inset(self) -> Box | None:
        """The picture in picture."""
        return Box(*self.border_inset_box) if self.border_inset_box else None


def measure(batch: FrameBatch) -> Borders:
    """The borders of a clip; all None for pictures under `MIN_SIDE` pixels.

    Split screen and inset are None in a clip in which nothing moves.
    """
    with one_thread():
        pictures = batch.uniform(PICTURES)
        greys = [one.grey for one in pictures]
        height, width = greys[0].shape
        if min(height, width) < MIN_SIDE:
            return Borders()
        whole = Area(0, 0, width, height)
        high, low = extremes(greys)
        picture = inside_bars(high, low)
        letterbox = 1 - (picture.bottom - picture.top) / height
        pillarbox = 1 - (picture.right - picture.left) / width
        filled = 0.0
        if picture == whole:
            picture = inside_frame(high, low)
        if picture == whole:
            picture = inside_fill(greys)
            filled = 1 - (picture.right - picture.left) * (picture.bottom - picture.top) / high.size
        pairs = [
            replace(
                pair,
                first=picture.scaled(pair.first, high),
                second=picture.scaled(pair.second, high),
            )
            for pair in batch.pairs
        ]
        split, score, inset = _divisions([planes_of(one, picture) for one in pictures], pairs)
    box = [picture.left / width, picture.top / height]
    box += [picture.right / width, picture.bottom / height]
    return Borders(
        border_box=None if picture == whole else box,
        border_letterbox=letterbox,
        border_pillarbox=pillarbox,
        border_blurred_fill=filled,
        border_split_screen=split,
        border_picture_in_picture=score,
        border_inset_box=None if inset is None else _within(picture, inset, width, height),
    )


def _divisions(
    pictures: list[Planes], pairs: list[MotionPair]
) -> tuple[float | None, float | None, Part | None]:
    """Scores of a split screen and of an inset, and that inset; None where nothing moves."""
    small = [planes[0] for planes in pictures]
    if min(small[0].shape) < MIN_SIDE or len(small) < 2:
        return None, None, None
    change = cv2.subtract(*extremes(small))
    active = np.asarray(change > ACTIVE, np.bool_)
    if active.mean() < 0.02:
        return None, None, None
    turned = [tuple(np.ascontiguousarray(one.T) for one in planes) for planes in pictures]
    seams = Seams(seam_pixels(pictures), seam_pixels(turned).transpose(0, 2, 1), active)
    looks = long_looks(pairs)
    split = max(split_score(seams, looks), split_score(seams.turned(), transposed(looks)))
    return split, *find_inset(seams, [(pair.first, pair.second) for pair in pairs], looks)


def _within(picture: Area, part: Part, width: int, height: int) -> list[float]:
    """Edges of a part of the picture, in shares of the frame."""
    across, down = picture.right - picture.left, picture.bottom - picture.top
    x = [(picture.left + share * across) / width for share in (part.left, part.right)]
    y = [(picture.top + share * down) / height for share in (part.top, part.bottom)]
    return [x[0], y[0], x[1], y[1]]
