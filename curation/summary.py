"""What a run did, in figures: run.json and the last lines that a person reads."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from curation.ledger import Row
from curation.pipeline import Done, total
from curation.rows import RowConfig
from curation.sources import Source


def summarise(
    sources: Sequence[Source],
    rows: Sequence[Row],
    done: Sequence[Done],
    config: RowConfig,
    wall_seconds: float,
) -> dict[str, Any]:
    """The facts of a run over `sources`, whose rows are among `rows`; `done` was done just now."""
    names = {source.label(source.path) for source in sources}
    own = [row for row in rows if row.source in names]
    failed = {row.source: row.error for row in own if row.decision == "error"}
    video_seconds = sum(one.seconds for one in done)
    spent = total(one.cpu for one in done)
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": metadata.version("skycaptioner"),
        "python": platform.python_version(),
        "config": {
            "scan": asdict(config.scan),
            "engine": config.engine,
            "measures": config.measures,
            "preset": config.preset and config.preset.name,
        },
        "config_hash": config.hash(),
        "files": len(sources),
        "copies": sum(len(source.copies) for source in sources),
        "shots": sum(row.frames is not None for row in own),
        "failed": len(failed),
        "failures": failed,
        "warnings": {row.source: row.warning for row in own if row.warning},
        "files_done": len(done),
        "shots_done": sum(one.clips for one in done),
        "video_seconds_done": round(video_seconds, 3),
        "cpu_seconds": round(sum(spent.values()), 3),
        "cpu_seconds_by_stage": {name: round(value, 3) for name, value in spent.items()},
        "wall_seconds": round(wall_seconds, 3),
    }
