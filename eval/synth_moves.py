"""Rendered shots whose camera motion is known exactly.

A scene is a few textured planes that face the camera at different depths, so that a camera that
travels shows parallax and a camera that turns or zooms does not. Everything is seeded: the same
seed gives the same pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.synth import Rgb, still

SPEEDS = {"slow": 0.03, "medium": 0.1, "fast": 0.35}
"""Fraction of the frame a second, one in each class of the paper (section 4.3: below 5 %, to
20 %, above). For dolly and zoom the relative change of size a second, for roll radians."""

AXES = ("truck", "pedestal", "dolly", "pan", "tilt", "roll", "zoom")
NAMES = {
    "truck": ("truck_right", "truck_left"),
    "pedestal": ("pedestal_up", "pedestal_down"),
    "dolly": ("push_in", "pull_out"),
    "zoom": ("push_in", "pull_out"),
    "pan": ("pan_right", "pan_left"),
    "tilt": ("tilt_up", "tilt_down"),
    "roll": ("roll_cw", "roll_ccw"),
}
"""Positive and negative name of each axis. The camera turning clockwise, seen by the person
behind it, is roll_cw; the picture then turns the other way."""

_SIZES = ((480, 270), (640, 360), (270, 480), (426, 240), (400, 300), (320, 320))
_RATES = (24.0, 25.0, 30.0, 60.0)
_DEPTHS = (4.0, 2.5, 1.6)
_FOCAL = 2.0
"""Frame widths: a field of view of 28 degrees, so that a pan stays on the planes."""

Picture = Callable[[int, int, int], Rgb]
"""A texture (height, width, 3) from a seed, a width and a height."""

Layer = tuple[NDArray[np.uint8], float]
"""Texture and alpha (h, w, 4), and depth."""


@dataclass(frozen=True)
class Pose:
    """The camera against its first pose.

    x (right), y (up) and z (forward) in the unit of the planes' depths; pan (right), tilt (up) and
    roll (clockwise) in radians; zoom is the factor of the focal length.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class MoveCase:
    """A shot and its truth.

    `moves` names the camera's moves, the primary one first; () where nobody could tell (black,
    textureless). `speed` is the class of the primary move or "". `fps` is in frames a second.
    """

    name: str
    moves: tuple[str, ...]
    fps: float
    speed: str
    render: Callable[[], Iterator[Rgb]]

    def frames(self) -> list[Rgb]:
        """The frames, (h, w, 3) uint8 RGB each, rendered now."""
        return list(self.render())


@dataclass(frozen=True)
class _Shot:
    """How to render: `axis` None is a camera at rest."""

    seed: int
    size: tuple[int, int]
    fps: float
    seconds: float = 3.0
    axis: str | None = None
    velocity: float = 0.0
    shake: float = 0.0
    layers: int = 3
    subject: str = ""
    overlay: str = ""
    light: str = ""
    picture: Picture = still


def cases(seed: int, picture: Picture = still) -> Iterator[MoveCase]:
    """Every move in every speed, then the hard cases, in an order that `seed` does not change.

    Sizes, rates, textures (by `picture`) and what else is free are drawn from `seed`.
    """
    rng = np.random.default_rng(seed)

    def shot(**given: object) -> _Shot:
        base = _Shot(
            int(rng.integers(2**31)),
            _SIZES[int(rng.integers(len(_SIZES)))],
            _RATES[int(rng.integers(len(_RATES)))],
            float(rng.uniform(2.2, 4.0)),
            picture=picture,
        )
        return replace(base, **given)  # type: ignore[arg-type]

    def case(name: str, what: _Shot, moves: tuple[str, ...], speed: str = "") -> MoveCase:
        return MoveCase(name, moves, what.fps, speed, lambda: _render(what))

    def moving(axis: str, sign: int, speed: str, tag: str = "", **given: object) -> MoveCase:
        velocity = sign * SPEEDS[speed] * float(rng.uniform(0.85, 1.15))
        name = NAMES[axis][sign < 0]
        what = shot(axis=axis, velocity=velocity, **given)
        what = replace(what, seconds=min(what.seconds, 0.8 / abs(velocity)))
        moves = (name, "handheld") if what.shake else (name,)
        return case(f"{tag or axis}:{name}:{speed}", what, moves, speed)

    for axis, sign, speed in product(AXES, (1, -1), SPEEDS):
        yield moving(axis, sign, speed)

    still_camera = {
        "static": shot(),
        "static:flat": shot(layers=1),
        "static:subject": shot(subject="crossing"),
        "static:close-subject": shot(subject="swaying"),
        "static:letterbox": shot(overlay="letterbox", subject="crossing"),
        "static:subtitle": shot(overlay="subtitle", subject="swaying"),
        "static:dark": shot(light="dark"),
        "static:flicker": shot(light="flicker"),
        "static:dark-subject": shot(light="dark", subject="crossing"),
    }
    for name, what in still_camera.items():
        yield case(name, what, ("static",))

    for level in (0.004, 0.008):
        yield case(f"handheld:{level}", shot(shake=level), ("handheld",))
    yield case("handheld:subject", shot(shake=0.006, subject="swaying"), ("handheld",))
    yield case("handheld:dark", shot(shake=0.006, light="dark"), ("handheld",))

    def side() -> int:
        return int(rng.choice((-1, 1)))

    for axis in ("pan", "tilt", "zoom"):
        yield moving(axis, side(), "medium", "shaken", shake=0.006)
        yield moving(axis, side(), "medium", "letterbox", overlay="letterbox")
        yield moving(axis, side(), "medium", "subtitle", overlay="subtitle")
        yield moving(axis, side(), "slow", "subtitle", overlay="subtitle")
        yield moving(axis, side(), "medium", "dark", light="dark")
        yield moving(axis, side(), "medium", "flicker", light="flicker")
        yield moving(axis, side(), "medium", "crossed", subject="crossing")
    for axis in ("pan", "truck"):
        yield moving(axis, side(), "medium", "followed", subject="followed")
        yield moving(axis, side(), "fast", "followed", subject="followed")

    for light in ("black", "grey"):
        yield case(f"blank:{light}", shot(light=light), ())


def _render(shot: _Shot) -> Iterator[Rgb]:
    rng = np.random.default_rng(shot.seed)
    width, height = shot.size
    layers = _scene(rng, width, height, shot.layers, shot.picture)
    shake = _shake(rng, shot.shake)
    person = _person(int(rng.integers(2**31)), width, height, shot)
    path = (float(rng.choice((-1, 1))), float(rng.uniform(0, 0.3)))
    for i in range(round(shot.seconds * shot.fps)):
        t = i / shot.fps
        pose = _pose(shot.axis, shot.velocity, t, height / width)
        frame = _project(layers, shake(pose, t), width, height)
        if shot.subject:
            frame = _stand(frame, person, shot.subject, path, t)
        yield _finish(frame, shot, rng, i)


def past(
    picture: Rgb, axis: str | None, velocity: float, size: tuple[int, int], frames: int, fps: float
) -> Iterator[Rgb]:
    """A flat picture (H, W, 3) as a moving camera sees it that faces its middle halfway.

    `axis` is one of `AXES`, None for a camera at rest; `size` is the frames' width and height, in
    pixels of the picture.
    """
    width, height = size
    opaque = np.full(picture.shape[:2], 255, np.uint8)
    plane: Layer = (np.dstack([picture, opaque]), _DEPTHS[0])
    for i in range(frames):
        pose = _pose(axis, velocity, (i - (frames - 1) / 2) / fps, height / width)
        yield _project([plane], pose, width, height)


def _scene(
    rng: np.random.Generator, width: int, height: int, count: int, picture: Picture
) -> list[Layer]:
    """Far to near: a plane that fills the view, then planes of scattered blobs."""
    size = (int(width * 1.5), int(height * 1.5))
    layers: list[Layer] = []
    for i in range(count):
        texture = picture(int(rng.integers(2**31)), *size)
        alpha = np.full((size[1], size[0]), 0 if i else 255, np.uint8)
        # Near things are all over the view: one lonely blob would look like a passer-by.
        for row, column in product(range(3), range(4)) if i else ():
            x, y = (column + rng.uniform(0.2, 0.8)) / 4, (row + rng.uniform(0.2, 0.8)) / 3
            centre = (int(x * size[0]), int(y * size[1]))
            axes = (int(width * rng.uniform(0.02, 0.06)), int(height * rng.uniform(0.06, 0.16)))
            cv2.ellipse(alpha, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        layers.append((np.dstack([texture, alpha]), _DEPTHS[i]))
    return layers


def _pose(axis: str | None, velocity: float, t: float, aspect: float) -> Pose:
    """The pose at `t` seconds; the far plane moves at `velocity`."""
    gone = velocity * t
    far = _DEPTHS[0]
    if axis == "truck":
        return Pose(x=gone * far / _FOCAL)
    if axis == "pedestal":
        return Pose(y=gone * far / _FOCAL * aspect)
    if axis == "dolly":
        return Pose(z=far * (1 - float(np.exp(-gone))))
    if axis == "zoom":
        return Pose(zoom=float(np.exp(gone)))
    if axis == "pan":
        return Pose(pan=gone / _FOCAL)
    if axis == "tilt":
        return Pose(tilt=gone / _FOCAL * aspect)
    if axis == "roll":
        return Pose(roll=gone)
    return Pose()


def _project(layers: list[Layer], pose: Pose, width: int, height: int) -> Rgb:
    """The picture (height, width, 3) from `pose`; planes behind the camera are not seen."""
    turn, _ = cv2.Rodrigues(np.array([0.0, 0.0, pose.roll]))
    pitch, _ = cv2.Rodrigues(np.array([pose.tilt, 0.0, 0.0]))
    yaw, _ = cv2.Rodrigues(np.array([0.0, pose.pan, 0.0]))
    to_camera = (yaw @ pitch @ turn).T
    focal = _FOCAL * width * pose.zoom
    lens = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    picture = np.zeros((height, width, 3), np.float32)
    for texture, depth in layers:
        if depth - pose.z < 0.1:
            continue
        h, w = texture.shape[:2]
        unit = depth / _FOCAL / width
        plane = np.array(
            [
                [unit, 0, -w / 2 * unit - pose.x],
                [0, unit, -h / 2 * unit + pose.y],
                [0, 0, depth - pose.z],
            ]
        )
        view = lens @ to_camera @ plane
        drawn = cv2.warpPerspective(
            texture, view, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        picture = _over(picture, np.asarray(drawn, np.uint8))
    return np.asarray(picture, np.uint8)


def _over(picture: NDArray[np.float32], drawn: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`drawn` (h, w, 4) over `picture` (h, w, 3), which is written into."""
    colour = cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR).astype(np.float32)
    alpha = cv2.extractChannel(drawn, 3)
    cv2.copyTo(colour, cv2.inRange(alpha, 255, 255), picture)
    edge = cv2.inRange(alpha, 1, 254) > 0  # the few pixels where there is anything to blend
    behind, mask = picture[edge], alpha[edge, None].astype(np.float32) / 255
    picture[edge] = behind + (colour[edge] - behind) * mask
    return picture


def _shake(rng: np.random.Generator, level: float) -> Callable[[Pose, float], Pose]:
    """Adds a hand's tremble: sums of sines at 1 to 4 Hz, `level` of the frame in amplitude."""
    rates, phases = rng.uniform(1, 4, (3, 4)), rng.uniform(0, 2 * np.pi, (3, 4))

    def shaken(pose: Pose, t: float) -> Pose:
        if not level:
            return pose
        pan, tilt, roll = level * np.sin(2 * np.pi * rates * t + phases).sum(1) / 2
        return replace(
            pose,
            pan=pose.pan + pan / _FOCAL,
            tilt=pose.tilt + tilt / _FOCAL,
            roll=pose.roll + roll * 0.5,
        )

    return shaken


def _person(seed: int, width: int, height: int, shot: _Shot) -> NDArray[np.uint8]:
    """A figure about 40 % of the frame wide and 90 % high, (h, w, 4) with its alpha; nothing of it
    where the shot has none."""
    if not shot.subject:
        return np.zeros((height, width, 4), np.uint8)
    texture = shot.picture(seed, width, height)
    alpha = np.zeros((height, width), np.uint8)
    middle = (width // 2, int(height * 0.75))
    cv2.ellipse(alpha, middle, (int(width * 0.2), int(height * 0.45)), 0, 0, 360, 255, -1)
    head = (width // 2, int(height * 0.3))
    cv2.ellipse(alpha, head, (int(width * 0.1), int(height * 0.16)), 0, 0, 360, 255, -1)
    return np.dstack([texture, alpha])


def _stand(
    frame: Rgb, person: NDArray[np.uint8], how: str, path: tuple[float, float], t: float
) -> Rgb:
    """The figure over the picture: crossing it, swaying in its middle, or followed by it."""
    height, width = frame.shape[:2]
    side, phase = path
    if how == "crossing":
        dx, dy = side * (0.25 * t - 0.35), 0.01 * np.sin(9 * t)
    elif how == "swaying":
        dx, dy = 0.12 * np.sin(2.5 * t + phase * 9), 0.03 * np.sin(4 * t)
    else:
        dx, dy = 0.01 * np.sin(5 * t), 0.015 * np.sin(9 * t)
    shift = np.array([[1, 0, dx * width], [0, 1, dy * height]])
    drawn = cv2.warpAffine(person, shift, (width, height))
    return np.asarray(_over(frame.astype(np.float32), np.asarray(drawn, np.uint8)), np.uint8)


def _finish(frame: Rgb, shot: _Shot, rng: np.random.Generator, i: int) -> Rgb:
    """Light, noise and what is burned in."""
    height, width = frame.shape[:2]
    light: NDArray[Any] = frame.astype(np.float64) if shot.light else frame
    if shot.light == "flicker":
        light = light * (1 + 0.15 * float(np.sin(2.1 * i + shot.seed % 7)))
    elif shot.light == "dark":
        light = light * 0.2 + rng.normal(0, 3, (height, width, 1))
    elif shot.light == "black":
        light[:] = rng.normal(4, 1.5, (height, width, 1))
    elif shot.light == "grey":
        light[:] = 120 + rng.normal(0, 2, (height, width, 1))
    picture = np.asarray(np.clip(light, 0, 255), np.uint8) if shot.light else frame
    if shot.overlay == "letterbox":
        bar = int(height * 0.12)
        picture[:bar] = picture[height - bar :] = 0
    elif shot.overlay == "subtitle":
        size = height / 500
        at = (int(width * 0.12), int(height * 0.92))
        for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 2)):
            cv2.putText(picture, "and then we went home", at, 0, size, colour, thick, cv2.LINE_AA)
        logo = (int(width * 0.9), int(height * 0.1))
        cv2.circle(picture, logo, int(height * 0.05), (240, 200, 30), -1, cv2.LINE_AA)
        cv2.putText(picture, "TV", (logo[0] - 10, logo[1] + 5), 0, size, (0, 0, 0), 2)
    return picture


_SAME_FLOW = {
    "truck_right": "pan_right",
    "truck_left": "pan_left",
    "pedestal_up": "tilt_up",
    "pedestal_down": "tilt_down",
}
"""Moves that flow alike where the scene has no depth to show."""


def main(seed: int) -> None:
    """Print what the camera expert says of every case of a seed, and how often it is right."""
    from captioner.experts.camera import measure_camera
    from captioner.frames import FrameBatch

    exact = direction = answered = total = 0
    for one in cases(seed):
        motion = measure_camera(FrameBatch.from_rgb(one.frames(), one.fps))
        said, true = motion.moves if motion else (), one.moves
        total += bool(true)
        answered += bool(true and said)
        exact += bool(true) and said[:1] == true[:1]
        flows = [_SAME_FLOW.get(move, move) for move in (*said[:1], *true[:1])]
        direction += len(flows) == 2 and flows[0] == flows[1]
        if said[:1] != true[:1]:
            print(f"{one.name}: said {', '.join(said) or 'nothing'}")
    print(f"{total} moves, {answered} answered: {exact} exact, {direction} in the right direction")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
