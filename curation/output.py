"""The output folder: the ledger, and the files made from it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.export import write_csv, write_jsonl
from curation.ledger import Ledger, Row, replacing, sweep
from curation.report import write_report
from curation.sources import Hashes

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]


class OutputInUseError(Exception):
    """Another run is writing to the folder."""


@dataclass(frozen=True)
class Output:
    """Where things are written; nothing is written anywhere else, but for sidecars on request."""

    folder: Path

    @property
    def ledger(self) -> Ledger:
        """The rows."""
        return Ledger(self.folder / "ledger", self.folder / "state")

    @property
    def hashes(self) -> Hashes:
        """The sha256 of files seen before."""
        return Hashes(self.folder / "state" / "hashes.json")

    @property
    def remote_inputs(self) -> Path:
        """The sha256 of remote videos seen before; of use to whoever goes on elsewhere."""
        return self.folder / "inputs.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def clips(self) -> Path:
        """The folder of the kept clips."""
        return self.folder / "clips"

    def preview(self, clip: str) -> Path:
        """A clip's strip of small frames, JPEG."""
        return self.folder / "previews" / clip[:2] / f"{clip}.jpg"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out and clear away what a killed one left half-written.

        Raises OutputInUseError, and OSError when the folder cannot be written.
        """
        state = self.folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        with (state / "lock").open("w") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise OutputInUseError(f"another run is writing to {self.folder}") from None
            folders = (self.folder, state, self.ledger.folder, self.clips)
            for folder in (*folders, *self.folder.glob("previews/*")):
                sweep(folder)
            yield

    def rows(self) -> list[Row]:
        """Every row, by source and time."""
        return sorted(self.ledger.rows(), key=lambda row: (row.source, row.shot, row.clip_id))

    def write(self, rows: Sequence[Row], csv: bool) -> None:
        """captions.jsonl, report.html and, if asked for, captions.csv."""
        write_jsonl(rows, self.folder / "captions.jsonl")
        if csv:
            write_csv(rows, self.folder / "captions.csv")
        write_report(rows, self.preview, self.report)

    def is_complete(self, csv: bool) -> bool:
        """Whether all that `write` makes is there."""
        names = ["captions.jsonl", "report.html", *(["captions.csv"] if csv else [])]
        return all((self.folder / name).is_file() for name in names)

    def write_run(self, facts: dict[str, Any]) -> None:
        """run.json: what the last run was and did."""
        with replacing(self.folder / "run.json") as part:
            part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
