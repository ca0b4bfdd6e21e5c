"""Rendered shots with bars, split screens, text, logos and mosaic, and what the measures find.

`python -m eval.overlays SEED [EACH]` renders every case a few times as H.264, measures it, applies
`FIRES` and prints precision and recall a measure, and the errors of the boxes and of the crop.
Everything is seeded: the same seed gives the same pixels.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from captioner.decode import read_clip
from captioner.experts.boxes import Box
from captioner.frames import FrameBatch
from curation.crop import CropConfig, crop
from curation.measure import borders, overlays
from eval.synth import Rgb, still, write_video

WIDTH, HEIGHT = 640, 360
FRAMES = 70
FPS = 25.0
WHOLE = Box(0.0, 0.0, 1.0, 1.0)

FIRES: dict[str, float] = {
    "border_letterbox": 0.02,
    "border_pillarbox": 0.02,
    "border_blurred_fill": 0.05,
    "border_split_screen": 0.5,
    "border_picture_in_picture": 0.5,
    "text_area": 0.001,
    "text_scene_area": 0.001,
    "text_subtitle": 0.2,
    "overlay_logo": 0.5,
    "overlay_sticker": 0.5,
    "overlay_mosaic": 0.5,
}
"""From which value a measure says that the clip has what it is named for."""

Values = dict[str, object]


@dataclass(frozen=True)
class Rendered:
    """Frames (H, W, 3) uint8 RGB at `FPS`, and what is in them.

    `has` names the measures that must fire, `may` those that need not and may; `content` is the
    picture inside its borders, `text` and `logos` what lies over it.
    """

    frames: tuple[Rgb, ...]
    has: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    content: Box = WHOLE
    text: tuple[Box, ...] = ()
    logos: tuple[Box, ...] = ()


Render = Callable[[int], Rendered]


def _moving(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT), camera: str = "") -> list[Rgb]:
    """A take of a place with a figure that walks through it; `camera` is "" for any, static, pan,
    tilt, zoom or handheld."""
    rng = np.random.default_rng(seed)
    width, height = size
    camera = camera or str(rng.choice(["static", "pan", "tilt", "zoom", "handheld"]))
    place = _place(int(rng.integers(2**31)), int(width * 1.6), int(height * 1.6))
    return _film(rng, place, size, camera, figures=2 if camera == "static" else 1)


def _place(seed: int, width: int, height: int) -> Rgb:
    """`still` with many small things in it, as edges and corners abound in real pictures."""
    rng = np.random.default_rng(seed)
    picture = still(seed, width, height).astype(np.float32)
    for _ in range(width * height // 4000):
        tone = rng.uniform(0, 255, 3) * rng.uniform(0.3, 1)
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        r = rng.uniform(3, 14)
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        points = np.stack([x + r * np.cos(turns), y + r * np.sin(turns)], 1)
        colour = [float(v) for v in tone]
        cv2.fillPoly(picture, [points.astype(np.int32)], colour, cv2.LINE_AA)
    grain = rng.normal(0, 5, (height, width, 1))
    return _clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + grain)


def _film(
    rng: np.random.Generator, place: Rgb, size: tuple[int, int], camera: str, figures: int
) -> list[Rgb]:
    """`place` seen by a camera, with figures crossing."""
    width, height = size
    middle = np.array([place.shape[1], place.shape[0]]) / 2
    way = rng.choice([-1, 1], 2) * rng.uniform(0.08, 0.25, 2)
    phases, rates = rng.uniform(0, 6.3, (2, 3)), rng.uniform(0.7, 2.5, (2, 3))
    people = [_person(rng, height) for _ in range(figures)]
    frames = []
    for i in range(FRAMES):
        t = i / FPS - FRAMES / FPS / 2
        at, zoom = middle.copy(), 1.0
        if camera == "pan":
            at[0] += way[0] * t * width / 2
        elif camera == "tilt":
            at[1] += way[1] * t * height / 2
        elif camera == "zoom":
            zoom = float(np.exp(way[0] * 0.6 * t))
        elif camera == "handheld":
            at += 0.02 * width * np.sin(rates * t * 3 + phases).sum(1)
        view = np.array(
            [
                [1 / zoom, 0, at[0] - width / 2 / zoom],
                [0, 1 / zoom, at[1] - height / 2 / zoom],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = np.asarray(
            cv2.warpAffine(place, view, size, flags=flags, borderMode=cv2.BORDER_REFLECT), np.uint8
        )
        for person in people:
            frame = person(frame, i / FRAMES)
        frames.append(frame)
    return frames


def _person(rng: np.random.Generator, height: int) -> Callable[[Rgb, float], Rgb]:
    """A textured figure that crosses the picture from one side or sways in it."""
    tall = int(height * rng.uniform(0.45, 0.8)) // 2 * 2
    wide = int(tall * rng.uniform(0.3, 0.5)) // 2 * 2
    texture = still(int(rng.integers(2**31)), wide + 80, tall + 80)[40:-40, 40:-40]
    texture = texture.astype(np.float32)
    alpha = np.zeros((tall, wide, 1), np.float32)
    cv2.ellipse(alpha, (wide // 2, tall // 2), (wide // 2 - 2, tall // 2 - 2), 0, 0, 360, 1.0, -1)
    start, way, phase = rng.uniform(0.1, 0.9), rng.choice([-1, 1]), rng.uniform(0, 6)
    speed = rng.uniform(0.3, 0.7)

    def draw(frame: Rgb, time: float) -> Rgb:
        h, w = frame.shape[:2]
        x = ((start + way * speed * time) % 1.2 - 0.1) * w - wide / 2
        y = h - tall * 0.9 + 0.02 * h * np.sin(9 * time + phase)
        left, top = int(np.floor(x)), int(np.floor(y))
        shift = np.array([[1, 0, x - left], [0, 1, y - top]])
        size = (wide + 1, tall + 1)
        mask, drawn = cv2.warpAffine(alpha, shift, size), cv2.warpAffine(texture, shift, size)
        rows = slice(max(0, top), min(h, top + tall + 1))
        columns = slice(max(0, left), min(w, left + wide + 1))
        part = (slice(rows.start - top, rows.stop - top),
                slice(columns.start - left, columns.stop - left))  # fmt: skip
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return frame
        cover = mask[part][..., None]
        frame[rows, columns] = frame[rows, columns] * (1 - cover) + drawn[part] * cover
        return frame

    return draw


def _clip(values: NDArray[np.floating]) -> Rgb:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


# What lies around the picture.


def _bars(across: bool, dark: float = 1.0) -> Render:
    """Black (now and then dark grey or white) bars at the sides, or above and below."""

    def render(seed: int) -> Rendered:
        rng = np.random.default_rng(seed)
        share = float(rng.uniform(0.05, 0.3 if across else 0.14))
        bar = int(share * (WIDTH if across else HEIGHT))
        size = (WIDTH - 2 * bar, HEIGHT) if across else (WIDTH, HEIGHT - 2 * bar)
        colour = int(rng.choice([0, 0, 0, 12, 255 if dark == 1 else 0]))
        frames = []
        for picture in _moving(seed + 1, size):
            frame = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
            inside = _clip(picture * dark)
            if across:
                frame[:, bar : WIDTH - bar] = inside
            else:
                frame[bar : HEIGHT - bar] = inside
            frames.append(frame)
        x, y = (bar / WIDTH, 0.0) if across else (0.0, bar / HEIGHT)
        name = "border_pillarbox" if across else "border_letterbox"
        return Rendered(tuple(frames), frozenset({name}), content=Box(x, y, 1 - x, 1 - y))

    return render


def subtitled_letterbox(seed: int) -> Rendered:
    """Letterbox whose lower bar holds the subtitles."""
    base = _bars(False)(seed)
    size = 13
    line, mask = _line(np.random.default_rng(seed), size)
    y = int(base.content.bottom * HEIGHT) + 2
    frames = [_paste(frame, line, mask, (WIDTH - line.shape[1]) // 2, y) for frame in base.frames]
    room = y + line.shape[0] < HEIGHT
    return replace(
        base,
        frames=tuple(frames) if room else base.frames,
        may=frozenset({"text_area", "text_subtitle", "overlay_logo"}),
    )


def blurred_fill(seed: int) -> Rendered:
    """A narrow picture over a blurred, larger copy of itself, maybe darkened."""
    rng = np.random.default_rng(seed)
    wide = int(rng.uniform(0.3, 0.75) * WIDTH) // 2 * 2
    left = (WIDTH - wide) // 2
    sigma, dim = float(rng.uniform(8, 20)), float(rng.uniform(0.5, 1.0))
    frames = []
    for picture in _moving(seed + 1, (wide, HEIGHT)):
        scale = WIDTH / wide
        part = int(HEIGHT / scale)
        top = (HEIGHT - part) // 2
        fill = cv2.resize(picture[top : top + part], (WIDTH, HEIGHT))
        frame = _clip(cv2.GaussianBlur(fill, (0, 0), sigma).astype(np.float32) * dim)
        frame[:, left : left + wide] = picture
        frames.append(frame)
    content = Box(left / WIDTH, 0.0, (left + wide) / WIDTH, 1.0)
    return Rendered(tuple(frames), frozenset({"border_blurred_fill"}), content=content)


def static_frame(seed: int) -> Rendered:
    """A picture set in a motionless design."""
    rng = np.random.default_rng(seed)
    x, y = int(rng.uniform(0.06, 0.15) * WIDTH), int(rng.uniform(0.08, 0.2) * HEIGHT)
    design = still(seed + 5, WIDTH, HEIGHT)
    frames = []
    for picture in _moving(seed + 1, (WIDTH - 2 * x, HEIGHT - 2 * y), "pan"):
        frame = design.copy()
        frame[y : HEIGHT - y, x : WIDTH - x] = picture
        frames.append(frame)
    content = Box(x / WIDTH, y / HEIGHT, 1 - x / WIDTH, 1 - y / HEIGHT)
    may = frozenset({"border_picture_in_picture"})
    return Rendered(tuple(frames), may=may, content=content)


def _split(stacked: bool) -> Render:
    """Two takes beside or above one another, with or without a line between."""

    def render(seed: int) -> Rendered:
        rng = np.random.default_rng(seed)
        length = HEIGHT if stacked else WIDTH
        at = int(rng.uniform(0.4, 0.6) * length)
        line = int(rng.choice([0, 0, 2, 6]))
        colour = int(rng.choice([0, 255]))
        cameras = rng.choice(["pan", "handheld", "zoom", "static"], 2, replace=False)
        frames = []
        for a, b in zip(
            _moving(seed + 1, camera=str(cameras[0])), _moving(seed + 2, camera=str(cameras[1]))
        ):
            frame = a.copy()
            if stacked:
                frame[at:] = b[at:]
                frame[at : at + line] = colour
            else:
                frame[:, at:] = b[:, at:]
                frame[:, at : at + line] = colour
            frames.append(frame)
        return Rendered(tuple(frames), frozenset({"border_split_screen"}))

    return render


def picture_in_picture(seed: int) -> Rendered:
    """A small take inset near a corner, with or without a white line around."""
    rng = np.random.default_rng(seed)
    wide = int(rng.uniform(0.22, 0.38) * WIDTH) // 2 * 2
    tall = wide * 9 // 16
    margin = int(rng.uniform(0.03, 0.06) * WIDTH)
    x = margin if rng.random() < 0.5 else WIDTH - margin - wide
    y = margin if rng.random() < 0.5 else HEIGHT - margin - tall
    line = int(rng.choice([0, 2, 3]))
    camera = str(rng.choice(["pan", "handheld", "zoom"]))
    frames = []
    for a, b in zip(_moving(seed + 1, camera=camera), _moving(seed + 2)):
        frame = a.copy()
        frame[y - line : y + tall + line, x - line : x + wide + line] = 255
        frame[y : y + tall, x : x + wide] = cv2.resize(b, (wide, tall))
        frames.append(frame)
    # Its corners stay as a logo's do.
    may = frozenset({"overlay_logo", "overlay_sticker"})
    return Rendered(tuple(frames), frozenset({"border_picture_in_picture"}), may)


# What lies over the picture.

WORDS = (
    "I never said that", "where were you last night?", "they are coming", "wait for me here",
    "nobody knows the answer", "we have to go now", "what do you want from us?", "Breaking news",
    "the river is rising", "good evening, everyone", "it was a long winter", "take this with you",
)  # fmt: skip


def _glyphs(text: str, size: int, thick: bool = False) -> NDArray[np.float32]:
    """Coverage (h, w), 0 to 1, of a line of text about `size` pixels high."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    image = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, 255, font, stroke_width=int(thick))
    canvas = np.asarray(image)
    rows, columns = np.flatnonzero(canvas.any(1)), np.flatnonzero(canvas.any(0))
    cut = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(cut / 255, np.float32)


def _line(
    rng: np.random.Generator, size: int, text: str = ""
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A subtitle: its colours (h, w, 3) and coverage (h, w, 1), with outline, shadow or box."""
    glyphs = _glyphs(text or str(rng.choice(WORDS)), size, bool(rng.random() < 0.5))
    style = rng.choice(["outline", "outline", "shadow", "box"])
    edge = 3
    glyphs = np.pad(glyphs, edge)
    if style == "box":
        around = np.full_like(glyphs, float(rng.uniform(0.5, 1.0)))
    elif style == "shadow":
        around = np.roll(glyphs, (1, 1), (0, 1))
    else:
        around = np.asarray(cv2.dilate(glyphs, np.ones((3, 3))), np.float32)
    fill = np.array([(255, 255, 255), (255, 255, 255), (250, 230, 60)][int(rng.integers(3))])
    colours = fill * glyphs[..., None]
    return colours.astype(np.float32), np.maximum(glyphs, around)[..., None]


def _paste(
    frame: Rgb, colours: NDArray[np.float32], mask: NDArray[np.float32], x: int, y: int
) -> Rgb:
    """`colours` (h, w, 3) over the frame with `mask` (h, w, 1), its corner at (x, y)."""
    height, width = frame.shape[:2]
    h, w = min(colours.shape[0], height - y), min(colours.shape[1], width - x)
    result = frame.copy()
    part = frame[y : y + h, x : x + w].astype(np.float32)
    alpha = mask[:h, :w]
    result[y : y + h, x : x + w] = _clip(part * (1 - alpha) + colours[:h, :w])
    return result


def _box(x: int, y: int, shape: Sequence[int]) -> Box:
    return Box(x / WIDTH, y / HEIGHT, (x + shape[1]) / WIDTH, (y + shape[0]) / HEIGHT).clipped()


def subtitles(seed: int) -> Rendered:
    """Two lines, one after the other, with or without a pause."""
    rng = np.random.default_rng(seed)
    size = int(rng.uniform(15, 26))
    pause = int(rng.choice([0, 6]))
    turn = int(rng.uniform(0.35, 0.65) * FRAMES)
    y = int(rng.uniform(0.8, 0.9) * HEIGHT)
    said = [_line(rng, size) for _ in range(2)]
    places = [(WIDTH - line.shape[1]) // 2 for line, _ in said]
    frames = []
    for i, frame in enumerate(_moving(seed + 1)):
        if turn <= i < turn + pause:
            frames.append(frame)
            continue
        which = int(i >= turn)
        frames.append(_paste(frame, *said[which], places[which], y))
    boxes = tuple(_box(x, y, line.shape) for x, (line, _) in zip(places, said))
    return Rendered(
        tuple(frames), frozenset({"text_area", "text_subtitle"}), text=boxes,
    )  # fmt: skip


def banner(seed: int) -> Rendered:
    """A lower third: a coloured strip with a line of text, all through the shot."""
    rng = np.random.default_rng(seed)
    glyphs = _glyphs(str(rng.choice(WORDS)), int(rng.uniform(14, 20)), True)
    colour = np.array([(190, 20, 30), (20, 50, 140), (240, 240, 240)][int(rng.integers(3))])
    ink = 0 if colour.sum() > 600 else 255
    strip = np.pad(glyphs, ((7, 7), (12, 30)))[..., None]
    colours = (colour * (1 - strip) + ink * strip).astype(np.float32)
    x, y = int(rng.uniform(0.05, 0.2) * WIDTH), int(rng.uniform(0.75, 0.85) * HEIGHT)
    whole = np.ones_like(strip)
    frames = tuple(_paste(f, colours, whole, x, y) for f in _moving(seed + 1))
    may = frozenset({"overlay_sticker", "overlay_logo", "border_picture_in_picture"})
    box = _box(x + 12, y + 7, glyphs.shape)
    has = frozenset({"text_area", "text_subtitle"})
    return Rendered(frames, has, may, text=(box,), logos=(_box(x, y, strip.shape),))


def _badge(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A logo: a shape in flat colour with a letter or a ring cut out; colours and coverage."""
    mask = np.zeros((size, int(size * rng.uniform(1.0, 1.8))), np.float32)
    h, w = mask.shape
    kind = rng.choice(["disc", "box", "letters"])
    if kind == "disc":
        cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 1, h // 2 - 1), 0, 0, 360, 1.0, -1)
        cv2.ellipse(mask, (w // 2, h // 2), (w // 4, h // 4), 0, 0, 360, 0.0, 3)
    elif kind == "box":
        cv2.rectangle(mask, (1, 1), (w - 2, h - 2), 1.0, -1)
        cv2.line(mask, (w // 4, h - 4), (w // 2, 4), 0.0, 3)
        cv2.line(mask, (w // 2, 4), (3 * w // 4, h - 4), 0.0, 3)
    else:
        mask = _glyphs(str(rng.choice(["TV7", "ARTE", "k2", "VOX"])), size, True)
    ink = rng.choice([0, 1, 1])
    colour = np.array([255.0, 255.0, 255.0]) if ink else rng.uniform(0, 255, 3)
    return (mask[..., None] * colour).astype(np.float32), mask[..., None]


def _corner(
    rng: np.random.Generator, shape: Sequence[int], low: float = 0.03, high: float = 0.06
) -> tuple[int, int]:
    """Where a logo lies: near a corner."""
    dx, dy = int(rng.uniform(low, high) * WIDTH), int(rng.uniform(low, high) * HEIGHT)
    x = dx if rng.random() < 0.5 else WIDTH - dx - shape[1]
    y = dy if rng.random() < 0.5 else HEIGHT - dy - shape[0]
    return x, y


def _logo(low: float, high: float) -> Render:
    """A logo in a corner with an opacity from `low` to `high`, over a camera that moves."""

    def render(seed: int) -> Rendered:
        rng = np.random.default_rng(seed)
        colours, mask = _badge(rng, int(rng.uniform(26, 46)))
        opacity = float(rng.uniform(low, high))
        x, y = _corner(rng, colours.shape)
        camera = str(rng.choice(["pan", "tilt", "handheld", "zoom"]))
        frames = tuple(
            _paste(f, colours * opacity, mask * opacity, x, y)
            for f in _moving(seed + 1, camera=camera)
        )
        may = frozenset({"text_area", "text_subtitle"})
        return Rendered(
            frames, frozenset({"overlay_logo"}), may, logos=(_box(x, y, colours.shape),)
        )

    return render


def watermark(seed: int) -> Rendered:
    """A faint word over the middle of a picture that moves."""
    rng = np.random.default_rng(seed)
    mask = _glyphs(str(rng.choice(["shutterview", "SAMPLE", "preview"])), 54, True)[..., None]
    opacity = float(rng.uniform(0.3, 0.6))
    x, y = (WIDTH - mask.shape[1]) // 2, (HEIGHT - mask.shape[0]) // 2
    camera = str(rng.choice(["pan", "tilt", "handheld"]))
    frames = tuple(
        _paste(f, mask * np.float32(255 * opacity) * np.ones(3, np.float32), mask * opacity, x, y)
        for f in _moving(seed + 1, camera=camera)
    )
    may = frozenset({"text_subtitle", "overlay_logo", "overlay_sticker"})
    return Rendered(frames, frozenset({"text_area"}), may, text=(_box(x, y, mask.shape),))


def _sticker(jumps: bool) -> Render:
    """A bright drawing over the picture, at one place or leaping about."""

    def render(seed: int) -> Rendered:
        rng = np.random.default_rng(seed)
        size = int(rng.uniform(60, 100))
        mask, colours = _star(rng, size)
        spots = [
            (int(rng.uniform(0.2, 0.6) * WIDTH), int(rng.uniform(0.15, 0.6) * HEIGHT))
            for _ in range(4 if jumps else 1)
        ]
        camera = str(rng.choice(["pan", "tilt", "handheld"]))
        frames = tuple(
            _paste(f, colours, mask, *spots[i * len(spots) // FRAMES])
            for i, f in enumerate(_moving(seed + 1, camera=camera))
        )
        return Rendered(frames, frozenset({"overlay_sticker"}), frozenset({"overlay_logo"}))

    return render


def _star(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coverage and colours of a star or a face with a dark outline."""
    mask = np.zeros((size, size), np.float32)
    colours = np.zeros((size, size, 3), np.float32)
    r = size / 2 - 3
    bright = [float(v) for v in rng.uniform(120, 255, 3)]
    if rng.random() < 0.5:
        turns = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, 0.45, 1.0) * r
        points = np.stack([np.sin(turns), np.cos(turns)], 1) * radii[:, None] + size / 2
        outline = [points.astype(np.int32)]
        cv2.fillPoly(mask, outline, 1.0)
        cv2.fillPoly(colours, outline, bright)
        cv2.polylines(colours, outline, True, (20, 20, 20), 3)
    else:
        centre = (size // 2, size // 2)
        cv2.circle(mask, centre, int(r), 1.0, -1)
        cv2.circle(colours, centre, int(r), bright, -1)
        cv2.circle(colours, centre, int(r) - 1, (20, 20, 20), 3)
        for side in (-1, 1):
            eye = (size // 2 + side * size // 6, size * 2 // 5)
            cv2.circle(colours, eye, size // 14, (20, 20, 20), -1)
        cv2.ellipse(colours, centre, (size // 4, size // 4), 0, 20, 160, (20, 20, 20), 3)
    return mask[..., None], colours * mask[..., None]


def mosaic(seed: int) -> Rendered:
    """Part of the picture in large constant blocks, in its place or following something."""
    rng = np.random.default_rng(seed)
    block = int(rng.choice([8, 10, 12, 16, 20]))
    w, h = (int(rng.uniform(6, 12)) * block, int(rng.uniform(6, 10)) * block)
    x, y = int(rng.uniform(0.1, 0.5) * WIDTH), int(rng.uniform(0.1, 0.35) * HEIGHT)
    way = rng.choice([0, 1, 2], 2)
    hidden = _moving(seed + 2, (w, h), "handheld")
    frames = []
    for i, picture in enumerate(_moving(seed + 1)):
        frame = picture.copy()
        left, top = min(x + way[0] * i, WIDTH - w), min(y + way[1] * i // 2, HEIGHT - h)
        part = frame[top : top + h, left : left + w]
        part[:] = hidden[i]
        small = cv2.resize(part, (w // block, h // block), interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST)
        frames.append(frame)
    # What it hides moves on its own, as an inset does, and its grid stays, as a sticker does.
    may = frozenset({"border_picture_in_picture", "overlay_sticker"})
    return Rendered(tuple(frames), frozenset({"overlay_mosaic"}), may)


# What must not fire.


def plain(seed: int) -> Rendered:
    """A take with nothing about it."""
    return Rendered(tuple(_moving(seed)))


def scene_text(seed: int) -> Rendered:
    """A sign in the scene, over which the camera passes."""
    rng = np.random.default_rng(seed)
    place = _place(seed, int(WIDTH * 1.6), int(HEIGHT * 1.6))
    glyphs = _glyphs(str(rng.choice(["BAKERY", "HOTEL ROYAL", "Exit 12", "LIBRARY"])), 36, True)
    board = np.pad(glyphs, 14)[..., None]
    h, w = board.shape[:2]
    y, x = int(HEIGHT * rng.uniform(0.65, 0.9)), int(WIDTH * rng.uniform(0.55, 0.7))
    place[y : y + h, x : x + w] = _clip(np.array([40, 70, 50]) * (1 - board) + 235 * board)
    camera = str(rng.choice(["pan", "tilt", "zoom", "handheld"]))
    frames = _film(rng, place, (WIDTH, HEIGHT), camera, figures=0)
    return Rendered(tuple(frames), frozenset({"text_scene_area"}))


def dark(seed: int) -> Rendered:
    """Night: faint, noisy, with some lamps."""
    rng = np.random.default_rng(seed)
    lamps = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(3):
        at = (int(rng.uniform(0.2, 0.8) * WIDTH), int(rng.uniform(0.2, 0.8) * HEIGHT))
        cv2.circle(lamps, at, int(rng.uniform(20, 60)), 1.0, -1)
    light = 0.06 + 0.6 * cv2.GaussianBlur(lamps, (0, 0), 40)[..., None]
    return Rendered(
        tuple(
            _clip(frame * light + rng.normal(0, 1.5, (HEIGHT, WIDTH, 1))) for frame in _moving(seed)
        )
    )


def window(seed: int) -> Rendered:
    """A room before a camera at rest, with a bright window and people passing."""
    rng = np.random.default_rng(seed)
    place = _clip(_place(seed, int(WIDTH * 1.6), int(HEIGHT * 1.6)) * 0.4)
    x, y = int(WIDTH * rng.uniform(0.6, 0.9)), int(HEIGHT * rng.uniform(0.4, 0.6))
    w, h = int(WIDTH * rng.uniform(0.15, 0.3)), int(HEIGHT * rng.uniform(0.25, 0.4))
    place[y : y + h, x : x + w] = 245
    place[y + h // 2 - 2 : y + h // 2 + 2, x : x + w] = 60
    return Rendered(tuple(_film(rng, place, (WIDTH, HEIGHT), "static", figures=2)))


def columns(seed: int) -> Rendered:
    """Upright edges from top to bottom, panned over or behind a camera at rest."""
    rng = np.random.default_rng(seed)
    place = _place(seed, int(WIDTH * 1.6), int(HEIGHT * 1.6)).astype(np.float32)
    for _ in range(4):
        x, w = int(rng.uniform(0.1, 1.4) * WIDTH), int(rng.uniform(20, 60))
        place[:, x : x + w] = place[:, x : x + w] * 0.3 + rng.uniform(0, 160)
    camera = str(rng.choice(["static", "pan", "tilt", "handheld"]))
    return Rendered(tuple(_film(rng, _clip(place), (WIDTH, HEIGHT), camera, figures=2)))


def horizon(seed: int) -> Rendered:
    """A pan along a straight, level horizon: the line stays, both sides of it move."""
    rng = np.random.default_rng(seed)
    place = _place(seed, int(WIDTH * 1.6), int(HEIGHT * 1.6))
    sky = _place(seed + 1, int(WIDTH * 1.6), int(HEIGHT * 1.6))
    at = int(HEIGHT * rng.uniform(0.6, 0.9))
    place[:at] = _clip(150 + sky[:at] * 0.4)
    return Rendered(tuple(_film(rng, place, (WIDTH, HEIGHT), "pan", figures=1)))


def soft_sides(seed: int) -> Rendered:
    """Shallow focus: sharp in the middle, ever softer to the sides."""
    across = np.abs(np.linspace(-1, 1, WIDTH, dtype=np.float32))[None, :, None]
    blend = np.clip((across - 0.3) / 0.5, 0, 1)
    return Rendered(
        tuple(
            _clip(frame * (1 - blend) + cv2.GaussianBlur(frame, (0, 0), 9) * blend)
            for frame in _moving(seed)
        )
    )


def facade(seed: int) -> Rendered:
    """Rows of like windows: straight edges at even distances, as in a mosaic."""
    rng = np.random.default_rng(seed)
    place = _place(seed, int(WIDTH * 1.6), int(HEIGHT * 1.6))
    step = int(rng.uniform(26, 44))
    for y in range(40, place.shape[0] - step, step):
        for x in range(60, place.shape[1] - step, step):
            dark_pane = rng.uniform(20, 90)
            place[y : y + step * 2 // 3, x : x + step // 2] = dark_pane
    camera = str(rng.choice(["pan", "tilt", "zoom", "handheld"]))
    return Rendered(tuple(_film(rng, place, (WIDTH, HEIGHT), camera, figures=1)))


DEFECTS: dict[str, Render] = {
    "letterbox": _bars(False),
    "letterbox-dark": _bars(False, 0.25),
    "letterbox-subtitled": subtitled_letterbox,
    "pillarbox": _bars(True),
    "blurred-fill": blurred_fill,
    "static-frame": static_frame,
    "split": _split(False),
    "split-stacked": _split(True),
    "picture-in-picture": picture_in_picture,
    "subtitles": subtitles,
    "banner": banner,
    "logo": _logo(1.0, 1.0),
    "logo-faint": _logo(0.35, 0.7),
    "watermark": watermark,
    "sticker": _sticker(False),
    "sticker-jumping": _sticker(True),
    "mosaic": mosaic,
}
CLEAN: dict[str, Render] = {
    "plain": plain,
    "scene-text": scene_text,
    "dark": dark,
    "window": window,
    "columns": columns,
    "horizon": horizon,
    "soft-sides": soft_sides,
    "facade": facade,
}


def through_codec(rendered: Rendered, crf: int = 23) -> FrameBatch:
    """The frames after H.264, sampled as a clip."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "clip.mp4", rendered.frames, FPS, crf=crf)
        return read_clip(path, threads=1)


def measured(batch: FrameBatch) -> Values:
    """What both families say of a clip."""
    border = borders.measure(batch)
    over = overlays.measure(batch, border.inside, border.inset)
    return border.model_dump() | over.model_dump()


def fired(values: Values) -> frozenset[str]:
    """The measures that reach their threshold."""
    found = set()
    for name, least in FIRES.items():
        value = values[name]
        if isinstance(value, float) and value >= least:
            found.add(name)
    return frozenset(found)


def box_error(found: object, truth: Box) -> float:
    """The largest distance between edges, a fraction of the frame; none found is the
    whole frame."""
    if not isinstance(found, list):
        found = [0.0, 0.0, 1.0, 1.0]
    edges = (truth.left, truth.top, truth.right, truth.bottom)
    return max(abs(float(a) - b) for a, b in zip(found, edges))


def crop_error(values: Values, truth: Rendered) -> float | None:
    """The largest distance between the edges of the crop found and the true one, a fraction of
    the frame; 1 where only one exists, None where neither does."""
    config = CropConfig(min_width=0, min_height=0)
    over = [
        Box(*one) for name in ("text_boxes", "overlay_logo_boxes") for one in _list(values[name])
    ]
    box = values["border_box"]
    content = Box(*box) if isinstance(box, list) else WHOLE
    found = crop(content, over, WIDTH, HEIGHT, config)
    true = crop(truth.content, [*truth.text, *truth.logos], WIDTH, HEIGHT, config)
    if isinstance(found, str) or isinstance(true, str):
        return None if isinstance(found, str) and isinstance(true, str) else 1.0
    a, b = (np.array([x, y, x + w, y + h]) for x, y, w, h in (found, true))
    return float(np.max(np.abs(a - b) / [WIDTH, HEIGHT, WIDTH, HEIGHT]))


def _list(value: object) -> list[list[float]]:
    return value if isinstance(value, list) else []


def main(seed: int, each: int = 6) -> None:
    """Print precision and recall a measure over `each` renderings of every case."""
    cv2.setNumThreads(1)
    counts = {name: [0, 0, 0] for name in FIRES}
    border, cropped = [], []
    for number, (name, render) in enumerate((DEFECTS | CLEAN).items()):
        for i in range(each):
            truth = render(seed * 10_000 + 100 * number + 7 * i)
            values = measured(through_codec(truth))
            found = fired(values)
            for measure, count in counts.items():
                hit, real = measure in found, measure in truth.has
                if measure not in truth.may or real:
                    count[0] += hit and real
                    count[1] += hit and not real
                    count[2] += real and not hit
            border.append((box_error(values["border_box"], truth.content), name))
            error = crop_error(values, truth)
            if error is not None:
                cropped.append((error, name))
            wrong = (found ^ truth.has) - truth.may
            off = border[-1][0] > 0.02 or (error or 0.0) > 0.02
            if wrong or off:
                misses = [f"{one} missed" if one in truth.has else one for one in sorted(wrong)]
                error_text = "none" if error is None else f"{error:.3f}"
                print(f"{name} {i}: {', '.join(misses) or '-'};"
                      f" border off {border[-1][0]:.3f}, crop off {error_text}")  # fmt: skip
    for measure, (right, false, missed) in counts.items():
        precision, recall = right / max(1, right + false), right / max(1, right + missed)
        print(f"{measure:28} precision {precision:.3f} recall {recall:.3f} of {right + missed}")
    for label, errors in (("border_box", border), ("crop", cropped)):
        within = np.mean([error <= 0.02 for error, _ in errors])
        print(f"{label:28} within 2 % of the truth: {within:.3f} of {len(errors)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or ["1000"]))
