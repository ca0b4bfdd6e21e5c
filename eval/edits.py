"""Rendered edits: shots joined by cuts, dissolves and fades, with the things inside a shot that
detectors take for one. Every boundary is known to the frame, and the same seed renders the same
pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from captioner.decode import open_video
from eval.scenes import HEIGHT, WIDTH, Look, Source, clip, portrait, scene
from eval.synth import Rgb, still, write_video

RATES = (24.0, 25.0, 30.0, 60.0)

JOINS = ("cut", "similar", "close", "dissolve", "fade_black", "fade_white")
"""What joins two shots: a cut; a cut between two much alike portraits; a cut 4 to 12 frames after
the one before; a dissolve of 8 to 40 frames; a fade through black or white."""

DECOYS = ("none", "flash", "exposure", "whip", "subject", "text", "shake", "glitch", "strobe")
"""What happens inside a shot: a flash of 1 to 3 frames; a jump or ramp of the exposure; a whip pan;
a close subject that crosses the picture; a caption that appears; a handheld camera; a few frames
with a broken part; a flickering light."""


@dataclass(frozen=True)
class Event:
    """Frames `start` to `end` - 1 of an edit: a member of JOINS (boundary) or of DECOYS.

    A cut has `start` == `end`, the first frame of the new shot.
    """

    name: str
    start: int
    end: int

    @property
    def boundary(self) -> bool:
        """Whether a shot ends here."""
        return self.name in JOINS


@dataclass(frozen=True)
class Edit:
    """A rendered edit: `times` in seconds, one a frame, where the frame rate is variable."""

    frames: Callable[[], Iterator[Rgb]]
    fps: float
    times: tuple[float, ...] | None
    events: tuple[Event, ...]

    def write(self, path: Path, crf: int = 23) -> Path:
        """Encode it with x264."""
        return write_video(path, self.frames(), self.fps, times=self.times, crf=crf)


@dataclass(frozen=True)
class _Shot:
    source: Source
    length: int
    decoy: str
    join: str
    """How it comes in."""
    overlap: int
    """Frames of the transition that it comes in with."""


def render(seed: int, footage: Sequence[Sequence[Rgb]] = ()) -> Edit:
    """An edit of 5 to 8 shots; where `footage` (clips without cuts) is given, the pictures are its.

    Two in three shots are at most 3 s long, so that a set of some hundred edits stays small.
    """
    rng = np.random.default_rng(seed)
    fps = float(rng.choice(RATES))
    look = Look(rng)
    shots: list[_Shot] = []
    clips = [footage[i] for i in rng.permutation(len(footage))]
    for number in range(int(rng.integers(5, 9))):
        join = str(rng.choice(JOINS, p=(0.36, 0.16, 0.12, 0.2, 0.1, 0.06))) if number else "cut"
        if join == "close" and shots[-1].join in ("dissolve", "fade_black", "fade_white"):
            join = "cut"
        decoy = str(rng.choice(DECOYS)) if rng.random() < 0.7 else "none"
        overlap = 0
        if join == "dissolve":
            overlap = int(rng.integers(8, 41))
        elif join.startswith("fade"):
            overlap = int(rng.integers(10, 41))
        length = int(fps * rng.uniform(1.2, 3.0))
        source: Source
        if clips:
            source = clip(clips[number % len(clips)], mirrored=False)
            if join == "similar":
                source = clip(clips[(number - 1) % len(clips)], mirrored=True)
        elif join == "similar" and number:
            pair = int(rng.integers(1 << 30))
            shots[-1] = replace(shots[-1], source=portrait(pair, 0, fps))
            source = portrait(pair, 1, fps)
        else:
            source = scene(int(rng.integers(1 << 30)), fps, decoy)
        if join == "close":
            shots[-1] = replace(shots[-1], length=int(rng.integers(4, 13)), decoy="none")
        shots.append(_Shot(source, length, decoy, join, overlap))
    # A shot must outlast the transitions at both of its ends.
    for i, shot in enumerate(shots):
        after = shots[i + 1].overlap if i + 1 < len(shots) else 0
        if shot.length < 12 and after:
            shots[i + 1] = replace(shots[i + 1], join="cut", overlap=0)

    events, plan = _layout(shots, rng, fps)
    total = sum(shot.length for shot in shots) + sum(shot.overlap for shot in shots)
    times = None
    if rng.random() < 0.25:
        steps = rng.choice((0.5, 1.0, 1.0, 2.0), total) / fps
        times = tuple(float(t) for t in np.cumsum(steps) - steps[0])

    def frames() -> Iterator[Rgb]:
        for i, make in enumerate(plan):
            yield look.finish(make(), i)

    return Edit(frames, fps, times, events)


def load_footage(folder: Path, names: Sequence[str], most: int = 150) -> list[list[Rgb]]:
    """The first frames of each named file, (HEIGHT, WIDTH, 3) RGB, `most` at most."""
    clips = []
    for name in names:
        with open_video(folder / name) as video:
            taken: list[Rgb] = []
            for frame in video.frames():
                if len(taken) == most:
                    break
                picture = frame.picture().rgb
                small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                taken.append(np.asarray(small, np.uint8))
            clips.append(taken)
    return clips


def _layout(
    shots: Sequence[_Shot], rng: np.random.Generator, fps: float
) -> tuple[tuple[Event, ...], list[Callable[[], Rgb]]]:
    """The events in order, and for each frame what renders it."""
    events: list[Event] = []
    plan: list[Callable[[], Rgb]] = []
    after = shots[0].source
    for i, shot in enumerate(shots):
        start = len(plan)
        if i:
            events.append(Event(shot.join, start, start + shot.overlap))
        before, ending = shots[i - 1], after
        for j in range(shot.overlap):
            old = (ending, before.length + before.overlap + j)
            share = (j + 1) / (shot.overlap + 1)
            plan.append(_mix(shot.join, old, (shot.source, j), share))
        act, length = _decoy(shot.decoy, shot.length, rng, fps)
        after = shot.source
        if act is not None:
            after = _left(act, shot.source) if act.lasting else after
            begin = len(plan) + int(rng.integers(6, max(7, shot.length - length - 6)))
            events.append(Event(shot.decoy, begin, begin + length))
        for j in range(shot.length):
            now = len(plan)
            step: Callable[[], Rgb] = _bind(shot.source, shot.overlap + j)
            if act is not None and now >= begin and (now < begin + length or act.lasting):
                step = _acted(act.apply, step, now - begin)
            plan.append(step)
    return tuple(events), plan


def _bind(source: Source, index: int) -> Callable[[], Rgb]:
    return lambda: source(index)


def _left(act: _Act, source: Source) -> Source:
    """The source as an act that lasts leaves it."""
    return lambda index: act.apply(source(index), 1000)


def _acted(
    apply: Callable[[Rgb, int], Rgb], step: Callable[[], Rgb], index: int
) -> Callable[[], Rgb]:
    return lambda: apply(step(), index)


def _mix(
    join: str, old: tuple[Source, int], new: tuple[Source, int], share: float
) -> Callable[[], Rgb]:
    def mixed() -> Rgb:
        if join == "dissolve":
            a, b = old[0](old[1]), new[0](new[1])
            return np.asarray(cv2.addWeighted(a, 1 - share, b, share, 0), np.uint8)
        level = 0.0 if join == "fade_black" else 255.0
        # Out over the first 45 %, at the level for a tenth, in over the rest.
        source, index = old if share < 0.5 else new
        weight = min(1.0, max(0.0, (abs(share - 0.5) - 0.05) / 0.45))
        return np.asarray(source(index) * weight + level * (1 - weight), np.uint8)

    return mixed


# --- what happens inside a shot -------------------------------------------------------------------


@dataclass(frozen=True)
class _Act:
    apply: Callable[[Rgb, int], Rgb]
    lasting: bool = False


def _decoy(name: str, length: int, rng: np.random.Generator, fps: float) -> tuple[_Act | None, int]:
    """What `name` does to a frame of a shot, and over how many frames."""
    if length < 24:
        return None, 0
    seed = int(rng.integers(1 << 30))
    if name == "flash":
        n = int(rng.integers(1, 4))
        light = float(rng.uniform(0.5, 1.0))
        return _Act(lambda f, _: _shade(f, 1 - 0.8 * light, 250 * light)), n
    if name == "exposure":
        gain = float(rng.choice((0.45, 0.6, 1.5, 1.9)))
        ramp = int(rng.choice((1, 1, 3, 6)))
        return _Act(lambda f, i: _shade(f, 1 + (gain - 1) * min(1, (i + 1) / ramp), 0), True), ramp
    if name == "whip":
        n = max(3, int(fps * rng.uniform(0.12, 0.35)))
        step = float(rng.choice((-1, 1))) * rng.uniform(0.7, 1.6) * WIDTH / n
        return _Act(lambda f, i: _roll(f, step * min(i + 1, n), step if i < n else 0), True), n
    if name == "subject":
        n = max(4, int(fps * rng.uniform(0.2, 0.7)))
        body = still(seed, WIDTH, HEIGHT)
        return _Act(lambda f, i: _passer(f, body, (i + 1) / (n + 1))), n
    if name == "text":
        place = (int(rng.integers(5, 60)), int(rng.integers(40, HEIGHT - 10)))
        scale = float(rng.uniform(0.6, 1.6))
        return _Act(lambda f, _: _text(f, place, scale)), int(rng.integers(12, length - 10))
    if name == "glitch":
        n = int(rng.integers(1, 4))
        return _Act(lambda f, i: _broken(f, seed + i)), n
    if name == "strobe":
        n = min(length - 14, int(fps))
        gains = np.random.default_rng(seed).uniform(0.5, 1.4, n)
        return _Act(lambda f, i: _shade(f, float(gains[i]), 0)), n
    return None, 0  # "none", and "shake", which is the camera's


def _shade(frame: Rgb, gain: float, offset: float) -> Rgb:
    return np.asarray(cv2.convertScaleAbs(frame, alpha=gain, beta=offset), np.uint8)


def _roll(frame: Rgb, shift: float, blur: float) -> Rgb:
    """The picture turned about the camera, with motion blur over half the step."""
    mirrored = np.hstack([frame, frame[:, ::-1]])
    rolled = np.roll(mirrored, round(shift), axis=1)[:, :WIDTH]
    width = max(1, int(abs(blur) / 2))
    return np.asarray(cv2.blur(np.ascontiguousarray(rolled), (width, 1)), np.uint8)


def _passer(frame: Rgb, body: Rgb, share: float) -> Rgb:
    """A textured figure that hides up to two thirds of the picture on its way through it."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    centre = (int((share * 1.9 - 0.45) * WIDTH), int(HEIGHT * 0.6))
    cv2.ellipse(mask, centre, (WIDTH // 3, int(HEIGHT * 0.6)), 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.blur(mask, (15, 3)), np.float32)[..., None]
    moved = np.roll(body, centre[0] - WIDTH // 2, axis=1)
    return np.asarray(frame * (1 - mask) + moved * mask, np.uint8)


def _text(frame: Rgb, place: tuple[int, int], scale: float) -> Rgb:
    out = frame.copy()
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(out, "BREAKING NEWS", place, font, scale, (250, 250, 250), 2, cv2.LINE_AA)
    return out


def _broken(frame: Rgb, seed: int) -> Rgb:
    """Rows of blocks out of place below some line, as after a lost packet."""
    rng = np.random.default_rng(seed)
    out = frame.copy()
    for row in range(int(rng.integers(1, 6)) * 16, HEIGHT, 16):
        out[row : row + 16] = np.roll(out[row : row + 16], int(rng.integers(-60, 60)), axis=1)
    return out
