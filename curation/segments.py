"""Scan a long film in segments, at the same time, with the same shots as one scan of the whole.

A segment's shots are those that begin in it. Its scan begins some frames before it, because what a
cut is depends on the frames before, and ends with the first shot that begins behind it. That shot
is also the first that a later segment has; where two segments agree on it, they agree on what comes
after it, for the state of the cut finder after a boundary depends on nothing before it. So
`check_seams` tells whether the segments together give what one scan gives; where it raises, the
source is to be scanned as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from captioner.containers import open_container, video_stream
from captioner.decode import open_video
from captioner.decode_pyav import Position, open_pyav
from captioner.video import MAX_SOURCE_FRAMES, Frame, UnreadableVideoError, Video, VideoInfo
from curation.cuts import LATENCY
from curation.history import HISTORY
from curation.scan import Scan, ScanConfig, Shot, Transition

WARM_UP = (2 * HISTORY, 16 * HISTORY)
"""Frames before a segment that are scanned first: enough to fill the finder's memory twice. The
second where the first has no shot, because it is black from end to end."""

TWO = 1.5
"""Length of a source, in segments, from which it is divided: rounded, it is two of them."""

_UNTIMED = ("avi",)
"""Containers that keep no timestamps; which are made up depends on where one begins to read."""


class SeamError(Exception):
    """The segments of a source do not fit together: it must be scanned as a whole."""


@dataclass(frozen=True)
class Segment:
    """A part of a source: shots that begin at frames `start` up to `end`, or up to the source's
    end where that is None.

    `warm` are the frames at which decoding may begin, nearest first; without any, it begins where
    the source does.
    """

    start: int
    end: Position | None
    warm: tuple[Position, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is the whole source."""
        return self.start == 0 and self.end is None


@dataclass(frozen=True)
class Seam:
    """Where a shot begins, and out of what."""

    first_frame: int
    start_pts: int
    transition_in: Transition | None


@dataclass(frozen=True)
class Seams:
    """The first shot of a segment, and the first one behind it that its scan came to; None where
    there is none."""

    first: Seam | None
    following: Seam | None


def segments(path: Path, seconds: float) -> list[Segment]:
    """Divide a source into equal segments of about `seconds`.

    A source that is short, or whose packets do not say when each frame is shown, is one segment;
    so is one that cannot be read, which is for the scan to tell. All packets of a longer one are
    read, none is decoded. Raises ValueError where `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds}")
    try:
        times, time_base = _timestamps(path, TWO * seconds)
    except (av.FFmpegError, UnreadableVideoError, UnicodeError, ValueError, OSError):
        return [Segment(0, None)]
    count = round((times[-1] - times[0]) * float(time_base) / seconds) if len(times) else 0
    marks = [times[0] + (times[-1] - times[0]) * i / count for i in range(1, count)]
    at = sorted({int(i) for i in np.searchsorted(times, marks)})
    starts = [start for start in at if start > WARM_UP[0]]
    found = []
    for start, end in zip([0, *starts], [*starts, None]):
        warm = [start - frames for frames in WARM_UP if start > frames]
        found.append(
            Segment(
                start,
                None if end is None else Position(times[end], end),
                tuple(Position(times[i], i) for i in warm),
            )
        )
    return found


def _timestamps(path: Path, longer: float) -> tuple[list[int], Fraction]:
    """The timestamps of all frames, in order. Raises ValueError where they are not known, or the
    container says that it is not `longer` than these seconds."""
    with open_container(path) as container:
        stream = video_stream(container)
        if container.duration is not None and container.duration < longer * av.time_base:
            raise ValueError("it is one segment")
        if container.format.name in _UNTIMED or stream.time_base is None:
            raise ValueError("this container keeps no timestamps")
        times: list[int] = []
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None or len(times) == MAX_SOURCE_FRAMES:
                raise ValueError("not every packet has a timestamp")
            times.append(packet.pts)
        if len(set(times)) < len(times):
            raise ValueError("two packets have one timestamp")
        return sorted(times), stream.time_base


class SegmentScan:
    """Iterate once for the shots of a segment, in order; `Shot.index` counts from 0.

    Raises SeamError where the frames are not those that the packets announced. Afterwards `seams`
    says what the segment borders on, and `warnings` what is wrong with the file.
    """

    def __init__(self, path: Path, segment: Segment, config: ScanConfig, threads: int) -> None:
        self._path = path
        self._segment = segment
        self._config = config
        self._threads = threads
        self.info: VideoInfo
        self.seams = Seams(None, None)
        self.warnings: list[str] = []
        self.on_frame: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[Shot]:
        for begin in (*self._segment.warm, None):
            try:
                yield from self._shots(begin)
                return
            except _TooLateError:
                continue

    def _shots(self, begin: Position | None) -> Iterator[Shot]:
        """The segment's shots; raises _TooLateError, before any, where decoding has to begin
        earlier."""
        segment = self._segment
        if segment.whole:
            video = open_video(self._path, self._threads)
        else:
            video = open_pyav(self._path, self._threads, at=begin)
        watched = _Watched(video, segment)
        first: Seam | None = None
        take: Seam | None = None
        with Scan(
            Video(video.info, iter(watched), video.warnings, video.__exit__), self._config
        ) as scan:
            watched.scan = scan
            self.info, scan.on_frame = scan.info, self.on_frame
            for shot in scan:
                # The parts of a long shot belong to the segment that it begins in.
                if take is None or shot.transition_in is None or shot.transition_in.kind != "split":
                    if take is None and begin is not None and shot.first_frame >= segment.start:
                        raise _TooLateError
                    take = Seam(shot.first_frame, shot.start_pts, shot.transition_in)
                if watched.stopped:
                    break
                if segment.end is not None and take.first_frame >= segment.end.index:
                    self.seams = Seams(first, take)
                    self.warnings = list(scan.warnings)
                    return
                if take.first_frame >= segment.start:
                    first = first or take
                    yield shot
            self.seams = Seams(first, None)
            self.warnings = list(scan.warnings)


class _TooLateError(Exception):
    """No shot ends before the segment."""


class _Watched:
    """The frames of a segment's scan; they stop once it is known that none of its shots begins."""

    def __init__(self, video: Video, segment: Segment) -> None:
        self._video = video
        self._segment = segment
        self.scan: Scan | None = None
        self.stopped = False

    def __iter__(self) -> Iterator[Frame]:
        start, end = self._segment.start, self._segment.end
        seen = None
        for frame in self._video.frames():
            seen = frame.index
            if end is not None and seen == end.index and frame.pts != end.pts:
                raise SeamError(f"frame {seen} has timestamp {frame.pts}, not {end.pts}")
            yield frame
            if end is not None and seen > end.index + HISTORY + LATENCY and not self._began(start):
                self.stopped = True
                return
        if end is not None and (seen is None or seen < end.index):
            raise SeamError(f"the frames end before number {end.index}")

    def _began(self, start: int) -> bool:
        """Whether there is a boundary in the segment or behind it."""
        found = self.scan.boundaries if self.scan is not None else []
        return start == 0 or bool(found and found[-1].end >= start)


def scan_segment(
    path: Path, segment: Segment, config: ScanConfig | None = None, threads: int = 0
) -> SegmentScan:
    """Scan one segment; iterating raises UnreadableVideoError when the source cannot be read."""
    return SegmentScan(path, segment, config or ScanConfig(), threads)


def check_seams(parts: Sequence[tuple[Segment, Seams]]) -> None:
    """Whether the segments of a source, all in order, give what one scan gives. Raises SeamError.

    Every shot that a segment came to behind its end must be the first of the segment it begins in.
    """
    expected: Seam | None = None
    for number, (segment, seams) in enumerate(parts):
        if number and seams.first is not None and seams.first != expected:
            raise SeamError(f"segment {number} begins with {seams.first}, not {expected}")
        if number and seams.first is None and expected is not None:
            inside = segment.end is None or expected.first_frame < segment.end.index
            if inside:
                raise SeamError(f"segment {number} has no shot at {expected}")
        if number == 0 or seams.first is not None:
            expected = seams.following
