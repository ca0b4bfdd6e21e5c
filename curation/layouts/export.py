"""Write an export: videos linked, files replaced whole, what is no longer in it removed.

export.json is the report and the list of what is ours: a folder without it is only written to when
it is empty. The list is extended before anything is written and cut back at the end, so that a
killed export is mended by the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from captioner.files import first_line
from curation.layouts.clips import CaptionKind, Clip, ExportError, Skipped, find_clips
from curation.layouts.diffusion_pipe import DiffusionPipe
from curation.layouts.finetrainers import Finetrainers
from curation.layouts.hf_folder import HfFolder
from curation.layouts.layout import File, Layout, Target, Text
from curation.layouts.ltx import Ltx
from curation.layouts.musubi import Musubi
from curation.layouts.openvid import OpenVid
from curation.layouts.tars import SHARD_BYTES, Tars
from curation.ledger import replacing, sweep

LAYOUTS = {
    layout.name: layout
    for layout in (DiffusionPipe, Musubi, Finetrainers, HfFolder, Ltx, Tars, OpenVid)
}
"""By name."""

REPORT = "export.json"

Uncaptioned = Literal["skip", "empty"]
"""What becomes of a clip without the caption that was asked for: left out, or captioned ""."""


@dataclass(frozen=True)
class ExportConfig:
    """What is exported and how; `model`, `frames` and `size` (WIDTHxHEIGHT) have the layout's
    defaults. `shard_bytes` is the size of a tar."""

    layout: str
    caption: CaptionKind = "t2v"
    uncaptioned: Uncaptioned = "skip"
    model: str | None = None
    frames: tuple[int, ...] = ()
    size: str | None = None
    split: str | None = None
    shard_bytes: int = SHARD_BYTES

    def __post_init__(self) -> None:
        for value, known in (
            (self.layout, tuple(LAYOUTS)),
            (self.caption, get_args(CaptionKind)),
            (self.uncaptioned, get_args(Uncaptioned)),
        ):
            if value not in known:
                raise ExportError(f"{value!r} is none of {', '.join(known)}")


class Report(BaseModel):
    """export.json: what was exported, what was not and why, and the files, relative to it."""

    layout: str
    caption: str
    split: str | None
    target: dict[str, Any] | None
    finished: bool = False
    clips: int
    without_caption: int
    skipped: list[Skipped]
    files: list[str]

    @property
    def reasons(self) -> dict[str, int]:
        """How many clips were skipped for each reason, the most frequent first."""
        return dict(Counter(one.reason for one in self.skipped).most_common())


def export(source: Path, folder: Path, config: ExportConfig) -> tuple[Report, int]:
    """Export a dataset, or the output folder of a curation, to `folder`.

    Returns the report and how many files were written: none, when nothing has changed. Raises
    ExportError, DatasetError or LedgerError, and OSError when `folder` cannot be written.
    """
    layout = Tars(config.shard_bytes) if config.layout == Tars.name else LAYOUTS[config.layout]()
    target = layout.target(config.model, config.frames, config.size)
    folder = folder.resolve()
    earlier = _earlier_files(folder, layout.name)
    found = [
        _judged(clip, layout, target, config)
        for clip in find_clips(source, config.caption, config.split)
    ]
    clips = [clip for clip in found if isinstance(clip, Clip)]
    files = list(layout.files(clips, target, folder))
    report = Report(
        layout=layout.name,
        caption=config.caption,
        split=config.split,
        target=asdict(target) if target.model else None,
        clips=len(clips),
        without_caption=sum(not clip.caption for clip in clips),
        skipped=[clip for clip in found if isinstance(clip, Skipped)],
        files=sorted(file.path for file in files),
    )
    if not clips:
        told = "; ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        raise ExportError(f"no clip of {source} is left to export: {told or 'none is kept'}")
    return report, _write(files, report, earlier, folder)


def _judged(
    clip: Clip | Skipped, layout: Layout, target: Target, config: ExportConfig
) -> Clip | Skipped:
    """The clip, or why it is not exported."""
    if isinstance(clip, Skipped):
        return clip
    reason = layout.skips(clip, target)
    if not clip.caption and config.uncaptioned == "skip":
        reason = f"no {config.caption} caption"
    return Skipped(clip_id=clip.clip_id, reason=reason) if reason else clip


def _earlier_files(folder: Path, layout: str) -> list[str]:
    """The files of an earlier export to the folder. Raises ExportError where others are there."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ExportError(f"{str(folder)!r} is not UTF-8: give another folder") from None
    path = folder / REPORT
    if not path.exists():
        strangers = sorted(p.name for p in folder.glob("*")) if folder.exists() else []
        if any(not name.startswith(f".{REPORT}.") for name in strangers):
            raise ExportError(f"{folder} holds other things ({strangers[0]}): give an empty folder")
        return []
    try:
        report = Report.model_validate_json(path.read_bytes())
    except ValidationError as error:
        line = first_line(error)
        raise ExportError(f"{path} cannot be read ({line}): give an empty folder") from None
    if report.layout != layout:
        raise ExportError(f"{folder} is an export for {report.layout}: give another folder")
    for name in report.files:
        if not (folder / name).parent.resolve().is_relative_to(folder):
            raise ExportError(f"{path} names {name!r}, outside of it: give an empty folder")
    return report.files


def _write(files: Sequence[File], report: Report, earlier: Sequence[str], folder: Path) -> int:
    """Bring the folder to what the report says; returns how many files were written or removed."""
    for parent in {folder, *((folder / name).parent for name in (*earlier, *report.files))}:
        sweep(parent)
    new = [file for file in files if not file.is_at(folder / file.path)]
    stale = sorted(set(earlier) - set(report.files))
    final = report.model_copy(update={"finished": True})
    if new or stale:
        everything = sorted({*earlier, *report.files})
        _write_report(report.model_copy(update={"files": everything}), folder)
    for file in new:
        with replacing(folder / file.path) as part:
            file.write(part)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    _write_report(final, folder)
    return len(new) + len(stale)


def _write_report(report: Report, folder: Path) -> None:
    text = Text(REPORT, report.model_dump_json(indent=1) + "\n")
    if not text.is_at(folder / REPORT):
        with replacing(folder / REPORT) as part:
            text.write(part)
