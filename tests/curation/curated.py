"""A curation's output folder, made by its own parts from videos that are rendered here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from captioner.fusion import i2v, t2v
from captioner.schema import ShotCaption, Subject, SubjectTypes
from curation.clips import ClipConfig as Writing
from curation.clips import ClipRange, write_clips
from curation.ledger import Fact, Row, clip_id
from curation.output import Output
from eval.synth import write_video
from tests.clips import panning


@dataclass(frozen=True)
class Film:
    """A source of two clips, each of `frames` frames."""

    frames: int = 20
    width: int = 160
    height: int = 96
    fps: float = 24.0
    licence: str = "CC0"


def caption(seed: int) -> ShotCaption:
    """A caption that says something in every field that drop-out may take."""
    subject = Subject(
        types=SubjectTypes(type="Human" if seed % 2 else "Animal", sub_type="Woman"),
        appearance=f"Wears coat number {seed}",
        action="Walks along",
        position="On the left",
        is_main_subject=True,
    )
    return ShotCaption(
        subjects=(subject,), shot_type="long_shot", lighting="Bright", camera_motion="Pans left"
    )


def curate(out: Path, films: Sequence[Film], first: int = 0) -> list[Row]:
    """Put films into the output folder of a curation; the kept rows, two a film."""
    output = Output(out)
    kept = []
    for seed, film in enumerate(films, first):
        path = out.parent / "films" / f"{seed}.mp4"
        path.parent.mkdir(exist_ok=True, parents=True)
        pictures = panning(seed, 2 * film.frames, film.width, film.height)
        write_video(path, pictures, film.fps)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with av.open(str(path)) as container:
            pts = sorted(p.pts for p in container.demux(video=0) if p.size and p.pts is not None)
            base = container.streams.video[0].time_base or Fraction(1)
        tick = pts[1] - pts[0]
        rows = []
        for shot in range(2):
            start, end = pts[shot * film.frames], pts[(shot + 1) * film.frames - 1] + tick
            name = clip_id(digest, start, end)
            rows.append(
                Row(
                    clip_id=name,
                    source=str(path),
                    source_sha256=digest,
                    source_facts=[Fact(name="licence", value=film.licence)],
                    shot=shot,
                    start=float(start * base),
                    end=float(end * base),
                    start_pts=start,
                    end_pts=end,
                    time_base=str(base),
                    first_frame=shot * film.frames,
                    frames=film.frames,
                    fps=film.fps,
                    width=film.width,
                    height=film.height,
                    decision="keep",
                    clip=f"clips/{name}.mp4",
                    caption=caption(seed),
                    caption_status="ok",
                    caption_engine="experts",
                    caption_t2v=t2v(caption(seed)),
                    caption_i2v=i2v(caption(seed)),
                    config_hash="0123",
                )
            )
        ranges = [
            ClipRange(
                r.clip_id, r.start_pts or 0, r.end_pts or 0, base, r.first_frame or 0, film.frames
            )
            for r in rows
        ]
        written = write_clips(path, ranges, output.clips, Writing())
        assert not [one.error for one in written if one.error]
        dropped = rows[0].model_copy(
            update={"clip_id": f"dropped{seed}", "decision": "drop", "clip": None}
        )
        output.ledger.write(digest[:32], [*rows, dropped])
        kept += rows
    return kept
