"""The pictures that rendered edits are made of: places, portraits, footage, and the film's look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.synth import Rgb, still

WIDTH, HEIGHT = 320, 180
"""Pixels of every rendered edit."""

Source = Callable[[int], Rgb]
"""The frame of a number, from 0 on without end."""


def clip(frames: Sequence[Rgb], mirrored: bool) -> Source:
    """Footage played to its end and back; mirrored and closer it is another take, much alike."""

    def frame(i: int) -> Rgb:
        there = i % (2 * len(frames) - 2) if len(frames) > 1 else 0
        picture = frames[min(there, 2 * len(frames) - 2 - there)]
        if not mirrored:
            return picture
        h, w = HEIGHT // 12, WIDTH // 12
        closer = np.ascontiguousarray(picture[h:-h, -w:w:-1])
        return np.asarray(cv2.resize(closer, (WIDTH, HEIGHT)), np.uint8)

    return frame


class Look:
    """What a whole edit has in common: grain, letterbox, black and white."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._grain = float(rng.choice((0.0, 1.0, 3.0, 6.0)))
        self._noise = rng.standard_normal((HEIGHT + 64, WIDTH + 64, 1)).astype(np.float32)
        self._bars = int(rng.choice((0, 0, 0, 22)))
        self._grey = bool(rng.random() < 0.2)
        self._seed = int(rng.integers(1 << 30))

    def finish(self, frame: Rgb, index: int) -> Rgb:
        """Frame number `index` of the edit as it is printed."""
        out = frame
        if self._grey:
            out = np.asarray(
                cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            )
        if self._grain:
            y, x = np.random.default_rng(self._seed + index).integers(0, 64, 2)
            noise = self._grain * self._noise[y : y + HEIGHT, x : x + WIDTH]
            out = np.asarray(np.clip(out + noise, 0, 255), np.uint8)
        if self._bars:
            out = out.copy()
            out[: self._bars] = out[-self._bars :] = 0
        return out


def scene(seed: int, fps: float, decoy: str) -> Source:
    """A place seen by a camera that stands, pans, zooms or is held by hand, with up to two
    subjects that move in it."""
    rng = np.random.default_rng(seed)
    place = still(seed, WIDTH * 2, HEIGHT * 2)
    camera = "shake" if decoy == "shake" else str(rng.choice(("static", "pan", "zoom", "shake")))
    angle = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(5, 60) / fps
    swing = np.cumsum(rng.standard_normal((400, 2)), axis=0) * 1.2 * (30 / fps)
    swing -= np.asarray(cv2.blur(swing, (1, 15)))
    subjects = []
    for _ in range(int(rng.integers(0, 3))):
        axes = (int(rng.integers(12, 50)), int(rng.integers(20, 80)))
        start = rng.uniform((0, 0.3), (1, 0.9)) * (WIDTH, HEIGHT)
        move = rng.uniform(-90, 90, 2) * (1, 0.3) / fps
        subjects.append((still(int(rng.integers(1 << 30)), WIDTH, HEIGHT), axes, start, move))

    def frame(i: int) -> Rgb:
        scale, x, y = 1.0, 0.0, 0.0
        if camera == "pan":
            x, y = speed * i * np.cos(angle), speed * i * np.sin(angle) * 0.5
        elif camera == "zoom":
            scale = 1 + 0.12 * i / fps
        elif camera == "shake":
            x, y = swing[i % 400] * 3
        view = np.array(
            [
                [scale, 0, WIDTH / 2 - scale * (WIDTH + x)],
                [0, scale, HEIGHT / 2 - scale * (HEIGHT + y)],
            ]
        )
        border = cv2.BORDER_REFLECT
        out = cv2.warpAffine(
            place, view, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=border
        )
        for body, axes, start, move in subjects:
            x0, y0 = start + move * i - (x, y)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.ellipse(mask, (round(x0), round(y0)), axes, 0, 0, 360, 255, -1)
            shift = np.array([[1, 0, x0 - WIDTH / 2], [0, 1, y0 - HEIGHT / 2]])
            moved = cv2.warpAffine(body, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_WRAP)
            cv2.copyTo(moved, mask, out)
        return np.asarray(out, np.uint8)

    return frame


def portrait(seed: int, variant: int, fps: float) -> Source:
    """A head and shoulders before a plain wall: two variants of a seed share the wall and the
    skin, and differ in the framing, the pose, the hair and the features."""
    shared, own = np.random.default_rng(seed), np.random.default_rng((seed, variant))
    wall, skin = shared.uniform(90, 210), shared.uniform(80, 200, 3)
    size = own.uniform(0.8, 1.25) * (1.15 if variant else 0.9)
    centre = np.array([WIDTH * own.uniform(0.35, 0.65), HEIGHT * own.uniform(0.38, 0.55)])
    hair, tilt = own.uniform(10, 90, 3), own.uniform(-25, 25)
    texture = still(int(own.integers(1 << 30)), WIDTH, HEIGHT).astype(np.float32) - 128
    drift = own.uniform(-12, 12, 2) / fps
    ramp = np.linspace(-25, 25, WIDTH, dtype=np.float32)[None, :, None]
    plain = np.full((HEIGHT, WIDTH, 3), wall, np.float32) + ramp + 0.03 * texture

    def frame(i: int) -> Rgb:
        out = plain.copy()
        x, y = (int(v) for v in centre + drift * i)
        r = int(34 * size)

        def oval(
            dx: float, dy: float, a: float, b: float, colour: Sequence[float] | NDArray[np.float64]
        ) -> None:
            at = (x + int(dx * r), y + int(dy * r))
            radii = (max(1, int(a * r)), max(1, int(b * r)))
            cv2.ellipse(
                out, at, radii, tilt, 0, 360, tuple(float(c) for c in colour), -1, cv2.LINE_AA
            )

        oval(0, 3.2, 2.1, 1.8, skin * 0.7)
        oval(0, -0.1, 1.05, 1.4, hair)
        oval(0, 0.1, 0.8, 1.1, skin)
        for side in (-0.35, 0.35):
            oval(side, -0.15, 0.17, 0.08, (40, 35, 35))
        oval(0, 0.6, 0.3, 0.06 + 0.1 * abs(np.sin(i / fps * 4)), (120, 50, 50))
        return np.asarray(np.clip(out + 0.04 * texture, 0, 255), np.uint8)

    return frame
