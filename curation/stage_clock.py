"""CPU-seconds of this process by the stage that it was in."""

from __future__ import annotations

import time
from collections import defaultdict


class StageClock:
    """Is told each stage as it begins; `spent` is CPU-seconds by stage, up to the last one's
    beginning or `stop`."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._stage: str | None = None
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """The stage that begins now ends the one before."""
        self.stop()
        self._stage = stage

    def stop(self) -> None:
        """End the stage."""
        now = time.process_time()
        if self._stage is not None:
            self.spent[self._stage] += now - self._since
        self._stage, self._since = None, now
