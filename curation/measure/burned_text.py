"""Lines of text: those that were burned in, told from those of the scene.

The text detector costs more than all of the rest, so it sees at most `READ` pictures, and only
where something has the texture of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.experts.text import MIN_LETTERS, MIN_READ_SCORE, find_text, read_line
from curation.measure.marks import (
    Bool,
    Float,
    Plane,
    bounds,
    clusters,
    pixels,
    share,
    share_of,
    union,
    without_specks,
)
from curation.measure.stays import FROZEN, Stays, Window, around_moves, contrast

READ = 2
"""Pictures that the text detector sees; one more where something faint stays."""

READ_LINES = 3
"""Lines that are read a picture, the largest first: own choice, by cost."""

READ_LENGTH = 8.0
"""Heights of a line that are read, from its start: about 16 letters, which tell text from texture.
Own choice, by cost: reading takes 4 ms a height."""

LARGEST = 0.3
"""Smaller side of a line, and its area, at most: larger finds are textures."""

STROKES = 50
"""Levels of contrast at the strokes of text, burned in to be read."""

SUBTITLE_BAND, TITLE_BAND = 0.6, 0.2
"""Subtitles lie below the first, titles above the second, shares of the height (SkyReels-V2 looks
in the bottom 40 %, the top 20 % and 20 % at the sides for the like)."""

BLACK = 4.0
"""Levels of 255 that most of a title card stays under; scenes hardly ever do."""

LASTING = 0.3
"""Share of a faint line's edges that stay over the whole clip: those of the scene behind it are
counted as well. Signs that the camera passes were below 0.1."""

SLACK = 0.35
"""Share of a line's height that the detector leaves around it, at most."""

LASTING_MEAN = 0.4
"""The same of a line that was read from the mean picture, in which what moves is lost: the detector
leaves room around it, with edges of the scene in it."""

LEVEL, SLANTED = 0.03, 0.1
"""Slope of a burned-in line at most, rise over run: where nothing moves, and where it stays, since
the detector is off by as much beside letters that reach below the line."""


@dataclass(frozen=True)
class Line:
    """A line of text, and whether it was burned in."""

    box: Box
    burned: bool


def text_lines(windows: list[Window], stays: Stays, inside: Box) -> list[Line]:
    """The lines of text, burned-in ones first; a line is listed once."""
    lines: list[Line] = []
    likely = [_like_text(window) for window in windows]
    looks = [(windows[i], likely[i]) for i in _best(likely, READ)]
    if not looks:
        passing = [_like_text(window, passing=True) for window in windows]
        looks = [(windows[i], passing[i]) for i in _best(passing, 1)]
    for window, boxes in looks:
        legible = _legible(window.picture.rgb, _region(boxes))
        if not legible:
            break  # What is most like text is none.
        for corners in legible:
            line = _judged(corners, window, stays)
            if inside.holds(*line.box.centre):
                _add(lines, line)
    faint = _faint_text(stays, [line.box for line in lines]) if stays.moving else []
    if faint:
        # In the mean of a moving picture only what stays can be read.
        rgb = np.asarray(cv2.cvtColor(_stretched(stays.mean), cv2.COLOR_GRAY2RGB), np.uint8)
        for corners in _legible(rgb, _region(faint)):
            box = bounds(corners, rgb.shape)
            lasting = share_of(stays.fixed, stays.edges, box) >= LASTING_MEAN
            if inside.holds(*box.centre) and lasting:
                _add(lines, Line(_tight(box, stays.fixed), True))
    return sorted(_with_unread(lines, windows, likely), key=lambda line: not line.burned)


def _legible(rgb: NDArray[np.uint8], region: Box) -> list[Float]:
    """Corners (4, 2) of the lines in a region that can be read: the detector alone takes textures
    for text."""
    rows, columns = pixels(region, rgb.shape)
    part = np.ascontiguousarray(rgb[rows, columns])
    if min(part.shape[:2]) < 8:
        return []
    offset = np.array([columns.start, rows.start], np.float32)
    found = []
    for corners in find_text(part)[:READ_LINES]:
        box = bounds(corners + offset, rgb.shape)
        if max(min(box.width, box.height), box.area) > LARGEST:
            continue
        text, score = read_line(part, _start(corners))
        if len(text.replace(" ", "")) >= MIN_LETTERS and score >= MIN_READ_SCORE:
            found.append(np.asarray(corners + offset, np.float32))
    return found


def _start(corners: Float) -> Float:
    """Corners (4, 2), clockwise from top left, of the first `READ_LENGTH` heights of a line."""
    along, down = corners[[1, 2]] - corners[[0, 3]], corners[3] - corners[0]
    width, height = float(np.linalg.norm(along[0])), float(np.linalg.norm(down))
    part = min(1.0, READ_LENGTH * height / max(width, 1.0))
    left = corners[[0, 3]]
    (top_right, bottom_right), (top_left, bottom_left) = left + part * along, left
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def _region(boxes: Sequence[Box]) -> Box:
    """The part of the picture that holds all boxes and some more: the less of it the detector
    sees, the less it costs."""
    around = boxes[0]
    for box in boxes[1:]:
        around = union(around, box)
    return Box(
        around.left - 0.06, around.top - 0.05, around.right + 0.06, around.bottom + 0.05
    ).clipped()


def _like_text(window: Window, passing: bool = False) -> list[Box]:
    """Boxes of what has the texture of a line: many strong strokes close together, wider than
    high, and, unless it may be `passing`, staying if the picture moves."""
    staying = window.moving and not passing
    strokes = (contrast(window.plane) > STROKES) & (window.frozen if staying else window.edges)
    height, width = strokes.shape
    reach = max(5, width // 50)
    joined = cv2.morphologyEx(
        strokes.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, reach), np.uint8)
    )
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, reach), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    found = []
    for x, y, w, h, area in stats[1:].tolist():
        if not (0.02 * height <= h <= 0.2 * height and w >= 1.4 * h and area >= 0.5 * w * h):
            continue
        part = window.plane[y : y + h, x : x + w].astype(np.int16)
        jumps = (np.abs(np.diff(part, axis=1)) > STROKES // 2).sum(1)
        # A letter is about as wide as high, and has two edges or more.
        if float(np.quantile(jumps, 0.75)) >= 1.5 * w / h:
            found.append(Box(x / width, y / height, (x + w) / width, (y + h) / height))
    return found


def _best(likely: list[list[Box]], count: int) -> list[int]:
    """The windows to be read: those that together hold most of what is like text."""
    chosen: list[int] = []
    covered: list[Box] = []
    for _ in range(count):
        gains = [
            sum(box.area for box in boxes if all(box.overlap(one) < 0.5 for one in covered))
            for boxes in likely
        ]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        chosen.append(best)
        covered += likely[best]
    return chosen


def _judged(corners: Float, window: Window, stays: Stays) -> Line:
    """A found line, burned in or not: by staying while the picture moves; where nothing moves, by
    being level and in one of the strips that hold subtitles and banners. What is level on a title
    card always was."""
    strokes = (contrast(window.plane) > STROKES) & (
        window.frozen if window.moving else window.edges
    )
    whole = bounds(corners, window.picture.rgb.shape)
    box = _tight(whole, np.asarray(strokes, np.bool_))
    rise = np.abs(corners[1] - corners[0])
    level, about = (bool(min(rise) <= slope * max(rise) + 1) for slope in (LEVEL, SLANTED))
    if level and _title_card(window):
        return Line(box, True)
    if window.moving or around_moves(window.edges, window.frozen, box):
        staying = share_of(window.frozen, window.edges, box) >= FROZEN
        lasting = stays.moving and _lasts(stays, box)
        return Line(box, about and (staying or lasting))
    x, y = box.centre
    placed = y >= SUBTITLE_BAND or min(y, x, 1 - x) <= TITLE_BAND
    return Line(box, level and placed)


def _lasts(stays: Stays, box: Box) -> bool:
    """Whether enough of a line's edges stay over the clip, and so in each third of it: at the
    centre of a zoom a part of a sign does."""
    third = box.width / 3
    parts = [
        Box(box.left + i * third, box.top, box.left + (i + 1) * third, box.bottom) for i in range(3)
    ]
    whole, *thirds = (share_of(stays.fixed, stays.edges, part) for part in (box, *parts))
    return whole >= LASTING and min(thirds) >= whole / 2


def _tight(box: Box, strokes: Bool) -> Box:
    """A box drawn in to its strokes, by at most `SLACK` of its height a side: the detector leaves
    room around a line."""
    rows, columns = pixels(box, strokes.shape)
    part = without_specks(strokes[rows, columns]) > 0
    if part.sum() < 20:
        return box
    down, across = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    height, width = strokes.shape
    slack = SLACK * (rows.stop - rows.start)
    return Box(
        (columns.start + min(across[0] - 1, slack)) / width,
        (rows.start + min(down[0] - 1, slack)) / height,
        (columns.stop - min(part.shape[1] - across[-1] - 2, slack)) / width,
        (rows.stop - min(part.shape[0] - down[-1] - 2, slack)) / height,
    ).clipped()


def _title_card(window: Window) -> bool:
    """Whether most of the picture is black."""
    return float(np.quantile(window.plane, 0.7)) <= BLACK


def _faint_text(stays: Stays, known: list[Box]) -> list[Box]:
    """Boxes of what stays, is wide like a word and was not yet read."""
    return [
        box
        for box, _ in clusters(stays.fixed, 0.03)
        if box.width > 0.08
        and box.width > box.height
        and all(box.common(one) <= 0 for one in known)
    ]


def _stretched(plane: Plane) -> Plane:
    """The plane over the full range: a faint word in a mean picture has little contrast."""
    return np.asarray(cv2.createCLAHE(3.0, (4, 4)).apply(plane), np.uint8)


def _add(lines: list[Line], new: Line) -> None:
    """Count a line once, as burned in when any look at it says so."""
    for i, line in enumerate(lines):
        small = min(line.box.area, new.box.area)
        if line.box.common(new.box) >= 0.5 * small:
            lines[i] = Line(union(line.box, new.box), line.burned or new.burned)
            return
    lines.append(new)


def _with_unread(lines: list[Line], windows: list[Window], likely: list[list[Box]]) -> list[Line]:
    """With what is like text at the height of a burned-in line, in pictures that were not read."""
    burned = [line.box for line in lines if line.burned]
    more = list(lines)
    for window, boxes in zip(windows, likely):
        for box in boxes:
            if window.moving and any(_same_row(box, line) for line in burned):
                _add(more, Line(box, True))
    return more


def _same_row(box: Box, line: Box) -> bool:
    """Whether a box is as high as a line and at its height."""
    common = min(box.bottom, line.bottom) - max(box.top, line.top)
    return common >= 0.6 * max(box.height, line.height)


def shows(window: Window, lines: list[Box]) -> bool:
    """Whether a window shows a burned-in line where one was found."""
    strong = contrast(window.plane) > STROKES
    return any(share(strong, line) > 0.25 for line in lines)
