"""The camera's motion in a shot, from the flow of the background between small grey pictures.

Corners spread evenly over the picture are tracked through every pair; the similarity that most of
the frame's rim agrees with is the background's motion, and its average over the shot the
camera's. A rotation moves everything alike, a travelling camera moves near things faster: that
parallax, over a longer step, tells truck from pan and dolly from zoom. The axes and the classes of
speed are those of SkyReels-V2 (paper, section on the camera-motion captioner). All thresholds
without another source were chosen on rendered shots (`eval.synth_moves`); those of confidence,
steadiness and shake while also looking at labelled real clips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from captioner.frames import FrameBatch, Plane, halved

Floats = NDArray[np.float64]
Points = NDArray[np.complex128]
Speed = Literal["", "slow", "medium", "fast"]

AXES = ("truck", "pedestal", "dolly", "pan", "tilt", "roll", "zoom")
_NAMES = {
    "truck": ("truck_right", "truck_left"),
    "pedestal": ("pedestal_up", "pedestal_down"),
    "dolly": ("push_in", "pull_out"),
    "pan": ("pan_right", "pan_left"),
    "tilt": ("tilt_up", "tilt_down"),
    "roll": ("roll_cw", "roll_ccw"),
    "zoom": ("push_in", "pull_out"),
}
MOVES = ("static", "handheld", *dict.fromkeys(name for pair in _NAMES.values() for name in pair))

_SLOW, _FAST = 0.05, 0.20
"""Fraction of the frame a second: slow below the first, fast above the second (paper, the 3
speeds of single-type motion)."""

_PHRASES = {
    "static": "the camera remains static",
    "handheld": "use a handheld shot",
    "tracking": "use a tracking shot",
    "push_in": "the camera moves toward zooms in",
    "pull_out": "the camera moves toward zooms out",
    "pan_left": "the camera pans left",
    "pan_right": "the camera pans right",
    "tilt_up": "the camera tilts up",
    "tilt_down": "the camera tilts down",
    "truck_left": "the camera moves to the left",
    "truck_right": "the camera moves to the right",
    "pedestal_up": "the camera moves up",
    "pedestal_down": "the camera moves down",
    "roll_cw": "the camera rolls clockwise",
    "roll_ccw": "the camera rolls counterclockwise",
}
"""The tracking and zoom-in phrases are published ones (skycaptioner_v1/examples/test_result.csv),
the others are formed after them."""

_SIDE = 400  # pictures are halved until both sides are below this many pixels
_CELLS = 240  # corners at most
_CORNER = 5e-4  # least eigenvalue of a corner in a picture of even contrast
_SAME = 0.7  # correlation of a corner's surroundings in both pictures
_TOLERANCE = 1.0  # pixels off the model that a track may be
_MIN_TRACKS = 20
_MIN_SHARE = 0.30  # share of the tracks, by weight, that must agree on the background
_MIN_SPREAD = 3  # of the eight outer ninths of the picture, how many hold the background
_MIN_CONFIDENCE = 0.4
_RATE = {"pan": 0.012, "tilt": 0.012, "zoom": 0.015, "roll": 0.015}  # least mean speed of a move
_PATH = 0.04  # least displacement over the shot of a move
_STEADY = 0.55  # |mean| over mean |.| of a move's speed: 1 never turns back
_SECONDARY = 0.35  # of the primary's flow: smaller moves are not listed
_SHAKE = 0.022  # frame widths a second: above it a camera without a direction is hand-held
_RETURN = 0.25  # of the frame: a pan there and back again this long is two pans
_PARALLAX = 0.03  # share of the tracks that are nearer or farther than the background
_WIDE = 0.12  # of the width: deviation of their places; one person's is 0.10
_SUBJECT = 0.10  # share of the tracks that stay with the camera in a tracking shot
_LONG_STEP = 0.07  # fraction of the frame that the background moves for parallax to be seen

_LK_WINDOW = (15, 15)
_LK_LEVELS = 3
_LK_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)
_PATCH = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)), -1).reshape(1, -1, 2)


@dataclass(frozen=True)
class CameraMotion:
    """How the camera moves: its mean signed speed on each axis and what that amounts to.

    Units are the fraction of the frame that the background crosses in a second: of the width for
    `truck` (+ right) and `pan` (+ right), of the height for `pedestal` (+ up) and `tilt` (+ up).
    `dolly` (+ forward) and `zoom` (+ in) are the relative growth of the picture a second, `roll`
    (+ clockwise, seen from behind the camera) radians a second. Flow without parallax counts as
    pan, tilt and zoom, flow with parallax as truck, pedestal and dolly, never as both.

    `moves` names what matters, the primary move first, out of `MOVES`; never empty. `static` and
    `handheld` say the same as their names in it. `tracking`: a subject keeps its place in the
    frame while the background flows. `confidence` is 0 to 1.
    """

    truck: float
    pedestal: float
    dolly: float
    pan: float
    tilt: float
    roll: float
    zoom: float
    static: bool
    handheld: bool
    tracking: bool
    confidence: float
    moves: tuple[str, ...]

    def speed(self, axis: str) -> Speed:
        """Class of speed on one of `AXES`; "" where the camera has no listed move on it."""
        value = float(getattr(self, axis))
        if not value or _NAMES[axis][value < 0] not in self.moves:
            return ""
        return "slow" if abs(value) < _SLOW else "medium" if abs(value) <= _FAST else "fast"


@dataclass(frozen=True)
class Step:
    """The background's motion from one picture to a later one.

    `start` and `end` (n) are the tracks in pixels from the middle of the frame, x + iy, y
    downwards; `inside` (n) 0 to 1 how well each fits q = turn * p + shift. `share` is the weight
    of what fits.
    """

    time: float
    seconds: float
    start: Points
    end: Points
    inside: Floats
    turn: complex
    shift: complex
    share: float
    spread: int

    @property
    def trusted(self) -> bool:
        """Whether enough of the frame agrees."""
        return self.share >= _MIN_SHARE and self.spread >= _MIN_SPREAD


@dataclass
class _Views:
    """Pictures prepared for tracking, each once: small, without bars, of even contrast."""

    batch: FrameBatch
    width: int = 0
    height: int = 0
    _crop: tuple[slice, slice] = (slice(None), slice(None))
    _done: dict[int, Plane] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = self.batch.pairs
        some = np.stack([halved(pair.first, _SIDE) for pair in pairs[:: max(1, len(pairs) // 12)]])
        self.height, self.width = some.shape[1:]
        self._crop = _lit(some, 1), _lit(some, 2)

    def get(self, picture: Plane) -> Plane:
        """(h, w) uint8; the mean of each neighbourhood is 128 and its deviation at most 40."""
        if id(picture) not in self._done:
            small = cv2.GaussianBlur(
                halved(picture, _SIDE)[self._crop].astype(np.float32), (0, 0), 1.0
            )
            window = (2 * (max(small.shape) // 16) + 1,) * 2
            detail = small - cv2.blur(small, window)
            # The deviation's floor keeps noise, up to 2.5 grey levels, from growing into corners.
            contrast = cv2.sqrt(cv2.blur(detail * detail, window) + 2.5**2)
            even = np.clip(128 + 40 * detail / contrast, 0, 255)
            self._done[id(picture)] = np.asarray(even, np.uint8)
        return self._done[id(picture)]

    def step(self, first: Plane, second: Plane, time: float, seconds: float) -> Step | None:
        """The background's motion, None where too little can be tracked."""
        a, b = self.get(first), self.get(second)
        tracks = _track(a, b)
        if len(tracks[0]) < _MIN_TRACKS:
            return None
        rows, columns = self._crop
        corner = complex(columns.start or 0, rows.start or 0)
        start, end = (
            at @ np.array([1, 1j]) + corner - complex(self.width, self.height) / 2 for at in tracks
        )
        x, y = (tracks[0] / np.array([a.shape[1], a.shape[0]]) * 2 - 1).T
        # Subjects stand in the middle and at the lower edge; the other edges show what is behind.
        weight = np.where((np.abs(x) > 0.6) | (y < -0.6), 1.0, 0.4)
        turn, shift, inside = _fit(start, end, weight)
        ninth = np.clip(np.trunc(x * 1.5 + 1.5), 0, 2) * 3 + np.clip(np.trunc(y * 1.5 + 1.5), 0, 2)
        held = np.bincount(ninth[inside > 0].astype(int), minlength=9) >= 2
        share = float(inside @ weight / weight.sum())
        spread = int(held.sum() - held[4])
        return Step(time, seconds, start, end, inside, turn, shift, share, spread)

    def same(self, first: Plane, second: Plane) -> bool:
        """Whether about half of what one picture shows is at the same place in the other."""
        a, b = self.get(first), self.get(second)
        likeness = (_likeness(x, at, y, at) for x, y in ((a, b), (b, a)) for at in (_corners(x),))
        return max(float(np.mean(values > 0.5)) for values in likeness) > 0.45


@dataclass(frozen=True)
class Background:
    """What the background does in a clip, tracked once for all who ask.

    `steps` has one for every pair of the clip, None where too little can be tracked.
    """

    views: _Views
    steps: tuple[Step | None, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures that the steps are in."""
        return self.views.width, self.views.height


def track_background(batch: FrameBatch) -> Background | None:
    """The background's motion through every pair of the clip, None for a clip without pairs.

    The last clip's is remembered, for measuring and captioning ask for it one after the other.
    """
    global _latest
    latest = _latest
    if latest is None or latest[0] is not batch:
        latest = _latest = batch, _track_all(batch)
    return latest[1]


_latest: tuple[FrameBatch, Background | None] | None = None


def _track_all(batch: FrameBatch) -> Background | None:
    if not batch.pairs:
        return None
    views = _Views(batch)
    steps = (
        views.step(pair.first, pair.second, pair.start, pair.end - pair.start)
        if pair.end > pair.start
        else None
        for pair in batch.pairs
    )
    return Background(views, tuple(steps))


def measure_camera(batch: FrameBatch, background: Background | None = None) -> CameraMotion | None:
    """The camera's motion in a shot, or None where it cannot be told.

    That is where less than half of the shot shows a background to follow: black or textureless
    pictures, a subject that fills the frame, motion too fast or too odd to track; and where what
    is tracked rests but the views differ. Deterministic; 0.1 to 0.3 CPU-seconds a shot, nearly
    all of them for tracking, which `background` spares: what `track_background` says of the batch.
    """
    background = background or track_background(batch)
    if background is None:
        return None
    views = background.views
    steps = [step for step in background.steps if step is not None and step.trusted]
    if len(steps) < max(2, len(batch.pairs) / 2):
        return None

    seconds = batch.pairs[-1].end - batch.pairs[0].start
    size = views.width, views.height
    rates = np.array([_rates(step, *size) for step in steps])  # (n, 4): pan, tilt, zoom, roll
    smooth = _median5(rates)
    mean = smooth.mean(0)
    steady = np.minimum(*(_steadiness(series) for series in (rates, smooth)))
    share = float(np.median([step.share for step in steps]))
    confidence = min(1.0, share / 0.7) * len(steps) / len(batch.pairs)

    # Flow of the middle of the frame, or of half-way to its edge, as a part of the frame's side.
    side = float(np.sqrt(views.width * views.height))
    reach = np.array([views.width / side, views.height / side, 0.5, 0.5])
    flow = np.abs(mean) * reach
    axes = ("pan", "tilt", "zoom", "roll")
    going = [
        i
        for i in np.argsort(-flow)
        if abs(mean[i]) >= _RATE[axes[i]]
        and abs(mean[i]) * seconds >= _PATH
        and steady[i] >= _STEADY
    ]
    going = [i for i in going if flow[i] >= _SECONDARY * flow[going[0]]]

    plane = reach[:2] * rates[:, :2]
    shaken = _shake(plane) > _SHAKE
    restless = float(np.median(np.hypot(*plane.T))) > _SHAKE
    travelling = tracking = False
    moves: list[str] = []
    if going:
        confidence *= float(steady[going[0]])
        travelling, tracking = _depth(views, float(flow[going[0]]))
    elif restless and not shaken:
        moves = _there_and_back(smooth, np.array([step.seconds for step in steps]))
    handheld = shaken or (restless and not going and not moves)
    static = not going and not handheld and not moves
    if static and not _one_view(views):
        return None

    named = ("truck", "pedestal", "dolly", "roll") if travelling else axes
    speeds = dict.fromkeys(AXES, 0.0) | dict(zip(named, mean.tolist()))
    moves += [_NAMES[named[i]][int(mean[i] < 0)] for i in going]
    moves += ["handheld"] * handheld + ["static"] * static
    if confidence < _MIN_CONFIDENCE:
        return None
    return CameraMotion(
        **speeds,
        static=static,
        handheld=handheld,
        tracking=tracking,
        confidence=confidence,
        moves=tuple(moves),
    )


def phrase(motion: CameraMotion) -> str:
    """The motion in SkyCaptioner's words, composites joined by commas."""
    kinds = [kind for kind in ("tracking", "handheld") if getattr(motion, kind)]
    return ", ".join(_PHRASES[name] for name in dict.fromkeys((*kinds, *motion.moves)))


def _lit(pictures: NDArray[np.uint8], axis: int) -> slice:
    """The rows (axis 1) or columns (axis 2) between bars that are dark and flat all the time."""
    bright = np.percentile(pictures.max(0), 95, axis=2 - axis)
    rough = pictures.mean(0).std(2 - axis)
    picture = np.flatnonzero((bright > 28) | (rough > 1.5))
    if len(picture) < max(1, pictures.shape[axis] // 3):
        return slice(0, pictures.shape[axis])
    return slice(int(picture[0]), int(picture[-1]) + 1)


def _corners(picture: Plane) -> NDArray[np.float32]:
    """The best corner of each cell of an even grid, (n, 2) x and y in pixels."""
    height, width = picture.shape
    cell = max(6, round(float(np.sqrt(height * width / _CELLS))))
    rows, columns = height // cell, width // cell
    if not rows or not columns:
        return np.empty((0, 2), np.float32)
    quality = cv2.cornerMinEigenVal(picture, 5)[: rows * cell, : columns * cell]
    cells = quality.reshape(rows, cell, columns, cell).swapaxes(1, 2).reshape(rows * columns, -1)
    best = cells.argmax(1)
    y = np.repeat(np.arange(rows), columns) * cell + best // cell
    x = np.tile(np.arange(columns), rows) * cell + best % cell
    good = cells.max(1) > _CORNER
    return np.stack([x[good], y[good]], 1).astype(np.float32)


def _track(a: Plane, b: Plane) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners of `a` and where they are in `b`, (n, 2) each: those that are found both ways."""
    start = _corners(a)
    if not len(start):
        return start, start
    setting = (_LK_WINDOW, _LK_LEVELS, _LK_STOP)
    end, there, _ = cv2.calcOpticalFlowPyrLK(a, b, start, None, None, None, *setting)  # type: ignore[call-overload]
    # Before the way back, which takes longest where there is nothing to be found.
    alike = (there[:, 0] == 1) & (_likeness(a, start, b, end) > _SAME)
    start, end = start[alike], np.asarray(end[alike], np.float32)
    if not len(start):
        return start, end
    back, again, _ = cv2.calcOpticalFlowPyrLK(b, a, end, None, None, None, *setting)  # type: ignore[call-overload]
    good = (again[:, 0] == 1) & (np.hypot(*(back - start).T) < 0.5)
    return start[good], end[good]


def _likeness(a: Plane, at: NDArray[np.float32], b: Plane, to: NDArray[np.float32]) -> Floats:
    """Correlation (n), -1 to 1, of the surroundings of points in two pictures."""
    patches = []
    for picture, points in ((a, at), (b, to)):
        grid = (points[:, None] + _PATCH).astype(np.float32)
        patch = cv2.remap(picture, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR).astype(np.float32)
        patch -= patch.mean(1, keepdims=True)
        patches.append(patch / (np.linalg.norm(patch, axis=1, keepdims=True) + 1e-6))
    return np.asarray((patches[0] * patches[1]).sum(1), np.float64)


def _fit(p: Points, q: Points, weight: Floats) -> tuple[complex, complex, Floats]:
    """The similarity q = turn * p + shift that most weight agrees with, and who agrees (n).

    Candidates are rest, the shift of each track, and the similarities of 120 pairs of tracks.
    """
    i, j = np.random.default_rng(0).integers(0, len(p), (2, 120))
    far = np.abs(p[i] - p[j]) > 20
    i, j = i[far], j[far]
    turns = (q[i] - q[j]) / (p[i] - p[j])
    i, turns = i[np.abs(turns - 1) < 0.3], turns[np.abs(turns - 1) < 0.3]
    shifts = np.concatenate([[0], q - p, q[i] - turns * p[i]])
    turns = np.concatenate([np.ones(len(p) + 1), turns])

    def inside(turn: Points, shift: Points) -> Floats:
        off = np.abs(q - turn * p - shift) / _TOLERANCE
        return np.asarray(np.maximum(1 - off**2, 0), np.float64)

    # In blocks that stay in the cache.
    blocks = (slice(start, start + 32) for start in range(0, len(turns), 32))
    held = [inside(turns[some, None], shifts[some, None]) @ weight for some in blocks]
    best = int(np.argmax(np.concatenate(held)))
    turn, shift = turns[best], shifts[best]
    for _ in range(3):
        w = inside(turn, shift) * weight
        w /= w.sum()
        p0, q0 = w @ p, w @ q
        extent = w @ np.abs(p - p0) ** 2
        if extent < 10:
            break
        turn = w @ ((q - q0) * np.conj(p - p0)) / extent
        shift = q0 - turn * p0
    return complex(turn), complex(shift), inside(turn, shift)


def _rates(step: Step, width: int, height: int) -> tuple[float, float, float, float]:
    """Pan, tilt, zoom and roll a second: the camera goes against the flow of the picture."""
    return (
        -step.shift.real / width / step.seconds,
        step.shift.imag / height / step.seconds,
        float(np.log(abs(step.turn))) / step.seconds,
        -float(np.angle(step.turn)) / step.seconds,
    )


def _median5(series: Floats) -> Floats:
    """The running median of 5 along the first axis: takes out single wrong steps and tremble."""
    padded = np.pad(series, ((2, 2), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)
    return np.asarray(np.median(windows, axis=-1), np.float64)


def _steadiness(series: Floats) -> Floats:
    """|mean| over mean |.| of each column: 1 never turns back, 0 goes nowhere."""
    return np.asarray(np.abs(series.mean(0)) / np.maximum(np.abs(series).mean(0), 1e-9))


def _shake(plane: Floats) -> float:
    """How much the speed of (n, 2) steps jumps about its neighbours' mean, frame sides a second."""
    if len(plane) < 3:
        return 0.0
    jumps = plane[1:-1] - (plane[:-2] + plane[2:]) / 2
    return float(np.median(np.hypot(*jumps.T)))


def _there_and_back(smooth: Floats, seconds: Floats) -> list[str]:
    """The two halves, in order of time, of a long pan or tilt that returns; [] for a sway."""
    for i, axis in enumerate(("pan", "tilt")):
        path = smooth[:, i] * seconds
        ways = [float(path[path > 0].sum()), float(-path[path < 0].sum())]
        if min(ways) > _RETURN:
            up_first = np.argmax(np.cumsum(path)) < np.argmin(np.cumsum(path))
            return list(_NAMES[axis] if up_first else _NAMES[axis][::-1])
    return []


def _one_view(views: _Views) -> bool:
    """Whether nearly all textured pictures, an eighth of the shot apart, show the same view.

    What is tracked may be at rest only because the camera's motion could not be tracked.
    """
    pairs = views.batch.pairs
    some = [pairs[i * (len(pairs) - 1) // 8].first for i in range(9)]
    seen = [picture for picture in some if len(_corners(views.get(picture))) >= _MIN_TRACKS]
    same = [views.same(a, b) for a, b in pairwise(seen)]
    return sum(same) >= 0.75 * len(same)


def _depth(views: _Views, flow: float) -> tuple[bool, bool]:
    """(travelling, tracking) from six longer steps in which the background moves `_LONG_STEP`."""
    pairs = views.batch.pairs
    length = min(1.5, _LONG_STEP / flow)
    near, held = [], []
    for i in range(6):
        first = pairs[i * (len(pairs) - 1) // 6]
        second = min(pairs, key=lambda pair: abs(pair.end - first.start - length))
        if second.end <= first.start:
            continue
        seconds = second.end - first.start
        step = views.step(first.first, second.second, first.start, seconds)
        if step is None or not step.trusted:
            continue
        model = step.turn * step.start + step.shift - step.start
        moved = step.end - step.start
        clear = np.abs(model) > 4 * _TOLERANCE
        if clear.sum() < _MIN_TRACKS:
            continue
        ratio = np.divide(moved, model, out=np.ones_like(model), where=clear)
        along = np.abs(ratio.imag) < 0.25 * np.abs(ratio.real)
        off = (ratio.real > 1.45) & (ratio.real < 4) | (ratio.real > 0.2) & (ratio.real < 0.7)
        depth = clear & along & off & (step.inside == 0)
        # A person is one upright blob; depth is found all over the frame.
        wide = depth.any() and step.start[depth].real.std() > _WIDE * views.width
        near.append(bool(wide and depth.sum() > _PARALLAX * clear.sum()))
        middle = np.abs(step.start.real) < 0.3 * views.width
        # What is burned in does not move at all.
        stays = (np.abs(moved) > 0.3) & (np.abs(moved) < 0.5 * np.abs(model)) & clear & middle
        held.append(float(stays.sum() / clear.sum()))
    if not near:
        return False, False
    return float(np.mean(near)) >= 1 / 3, float(np.median(held)) > _SUBJECT
