"""What is generated and how: the published settings, and what a user makes of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from generation.frames import (
    Forcing,
    GenerationOptionError,
    check_count,
    check_forcing,
    check_size,
)

Task = Literal["t2v", "i2v", "df"]
"""Text to video, image to video, or diffusion forcing (text, and pictures where they are given)."""

Dtype = Literal["bfloat16", "float16", "float32"]

VERSION = 1
"""Raised with anything that makes other videos of the same configuration."""


@dataclass(frozen=True)
class Size:
    """Pixels and frames."""

    height: int
    width: int
    frames: int


PRESETS = {"540p": Size(544, 960, 97), "720p": Size(720, 1280, 121)}
"""SkyReels-V2's README.md, table of models."""

FPS = 24
"""SkyReels-V2's README.md, recommended values, as STEPS, GUIDANCE and SHIFT."""

STEPS = 50

GUIDANCE = {"text": 6.0, "image": 5.0}

SHIFT = {"text": 8.0, "image": 5.0}
"""Also in the examples of diffusers' pipelines. A note in the same README says 3.0 for images."""

MAX_TOKENS = 512
"""Tokens of a prompt: `text_len` of skyreels_v2_infer/modules/t5.py, diffusers' default."""

NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, "
    "images, static, overall gray, worst quality, low quality, JPEG compression residue, ugly, "
    "incomplete, extra fingers, poorly drawn hands, poorly drawn faces, deformed, disfigured, "
    "misshapen limbs, fused fingers, still picture, messy background, three legs, many people in "
    "the background, walking backwards"
)
"""What the model is guided away from: SkyReels-V2, generate_video.py."""


@dataclass(frozen=True)
class GenerationConfig:
    """All that a video depends on besides its prompt, its seed and the model.

    `height` and `width` in pixels, `fps` frames a second, `steps` of denoising, `guidance` the
    weight of the prompt (1 or less: none), `shift` of the noise schedule. `forcing` is there for
    task df and no other. `first_frame` and `last_frame` say which frames of the real clip are
    given. A prompt of more than `max_tokens` tokens is an error, or cut where `truncate` is set.
    `tiling` decodes the picture in parts. Raises GenerationOptionError for what cannot be.
    """

    task: Task = "t2v"
    preset: str = "540p"
    height: int = 544
    width: int = 960
    frames: int = 97
    fps: int = FPS
    steps: int = STEPS
    guidance: float = GUIDANCE["text"]
    shift: float = SHIFT["text"]
    forcing: Forcing | None = None
    first_frame: bool = False
    last_frame: bool = False
    negative_prompt: str = NEGATIVE_PROMPT
    max_tokens: int = MAX_TOKENS
    truncate: bool = False
    dtype: Dtype = "bfloat16"
    tiling: bool = False

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise GenerationOptionError(f"task {self.task!r} is none of t2v, i2v, df")
        if self.dtype not in get_args(Dtype):
            raise GenerationOptionError(f"dtype {self.dtype!r} is none of {', '.join(_DTYPES)}")
        check_size(self.height, self.width)
        check_count("frames", self.frames)
        if not 1 <= self.fps <= 120:
            raise GenerationOptionError(f"fps {self.fps} is not within 1 to 120: 24 is published")
        if self.steps < 1:
            raise GenerationOptionError(f"steps {self.steps} is below 1: {STEPS} is published")
        if not 0 <= self.guidance <= 100 or not 0 < self.shift <= 100:
            raise GenerationOptionError(
                f"guidance {self.guidance:g} or shift {self.shift:g} is not within 0 to 100"
            )
        if self.task != "df" and self.forcing is not None:
            raise GenerationOptionError("windows and blocks are for diffusion forcing: --task df")
        if self.task == "t2v" and (self.first_frame or self.last_frame):
            raise GenerationOptionError("text to video takes no frame: --task i2v or df")
        if self.last_frame and not self.first_frame:
            raise GenerationOptionError("a last frame is given beside a first one: give both")
        if self.task == "df":
            check_forcing(self.frames, self.of_forcing, self.first_frame, self.last_frame)

    @property
    def of_forcing(self) -> Forcing:
        """The windows and blocks of diffusion forcing."""
        return self.forcing or Forcing()

    def with_block(self, block: int) -> GenerationConfig:
        """The same for a model whose own causal block is `block`. Raises GenerationOptionError."""
        if self.task != "df" or self.of_forcing.causal_block is not None:
            return self
        return replace(self, forcing=replace(self.of_forcing, causal_block=block))

    def hash(self, **beside: str) -> str:
        """16 hex digits: changes with anything that makes other videos; `beside` goes in too."""
        known = {"version": VERSION, **asdict(self), **beside}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


_DTYPES = get_args(Dtype)


def configure(
    task: Task,
    preset: str = "540p",
    forcing: dict[str, Any] | None = None,
    **changed: Any,
) -> GenerationConfig:
    """The published settings of a task and a preset, with what is `changed`; None is not.

    `forcing` changes fields of Forcing. Raises GenerationOptionError.
    """
    if preset not in PRESETS:
        raise GenerationOptionError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    size = asdict(PRESETS[preset])
    said = {name: value for name, value in changed.items() if value is not None}
    first = task == "i2v" or bool(said.get("first_frame"))
    kind = "image" if first else "text"
    settings: dict[str, Any] = {
        **size,
        "guidance": GUIDANCE[kind],
        "shift": SHIFT[kind],
        **said,
        "first_frame": first,
        "preset": preset if size == {name: said.get(name, size[name]) for name in size} else "own",
    }
    blocks = {name: value for name, value in (forcing or {}).items() if value is not None}
    if task == "df":
        settings["forcing"] = Forcing(**{"base_frames": size["frames"], **blocks})
    elif blocks:
        raise GenerationOptionError(
            f"{', '.join(blocks)}: windows and blocks are for diffusion forcing (task df)"
        )
    return GenerationConfig(task=task, **settings)
