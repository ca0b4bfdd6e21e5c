"""What lies over the picture: burned-in text, logos and watermarks, stickers, mosaic.

All but mosaic are told from the scene by what stays while the picture moves. In short windows
(three pictures in a row) the edges that do not change are set against all edges; over the whole
clip the mean of the gradient keeps what is fixed, faint or not, and loses what moves (T. Dekel
and others, On the effectiveness of visible watermarks, CVPR 2017). The text detector costs more
than all of the rest, so it sees at most `READ` pictures, and only where something has the
texture of text. Thresholds were chosen on the shots that `eval.overlays` renders and on real
clips; `python -m eval.overlays` measures them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.experts.boxes import Box
from captioner.experts.text import MIN_LETTERS, MIN_READ_SCORE, find_text, read_line
from captioner.frames import FrameBatch, Picture, halve, one_thread
from curation.measure.columns import Columns, column

Plane = NDArray[np.uint8]
Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

WINDOWS, IN_WINDOW = 6, 3
"""Windows over the clip, and neighbouring pictures in each: own choice, by cost."""

SIDE = 641
"""Pictures are halved to less than this many pixels; strokes of subtitles are still 2 wide."""

MIN_SIDE = 48
"""Pixels: smaller pictures are not measured."""

EDGE = 28
"""Levels of 255 between the darkest and the brightest pixel of 3 x 3 at an edge."""

STAY = 12
"""Levels that a pixel of an overlay may change by in a window: H.264 at crf 28 stays below."""

MOVING = 0.55
"""Share of the edges that must change in a window, or around a thing, to call the picture moving;
a passer-by before a camera at rest changes less, a slow pan more."""

READ = 2
"""Pictures that the text detector sees; one more where something faint stays."""

READ_LINES = 3
"""Lines that are read a picture, the largest first: own choice, by cost."""

LARGEST = 0.3
"""Smaller side of a line, and its area, at most: larger finds are textures."""

STROKES = 50
"""Levels of contrast at the strokes of text, burned in to be read."""

FROZEN = 0.5
"""Share of a line's edges that stay while the picture moves, in burned-in text."""

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

LEVEL = 0.03
"""Slope of a burned-in line: rise over run."""

THERE, FAINT = 0.45, 8.0
"""Share of the time that an edge must be there to stay, and its least size in levels a pixel."""

ENOUGH = 0.75, 0.6
"""Share of the edges that must change over the clip, and within a typical window, before what
stays in a corner can be told from the scene. Chosen on real clips: passers-by before a camera at
rest stay below."""

MARGIN = 0.012
"""Logos keep this share of the side off the picture's edges; what is cut by them does not."""

LOGOS, THINGS = 3, 4
"""Logos, and things of any kind that stay, at most: more are a part of a scene at rest."""

HALF = 0.45
"""Share of the windows that must show an edge in its place."""

AT_REST = 0.2
"""Share of the frame: what stays and is larger is a part of the scene."""

FAINT_SHARE, FAINT_MARKS, SURE_MOTION = 0.35, 250, 0.95
"""Share of the edges of a faint logo that stay, and their number, at least, where nearly all of
the picture (the third) moves: the scene shows through it, and its edges are counted as well."""

BOTH_WAYS = 0.15
"""Smaller over larger eigenvalue of the structure tensor of a drawing, at least."""

STRONG = 16.0
"""Levels a pixel of the edges by which the scene is told to move: grain makes weak ones."""

CORNER = 0.28
"""Share of each side that a corner spans: logos were 3 to 20 % from the edges. (SkyReels-V2 gives
its model 15 %, which cuts wide logos in two.)"""

ALL_THROUGH = 0.93
"""Share of a fixed sticker's edges that stay all through, not just for a moment; at the centre of a
zoom the scene nearly stays."""

LEAPING = 1.5
"""Factor for the share of the windows that show a leaping sticker."""

STICKER = (0.04, 0.45)
"""Smallest and largest side of a sticker, as a share of the frame's height; none is more than four
times as long as wide."""

HIDDEN_IN = 3
"""Pictures searched for mosaic: what it hides is flat now and then, and it does not show."""

BLOCKS = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32)
"""Sides of a mosaic's blocks that are tried, in pixels of the picture as sampled."""


TOOTH, TEETH, BETWEEN = 3.5, 6.0, 1.6
"""Step between neighbouring blocks of a mosaic, each and on average, at least, and mean step
inside them at most, in levels."""

CODEC_GRID, CODEC_TEETH = 4, 24.0
"""Codecs work in blocks of 8 and 16, 4 and 8 after halving: on that grid steps must be larger than
theirs, which were up to 14 levels."""


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


@dataclass(frozen=True)
class _Window:
    """A moment: its middle picture, in grey `plane` (h, w), the `edges` of it, those that stay
    over the window (`frozen`), and the share of the edges that do not (`motion`)."""

    picture: Picture
    plane: Plane
    edges: Bool
    frozen: Bool
    motion: float

    @property
    def moving(self) -> bool:
        """Whether the scene moves."""
        return self.motion >= MOVING


@dataclass(frozen=True)
class _Line:
    """A line of text, and whether it was burned in."""

    box: Box
    burned: bool


def measure(batch: FrameBatch, inside: Box) -> Overlays:
    """What lies over the part of the picture that is `inside` its borders; all None for pictures
    under `MIN_SIDE` pixels. What lies outside goes with the borders."""
    with one_thread():
        groups = _moments(batch)
        planes = [[_small(picture) for picture in group] for group in groups]
        if min(planes[0][0].shape) < MIN_SIDE:
            return Overlays()
        mask = _mask(planes[0][0].shape, inside)
        windows = [_window(group, small, mask) for group, small in zip(groups, planes)]
        shown = [picture for group in groups for picture in group]
        stays = _Stays.of(shown, [plane for small in planes for plane in small], mask)
        lines = _lines(windows, stays, inside)
        burned = [line.box for line in lines if line.burned]
        logos = _logos(windows, stays, inside)
        found = None if logos is None else [box for box, _ in logos]
        spoken = [box for box in burned if box.centre[1] >= SUBTITLE_BAND]
        return Overlays(
            text_area=_area(burned),
            text_scene_area=_area([line.box for line in lines if not line.burned]),
            text_subtitle=float(np.mean([_shows(window, spoken) for window in windows])),
            text_boxes=[_edges_of(box) for box in burned],
            overlay_logo=None if logos is None else max((score for _, score in logos), default=0.0),
            overlay_logo_boxes=None if found is None else [_edges_of(box) for box in found],
            overlay_sticker=_sticker(windows, stays, [*burned, *(found or ())]),
            overlay_mosaic=max(_mosaic(one.grey, inside) for one in batch.uniform(HIDDEN_IN)),
        )


# Moments.


def _moments(batch: FrameBatch) -> list[list[Picture]]:
    """Groups of up to `IN_WINDOW` neighbouring pictures, spread over the clip."""
    count = len(batch.pictures)
    size = min(IN_WINDOW, count)
    groups = max(1, min(WINDOWS, count // IN_WINDOW))
    starts = [int((i + 0.5) * count / groups - size / 2) for i in range(groups)]
    return [list(batch.pictures[max(0, start) : max(0, start) + size]) for start in starts]


def _small(picture: Picture) -> Plane:
    plane = picture.grey
    while max(plane.shape) >= SIDE:
        plane = halve(plane)
    return plane


def _colours(picture: Picture, shape: tuple[int, ...]) -> list[Plane]:
    """U and V at the size (h, w) of the small grey plane; none where the picture is too small."""
    if picture.u.size < 4:
        return []
    size = (shape[1], shape[0])
    return [np.asarray(cv2.resize(plane, size), np.uint8) for plane in (picture.u, picture.v)]


def _mask(shape: tuple[int, ...], inside: Box) -> Bool:
    """(h, w): what lies inside the borders, two pixels off their edges, which never move."""
    mask = np.zeros(shape, np.bool_)
    rows, columns = _pixels(inside, shape)
    off = [2 if edge else 0 for edge in (rows.start, shape[0] - rows.stop)]
    aside = [2 if edge else 0 for edge in (columns.start, shape[1] - columns.stop)]
    rows = slice(rows.start + off[0], rows.stop - off[1])
    mask[rows, columns.start + aside[0] : columns.stop - aside[1]] = True
    return mask


def _window(pictures: list[Picture], planes: list[Plane], mask: Bool) -> _Window:
    middle = planes[len(planes) // 2]
    edges = (_contrast(middle) > EDGE) & mask
    stack = np.stack(planes)
    still = stack.max(0) - stack.min(0) <= STAY
    frozen = edges & still if len(planes) > 1 else np.zeros_like(edges)
    total = int(edges.sum())
    motion = 1 - float(frozen.sum()) / total if total and len(planes) > 1 else 0.0
    return _Window(pictures[len(planes) // 2], middle, edges, frozen, motion)


def _contrast(plane: Plane) -> Plane:
    """(h, w): levels between the darkest and the brightest pixel of 3 x 3."""
    return np.asarray(cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, np.ones((3, 3))), np.uint8)


@dataclass(frozen=True)
class _Stays:
    """What stays over the whole clip: `across` and `down` are the mean gradients (3, h, w) of Y, U
    and V in levels a pixel, `edges` marks where there is any to speak of, `fixed` where it is the
    same all the time, `motion` is the share of the edges that do not stay; `mean` is the mean
    picture."""

    across: Float
    down: Float
    edges: Bool
    fixed: Bool
    motion: float
    mean: Plane

    @staticmethod
    def of(pictures: Sequence[Picture], greys: Sequence[Plane], mask: Bool) -> _Stays:
        """From all pictures looked at, and the small grey plane (h, w) of each.

        The squared mean gradient over the mean squared one is the share of the time that an edge
        is there: small where an edge only passes, however straight. Colour counts as much as grey:
        a logo may be as bright as the scene.
        """
        shape = greys[0].shape
        gradients = np.zeros((2, 3, *shape), np.float32)
        power, strong, mean = (np.zeros(shape, np.float32) for _ in range(3))
        for picture, grey in zip(pictures, greys):
            for channel, plane in enumerate((grey, *_colours(picture, shape))):
                for way in (0, 1):
                    steps = cv2.Sobel(plane, cv2.CV_32F, 1 - way, way, scale=0.25)
                    cv2.accumulate(steps, gradients[way, channel])
                    cv2.accumulateSquare(steps, power)
                    if channel == 0:
                        cv2.accumulateSquare(steps, strong)
            cv2.accumulate(grey, mean)
        n = np.float32(len(greys))
        gradients, power, strong = gradients / n, power / n, strong / n
        edges = (power > FAINT**2) & mask
        there = (gradients**2).sum((0, 1)) > THERE * power
        fixed = edges & there if len(greys) > 2 else np.zeros(shape, np.bool_)
        sharp = edges & (strong > STRONG**2)
        total = int(sharp.sum())
        motion = 1 - float((fixed & sharp).sum()) / total if total and len(greys) > 2 else 0.0
        across, down = gradients
        return _Stays(across, down, edges, fixed, motion, np.asarray(mean / n, np.uint8))

    @property
    def moving(self) -> bool:
        """Whether the scene moves."""
        return self.motion >= MOVING


# Text.


def _lines(windows: list[_Window], stays: _Stays, inside: Box) -> list[_Line]:
    """The lines of text, burned-in ones first; a line is listed once."""
    lines: list[_Line] = []
    likely = [_like_text(window) for window in windows]
    passing = [_like_text(window, passing=True) for window in windows]
    best = _best(likely, READ)
    looks = [(windows[i], likely[i]) for i in best]
    looks += [(windows[i], passing[i]) for i in _best(passing, 0 if best else 1)]
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
            box = _bounds(corners, rgb.shape)
            lasting = _share_of(stays.fixed, stays.edges, box) >= FROZEN
            if inside.holds(*box.centre) and lasting:
                _add(lines, _Line(_tight(box, stays.fixed), True))
    return sorted(_with_unread(lines, windows, likely), key=lambda line: not line.burned)


def _legible(rgb: NDArray[np.uint8], region: Box) -> list[Float]:
    """Corners (4, 2) of the lines in a region that can be read: the detector alone takes textures
    for text."""
    rows, columns = _pixels(region, rgb.shape)
    part = np.ascontiguousarray(rgb[rows, columns])
    if min(part.shape[:2]) < 8:
        return []
    offset = np.array([columns.start, rows.start], np.float32)
    found = []
    for corners in find_text(part)[:READ_LINES]:
        box = _bounds(corners + offset, rgb.shape)
        if max(min(box.width, box.height), box.area) > LARGEST:
            continue
        text, score = read_line(part, corners)
        if len(text.replace(" ", "")) >= MIN_LETTERS and score >= MIN_READ_SCORE:
            found.append(np.asarray(corners + offset, np.float32))
    return found


def _region(boxes: Sequence[Box]) -> Box:
    """The part of the picture that holds all boxes and some more: the less of it the detector
    sees, the less it costs."""
    around = boxes[0]
    for box in boxes[1:]:
        around = _union(around, box)
    return Box(
        around.left - 0.06, around.top - 0.05, around.right + 0.06, around.bottom + 0.05
    ).clipped()


def _like_text(window: _Window, passing: bool = False) -> list[Box]:
    """Boxes of what has the texture of a line: many strong strokes close together, wider than
    high, and, unless it may be `passing`, staying if the picture moves."""
    staying = window.moving and not passing
    strokes = (_contrast(window.plane) > STROKES) & (window.frozen if staying else window.edges)
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


def _judged(corners: Float, window: _Window, stays: _Stays) -> _Line:
    """A found line, burned in or not: by staying while the picture moves; where nothing moves, by
    being level and in one of the strips that hold subtitles and banners. What is level on a title
    card always was."""
    strokes = (_contrast(window.plane) > STROKES) & (
        window.frozen if window.moving else window.edges
    )
    whole = _bounds(corners, window.picture.rgb.shape)
    box = _tight(whole, np.asarray(strokes, np.bool_))
    rise = np.abs(corners[1] - corners[0])
    level = bool(min(rise) <= LEVEL * max(rise) + 1)
    if level and _title_card(window):
        return _Line(box, True)
    if window.moving or _around_moves(window.edges, window.frozen, box):
        staying = _share_of(window.frozen, window.edges, box) >= FROZEN
        lasting = stays.moving and _share_of(stays.fixed, stays.edges, box) >= LASTING
        return _Line(box, level and (staying or lasting))
    x, y = box.centre
    placed = y >= SUBTITLE_BAND or min(y, x, 1 - x) <= TITLE_BAND
    return _Line(box, level and placed)


def _tight(box: Box, strokes: Bool) -> Box:
    """A box drawn in to its strokes, by at most `SLACK` of its height a side: the detector leaves
    room around a line."""
    rows, columns = _pixels(box, strokes.shape)
    part = _without_specks(strokes[rows, columns]) > 0
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


def _around_moves(edges: Bool, staying: Bool, box: Box) -> bool:
    """Whether the edges around a box move."""
    margin = max(0.03, min(0.1, box.height))
    outer = Box(
        box.left - margin, box.top - margin, box.right + margin, box.bottom + margin
    ).clipped()
    around = _count(edges, outer) - _count(edges, box)
    still = _count(staying, outer) - _count(staying, box)
    return around >= 30 and 1 - still / around >= MOVING


def _title_card(window: _Window) -> bool:
    """Whether most of the picture is black."""
    return float(np.quantile(window.plane, 0.7)) <= BLACK


def _faint_text(stays: _Stays, known: list[Box]) -> list[Box]:
    """Boxes of what stays, is wide like a word and was not yet read."""
    return [
        box
        for box, _ in _clusters(stays.fixed, 0.03)
        if box.width > 0.08
        and box.width > box.height
        and all(box.common(one) <= 0 for one in known)
    ]


def _stretched(plane: Plane) -> Plane:
    """The plane over the full range: a faint word in a mean picture has little contrast."""
    return np.asarray(cv2.createCLAHE(3.0, (4, 4)).apply(plane), np.uint8)


def _add(lines: list[_Line], new: _Line) -> None:
    """Count a line once, as burned in when any look at it says so."""
    for i, line in enumerate(lines):
        small = min(line.box.area, new.box.area)
        if line.box.common(new.box) >= 0.5 * small:
            lines[i] = _Line(_union(line.box, new.box), line.burned or new.burned)
            return
    lines.append(new)


def _with_unread(
    lines: list[_Line], windows: list[_Window], likely: list[list[Box]]
) -> list[_Line]:
    """With what is like text at the height of a burned-in line, in pictures that were not read."""
    burned = [line.box for line in lines if line.burned]
    more = list(lines)
    for window, boxes in zip(windows, likely):
        for box in boxes:
            if window.moving and any(_same_row(box, line) for line in burned):
                _add(more, _Line(box, True))
    return more


def _same_row(box: Box, line: Box) -> bool:
    """Whether a box is as high as a line and at its height."""
    common = min(box.bottom, line.bottom) - max(box.top, line.top)
    return common >= 0.6 * max(box.height, line.height)


def _shows(window: _Window, lines: list[Box]) -> bool:
    """Whether a window shows a burned-in line where one was found."""
    strong = _contrast(window.plane) > STROKES
    return any(_share(strong, line) > 0.25 for line in lines)


# Logos.


def _logos(windows: list[_Window], stays: _Stays, inside: Box) -> list[tuple[Box, float]] | None:
    """What stays in the corners while the picture moves, with a score each; None where it does
    not move, since then nobody can tell."""
    if not _told(windows, stays):
        return None
    if _partly_at_rest(stays):
        return []
    # What is plain in half of the windows stays as well, though its edges come and go with what is
    # behind it.
    fixed = stays.fixed | (np.mean([window.frozen for window in windows], axis=0) >= HALF)
    found = []
    for box, marks in _clusters(fixed, 0.03):
        if not _cornered(box, inside) or marks < 40 or _around_still(stays, box):
            continue
        dense = _share_of(fixed, stays.edges, box)
        faint = stays.motion >= SURE_MOTION and marks >= FAINT_MARKS and dense >= FAINT_SHARE
        if (dense >= FROZEN or faint) and _in_both_ways(stays, box):
            found.append((box, min(1.0, marks / 80) * min(1.0, dense / (0.5 if faint else 0.7))))
    return found if len(found) <= LOGOS else []


def _told(windows: list[_Window], stays: _Stays) -> bool:
    """Whether the picture moves enough to tell what lies over it."""
    typical = float(np.median([window.motion for window in windows]))
    return stays.motion >= ENOUGH[0] and typical >= ENOUGH[1]


def _partly_at_rest(stays: _Stays) -> bool:
    """Whether so much stays that it is a part of the scene."""
    things = [box for box, _ in _clusters(stays.fixed, 0.03)]
    dense = sum(_share_of(stays.fixed, stays.edges, box) >= FROZEN for box in things)
    return dense > THINGS or max((box.area for box in things), default=0.0) > AT_REST


def _cornered(box: Box, inside: Box) -> bool:
    """Whether a box lies in a corner of the picture and keeps off its edges."""
    width, height = max(inside.width, 1e-6), max(inside.height, 1e-6)
    left, right = (box.left - inside.left) / width, (inside.right - box.right) / width
    top, bottom = (box.top - inside.top) / height, (inside.bottom - box.bottom) / height
    x, y = (left + 1 - right) / 2, (top + 1 - bottom) / 2
    cornered = min(x, 1 - x) <= CORNER and min(y, 1 - y) <= CORNER
    return cornered and min(left, right, top, bottom) >= MARGIN


def _around_still(stays: _Stays, box: Box) -> bool:
    """Whether the edges around a box stay as well: then the box is part of a scene at rest."""
    outer = Box(
        box.left - box.width, box.top - box.height, box.right + box.width, box.bottom + box.height
    ).clipped()
    around = _count(stays.edges, outer) - _count(stays.edges, box)
    still = _count(stays.fixed, outer) - _count(stays.fixed, box)
    return around >= 20 and still > 0.4 * around


def _clusters(marks: Bool, reach: float) -> list[tuple[Box, int]]:
    """Boxes of marks that lie within `reach` (a share of the width) of each other, and the number
    of marks in each; lines and specks are left out."""
    height, width = marks.shape
    size = max(3, round(reach * width))
    speckless = _without_specks(marks)
    # Room on all sides, since closing joins what is near the picture's edge to it.
    roomy = cv2.copyMakeBorder(
        speckless, size, size, size, size, cv2.BORDER_CONSTANT, value=(0,)
    )  # fmt: skip
    joined = cv2.morphologyEx(roomy, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    joined = np.ascontiguousarray(joined[size:-size, size:-size])
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    inside = np.bincount(labels[speckless > 0], minlength=count)
    found = []
    for label, (x, y, w, h, _) in enumerate(stats.tolist()):
        if label and min(w, h) >= 0.03 * height and max(w / width, h / height) <= 0.6:
            box = Box(x / width, y / height, (x + w) / width, (y + h) / height)
            found.append((box, int(inside[label])))
    return found


def _without_specks(marks: Bool) -> Plane:
    """The marks without those in groups of fewer than 6."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= 6
    large[0] = False
    return np.asarray(large[labels], np.uint8) if count > 1 else marks.astype(np.uint8)


def _in_both_ways(stays: _Stays, box: Box) -> bool:
    """Whether what stays in a box has edges in more than one direction."""
    rows, columns = _pixels(box, stays.fixed.shape)
    fixed = stays.fixed[rows, columns]
    across, down = (way[:, rows, columns][:, fixed] for way in (stays.across, stays.down))
    return _in_more_ways(across, down)


def _in_more_ways(across: Float, down: Float) -> bool:
    """Whether gradients point in more than one direction, by the eigenvalues of the structure
    tensor: an edge that lies along the camera's path stays as well."""
    if across.size < 3:
        return False
    xx, xy, yy = float((across**2).sum()), float((across * down).sum()), float((down**2).sum())
    less, more = np.linalg.eigvalsh(np.array([[xx, xy], [xy, yy]]))
    return bool(less >= BOTH_WAYS * more)


def _gradients(plane: Plane, box: Box) -> tuple[Float, Float]:
    """Gradients of a box across and down."""
    part = np.ascontiguousarray(plane[_pixels(box, plane.shape)])
    across, down = (cv2.Sobel(part, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


# Stickers.


def _sticker(windows: list[_Window], stays: _Stays, known: list[Box]) -> float | None:
    """How surely something that is neither text nor logo is stuck over the picture: in its place
    all through, or leaping, the same here and there; None where the picture does not move."""
    if not _told(windows, stays):
        return None
    if _partly_at_rest(stays):
        return 0.0
    moving = [window for window in windows if window.moving]
    fixed = leaping = 0
    for i, window in enumerate(moving):
        others = moving[:i] + moving[i + 1 :]
        boxes = _stuck(window, known)
        fixed += any(_fixed_all_through(stays, window, box) for box in boxes)
        leaping += any(_elsewhere(window, others, box) for box in boxes)
    # A leap inside a window hides the thing from it.
    return max(fixed / len(moving), min(1.0, LEAPING * leaping / len(moving)))


def _stuck(window: _Window, known: list[Box]) -> list[Box]:
    """Boxes in which nearly all edges stay while the picture around moves."""
    low, high = STICKER
    found = []
    for box, marks in _clusters(window.frozen, 0.02):
        sides = sorted((box.width * window.plane.shape[1] / window.plane.shape[0], box.height))
        sized = low <= sides[0] and sides[1] <= min(high, 4 * sides[0])
        dense = _share_of(window.frozen, window.edges, box) >= 0.75
        free = all(box.common(one) < 0.3 * min(box.area, one.area) for one in known)
        around = _around_moves(window.edges, window.frozen, box)
        free = free and _in_more_ways(*_gradients(window.plane, box))
        if sized and dense and free and around and marks >= 60:
            found.append(box)
    return sorted(found, key=lambda box: -box.area)[:3]


def _fixed_all_through(stays: _Stays, window: _Window, box: Box) -> bool:
    """Whether what stays in a window in a box stays in the other windows too."""
    dense = _share_of(stays.fixed & window.frozen, window.frozen, box) >= ALL_THROUGH
    enough = _count(stays.fixed, box) >= 60
    return stays.moving and dense and enough and _in_both_ways(stays, box)


def _elsewhere(window: _Window, others: list[_Window], box: Box) -> bool:
    """Whether the thing in a box is in another window too, far from there and no longer there."""
    rows, columns = _pixels(box, window.plane.shape)
    thing = window.plane[rows, columns]
    if min(thing.shape) < 8 or float(thing.std()) < 12:
        return False
    for other in others:
        match = cv2.matchTemplate(other.plane, thing, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(match)
        far = max(abs(x - columns.start), abs(y - rows.start)) > 0.5 * min(thing.shape)
        if best >= 0.8 and far and match[rows.start, columns.start] < 0.5:
            return True
    return False


# Mosaic.


def _mosaic(grey: Plane, inside: Box) -> float:
    """How surely part of a picture is in blocks: steps only at even distances, both ways."""
    rows, columns = _pixels(inside, grey.shape)
    # The grid of the codec begins at the frame's corner.
    top, left = (-(-edge.start // CODEC_GRID) * CODEC_GRID for edge in (rows, columns))
    part = np.ascontiguousarray(grey[top : rows.stop, left : columns.stop])
    if min(part.shape) < 64:
        return 0.0
    across = np.asarray(cv2.absdiff(part[:, 1:], part[:, :-1])[:-1], np.uint8)
    down = np.asarray(cv2.absdiff(part[1:], part[:-1])[:, :-1].T, np.uint8)
    return max(_in_blocks(across, np.ascontiguousarray(down), block) for block in BLOCKS)


def _in_blocks(across: Plane, down: Plane, block: int) -> float:
    """How surely some squares of 3 x 3 blocks are a mosaic, from the steps across and, turned,
    down."""
    combs = [
        _comb(_profiles(across, 3 * block), block),
        _comb(_profiles(down, 3 * block).transpose(1, 0, 2), block),
    ]
    strength, on_grid = np.minimum(combs[0][0], combs[1][0]), combs[0][1] & combs[1][1]
    hits = int((strength >= np.where(on_grid, CODEC_TEETH, TEETH)).sum())
    # One square may be chance; two are not.
    return min(1.0, hits / 2)


def _profiles(steps: Plane, tile: int) -> Float:
    """(tiles down, tiles across, tile): mean steps a column of each square tile."""
    height, width = (side // tile for side in steps.shape)
    if not height or not width:
        return np.zeros((height, width, tile), np.float32)
    cut = steps[: height * tile, : width * tile]
    rows = cv2.resize(cut, (width * tile, height), interpolation=cv2.INTER_AREA)
    return rows.reshape(height, width, tile).astype(np.float32)


def _comb(profiles: Float, block: int) -> tuple[Float, Bool]:
    """(rows, columns) each: the mean of a tile's three teeth, 0 where one of them is low or
    something between them is high; and whether they lie on the grid of codecs."""
    rows, columns, tile = profiles.shape
    folded = profiles.reshape(rows, columns, 3, block)
    phase = folded.sum(2).argmax(2)
    index = np.broadcast_to(phase[:, :, None, None], (rows, columns, 3, 1))
    teeth = np.take_along_axis(folded, index, 3)[..., 0]
    rest = (profiles.sum(2) - teeth.sum(2)) / (tile - 3)
    sound = (teeth.min(2, initial=255.0) > TOOTH) & (rest < BETWEEN)
    on_grid = (block % CODEC_GRID == 0) & ((phase + 1) % CODEC_GRID == 0)
    return np.where(sound, teeth.mean(2), np.float32(0)), np.asarray(on_grid, np.bool_)


# Boxes and pixels.


def _pixels(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a box in a picture."""
    box = box.clipped()
    rows = slice(round(box.top * shape[0]), round(box.bottom * shape[0]))
    return rows, slice(round(box.left * shape[1]), round(box.right * shape[1]))


def _count(marks: Bool, box: Box) -> int:
    return int(marks[_pixels(box, marks.shape)].sum())


def _share(marks: Bool, box: Box) -> float:
    """Share of a box that is marked."""
    part = marks[_pixels(box, marks.shape)]
    return float(part.mean()) if part.size else 0.0


def _share_of(marks: Bool, total: Bool, box: Box) -> float:
    """Marks in a box over what could be marked."""
    return _count(marks, box) / max(1, _count(total, box))


def _bounds(corners: Float, shape: tuple[int, ...]) -> Box:
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return Box(left / shape[1], top / shape[0], right / shape[1], bottom / shape[0]).clipped()


def _union(a: Box, b: Box) -> Box:
    return Box(
        min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom)
    )


def _edges_of(box: Box) -> list[float]:
    box = box.clipped()
    return [box.left, box.top, box.right, box.bottom]


def _area(boxes: Iterable[Box]) -> float:
    """Share of the frame that boxes cover together, to a four-hundredth of its sides."""
    covered = np.zeros((400, 400), np.bool_)
    for box in boxes:
        covered[_pixels(box, covered.shape)] = True
    return float(covered.mean())
