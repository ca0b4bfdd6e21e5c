"""One decode of a source: its shots, each with exact bounds and a bounded sample of its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captioner.decode import open_video
from captioner.frames import ClipSampler, FrameBatch, one_thread
from captioner.video import Frame, Video, VideoInfo
from curation.cuts import DETECTORS, LATENCY, Boundary, CutFinder, Kind
from curation.looks import HEIGHT, WIDTH

Thumbnail = NDArray[np.uint8]
GapKind = Kind | Literal["split"]

TIMELINE = 1024
"""Timestamps kept, in frames: more than the longest transition that `CutFinder` reports late."""

IN_A_ROW, IN_A_ROW_PIXELS = 8, 1 << 22
"""Frames decoded in a row before cuts are looked for, or pixels after which no more are: a tenth
less CPU at 480p; at 1080p, where decoding is nearly all, it makes no difference."""

PART = 0.8
"""Part of the maximum length at which a long shot is divided: what is left over then is either
longer than 0.2 of it or fits in with the part before."""


@dataclass(frozen=True)
class ScanConfig:
    """How a source is split.

    `detector` is one of `DETECTORS`, or "none" to leave the source whole. A piece shorter than
    `min_shot` seconds is not a shot: its frames count to the transition between its neighbours.
    A shot longer than `max_shot` seconds is split into parts of 0.8 `max_shot`; what is left at
    the end stays with the last part while both together fit into `max_shot`. `window`, in seconds,
    keeps more frames of a long shot (see captioner.frames.ClipSampler).
    """

    detector: str = "adaptive"
    min_shot: float = 0.25
    max_shot: float | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        if self.detector != "none" and self.detector not in DETECTORS:
            raise ValueError(f"detector {self.detector!r} is none of none, {', '.join(DETECTORS)}")
        if self.min_shot < 0:
            raise ValueError(f"min_shot must not be negative, not {self.min_shot}")
        if self.max_shot is not None and self.max_shot <= max(0.0, 2 * self.min_shot):
            raise ValueError(f"max_shot must be over twice min_shot, not {self.max_shot}")


@dataclass(frozen=True)
class Transition:
    """What lies between two shots: frames `first_frame` to `first_frame + frames` - 1, none for a
    plain cut, and their time from `start_pts` up to `end_pts`, in ticks.

    `kind` is cut, dissolve, fade, or split where a long shot was divided by its length alone.
    """

    kind: GapKind
    first_frame: int
    frames: int
    start_pts: int
    end_pts: int


@dataclass(frozen=True)
class Shot:
    """Consecutive frames of one camera take, frames `first_frame` to `first_frame + frames` - 1.

    `start_pts` is its first frame's timestamp, `end_pts` the first one after it (that of the next
    frame, or its last frame's plus duration where the file ends), both in ticks of `time_base`
    seconds. `transition_in` is what comes before it, None where the file begins. `batch` holds
    pictures of this shot only.
    """

    index: int
    first_frame: int
    frames: int
    start_pts: int
    end_pts: int
    time_base: Fraction
    batch: FrameBatch
    transition_in: Transition | None

    @property
    def start(self) -> float:
        """Seconds."""
        return float(self.start_pts * self.time_base)

    @property
    def end(self) -> float:
        """Seconds, exclusive."""
        return float(self.end_pts * self.time_base)


class Scan:
    """An open source: iterate once for its shots.

    `info` is what the container says. While iterating, `warnings` fills with what is wrong with
    the file, `transitions` with everything that lies between shots, before the first one or after
    the last, and `boundaries` with all that the detector found, pieces under the minimum included.
    `on_frame`, if set, is called for every decoded frame.
    """

    def __init__(self, video: Video, config: ScanConfig) -> None:
        self._video = video
        self._config = config
        self.info: VideoInfo = self._video.info
        self.warnings: list[str] = self._video.warnings
        self.transitions: list[Transition] = []
        self.boundaries: list[Boundary] = []
        self.on_frame: Callable[[], None] | None = None

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which iterating to the end does too."""
        self._video.__exit__()

    def __iter__(self) -> Iterator[Shot]:
        cutter = _Cutter(self.info, self._config, self.transitions)
        finder, offset, size = None, 0, (0, 0)
        with self._video, one_thread():
            for frame, thumbnail in self._decoded():
                found: list[Boundary] = []
                if thumbnail is not None and frame.size != size:
                    if finder is not None:
                        found += _shift(finder.finish(), offset)
                        found.append(Boundary("cut", frame.index, frame.index))
                    finder, offset, size = self._finder(), frame.index, frame.size
                if finder is not None and thumbnail is not None:
                    found += _shift(finder.push(thumbnail), offset)
                settled = frame.index + 1 if finder is None else finder.settled + offset
                self.boundaries += found
                yield from cutter.push(frame, found, settled)
            found = [] if finder is None else _shift(finder.finish(), offset)
            self.boundaries += found
            yield from cutter.finish(found)

    def _decoded(self) -> Iterator[tuple[Frame, Thumbnail | None]]:
        """The frames, each with its thumbnail where cuts are looked for, a few decoded in a row:
        decoder and detector in turn would drive each other out of the CPU's caches."""
        blind = self._config.detector == "none"
        decoded: list[tuple[Frame, Thumbnail | None]] = []
        pixels = 0
        for frame in self._video.frames():
            if self.on_frame is not None:
                self.on_frame()
            decoded.append((frame, None if blind else frame.thumbnail(WIDTH, HEIGHT)))
            pixels += frame.size[0] * frame.size[1]
            if len(decoded) == IN_A_ROW or pixels >= IN_A_ROW_PIXELS:
                yield from decoded
                decoded, pixels = [], 0
        yield from decoded

    def _finder(self) -> CutFinder:
        return CutFinder(self._config.detector, self.info.fps)


def scan(path: Path, config: ScanConfig | None = None, threads: int = 0) -> Scan:
    """Open a source to be split into shots; `threads` for decoding, 0 for as many as it likes.

    Raises UnreadableVideoError when no decoder reads it.
    """
    return Scan(open_video(path, threads), config or ScanConfig())


def _shift(boundaries: list[Boundary], by: int) -> list[Boundary]:
    return [replace(b, start=b.start + by, end=b.end + by) for b in boundaries]


class _Piece:
    """Frames between two boundaries, sampled as they go by."""

    def __init__(self, first: Frame, fps: float, window: float | None) -> None:
        self.first_frame = first.index
        self.start_pts = first.pts
        self.sampler = ClipSampler(fps, window)


@dataclass(frozen=True)
class _Gap:
    """The transition that the next shot will come out of, as far as it has been seen."""

    kind: GapKind
    first_frame: int
    start_pts: int


class _Cutter:
    """Turns frames and boundaries into shots.

    A few decoded frames are held back, because a boundary is known only after some more frames
    have been seen; each frame that leaves goes to the sampler of the piece that it belongs to.
    """

    def __init__(self, info: VideoInfo, config: ScanConfig, transitions: list[Transition]) -> None:
        self._info = info
        self._config = config
        self._transitions = transitions
        self._held: deque[Frame] = deque()
        self._boundaries: deque[Boundary] = deque()
        self._timeline: deque[tuple[int, int]] = deque(maxlen=TIMELINE)
        self._parts: list[_Piece] = []
        self._gap: _Gap | None = None
        self._first: tuple[int, int] | None = None
        self._end = (0, 0)
        self._in_blank = False
        self._shots = 0
        self._longest_short: Shot | None = None

    def push(self, frame: Frame, found: list[Boundary], settled: int) -> Iterator[Shot]:
        """The shots that are complete now that `frame` has been seen."""
        self._boundaries.extend(found)
        self._held.append(frame)
        self._timeline.append((frame.index, frame.pts))
        self._first = self._first or (frame.index, frame.pts)
        self._end = (frame.index + 1, frame.pts + frame.duration)
        while len(self._held) > LATENCY:
            yield from self._release(self._held.popleft(), settled)

    def finish(self, found: list[Boundary]) -> Iterator[Shot]:
        """The shots that are left when the frames are over."""
        self._boundaries.extend(found)
        while self._held:
            yield from self._release(self._held.popleft(), self._end[0])
        for boundary in self._boundaries:
            yield from self._end_at(boundary)
        if self._in_blank:
            self._parts.clear()
        yield from self._end_shot("cut", self._end[0])
        if self._shots == 0 and self._longest_short is not None:
            yield self._only(self._longest_short)
        elif self._gap is not None and self._gap.first_frame < self._end[0]:
            self._transitions.append(self._transition(self._gap, *self._end))

    def _release(self, frame: Frame, settled: int) -> Iterator[Shot]:
        while self._boundaries and frame.index >= self._boundaries[0].start:
            boundary = self._boundaries[0]
            yield from self._end_at(boundary)
            if frame.index < boundary.end:
                return
            self._boundaries.popleft()
        if not self._parts or self._over(self._parts[-1], frame.pts, PART):
            self._parts.append(_Piece(frame, self._info.fps, self._config.window))
        # What is left of a shot may still belong to the part before.
        end = frame.pts + frame.duration
        near = [p.sampler for p in self._parts[-2:-1] if not self._over(p, end)]
        for sampler in [*near, self._parts[-1].sampler]:
            sampler.offer(frame)
        while len(self._parts) > 1 and self._over(self._parts[0], end):
            if settled < self._parts[1].first_frame:
                break
            yield from self._end_part()

    def _over(self, piece: _Piece, end_pts: int, part: float = 1.0) -> bool:
        """Whether a piece, ended there, is longer than that part of the maximum."""
        if self._config.max_shot is None:
            return False
        seconds = (end_pts - piece.start_pts) * self._info.time_base
        return seconds > part * self._config.max_shot

    def _end_part(self) -> Iterator[Shot]:
        """End the first part where the second one starts."""
        piece, following = self._parts[0], self._parts[1]
        del self._parts[0]
        yield from self._end_piece("split", piece, following.first_frame, following.start_pts)

    def _end_at(self, boundary: Boundary) -> Iterator[Shot]:
        """End the shot before a boundary; a blank piece is no shot, as it shows nothing."""
        if self._parts and (self._in_blank or boundary.blank_before):
            self._open_gap(boundary.kind, self._parts[0].first_frame, self._parts[0].start_pts)
            self._parts.clear()
        yield from self._end_shot(boundary.kind, boundary.start)
        self._in_blank = boundary.blank_after

    def _end_shot(self, kind: Kind, at: int) -> Iterator[Shot]:
        """End the shot before frame `at`, in as many parts as it takes."""
        pts = self._pts(at)
        while len(self._parts) > 1 and (
            self._parts[-1].first_frame >= at or not self._over(self._parts[-2], pts)
        ):
            self._parts.pop()
        while len(self._parts) > 1:
            yield from self._end_part()
        if self._parts and self._parts[0].first_frame < at:
            yield from self._end_piece(kind, self._parts[0], at, pts)
        self._parts.clear()
        self._open_gap(kind, at, pts)

    def _end_piece(self, kind: GapKind, piece: _Piece, end: int, end_pts: int) -> Iterator[Shot]:
        """The piece as a shot, or as a part of the transition where it is too short for one."""
        shot = self._shot(piece, end, end_pts)
        if shot.end - shot.start >= self._config.min_shot:
            if shot.transition_in is not None:
                self._transitions.append(shot.transition_in)
            self._shots += 1
            self._gap = None
            self._open_gap(kind, end, end_pts)
            yield shot
            return
        self._open_gap(kind, piece.first_frame, piece.start_pts)
        longest = self._longest_short
        if self._shots == 0 and (longest is None or shot.frames > longest.frames):
            self._longest_short = shot

    def _open_gap(self, kind: GapKind, first_frame: int, start_pts: int) -> None:
        """Begin a transition, or name one that goes on after its most gradual part."""
        if self._gap is None:
            self._gap = _Gap(kind, first_frame, start_pts)
        elif self._gap.kind == "cut":
            self._gap = replace(self._gap, kind=kind)

    def _shot(self, piece: _Piece, end: int, end_pts: int) -> Shot:
        base = self._info.time_base
        start_s, end_s = float(piece.start_pts * base), float(end_pts * base)
        frames = end - piece.first_frame
        batch = piece.sampler.batch(start_s, end_s)
        start, start_pts = piece.first_frame, piece.start_pts
        return Shot(
            index=self._shots,
            first_frame=piece.first_frame,
            frames=frames,
            start_pts=piece.start_pts,
            end_pts=end_pts,
            time_base=base,
            batch=replace(batch, fps=frames / (end_s - start_s)),
            transition_in=self._transition(self._gap, start, start_pts) if self._gap else None,
        )

    def _only(self, shot: Shot) -> Shot:
        """The longest piece of a source that has none of the minimum length."""
        if self._first is not None and shot.first_frame > self._first[0]:
            before = _Gap("cut", *self._first)
            shot = replace(
                shot, transition_in=self._transition(before, shot.first_frame, shot.start_pts)
            )
            self._transitions.append(self._transition(before, shot.first_frame, shot.start_pts))
        if shot.first_frame + shot.frames < self._end[0]:
            after = _Gap("cut", shot.first_frame + shot.frames, shot.end_pts)
            self._transitions.append(self._transition(after, *self._end))
        return shot

    @staticmethod
    def _transition(gap: _Gap, end: int, end_pts: int) -> Transition:
        return Transition(gap.kind, gap.first_frame, end - gap.first_frame, gap.start_pts, end_pts)

    def _pts(self, index: int) -> int:
        """The timestamp of a frame among the last `TIMELINE`, or the end of the last one."""
        if index >= self._end[0]:
            return self._end[1]
        return self._timeline[index - self._timeline[0][0]][1]
