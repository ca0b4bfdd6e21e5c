"""What surrounds or divides the picture: bars, blurred fill, static frames, split screens, insets.

Bars are told from dark scenes by looking at the brightest and the darkest value that each pixel
takes over time, and by a straight edge: nearly every column must leave the bar at the same row.
Seams are told from edges of the scene by their straightness, by staying where they are, and by
what moves on both sides of them. Thresholds were chosen on the shots that `eval.overlays` renders
and on real clips; `python -m eval.overlays` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.frames import FrameBatch, Picture, halve, one_thread
from curation.measure.columns import Columns, column

Plane = NDArray[np.uint8]
Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

PICTURES = 10
"""Pictures looked at, spread over the clip: own choice, more did not change what was found."""

MIN_SIDE = 32
"""Pixels: smaller pictures are not measured."""

SEAM_SIDE = 640
"""Pictures are halved to less than this many pixels for seams, which are straight and long."""

LEVEL = 10
"""Levels of 255 that a pixel of a bar may be off its colour: ringing beside an edge of H.264 at
crf 28 stays below."""

MIN_BAR = 0.006
"""Share of the side: thinner lines are damage of a scan, and cost less than they are worth."""

MIN_RISING = 0.2
"""Share of the columns that must leave the bar at all: a title on black has no bars."""

STRAIGHT, STRAIGHT_ALONE = 0.3, 0.85
"""Share of the rising columns that leave the bar at one row: where a like bar is on the opposite
side, and where there is none (a night sky over a roof)."""

EARLY, EARLY_ALONE = 0.4, 0.08
"""Share of the columns that may leave the bar sooner: subtitles are often put into bars."""

FRAME_CHANGE = 14
"""Levels by which a pixel changes over time inside a static frame."""

FRAME_STRAIGHT, FRAME_EARLY = 0.45, 0.2
"""As STRAIGHT and EARLY, where change and not colour tells the picture from the frame around it."""

SOFT, SOFTER = 0.5, 0.9
"""Sharpness of blurred fill over that of the picture, at most; the second where the fill is as
like the picture as `SURE_COPY`, since pictures are soft as well now and then."""

FILL_SEAM = 0.5
"""Share of the height in which a seam must part the fill from the picture."""

COPY, SURE_COPY = 0.5, 0.9
"""Correlation of blurred fill with the enlarged picture, at least."""

STEP, STEP_FLOOR = 2.0, 2.5
"""An edge is part of a seam where its step is this many times the mean one within 7 pixels, and
this many levels more."""

OFTEN = 0.45
"""Share of the pictures in which it must: the two sides of a seam are alike now and then."""

TOGETHER = 0.35
"""Correlation over time of the changes on both sides of a seam, from which they are one scene."""

MOVED = 0.0008
"""Share of the longer side by which a point must move between neighbours to have moved."""

LK = (11, 11), 2
"""Window and pyramid levels of the optical flow: enough for moves of a tenth."""

UNMOVED = 0.45
"""Factor of the score where nothing moves but the subjects: two cameras at rest look like one."""

ACTIVE = 10
"""Levels by which a pixel beside a seam must change over time for its side to count as moving."""

BESIDE = 0.06
"""Width, as a share of the frame, of the band beside a seam that is searched for movement."""

INSET = 0.15
"""Shortest side of a picture in picture, as a share of the frame's."""

INSET_SUPPORT = 0.55
"""Share of each side of an inset that must be a seam."""


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


@dataclass(frozen=True)
class _Area:
    """Rows top to bottom and columns left to right of a picture, ends exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a plane (..., H, W)."""
        return plane[..., self.top : self.bottom, self.left : self.right]

    def scaled(self, plane: Plane, like: Plane) -> Plane:
        """The part of a plane that shows the same as `like`, which the area is of, in another
        size."""
        y, x = plane.shape[0] / like.shape[0], plane.shape[1] / like.shape[1]
        rows = slice(round(self.top * y), round(self.bottom * y))
        return plane[rows, round(self.left * x) : round(self.right * x)]


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
        whole = _Area(0, 0, width, height)
        high, low = _extremes(greys)
        picture = _inside_bars(high, low)
        letterbox = 1 - (picture.bottom - picture.top) / height
        pillarbox = 1 - (picture.right - picture.left) / width
        filled = 0.0
        if picture == whole:
            picture = _inside_frame(np.asarray(cv2.subtract(high, low), np.uint8))
        if picture == whole:
            picture = _inside_fill(greys)
            filled = 1 - (picture.right - picture.left) * (picture.bottom - picture.top) / high.size
        pairs = tuple(
            (picture.scaled(first, high), picture.scaled(second, high))
            for first, second in ((pair.first, pair.second) for pair in batch.pairs)
        )
        split, inset = _divisions([_planes(one, picture) for one in pictures], pairs)
    box = [picture.left / width, picture.top / height]
    box += [picture.right / width, picture.bottom / height]
    return Borders(
        border_box=None if picture == whole else box,
        border_letterbox=letterbox,
        border_pillarbox=pillarbox,
        border_blurred_fill=filled,
        border_split_screen=split,
        border_picture_in_picture=inset,
    )


# Bars and static frames.


@dataclass(frozen=True)
class _Edge:
    """Where the columns of a picture leave its flat margin, from one side on.

    `counts` holds, for each row, the number of columns that leave the margin there, of `rising`
    columns in all; `level` is the margin's grey.
    """

    counts: NDArray[np.int64]
    rising: int
    level: int

    def at(self, row: int, reach: int = 1) -> float:
        """Share of the columns that leave within `reach` rows of `row`."""
        return float(self.counts[max(0, row - reach) : row + reach + 1].sum()) / self.rising

    def before(self, row: int) -> float:
        """Share of the columns that leave more than a row before."""
        return float(self.counts[: max(0, row - 1)].sum()) / self.rising

    def strongest(self, low: int, high: int) -> int:
        """The row from `low` to `high` (exclusive) at which most columns leave."""
        return low + int(self.counts[low:high].argmax())


def _extremes(planes: list[Plane]) -> tuple[Plane, Plane]:
    """(H, W) the brightest and the darkest value of each pixel over time."""
    stack = np.stack(planes)
    return stack.max(0), stack.min(0)


def _inside_bars(high: Plane, low: Plane) -> _Area:
    """What flat bars leave of the frame; twice, as bars on two sides hide those on the others."""
    height, width = high.shape
    area = _Area(0, 0, width, height)
    for _ in range(2):
        top, bottom = _bars(area.of(high), area.of(low))
        area = _Area(area.left, area.top + top, area.right, area.bottom - bottom)
        left, right = _bars(area.of(high).T, area.of(low).T)
        area = _Area(area.left + left, area.top, area.right - right, area.bottom)
    return area


def _bars(high: Plane, low: Plane) -> tuple[int, int]:
    """Rows of bar above and below."""
    half = len(high) // 2
    first = _edge(high[:half], low[:half])
    last = _edge(high[::-1][:half], low[::-1][:half])
    if first is None or last is None:
        return 0, 0
    both = _matching(first, last, STRAIGHT, EARLY)
    if both is not None and abs(first.level - last.level) <= LEVEL:
        return both
    return _alone(first), _alone(last)


def _edge(high: Plane, low: Plane) -> _Edge | None:
    """The edge of the margin above; None where too few columns leave it."""
    if not len(high):
        return None
    level = int(np.median(high[: 1 + (len(high) > 1)]))
    return _edge_of((high > level + LEVEL) | (low < level - LEVEL), level)


def _edge_of(inside: Bool, level: int) -> _Edge | None:
    """The edge before what is `inside`, (rows, columns)."""
    rising = inside.any(0)
    if rising.mean() < MIN_RISING:
        return None
    counts = np.bincount(inside.argmax(0)[rising], minlength=len(inside))
    return _Edge(counts, int(rising.sum()), level)


def _matching(first: _Edge, last: _Edge, straight: float, early: float) -> tuple[int, int] | None:
    """The depth of two margins of about one size, or None."""
    least = max(2, round(2 * len(first.counts) * MIN_BAR))
    reach = max(2, len(first.counts) // 50)
    window = np.ones(2 * reach + 1)
    near = [np.convolve(edge.counts / edge.rising, window, "same") for edge in (first, last)]
    weaker = np.minimum(*near)
    weaker[:least] = 0
    about = int(weaker.argmax())
    rows = [edge.strongest(max(0, about - reach), about + reach + 1) for edge in (first, last)]
    for edge, row in zip((first, last), rows):
        if row < least or edge.at(row) < straight or edge.before(row) > early:
            return None
    return rows[0], rows[1]


def _alone(edge: _Edge) -> int:
    """The depth of a black margin that has no counterpart; 0 for none."""
    row = edge.strongest(0, len(edge.counts))
    enough = row >= max(2, round(2 * len(edge.counts) * MIN_BAR))
    straight = edge.at(row) >= STRAIGHT_ALONE and edge.before(row) <= EARLY_ALONE
    return row if enough and straight and edge.level <= LEVEL else 0


def _inside_frame(change: Plane) -> _Area:
    """What a motionless frame leaves, from how much each pixel changes over time."""
    height, width = change.shape
    area = _Area(0, 0, width, height)
    for _ in range(2):
        top, bottom = _still_margins(area.of(change))
        area = _Area(area.left, area.top + top, area.right, area.bottom - bottom)
        left, right = _still_margins(area.of(change).T)
        area = _Area(area.left + left, area.top, area.right - right, area.bottom)
    return area


def _still_margins(change: Plane) -> tuple[int, int]:
    half = len(change) // 2
    moving = change > FRAME_CHANGE
    first, last = _edge_of(moving[:half], 0), _edge_of(moving[::-1][:half], 0)
    if first is None or last is None:
        return 0, 0
    return _matching(first, last, FRAME_STRAIGHT, FRAME_EARLY) or (0, 0)


# Blurred fill.


def _inside_fill(greys: list[Plane]) -> _Area:
    """What blurred fill, left and right or above and below, leaves of the frame."""
    height, width = greys[0].shape
    small = [_small(grey) for grey in greys[:: max(1, len(greys) // 4)]]
    scale = width / small[0].shape[1]
    depth = round(_fill(small) * scale)
    if depth:
        return _Area(depth, 0, width - depth, height)
    depth = round(_fill([np.ascontiguousarray(plane.T) for plane in small]) * scale)
    return _Area(0, depth, width, height - depth)


def _fill(planes: list[Plane]) -> int:
    """Columns of blurred fill on each side; 0 for none."""
    width = planes[0].shape[1]
    sharp = np.mean([_steps(plane)[:, :-1].mean(0) for plane in planes], axis=0)
    sharp = (sharp + sharp[::-1]) / 2  # by half: fill is centred
    band = max(4, width // 16)
    total = np.concatenate([[0.0], np.cumsum(sharp)])
    depths = np.arange(band + 2, width // 2 - band - 2)
    if not len(depths):
        return 0
    # The seam itself is left out on both sides.
    outer = (total[depths - 2] - total[depths - 2 - band]) / band
    inner = (total[depths + 2 + band] - total[depths + 2]) / band
    soft = outer / np.maximum(inner, 0.5)
    seam = np.maximum(sharp[depths - 1], sharp[depths])
    allowed = (soft <= SOFTER) & (seam > 1.3 * inner)
    if not allowed.any():
        return 0
    best = int(np.where(allowed, seam / np.maximum(outer, 0.5), 0).argmax())
    depth = int(depths[best])
    depth += int(sharp[depth - 2 : depth + 3].argmax()) - 1
    beyond = total[depth - 2] / (depth - 2)
    within = (total[width // 2] - total[depth + 2]) / (width // 2 - depth - 2)
    copied = _copied(planes, depth)
    if beyond > SOFTER * within or copied < (COPY if beyond <= SOFT * within else SURE_COPY):
        return 0
    seams = _seam_pixels([(plane,) for plane in planes])
    either = seams[:, :-1] | seams[:, 1:]
    lengths = [either[:, max(0, x - 2) : x + 1].any(1).mean() for x in (depth, width - depth)]
    return depth if min(lengths) >= FILL_SEAM else 0


def _copied(planes: list[Plane], depth: int) -> float:
    """Correlation of the margins with the picture between them, enlarged to cover the frame."""
    height, width = planes[0].shape
    size = (64, max(8, round(64 * height / width)))
    edge = max(1, round(depth * 64 / width) - 1)
    part = max(2, round(height * (width - 2 * depth) / width))
    top = (height - part) // 2
    found = []
    for plane in planes:
        fill = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        for rows in (slice(top, top + part), slice(0, height)):
            inner = plane[rows, depth : width - depth]
            copy = cv2.blur(cv2.resize(inner, size, interpolation=cv2.INTER_AREA), (5, 5))
            sides = [np.delete(p, np.s_[edge:-edge], axis=1).ravel() for p in (fill, copy)]
            spread = min(float(side.std()) for side in sides)
            found.append(float(np.corrcoef(sides[0], sides[1])[0, 1]) if spread > 1 else 0.0)
    return max(float(np.mean(found[::2])), float(np.mean(found[1::2])))


# Split screens and insets.

_Planes = tuple[Plane, ...]
"""Grey, U and V (h, w) of one picture."""

_Pairs = tuple[tuple[Plane, Plane], ...]
"""Pairs of neighbouring pictures (h, w), turned with the seams."""


@dataclass(frozen=True)
class _Line:
    """An upright line at a share of the width, from `start` to `end`, shares of the height."""

    at: float
    start: float
    end: float


@dataclass(frozen=True)
class _Part:
    """A part of the picture, edges in shares of its sides."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, points: Float) -> Bool:
        """(n,): which of the points (n, 2), x and y in shares of the sides, lie inside."""
        low, high = (self.left, self.top), (self.right, self.bottom)
        return np.asarray(((points >= low) & (points <= high)).all(1), np.bool_)


@dataclass(frozen=True)
class _Seams:
    """`across` marks pixels (h, w) of upright seams, `down` those of level ones; a seam at column
    x lies between x and x + 1. `active` marks what changes over time."""

    upright: Bool
    level: Bool
    active: Bool


def _divisions(pictures: list[_Planes], pairs: _Pairs) -> tuple[float | None, float | None]:
    """Scores of a split screen and of an inset; None where nothing moves."""
    small = [planes[0] for planes in pictures]
    if min(small[0].shape) < MIN_SIDE or len(small) < 2:
        return None, None
    change = cv2.subtract(*_extremes(small))
    active = np.asarray(change > ACTIVE, np.bool_)
    if active.mean() < 0.02:
        return None, None
    upright = _seam_pixels(pictures)
    turned_planes = [tuple(np.ascontiguousarray(one.T) for one in planes) for planes in pictures]
    level = _seam_pixels(turned_planes).T
    seams = _Seams(upright, level, active)
    flipped = _Seams(level.T, upright.T, active.T)
    turned = tuple((first.T, second.T) for first, second in pairs)
    split = max(_split(seams, pairs), _split(flipped, turned))
    return split, _inset(seams, pairs, turned)


def _small(grey: Plane) -> Plane:
    while max(grey.shape) >= SEAM_SIDE:
        grey = halve(grey)
    return grey


def _steps(plane: Plane) -> Plane:
    """(h, w) uint8: the difference of each pixel to the one on its right; 0 in the last column."""
    steps = np.zeros_like(plane)
    steps[:, :-1] = cv2.absdiff(plane[:, 1:], plane[:, :-1])
    return steps


def _planes(picture: Picture, area: _Area) -> _Planes:
    """Grey, U and V of an area, halved, of one size: two pictures may be alike in one of them."""
    grey = _small(area.of(picture.grey))
    size = (grey.shape[1], grey.shape[0])
    if picture.u.size < 4:
        return (grey,)
    chroma = (area.scaled(plane, picture.grey) for plane in (picture.u, picture.v))
    return (grey, *(np.asarray(cv2.resize(plane, size), np.uint8) for plane in chroma))


def _seam_pixels(pictures: list[_Planes]) -> Bool:
    """(h, w): where the step to the right mostly stands out from its neighbours."""
    seen = np.zeros(pictures[0][0].shape, np.uint8)
    for planes in pictures:
        steps = np.maximum.reduce([_steps(plane) for plane in planes])
        wide = cv2.boxFilter(steps, cv2.CV_32F, (15, 1), normalize=False)
        near = cv2.boxFilter(steps, cv2.CV_32F, (3, 1), normalize=False)
        around = cv2.subtract(wide, near)
        seen += steps > cv2.addWeighted(around, STEP / 12, around, 0, STEP_FLOOR)
    return seen >= max(2, OFTEN * len(pictures))


def _split(seams: _Seams, pairs: _Pairs) -> float:
    """How surely an upright seam parts the picture from top to bottom."""
    width = seams.upright.shape[1]
    either = seams.upright.copy()
    either[:, :-1] |= seams.upright[:, 1:]
    length = either.mean(0)
    edge = max(8, width // 8)
    length[:edge] = length[width - edge :] = 0
    best = 0.0
    for _ in range(3):
        x = int(length.argmax())
        if length[x] < 0.5:
            break
        score = float(length[x]) * _activity(seams.active, x)
        if score > max(best, 0.3):
            left = _Part(0.0, 0.0, (x + 1) / width, 1.0)
            best = max(best, score * _independence(pairs, left))
        length[max(0, x - 8) : x + 9] = 0
    return min(1.0, best)


def _apart(pairs: _Pairs, line: _Line) -> float:
    """How surely the two sides of a line change each in its own time, 0 to 1.

    What passes before an edge of the scene changes both of its sides at once.
    """
    if len(pairs) < 6:
        return 1.0
    changes = []
    for first, second in pairs[:: max(1, len(pairs) // 32)]:
        height, width = first.shape
        rows = slice(round(line.start * height), max(1, round(line.end * height)))
        x, gap = round(line.at * width), max(3, width // 160)
        sides = (slice(max(0, x - 2 * gap), x - 2), slice(x + gap, x + 3 * gap))
        if not all(first[rows, side].size for side in sides):
            return 1.0
        change = [cv2.absdiff(first[rows, side], second[rows, side]) for side in sides]
        size = (1, max(1, change[0].shape[0] // 4))
        changes.append(
            [cv2.resize(part, size, interpolation=cv2.INTER_AREA)[:, 0] for part in change]
        )
    series = np.array(changes, np.float32)  # (pairs, 2, rows)
    series -= series.mean(0)
    spread = np.sqrt((series**2).mean(0))
    both = np.minimum(spread[0], spread[1]) > 2
    if both.sum() < 4:
        return 1.0
    alike = (series[:, 0] * series[:, 1]).mean(0)[both].sum() / (spread[0] * spread[1])[both].sum()
    return float(np.clip(2 - 2 * float(alike) / TOGETHER, 0, 1))


def _activity(active: Bool, x: int) -> float:
    """How much changes close to a seam at x, 0 to 1: what counts is that one side does; a side that
    shows a flat wall takes off 0.4."""
    band = max(4, round(BESIDE * active.shape[1]))
    left, right = active[:, max(0, x - 2 - band) : x - 1], active[:, x + 3 : x + 3 + band]
    less, more = sorted((float(left.any(1).mean()), float(right.any(1).mean())))
    return min(1.0, 2.5 * more) * (0.6 + 0.4 * min(1.0, 4 * less))


def _independence(pairs: _Pairs, part: _Part) -> float:
    """How surely a part of the picture and the rest of it are moved by two cameras, 0 to 1.

    One affine motion that most points of both follow is one camera's; where neither moves there is
    no telling, and the score stays under one half.
    """
    shares: list[float] = []
    moves: list[list[float]] = []
    for first, second in pairs[:: max(1, len(pairs) // 6)][:8]:
        found = _flow(first, second)
        if found is None:
            continue
        start, end = found
        scale = np.array([first.shape[1], first.shape[0]], np.float32)
        inside = part.holds(start / scale)
        if min(inside.sum(), (~inside).sum()) < 8:
            continue
        _, fits = cv2.estimateAffine2D(
            start, end, method=cv2.RANSAC, maxIters=200,
            ransacReprojThreshold=0.3 + 0.0005 * float(max(scale)),
        )  # fmt: skip
        if fits is None:
            continue
        fit = np.asarray(fits[:, 0], np.bool_)
        shares.append(min(float(fit[inside].mean()), float(fit[~inside].mean())))
        moved = np.abs(end - start).max(1) > MOVED * max(scale)
        moves.append([float(moved[side].mean()) for side in (inside, ~inside)])
    if not shares or np.median(moves, axis=0).max() < 0.7:
        return UNMOVED
    return float(np.clip((0.55 - np.quantile(shares, 0.85)) / 0.25, 0, 1))


def _flow(first: Plane, second: Plane) -> tuple[Float, Float] | None:
    """Where up to 160 corners (n, 2) are in both pictures, in pixels; None for too few."""
    a, b = np.ascontiguousarray(first), np.ascontiguousarray(second)
    corners = cv2.goodFeaturesToTrack(a, 160, 0.005, max(4, max(a.shape) // 60), blockSize=5)
    if corners is None or len(corners) < 12:
        return None
    end, there, _ = cv2.calcOpticalFlowPyrLK(
        a, b, corners, np.zeros_like(corners), winSize=LK[0], maxLevel=LK[1]
    )
    back, again, _ = cv2.calcOpticalFlowPyrLK(
        b, a, end, np.zeros_like(corners), winSize=LK[0], maxLevel=LK[1]
    )
    # A corner that does not come back to where it was has slid along an edge.
    close = np.abs(back - corners).max((1, 2)) < 0.3
    found = (there[:, 0] > 0) & (again[:, 0] > 0) & close
    return np.asarray(corners[found, 0], np.float32), np.asarray(end[found, 0], np.float32)


def _inset(seams: _Seams, pairs: _Pairs, turned: _Pairs) -> float:
    """How surely a rectangle inside the picture is a picture of its own."""
    height, width = seams.active.shape
    lines = _segments(seams.upright, max(8, round(INSET * height)))
    best = 0.0
    for i, (a, top_a, bottom_a) in enumerate(lines):
        for b, top_b, bottom_b in lines[i + 1 :]:
            top, bottom = max(top_a, top_b), min(bottom_a, bottom_b)
            union = max(bottom_a, bottom_b) - min(top_a, top_b)
            if b - a < INSET * width or bottom - top < 0.7 * union:
                continue
            score = _inset_score(seams, _Area(a, top, b, bottom))
            if score > max(best, 0.3):
                x, y = (a / width, b / width), (top / height, bottom / height)
                sides = [_apart(pairs, _Line(at, *y)) for at in x]
                sides += [_apart(turned, _Line(at, *x)) for at in y]
                part = _Part(x[0], y[0], x[1], y[1])
                best = max(best, score * float(np.mean(sides)) * _independence(pairs, part))
    return best


def _segments(upright: Bool, least: int) -> list[tuple[int, int, int]]:
    """(x, top, bottom) of the longest upright lines of at least `least` pixels that do not reach
    from edge to edge, in order of x."""
    height = upright.shape[0]
    marks = cv2.dilate(upright.astype(np.uint8), np.ones((1, 2), np.uint8))
    # Closing would join what is near the frame's edge to it.
    marks = cv2.copyMakeBorder(marks, least, least, 0, 0, cv2.BORDER_CONSTANT, value=(0,))
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((least // 2 * 2 + 1, 1), np.uint8))
    marks = cv2.morphologyEx(marks, cv2.MORPH_OPEN, np.ones((least, 1), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(marks[least:-least])
    found = [(int(x + w // 2), int(y), int(y + h)) for x, y, w, h, _ in stats[1:] if w <= 8]
    found = [line for line in found if line[2] - line[1] < 0.95 * height]
    return sorted(sorted(found, key=lambda line: line[1] - line[2])[:24])


def _inset_score(seams: _Seams, area: _Area) -> float:
    """The weakest side of a rectangle, times the movement inside and around it."""
    height, width = seams.active.shape
    sides = []
    for x in (area.left, area.right):
        strip = seams.upright[area.top : area.bottom, max(0, x - 3) : x + 4]
        sides.append(float(strip.any(1).mean()))
    for y in (area.top, area.bottom):
        # Ends of upright lines are blunt.
        strips = seams.level[max(0, y - 6) : y + 7, area.left + 2 : area.right - 1]
        sides.append(float(_best_line(strips)))
    if min(sides) < INSET_SUPPORT:
        return 0.0
    inside = float(_active_in(seams.active, area).mean())
    band = max(4, round(BESIDE * width))
    outer = _Area(
        max(0, area.left - band), max(0, area.top - band),
        min(width, area.right + band), min(height, area.bottom + band),
    )  # fmt: skip
    ring = _active_in(seams.active, outer)
    around = (float(ring.sum()) - inside * (area.right - area.left) * (area.bottom - area.top)) / (
        ring.size - (area.right - area.left) * (area.bottom - area.top)
    )
    return min(1.0, float(np.mean(sides)) * min(1.0, 2.5 * inside, 2.5 * around))


def _active_in(active: Bool, area: _Area) -> Bool:
    """The part of a map inside an area."""
    return active[area.top : area.bottom, area.left : area.right]


def _best_line(strips: Bool) -> float:
    """The largest share of marks that two neighbouring rows hold together."""
    if len(strips) < 2:
        return 0.0
    return float((strips[1:] | strips[:-1]).mean(1).max())
