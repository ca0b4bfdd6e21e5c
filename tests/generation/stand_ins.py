"""Prompts and models that tests control."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captioner.schema import ShotCaption
from curation.ledger import Row
from curation.output import Output
from generation.config import GenerationConfig, configure
from generation.model import Condition, Generated, GenerationError, Prompt
from generation.prompts import Asked, RealClip
from tests.curation.curated import Film, curate

SMALL = {"height": 32, "width": 48, "frames": 9, "steps": 2, "dtype": "float32"}
NOWHERE = RealClip(None, Path("nowhere.mp4"), None)


def small(**changed: object) -> GenerationConfig:
    return configure("t2v", **{**SMALL, **changed})  # type: ignore[arg-type]


def prompts(*texts: str) -> list[Asked]:
    return [
        Asked(Prompt(f"clip{n:03}", "ab" * 32, "Human", text, ShotCaption(), n), NOWHERE)
        for n, text in enumerate(texts)
    ]


def curated_by_concept(folder: Path, films: int = 3) -> list[Row]:
    """A curation's output whose clips have the type of their subject as concept."""
    curate(folder, [Film()] * films)
    ledger = Output(folder).ledger
    kept = []
    for part in ledger.parts():
        rows = [
            row.model_copy(update={"concept": row.caption.subjects[0].types.type})
            for row in ledger.read(part)
            if row.caption is not None
        ]
        ledger.write(part.stem, rows)
        kept += [row for row in rows if row.decision == "keep"]
    return kept


@dataclass
class Stub:
    """Paints its seed. What a prompt says happens: black, nan, oom, crash, die."""

    name: str = "stub@1"
    slow: float = 0.0
    log: Path | None = None
    asked: list[str] = field(default_factory=list)

    def generate(self, prompt: Prompt, condition: Condition | None) -> Generated:
        self.asked.append(prompt.text)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{prompt.clip_id}\n")
        time.sleep(self.slow)
        if "oom" in prompt.text:
            raise GenerationError("out of memory (24 GiB asked for)")
        if "crash" in prompt.text:
            raise ZeroDivisionError("by a prompt")
        if "die" in prompt.text:
            import os

            os._exit(9)
        frames = np.full((5, 32, 48, 3), 0 if "black" in prompt.text else 40, np.uint8)
        if "black" not in prompt.text:
            frames[:, :, : 4 + prompt.seed % 40] = 200
        return Generated(frames, 24.0, 0.25, 1 << 20)
