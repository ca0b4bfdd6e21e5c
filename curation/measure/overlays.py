"""What lies over the picture: burned-in text, logos and watermarks, stickers, mosaic.

Thresholds were chosen on the shots that `eval.overlays` renders and on real clips; `python -m
eval.overlays` measures them.
"""

from __future__ import annotations

import numpy as np

from captioner.experts.boxes import Box
from captioner.frames import FrameBatch, one_thread
from curation.measure.burned_text import SUBTITLE_BAND, shows, text_lines
from curation.measure.columns import Columns, column
from curation.measure.logos import find_logos
from curation.measure.marks import area, edges_of
from curation.measure.mosaic import find_mosaic
from curation.measure.stays import Stays, inner, moments, small, window_of
from curation.measure.stickers import find_sticker

MIN_SIDE = 48
"""Pixels: smaller pictures are not measured."""

HIDDEN_IN = 3
"""Pictures searched for mosaic: what it hides is flat now and then, and it does not show."""

INSET = 0.5
"""Overlap (intersection over union) from which what stays is an inset picture at rest, not a
logo."""


class Overlays(Columns):
    """What was put over the picture."""

    text_area: float | None = column("share of the frame in burned-in text", low=0.0, high=1.0)
    text_scene_area: float | None = column(
        "share of the frame in text that belongs to the scene", low=0.0, high=1.0
    )
    text_subtitle: float | None = column(
        "share of the looked-at moments with burned-in text in the bottom 40 %", low=0.0, high=1.0
    )
    text_boxes: list[list[float]] | None = column(
        "left, top, right, bottom of each burned-in line, y down", low=0.0, high=1.0
    )
    overlay_logo: float | None = column(
        "how surely there is a logo or watermark; null where nothing moves", low=0.0, high=1.0
    )
    overlay_logo_boxes: list[list[float]] | None = column(
        "left, top, right, bottom of each logo, y down", low=0.0, high=1.0
    )
    overlay_sticker: float | None = column(
        "how surely a graphic is stuck over the picture; null where nothing moves",
        low=0.0,
        high=1.0,
    )
    overlay_mosaic: float | None = column(
        "how surely a part is hidden in large blocks", low=0.0, high=1.0
    )


def measure(batch: FrameBatch, inside: Box, inset: Box | None = None) -> Overlays:
    """What lies over the part of the picture that is `inside` its borders; all None for pictures
    under `MIN_SIDE` pixels. What lies outside goes with the borders, and so does the picture that
    is `inset`."""
    with one_thread():
        groups = moments(batch)
        planes = [[small(picture) for picture in group] for group in groups]
        if min(planes[0][0].shape) < MIN_SIDE:
            return Overlays()
        mask = inner(planes[0][0].shape, inside)
        windows = [window_of(group, greys, mask) for group, greys in zip(groups, planes)]
        shown = [picture for group in groups for picture in group]
        stays = Stays.of(shown, [plane for greys in planes for plane in greys], mask)
        lines = text_lines(windows, stays, inside)
        burned = [line.box for line in lines if line.burned]
        logos = find_logos(windows, stays, inside)
        insets = [] if inset is None else [inset]
        if logos is not None:
            logos = [one for one in logos if all(one[0].overlap(box) < INSET for box in insets)]
        found = None if logos is None else [box for box, _ in logos]
        spoken = [box for box in burned if box.centre[1] >= SUBTITLE_BAND]
        return Overlays(
            text_area=area(burned),
            text_scene_area=area([line.box for line in lines if not line.burned]),
            text_subtitle=float(np.mean([shows(window, spoken) for window in windows])),
            text_boxes=[edges_of(box) for box in burned],
            overlay_logo=None if logos is None else max((score for _, score in logos), default=0.0),
            overlay_logo_boxes=None if found is None else [edges_of(box) for box in found],
            overlay_sticker=find_sticker(windows, stays, [*burned, *(found or ()), *insets]),
            overlay_mosaic=max(find_mosaic(one.grey, inside) for one in batch.uniform(HIDDEN_IN)),
        )
