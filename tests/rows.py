"""What a job left in its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def ledger(out: Path) -> list[dict[str, Any]]:
    """All rows, by source and shot."""
    rows = [row for part in (out / "ledger").iterdir() for row in pq.read_table(part).to_pylist()]
    return sorted(rows, key=lambda row: (row["source"], row["shot"]))
