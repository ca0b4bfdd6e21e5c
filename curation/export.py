"""The ledger in other forms: JSONL, CSV, and sidecar files next to each video."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curation.ledger import Row, replacing
from curation.sources import Source


def caption_record(row: Row) -> dict[str, Any]:
    """What captions.jsonl and the .json sidecars say of a clip."""
    record = row.model_dump(
        mode="json",
        by_alias=True,
        include={
            *("clip_id", "source", "source_copies", "start", "end", "fps", "width", "height"),
            *("decision", "reason", "caption", "caption_status", "caption_engine"),
            *("caption_t2v", "caption_i2v", "motion_camera", "text_lines", "warning", "error"),
        },
    )
    sources = row.model_dump(mode="json", include={"caption_sources"})["caption_sources"] or {}
    record["caption_sources"] = {name: seen for name, seen in sources.items() if seen}
    return record


def write_jsonl(rows: Iterable[Row], path: Path) -> None:
    """A JSON object a clip, a line each."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(caption_record(row), ensure_ascii=False) + "\n")


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """SkyCaptioner's own two columns, `path` and `structural_caption`, after ours."""
    columns = ["clip_id", "path", "start", "end", "decision", "caption_t2v", "caption_i2v"]
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "structural_caption", "error"])
        for row in rows:
            writer.writerow(
                [
                    *(row.clip_id, row.source, row.start, row.end, row.decision),
                    *(row.caption_t2v, row.caption_i2v),
                    row.caption.to_json() if row.caption else "",
                    row.error,
                ]
            )


SIDECARS = ("json", "txt")


def write_sidecar(source: Source, rows: Sequence[Row], kind: str, overwrite: bool) -> list[str]:
    """Write `kind` (json or txt) beside each file of a source; returns what went wrong, in words.

    A .json holds a list of clips, a .txt the text-to-video prose of each clip on a line of its
    own. A file that is there already and says something else is left alone unless `overwrite`.
    """
    captioned = [row for row in rows if row.caption is not None]
    if not captioned:
        return []
    if kind == "json":
        records = [caption_record(row) for row in captioned]
        text = json.dumps(records, ensure_ascii=False, indent=1) + "\n"
    else:
        text = "".join(f"{row.caption_t2v}\n" for row in captioned)
    wrong = []
    for video in (source.path, *source.copies):
        path = video.with_suffix(f".{kind}")
        if path == video:
            wrong.append(f"{path} is the video itself: no sidecar of that name")
            continue
        try:
            if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
                continue
            if path.exists() and not overwrite:
                wrong.append(f"{path} is there already: left as it is (--overwrite replaces it)")
                continue
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            wrong.append(f"{path} cannot be written: {error.strerror}")
    return wrong
