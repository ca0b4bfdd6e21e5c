"""A source, or a part of it, becomes rows: scan, measure, caption, shot by shot."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field

import cv2
import numpy as np

from captioner.captioner import Captioner
from captioner.engine_config import EngineConfig
from captioner.frames import FrameBatch
from captioner.handover import Prepared
from captioner.result import CaptionResult
from captioner.video import UnreadableVideoError, VideoInfo
from curation.decide import decide
from curation.ledger import SCHEMA_VERSION, Row, arrow_table, clip_id, scores
from curation.measure.clip import MEASURES_VERSION, measure_clip
from curation.preset import Preset
from curation.scan import Scan, ScanConfig, Shot, scan
from curation.scorers import ScoreResult, Scoring
from curation.segments import SeamError, Seams, Segment, SegmentScan, scan_segment
from curation.sources import Source


@dataclass(frozen=True)
class RowConfig:
    """What the rows depend on.

    `engine` is the captioner's by name, None for no captions; `options` say more of it. With a
    `preset` only the clips that its rules keep are captioned; which ones is no part of the identity
    of a row, as nothing else in it changes with the preset but for the models that it names:
    `models` score the clips.
    """

    scan: ScanConfig
    engine: str | None
    measures: bool = False
    preset: Preset | None = None
    options: EngineConfig | None = None
    models: Scoring | None = None

    def __post_init__(self) -> None:
        if self.options is not None and self.options.name != self.engine:
            raise ValueError(f"options of {self.options.name} for engine {self.engine}")

    @property
    def captioning(self) -> EngineConfig | None:
        """The engine and its options; None for no captions.

        `auto` without options is what runs where clips are decoded: the experts.
        """
        if self.options is not None or not self.engine:
            return self.options
        return EngineConfig("experts" if self.engine == "auto" else self.engine)

    @property
    def is_apart(self) -> bool:
        """Whether the clips are captioned elsewhere than where they are decoded."""
        return self.captioning is not None and self.captioning.is_apart

    def hash(self) -> str:
        """16 hex digits; rows of another hash are made anew."""
        identity = {
            "schema": SCHEMA_VERSION,
            "scan": asdict(self.scan),
            "measures": MEASURES_VERSION if self.measures else None,
            "engine": self.captioning.identity() if self.captioning else None,
        }
        if self.models is not None:
            identity["models"] = self.models.identity()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def captioner(self) -> Captioner | None:
        """What captions the clips where they are decoded."""
        if self.captioning is None or self.is_apart:
            return None
        return Captioner(self.captioning)

    def is_finished(self, row: Row) -> bool:
        """Whether nothing is missing in a row of this configuration."""
        if row.decision == "error" or row.caption_status or not self.engine:
            return True
        return not self.wants_caption(row)

    def wants_caption(self, row: Row, scored: bool = True) -> bool:
        """Whether a measured clip is to be captioned; before it is `scored` as far as can be told.

        What the captioning model is asked besides is known no sooner than the caption.
        """
        if self.preset is None:
            return True
        unknown = self.preset.questions if scored else self.preset.models
        return bool(decide(arrow_table([row]), self.preset.without(unknown)).keep[0])


@dataclass(frozen=True)
class Work:
    """A source, or one segment of it, that rows are wanted for.

    `finished` are rows made before, by clip_id; `failed` says of a clip why the process that had
    it was ended, so that it is not tried again.
    """

    source: Source
    segment: Segment | None = None
    finished: Mapping[str, Row] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Which source, and which part of it."""
        return self.source.key, self.segment.start if self.segment else 0


@dataclass(frozen=True)
class Made:
    """A row, and its strip of frames as JPEG where it was made just now.

    `pictures` are there when the row is still to be scored by models elsewhere, `clip` when it is
    still to be captioned by an engine elsewhere; a row that is not `final` is tried again by the
    next run.
    """

    row: Row
    preview: bytes | None = None
    clip: Prepared | None = None
    final: bool = True
    pictures: Prepared | None = None


@dataclass(frozen=True)
class Scanned:
    """What is known when a work has been scanned: damage met on the way, and for a segment what it
    borders on."""

    warnings: tuple[str, ...] = ()
    seams: Seams | None = None


Tell = Callable[[str, str | None], None]
"""Is told each stage as it begins, and the clip that it works on."""


def make_rows(
    work: Work,
    config: RowConfig,
    captioner: Captioner | None,
    tell: Tell = lambda *_: None,
    on_frame: Callable[[], None] | None = None,
    threads: int = 1,
) -> Generator[Made, None, Scanned]:
    """A row for every shot, and an error row if the source cannot be read.

    Never raises for what is in the source. A stage that raises costs that clip's row its measures
    or caption and nothing else.
    """
    about = about_source(work.source, config.hash())
    if work.source.error is not None:
        yield Made(error_row(about, "open", work.source.error))
        return Scanned()
    shots: Scan | SegmentScan | None = None
    try:
        tell("scan", None)
        shots = _open(work, config.scan, threads)
        shots.on_frame = on_frame
        for shot in shots:
            row = _shot_row(about, shots.info, shot)
            yield _finish(row, shots.info, shot, work, config, captioner, tell)
            tell("scan", None)
        return Scanned(tuple(shots.warnings), getattr(shots, "seams", None))
    except UnreadableVideoError as error:
        yield Made(error_row(about, "open", str(error)))
    except SeamError:
        return Scanned()
    except Exception:
        yield Made(error_row(about, "scan", traceback.format_exc()))
    return Scanned(tuple(shots.warnings) if shots is not None else ())


def _open(work: Work, config: ScanConfig, threads: int) -> Scan | SegmentScan:
    if work.segment is None:
        return scan(work.source.path, config, threads)
    return scan_segment(work.source.path, work.segment, config, threads)


def _finish(
    row: Row,
    info: VideoInfo,
    shot: Shot,
    work: Work,
    config: RowConfig,
    captioner: Captioner | None,
    tell: Tell,
) -> Made:
    """The row with its measures and its caption."""
    before = work.finished.get(row.clip_id)
    if before is not None:
        return Made(before)
    strip = preview(shot.batch)
    if row.clip_id in work.failed:
        return Made(failed(row, "worker", work.failed[row.clip_id]), strip)
    clip = pictures = None
    stage = "measure"
    try:
        if config.measures:
            tell(stage, row.clip_id)
            measures = measure_clip(shot.batch, info, work.source.bytes)
            row = row.model_copy(update=measures.model_dump())
        if config.models is not None:
            stage = "models"
            tell(stage, row.clip_id)
            pictures = config.models.prepare(shot.batch, row.clip_id)
        captions = captioner is not None or config.is_apart
        wanted = captions and config.wants_caption(row, scored=config.models is None)
        if wanted and captioner is not None:
            stage = "caption"
            tell(stage, row.clip_id)
            row = captioned(row, captioner.caption(shot.batch))
        elif wanted and config.captioning is not None:
            stage = "prepare"
            tell(stage, row.clip_id)
            clip = config.captioning.prepare(shot.batch, row.clip_id)
    except Exception:
        row, clip, pictures = failed(row, stage, traceback.format_exc()), None, None
    return Made(row, strip, clip, pictures=pictures)


def about_source(source: Source, config_hash: str) -> dict[str, object]:
    """The columns that all rows of a source share."""
    return {
        **labels(source),
        "source_sha256": source.sha256,
        "source_bytes": source.bytes,
        "config_hash": config_hash,
    }


def labels(source: Source) -> dict[str, object]:
    """What the user calls a source and knows about it: no part of its identity."""
    return {
        "source": source.label(source.path),
        "source_copies": [source.label(path) for path in source.copies],
        "source_facts": [{"name": name, "value": value} for name, value in source.facts],
    }


def _shot_row(about: dict[str, object], info: VideoInfo, shot: Shot) -> Row:
    return Row.model_validate(
        {
            **about,
            "clip_id": clip_id(str(about["source_sha256"]), shot.start_pts, shot.end_pts),
            "shot": shot.index,
            "start": shot.start,
            "end": shot.end,
            "start_pts": shot.start_pts,
            "end_pts": shot.end_pts,
            "time_base": str(shot.time_base),
            "first_frame": shot.first_frame,
            "frames": shot.frames,
            "fps": info.fps,
            "width": info.width,
            "height": info.height,
            "codec": info.codec,
            "decoder": info.decoder,
            "transition_in": shot.transition_in.kind if shot.transition_in else "start",
            "decision": "keep",
        }
    )


def captioned(row: Row, result: CaptionResult) -> Row:
    """The row with what an engine said of its clip."""
    sources = {
        name: {"source": seen.source, "confidence": seen.confidence}
        for name, seen in result.sources.items()
    }
    camera: dict[str, object] = {}
    if result.camera is not None:
        camera = {f"motion_{axis}": value for axis, value in asdict(result.camera).items()}
        camera["motion_camera"] = list(result.camera.moves)
        del camera["motion_moves"]
    said = {
        **camera,
        "text_lines": list(result.screen_text),
        "caption": result.caption,
        "caption_status": result.status,
        "caption_engine": result.engine,
        "caption_sources": sources if result.caption else None,
        "caption_t2v": result.t2v,
        "caption_i2v": result.i2v,
        "caption_t2v_by": result.t2v_by if result.caption else None,
        "caption_i2v_by": result.i2v_by if result.caption else None,
        "caption_note": result.error if result.status != "error" else None,
        "caption_raw": result.raw,
        "model_scores": scores({**row.scores, **result.answers}),
    }
    row = Row.model_validate({**row.model_dump(), **said})
    if result.status == "error":
        return failed(row, "caption", result.error or "the engine gave no reason")
    return row


def scored(row: Row, result: ScoreResult) -> Row:
    """The row with what models said of its clip."""
    if result.status == "error":
        return failed(row, "models", result.error or "the models gave no reason")
    known = {**row.scores, **result.scores}
    embedding = None if result.embedding is None else list(result.embedding)
    return row.model_copy(update={"model_scores": scores(known), "model_embedding": embedding})


REASONS = {
    "open": "the file cannot be read as a video",
    "scan": "finding the shots failed",
    "measure": "measuring failed",
    "models": "scoring by models failed",
    "prepare": "getting the frames ready for the engine failed",
    "caption": "captioning failed",
    "worker": "the process that worked on it died or was ended",
    "clips": "the clip could not be written",
}
"""What the column `reason` says of a row that failed in a stage."""


def failed(row: Row, stage: str, error: str) -> Row:
    """The row of a clip that a stage failed on."""
    update = {"decision": "error", "stage": stage, "reason": REASONS[stage], "error": error}
    return row.model_copy(update=update)


def error_row(about: Mapping[str, object], stage: str, error: str) -> Row:
    """The row of a source that gives no clips, or no more of them."""
    identity = str(about["source_sha256"] or about["source"])
    return Row.model_validate(
        {
            **about,
            "clip_id": clip_id(identity, None, None),
            "decision": "error",
            "reason": REASONS[stage],
            "stage": stage,
            "error": error,
        }
    )


PREVIEW_FRAMES = 4
PREVIEW_HEIGHT = 108
"""Pixels a frame."""


def preview(batch: FrameBatch) -> bytes:
    """Four frames in order of time as a JPEG: two by two, or side by side where they are
    upright."""
    small = []
    for picture in batch.uniform(PREVIEW_FRAMES):
        width = max(1, round(picture.width * PREVIEW_HEIGHT / picture.height))
        size = (min(width, 4 * PREVIEW_HEIGHT), PREVIEW_HEIGHT)
        small.append(cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA))
    if len(small) == PREVIEW_FRAMES and small[0].shape[1] > PREVIEW_HEIGHT:
        sheet = np.vstack([np.hstack(small[:2]), np.hstack(small[2:])])
    else:
        sheet = np.hstack(small)
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    return jpeg.tobytes()
