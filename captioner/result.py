"""What captioning a clip gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from captioner.frames import FrameBatch
from captioner.schema import FIELDS, ShotCaption

Status = Literal["ok", "repaired", "truncated", "invalid", "error"]


@dataclass(frozen=True)
class FieldSource:
    """What saw a field: an expert's or a model's name, and how sure it was (0 to 1, or None)."""

    source: str
    confidence: float | None = None


@dataclass(frozen=True)
class Camera:
    """Measured camera motion: the moves that matter, the strongest first, and the six axes.

    Axes are signed: positive is the camera going right (truck, pan), up (pedestal, tilt), forward
    or nearer (dolly, zoom) or clockwise (roll). Units are frame widths (truck, pan) and heights
    (pedestal, tilt) a second, relative growth of the picture a second (dolly, zoom) and radians a
    second (roll). `tracking`: a subject keeps its place while the background flows.
    """

    moves: tuple[str, ...]
    truck: float
    pedestal: float
    dolly: float
    pan: float
    tilt: float
    roll: float
    zoom: float
    tracking: bool


@dataclass(frozen=True)
class CaptionResult:
    """One clip's caption, and how it came about.

    `sources` has an entry for each of `schema.FIELDS` that is not empty. `caption` is None when
    `status` is invalid or error; `error` then says why in full. `raw` is a model's own text.
    `answers` are shares of yes (0 to 1) to the questions that were asked besides, by their names.
    `camera` and `screen_text` are what the experts measured beside the caption. `t2v_by` and
    `i2v_by` say what wrote the prose: the template, with the reason where a model failed, or a
    model's name.
    """

    status: Status
    engine: str
    caption: ShotCaption | None
    sources: Mapping[str, FieldSource] = field(default_factory=dict)
    raw: str | None = None
    t2v: str = ""
    i2v: str = ""
    error: str | None = None
    camera: Camera | None = None
    screen_text: tuple[str, ...] = ()
    t2v_by: str = "template"
    i2v_by: str = "template"
    answers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.caption is None) != (self.status in ("invalid", "error")):
            raise ValueError(f"status {self.status} with caption {self.caption}")
        if unknown := set(self.sources) - set(FIELDS):
            raise ValueError(f"sources of no field: {sorted(unknown)}")


class Engine(Protocol):
    """Turns clips into captions: one result for each, in their order, whatever happens inside."""

    name: str

    def caption(self, batches: Sequence[FrameBatch]) -> list[CaptionResult]:
        """Caption every batch."""
        ...

    def identity(self) -> dict[str, str]:
        """What the results depend on, for the hash of the configuration: versions, weights."""
        ...
