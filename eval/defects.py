"""Moving clips with one known defect each, and clean ones that no measure may complain of.

    python -m eval.defects [SEED] [CLIPS]

renders CLIPS of every kind, writes them as H.264, measures them and prints the precision and the
recall of each rule. Everything is seeded: the same seed gives the same pixels.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from captioner.decode import read_clip
from curation.measure import motion, quality
from curation.measure.quality import Clip
from eval.synth import Rgb, still, write_video

WIDTH, HEIGHT = 640, 360
FPS = 25.0
FRAMES = 100

Track = NDArray[np.float64]
"""(n, 4): where the camera looks in each frame: x and y in frame widths, zoom, roll in radians."""


@lru_cache(maxsize=4)
def _place(seed: int) -> Rgb:
    """What the camera looks at, two and a half frames wide and high, with things of all sizes."""
    rng = np.random.default_rng(seed)
    width, height = WIDTH * 5 // 2, HEIGHT * 5 // 2
    place = still(seed, width, height).astype(np.float32)
    # Fine texture, as `still` falls off too fast for a picture this large; a third stays flat.
    cloud = cv2.resize(rng.normal(0, 1, (9, 9)).astype(np.float32), (width, height))
    rough = np.clip(cloud - np.percentile(cloud, 33), 0, 1)
    for size, level in ((1, 4.0), (3, 6.0), (8, 8.0)):
        grid = rng.normal(0, level, (height // size + 1, width // size + 1)).astype(np.float32)
        grain = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        place += (rough * cv2.GaussianBlur(grain, (0, 0), 0.7))[..., None]
    for _ in range(int(rng.integers(150, 400))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = [float(level) for level in rng.uniform(10, 245, 3)]
        sides, angle = rng.uniform(4, 45, 2), float(rng.uniform(0, 180))
        corners = cv2.boxPoints((centre, (float(sides[0]), float(sides[1])), angle))
        cv2.fillConvexPoly(place, np.asarray(corners, np.int32), colour, cv2.LINE_8)
    return _clip(cv2.GaussianBlur(place, (0, 0), 0.6))


def _times() -> NDArray[np.float64]:
    return np.arange(FRAMES) / FPS


def _path(
    x: ArrayLike = 0.0, y: ArrayLike = 0.0, zoom: ArrayLike = 1.0, roll: ArrayLike = 0.0
) -> Track:
    """A path from numbers, or from one value a frame."""
    given = (x, y, zoom, roll)
    columns = [np.broadcast_to(np.asarray(value, np.float64), FRAMES) for value in given]
    return np.stack(columns, axis=1)


def _drift(rng: np.random.Generator, low: float = 0.02, high: float = 0.07) -> Track:
    """A pan at an even speed between `low` and `high` frame widths a second."""
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    gone = speed * (_times() - FRAMES / FPS / 2)
    return _path(np.cos(angle) * gone, np.sin(angle) * gone)


def _look(place: Rgb, at: NDArray[np.float64]) -> Rgb:
    """The picture (360, 640, 3) with `at` in its middle."""
    x, y, zoom, roll = at
    turn = cv2.getRotationMatrix2D((0, 0), float(np.degrees(roll)), float(zoom))
    centre = np.array([place.shape[1] / 2 + x * WIDTH, place.shape[0] / 2 + y * WIDTH])
    turn[:, 2] = np.array([WIDTH / 2, HEIGHT / 2]) - turn[:, :2] @ centre
    seen = cv2.warpAffine(place, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)


@dataclass(frozen=True)
class _Figure:
    """A person-like shape with a texture of its own that goes through the picture."""

    picture: Rgb
    shape: NDArray[np.float32]
    x: float
    y: float
    speed: float
    wave: float

    @staticmethod
    def of(rng: np.random.Generator, speed: float | None = None) -> _Figure:
        """`speed` in frame widths a second, to the right positive; drawn when not given."""
        shape = np.zeros((HEIGHT, WIDTH), np.float32)
        size = float(rng.uniform(0.7, 1.3))
        middle, head = (WIDTH // 2, int(HEIGHT * 0.68)), (WIDTH // 2, int(HEIGHT * 0.35))
        body = (int(WIDTH * 0.08 * size), int(HEIGHT * 0.28 * size))
        cv2.ellipse(shape, middle, body, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
        cv2.circle(shape, head, int(HEIGHT * 0.08 * size), 1.0, -1, cv2.LINE_AA)
        way = float(rng.choice((-1, 1)))
        speed = way * float(rng.uniform(0.08, 0.15)) if speed is None else speed
        start = -speed * FRAMES / FPS / 2
        picture = still(int(rng.integers(2**31)), WIDTH, HEIGHT)
        return _Figure(picture, shape, start, 0.0, speed, float(rng.uniform(3, 6)))

    def over(self, frame: Rgb, t: float) -> Rgb:
        """The frame with the figure where it is at `t` seconds."""
        dx = (self.x + self.speed * t) * WIDTH
        dy = (self.y + 0.01 * np.sin(self.wave * t)) * HEIGHT
        move = np.array([[1, 0, dx], [0, 1, dy]])
        mask = cv2.warpAffine(self.shape, move, (WIDTH, HEIGHT))[..., None]
        drawn = cv2.warpAffine(self.picture, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        return np.asarray(frame * (1 - mask) + drawn * mask, np.uint8)


def _film(seed: int, path: Track, figure: _Figure | None = None) -> list[Rgb]:
    """What a camera on `path` sees of the place of that seed."""
    frames = [_look(_place(seed), at) for at in path]
    if figure is not None:
        frames = [figure.over(frame, t) for frame, t in zip(frames, _times())]
    return frames


def _plain(seed: int) -> list[Rgb]:
    """A slow pan, in half of the seeds with somebody walking through."""
    rng = np.random.default_rng(seed)
    return _film(seed, _drift(rng), _Figure.of(rng) if seed % 2 else None)


def _clip(values: NDArray[np.float64] | cv2.typing.MatLike) -> Rgb:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


# --- defects ------------------------------------------------------------------------------------


def _blank(level: float) -> Callable[[int], list[Rgb]]:
    def render(seed: int) -> list[Rgb]:
        rng = np.random.default_rng(seed)
        even = level + rng.uniform(-6, 6)
        noise = rng.uniform(0, 2)
        greys = (_clip(rng.normal(even, noise, (HEIGHT, WIDTH))) for _ in range(FRAMES))
        return [np.asarray(cv2.merge([grey] * 3), np.uint8) for grey in greys]

    return render


def frozen(seed: int) -> list[Rgb]:
    """One picture all the time."""
    return [_plain(seed)[FRAMES // 2]] * FRAMES


def frozen_stretch(seed: int) -> list[Rgb]:
    """A moving clip that stands still for 45 to 80 % of its time."""
    rng = np.random.default_rng(seed + 1)
    length = int(FRAMES * rng.uniform(0.45, 0.8))
    start = int(rng.integers(0, FRAMES - length))
    frames = _plain(seed)
    return [frames[start if start <= i < start + length else i] for i in range(FRAMES)]


def static(seed: int) -> list[Rgb]:
    """A camera at rest before a scene in which nothing moves, with the noise of its sensor."""
    rng = np.random.default_rng(seed)
    picture = _look(_place(seed), _drift(rng)[0])
    sigma = rng.uniform(1.0, 4.0)
    return [_clip(picture + rng.normal(0, sigma, picture.shape[:2])[..., None]) for _ in _times()]


def blur(seed: int) -> list[Rgb]:
    """The whole picture out of focus, by a Gaussian of 2 to 5 pixels."""
    sigma = float(np.random.default_rng(seed + 1).uniform(2, 5))
    return [np.asarray(cv2.GaussianBlur(f, (0, 0), sigma), np.uint8) for f in _plain(seed)]


def noise(seed: int) -> list[Rgb]:
    """Noise of 10 to 25 grey levels in each channel and frame."""
    rng = np.random.default_rng(seed + 1)
    sigma = rng.uniform(10, 25)
    return [_clip(frame + rng.normal(0, sigma, frame.shape)) for frame in _plain(seed)]


def compression(seed: int) -> list[Rgb]:
    """Every frame through JPEG at quality 6 to 14: the 8 x 8 blocks of a starved encoder."""
    quality = int(np.random.default_rng(seed + 1).integers(6, 15))
    setting = [cv2.IMWRITE_JPEG_QUALITY, quality]
    coded = (cv2.imencode(".jpg", frame, setting)[1] for frame in _plain(seed))
    return [np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8) for data in coded]


def shake(seed: int) -> list[Rgb]:
    """A trembling hand: sums of sines at 2 to 6 Hz, 0.5 to 1 % of the width each, on a pan."""
    rng = np.random.default_rng(seed)
    path, t = _drift(rng), _times()
    for column, level in ((0, 1.0), (1, 1.0), (3, 0.5)):
        for _ in range(3):
            rate, phase, size = (
                rng.uniform(2, 6),
                rng.uniform(0, 2 * np.pi),
                rng.uniform(0.005, 0.01),
            )
            path[:, column] += level * size * np.sin(2 * np.pi * rate * t + phase)
    return _film(seed, path, _Figure.of(rng) if seed % 2 else None)


def abrupt(seed: int) -> list[Rgb]:
    """A pan that is thrown aside by 0.25 to 0.45 widths within 0.2 s to 0.4 s."""
    rng = np.random.default_rng(seed)
    path, t = _drift(rng), _times()
    at, length = rng.uniform(1, 2.6), rng.uniform(0.2, 0.4)
    angle, size = rng.choice((0, np.pi)) + rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.45)
    gone = size * np.clip((t - at) / length, 0, 1)
    path[:, :2] += gone[:, None] * [np.cos(angle), np.sin(angle)]
    return _film(seed, path, _Figure.of(rng) if seed % 2 else None)


def slideshow(seed: int) -> list[Rgb]:
    """Three to six stills of one place or of several, with jumps or quick dissolves between."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 7))
    if seed % 2:
        shown = [
            _look(_place(seed), at)
            for at in rng.uniform(-0.4, 0.4, (count, 4)) * [1, 0.5, 0, 0] + [0, 0, 1, 0]
        ]
    else:
        shown = [still(int(rng.integers(2**31)), WIDTH, HEIGHT) for _ in range(count)]
    length = FRAMES / count
    dissolve = int(rng.choice((0, 6)))
    frames = []
    for i in range(FRAMES):
        slide = min(count - 1, int(i / length))
        left = (slide + 1) * length - i
        share = 1 - left / dissolve if left < dissolve and slide + 1 < count else 0.0
        following = shown[min(slide + 1, count - 1)]
        frames.append(
            np.asarray(cv2.addWeighted(shown[slide], 1 - share, following, share, 0), np.uint8)
        )
    return frames


def speed_ramp(seed: int) -> list[Rgb]:
    """A pan whose second or first half runs 5 to 8 times as fast, as an editor would make it."""
    rng = np.random.default_rng(seed)
    slow, factor = rng.uniform(0.02, 0.04), rng.uniform(5, 8)
    middle = rng.uniform(0.35, 0.65) * FRAMES
    early = rng.random() < 0.5
    rate = np.where((np.arange(FRAMES) < middle) == early, factor, 1.0) * slow / FPS
    rate = cv2.blur(rate[None], (5, 1), borderType=cv2.BORDER_REPLICATE)[0]
    angle, gone = rng.uniform(0, 2 * np.pi), np.cumsum(rate)
    gone -= gone.mean()
    path = _path(np.cos(angle) * gone, np.sin(angle) * gone)
    return _film(seed, path)


def _leftover(at_end: bool) -> Callable[[int], list[Rgb]]:
    def render(seed: int) -> list[Rgb]:
        rng = np.random.default_rng(seed + 1)
        count = int(rng.integers(4, 9))
        frames, other = _plain(seed), _plain(seed + 5000)
        if at_end:
            return frames[: FRAMES - count] + other[:count]
        return other[FRAMES - count :] + frames[count:]

    return render


DEFECTS: dict[str, Callable[[int], list[Rgb]]] = {
    "black": _blank(10),
    "white": _blank(248),
    "frozen": frozen,
    "frozen_stretch": frozen_stretch,
    "static": static,
    "blur": blur,
    "noise": noise,
    "compression": compression,
    "shake": shake,
    "abrupt": abrupt,
    "slideshow": slideshow,
    "speed_ramp": speed_ramp,
    "cut_at_start": _leftover(at_end=False),
    "cut_at_end": _leftover(at_end=True),
}
"""Seed to 4 s of (360, 640, 3) uint8 RGB at 25 frames a second. The leftovers of another shot are
four to eight frames."""


# --- clean --------------------------------------------------------------------------------------


def pan(seed: int) -> list[Rgb]:
    """A pan of 0.02 to 0.12 widths a second, eased in and out in half of the seeds."""
    rng = np.random.default_rng(seed)
    t = _times() / _times()[-1]
    eased = t * t * (3 - 2 * t) if seed % 2 else t
    gone = (eased - 0.5) * rng.choice((-1, 1)) * rng.uniform(0.02, 0.12) * FRAMES / FPS
    return _film(seed, _path(x=gone), _Figure.of(rng) if seed % 3 == 0 else None)


def tilt(seed: int) -> list[Rgb]:
    """A tilt of 0.02 to 0.1 widths a second."""
    rng = np.random.default_rng(seed)
    gone = (_times() - FRAMES / FPS / 2) * rng.choice((-1, 1)) * rng.uniform(0.02, 0.1)
    return _film(seed, _path(y=gone))


def zoom(seed: int) -> list[Rgb]:
    """A zoom of 3 to 12 % a second, in or out."""
    rng = np.random.default_rng(seed)
    rate = rng.choice((-1, 1)) * rng.uniform(0.03, 0.12)
    return _film(seed, _path(zoom=1.1 * np.exp(rate * (_times() - 2))))


def handheld(seed: int) -> list[Rgb]:
    """A mild sway: a sine of 0.3 to 0.8 Hz and 0.5 to 1 % of the width on each axis."""
    rng = np.random.default_rng(seed)
    path, t = _drift(rng, 0.0, 0.05), _times()
    for column in (0, 1):
        rate, phase, size = (
            rng.uniform(0.3, 0.8),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0.005, 0.01),
        )
        path[:, column] += size * np.sin(2 * np.pi * rate * t + phase)
    return _film(seed, path, _Figure.of(rng))


def subject(seed: int) -> list[Rgb]:
    """Somebody crosses before a camera at rest; a fine noise of 1 to 3 grey levels."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(1, 3)
    frames = _film(seed, _path(), _Figure.of(rng))
    return [_clip(f + rng.normal(0, sigma, f.shape[:2])[..., None]) for f in frames]


def night(seed: int) -> list[Rgb]:
    """A pan in the dark, a sixth as bright, with a few lamps and noise of 1 to 2 levels."""
    rng = np.random.default_rng(seed)
    place = (_place(seed) / 6).astype(np.uint8)
    for _ in range(40):
        at = (int(rng.integers(place.shape[1])), int(rng.integers(place.shape[0])))
        cv2.circle(place, at, int(rng.integers(4, 12)), (255, 230, 170), -1, cv2.LINE_AA)
    sigma = rng.uniform(1, 2)
    frames = [_look(place, at) for at in _drift(rng)]
    return [_clip(f + rng.normal(0, sigma, f.shape[:2])[..., None]) for f in frames]


def snow(seed: int) -> list[Rgb]:
    """A pan over a bright scene: two thirds of it near white."""
    rng = np.random.default_rng(seed)
    place = _place(seed)
    grey = place.mean(2, keepdims=True)
    deep = np.minimum(grey, np.percentile(grey, 35)) - np.percentile(grey, 35)
    place = _clip(238 + 2.5 * deep + 0.15 * (place - grey.mean()))
    return [_look(place, at) for at in _drift(rng)]


def soft_background(seed: int) -> list[Rgb]:
    """Somebody in focus before a background that is not."""
    rng = np.random.default_rng(seed)
    place = np.asarray(cv2.GaussianBlur(_place(seed), (0, 0), float(rng.uniform(3, 6))), np.uint8)
    figure = _Figure.of(rng, float(rng.uniform(-0.05, 0.05)))
    return [figure.over(_look(place, at), t) for at, t in zip(_drift(rng), _times())]


CLEAN: dict[str, Callable[[int], list[Rgb]]] = {
    "pan": pan,
    "tilt": tilt,
    "zoom": zoom,
    "handheld": handheld,
    "subject": subject,
    "night": night,
    "snow": snow,
    "soft_background": soft_background,
}
"""As `DEFECTS`, without any."""


# --- rules --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a curator would ask of a column: dropped at or beyond `threshold`.

    `finds` are the defects that it must drop; of `allows` it may drop any or none, as they have
    its defect in part.
    """

    column: str
    threshold: float
    finds: frozenset[str]
    allows: frozenset[str] = frozenset()
    below: bool = False

    def drops(self, columns: Mapping[str, float | None]) -> bool:
        """Whether the rule drops a clip; what could not be measured is kept."""
        value = columns[self.column]
        if value is None:
            return False
        return value <= self.threshold if self.below else value >= self.threshold


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BLANK = _names("black white")
RULES = (
    Rule("quality_black", 0.5, _names("black")),
    Rule("quality_white", 0.5, _names("white")),
    Rule("quality_frozen", 0.3, _names("frozen frozen_stretch"), _BLANK | {"static", "slideshow"}),
    Rule("quality_sharpness", 0.45, _names("blur"), _BLANK, below=True),
    Rule("quality_noise", 4.0, _names("noise")),
    Rule("quality_blockiness", 0.2, _names("compression"), _BLANK),
    Rule("quality_score", 60.0, _names("blur noise compression"), _BLANK, below=True),
    Rule("motion_static", 0.9, _names("static frozen"), _BLANK | {"slideshow"}),
    Rule("motion_shake", 0.2, _names("shake"), _names("slideshow")),
    Rule("motion_abrupt", 0.5, _names("abrupt"), _names("shake frozen_stretch slideshow")),
    Rule("motion_slideshow", 0.5, _names("slideshow")),
    Rule("motion_speed_ramp", 4.5, _names("speed_ramp")),
    Rule(
        "motion_transition",
        0.5,
        _names("cut_at_start cut_at_end"),
        _names("slideshow frozen_stretch"),
    ),
)
"""Recommended thresholds."""


@dataclass
class Tally:
    """Clips of a rule: dropped rightly, dropped wrongly, wrongly kept."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        """Share of what was dropped that had the defect; 1 where nothing was dropped."""
        return self.right / max(1, self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of what had the defect that was dropped."""
        return self.right / max(1, self.right + self.missed)


def measured(frames: list[Rgb], folder: Path) -> dict[str, float | None]:
    """Quality and motion of the frames after H.264, by column."""
    path = write_video(folder / "clip.mp4", frames, FPS)
    batch = read_clip(path, threads=1)
    size = path.stat().st_size / batch.duration
    clip = Clip(WIDTH, HEIGHT, batch.fps, batch.duration, size)
    return {**quality.measure(batch, clip).model_dump(), **motion.measure(batch).model_dump()}


def main(seed: int, count: int) -> None:
    """Print precision and recall of every rule, and what was dropped or kept wrongly."""
    tallies = {rule: Tally() for rule in RULES}
    with tempfile.TemporaryDirectory() as folder:
        for name, render in {**DEFECTS, **CLEAN}.items():
            for i in range(count):
                columns = measured(render(1000 * seed + i), Path(folder))
                for rule, tally in tallies.items():
                    _judge(rule, tally, f"{name} {i}", name, columns)
    print(f"\n{'rule':30} {'clips':>6} {'precision':>10} {'recall':>7}")
    for rule, tally in tallies.items():
        limit = f"{rule.column} {'<=' if rule.below else '>='} {rule.threshold:g}"
        found = len(rule.finds) * count
        print(f"{limit:30} {found:6} {tally.precision:10.3f} {tally.recall:7.3f}")


def _judge(
    rule: Rule, tally: Tally, clip: str, kind: str, columns: Mapping[str, float | None]
) -> None:
    drops, value = rule.drops(columns), columns[rule.column]
    if kind in rule.finds:
        tally.right += drops
        tally.missed += not drops
        if not drops:
            print(f"{clip}: kept, {rule.column} {value}")
    elif kind not in rule.allows:
        tally.wrong += drops
        if drops:
            print(f"{clip}: dropped, {rule.column} {value}")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]]
    main(*(given + [1, 8][len(given) :]))
