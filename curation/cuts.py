"""Find where a shot ends: cuts, dissolves and fades, from small pictures, one frame at a time.

PySceneDetect's detectors propose cuts, at a sensitive setting; each proposal is then checked
against what motion can explain. Two pictures of one shot show the same things, moved; two shots do
not. Gradual transitions have no single frame that a detector could propose. A dissolve is found
where the picture half way is the mean of the pictures around it although these have nothing in
common, a fade where contrast runs out.

Numbers below without another source were chosen on rendered edits (`eval.edits`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.dissolves import Dissolves
from curation.history import HISTORY, UNEXPLAINED, History, distance
from curation.looks import Look, explained

Kind = Literal["cut", "dissolve", "fade"]

LATENCY = 7
"""Frames after which a cut is decided at the latest, so that a caller holds no more than that."""

SEEN = 0.36
"""A picture of which this much is explained by one a few frames earlier shows the same."""

SEEN_LONG_AGO = 0.42
"""The same for one much earlier, which chance brings closer: there are more of them."""

FULL = 0.975
"""Part of a shot's contrast that a frame outside a fade has at least."""

SUDDEN = 0.4
"""Part of the change from some frames before it, or to some frames after it, that a cut makes."""


@dataclass(frozen=True)
class Boundary:
    """The end of one shot and the start of the next, as frame numbers.

    Frames `start` to `end` - 1 belong to neither shot; a cut has `start` == `end`, the first frame
    of the new shot. `blank_before` and `blank_after` say that there is no shot on that side, only
    one even colour: black, mostly.
    """

    kind: Kind
    start: int
    end: int
    blank_before: bool = False
    blank_after: bool = False


DETECTORS = ("adaptive", "content", "hash", "histogram", "threshold")
"""PySceneDetect's detectors (curation.detectors)."""

_PADDING = 2
"""Times that the first and the last frame are shown to the detector besides: the window of the
adaptive detector reaches two frames to either side, and cuts there would not be seen."""


def joins(boundaries: Sequence[Boundary]) -> list[Boundary]:
    """What lies between two shots, given all boundaries of a source in order.

    The two boundaries around a blank are one; one into a blank at the end of the source, or out of
    one at its start, is none.
    """
    found: list[Boundary] = []
    into: Boundary | None = None
    for at, boundary in enumerate(boundaries):
        joined = boundary
        if into is not None:
            kind: Kind = "cut" if into.kind == boundary.kind == "cut" else "fade"
            joined = replace(boundary, kind=kind, start=into.start)
        if boundary.blank_after:
            into = joined
            continue
        if into is not None or at > 0 or not boundary.blank_before:
            found.append(joined)
        into = None
    return found


class CutFinder:
    """Give it every frame of a source in order; it returns boundaries in order, a little later."""

    def __init__(self, detector: str, fps: float) -> None:
        from curation.detectors import Proposals

        self._proposals = Proposals(detector, fps)
        self._past = History()
        self._dissolves = Dissolves(self._past)
        self._last: NDArray[np.uint8] | None = None
        self._proposed: deque[int] = deque()
        self._blank: int | None = None
        """First frame of the run of blank frames that is going on."""
        self._left_blank: int | None = None
        """First frame after a blank run, while the picture is still fading in."""
        self._blank_known = False
        """Whether the end of the shot before the blank run has been reported."""

    @property
    def settled(self) -> int:
        """No boundary that is still to come starts before this frame."""
        return max(self._past.shot, self._past.next - HISTORY)

    def push(self, bgr: NDArray[np.uint8]) -> list[Boundary]:
        """Boundaries decided by the next frame, a (72, 128, 3) uint8 BGR thumbnail."""
        size = (bgr.shape[1] // 2, bgr.shape[0] // 2)
        small = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        for _ in range(_PADDING if self._last is None else 0):
            self._propose(small)
        self._propose(small)
        self._last = small
        self._past.append(Look(bgr))

        found = self._fades()
        while self._proposed and self._proposed[0] + LATENCY - 1 < self._past.next:
            found += self._cut(self._proposed.popleft())
        if self._blank is not None or self._left_blank is not None:
            self._dissolves.forget()
            return found
        dissolve = self._dissolves.step()
        return found + (self._emit(Boundary("dissolve", *dissolve)) if dissolve else [])

    def finish(self) -> list[Boundary]:
        """What is left to decide when the frames are over."""
        if self._last is None:
            return []
        for _ in range(_PADDING):
            self._propose(self._last)
        found = []
        while self._proposed:
            cut = self._proposed.popleft()
            if cut < self._past.next:
                found += self._cut(cut)
        return found + self._fades(over=True)

    def _propose(self, bgr: NDArray[np.uint8]) -> None:
        self._proposed.extend(cut - _PADDING for cut in self._proposals.push(bgr))

    def _emit(self, boundary: Boundary) -> list[Boundary]:
        self._past.shot = max(boundary.end, self._past.shot)
        # What comes after a boundary depends on nothing that came before it.
        self._dissolves = Dissolves(self._past)
        return [boundary]

    # --- cuts -------------------------------------------------------------------------------------

    def _cut(self, at: int) -> list[Boundary]:
        """The cut before frame `at`, if it is one."""
        past = self._past
        if at <= past.oldest or self._left_blank is not None:
            return []
        before, after = past.look(at - 1), past.look(at)
        if before.blank or after.blank:
            return []
        jump = distance(before, after)
        # No further, or a cut close by would count as a part of this change.
        ahead, back = min(at + 3, past.next - 1), max(at - 4, past.oldest)
        whole = max(distance(before, past.look(ahead)), distance(past.look(back), after))
        if jump < SUDDEN * whole:
            return []
        # Where nothing moves, motion is no excuse for a change.
        still = past.still(at, jump)
        across = explained(before, after, still)
        if across >= UNEXPLAINED:
            return []
        if across >= past.usual(range(at - 1, at - 5, -1), jump):
            return []
        if across >= past.usual(range(at + 1, at + 5), jump):
            return []
        # A flash, a glitch: what was there before comes back.
        for later in range(at + 2, min(at + LATENCY, past.next), 2):
            if explained(before, past.look(later), still) >= SEEN:
                return []
        # ... or has come back: the new picture has been seen in this very shot.
        for ago in (2, 4, 6, 12, 24, 48):
            if at - ago < past.oldest:
                break
            enough = SEEN if ago < LATENCY else SEEN_LONG_AGO
            if explained(past.look(at - ago), after, still) >= enough:
                return []
        return self._emit(Boundary("cut", at, at))

    # --- fades ------------------------------------------------------------------------------------

    def _fades(self, over: bool = False) -> list[Boundary]:
        """Ends of shots where the picture goes blank, and starts where it comes back."""
        now = self._past.next - 1
        look = self._past.look(now)
        if self._left_blank is not None:
            return self._faded_in(self._left_blank, now, over)
        if look.blank and self._blank is None:
            self._blank, self._blank_known = now, self._past.shot == now == 0
        if self._blank is None:
            return []
        found: list[Boundary] = []
        if look.blank and (now - self._blank >= LATENCY - 1 or over) and not self._blank_known:
            found = self._faded_out(self._blank)
        elif not look.blank:
            first, self._blank = self._blank, None
            if not self._blank_known and first > self._past.oldest:
                if explained(self._past.look(first - 1), look) >= UNEXPLAINED:
                    return []
                found = self._faded_out(first)
            self._left_blank = now
        return found

    def _faded_out(self, blank: int) -> list[Boundary]:
        """The boundary into the blank frames from `blank` on."""
        past = self._past
        self._blank_known = True
        start = blank
        while start - 4 >= past.oldest and _falls(past.look(start - 4), past.look(start - 1)):
            start -= 1
        # Three frames were compared: the fall began with the first that lost contrast.
        level = past.look(max(start - 4, past.oldest)).contrast
        start = max(start - 4, past.oldest) + 1
        while start < blank and past.look(start).contrast > FULL * level:
            start += 1
        kind: Kind = "fade" if start < blank else "cut"
        return self._emit(Boundary(kind, start, blank, blank_after=True))

    def _faded_in(self, first: int, now: int, over: bool) -> list[Boundary]:
        """The boundary out of the blank frames before `first`, once contrast has stopped rising."""
        past = self._past
        look = past.look(now)
        if look.blank:
            self._left_blank, self._blank, self._blank_known = None, first, True
            return []
        rising = now < first + 3 or _falls(look, past.look(now - 3))
        if rising and not over and now - first < HISTORY - LATENCY:
            return []
        self._left_blank = None
        end = now
        while end > first and past.look(end - 1).contrast > FULL * look.contrast:
            end -= 1
        start = 0 if past.shot == 0 else first
        kind: Kind = "fade" if end > start else "cut"
        return self._emit(Boundary(kind, start, end, blank_before=True))


def _falls(before: Look, after: Look) -> bool:
    """Whether contrast falls between two frames as it does in a fade."""
    return after.contrast < 0.96 * before.contrast
