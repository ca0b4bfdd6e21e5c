"""What a layout is: the files of a trainer's dataset, and the rules of that trainer."""

from __future__ import annotations

import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from curation.buckets import family
from curation.layouts.clips import Clip, ExportError, Media

DEFAULT_FRAMES = (33,)
"""The video bucket in diffusion-pipe's examples/dataset.toml; 33 is 4N+1 and 8N+1."""

DEFAULT_SIZE = (960, 544)
"""Pixels: the size in musubi-tuner's docs/dataset_config.md and in LTX-2's
docs/dataset-preparation.md; multiples of 32."""


@dataclass(frozen=True)
class Target:
    """What is trained: a model family, lengths of clips in frames, width and height in pixels."""

    model: str
    frames: tuple[int, ...]
    width: int
    height: int

    @property
    def shortest(self) -> int:
        """The shortest length, frames."""
        return min(self.frames)


NO_RULES = Target("", (), 0, 0)
"""For readers that take clips of any length and size."""


@dataclass(frozen=True)
class Video:
    """A clip's video at `path`, relative to the export."""

    path: str
    media: Media

    def is_at(self, target: Path) -> bool:
        """Whether it is there already."""
        return self.media.is_at(target)

    def write(self, target: Path) -> None:
        """Link or copy it. Raises OSError."""
        self.media.place(target)


@dataclass(frozen=True)
class Text:
    """A UTF-8 file at `path`, relative to the export."""

    path: str
    text: str

    def is_at(self, target: Path) -> bool:
        """Whether it is there already."""
        return target.is_file() and target.read_bytes() == self.text.encode()

    def write(self, target: Path) -> None:
        """Write it. Raises OSError."""
        target.write_bytes(self.text.encode())


@dataclass(frozen=True)
class Tar:
    """A tar at `path`, relative to the export; the same members give the same bytes."""

    path: str
    members: tuple[tuple[str, Media | str], ...]

    def is_at(self, target: Path) -> bool:
        """Whether it is there already: it is read member by member, never all of it at once."""
        try:
            with tarfile.open(target, "r:") as tar:
                return all(
                    info.name == name
                    and (kept := tar.extractfile(info)) is not None
                    and kept.read() == _content(content)
                    for (name, content), info in zip(self.members, tar, strict=True)
                )
        except (OSError, ValueError, tarfile.TarError):
            return False

    def write(self, target: Path) -> None:
        """Write it. Raises OSError."""
        with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in self.members:
                data = _content(content)
                info = tarfile.TarInfo(name)  # owner 0, time 0: nothing of this machine
                info.size, info.mode = len(data), 0o444
                tar.addfile(info, BytesIO(data))


File = Video | Text | Tar


def _content(content: Media | str) -> bytes:
    return content.encode() if isinstance(content, str) else content.read()


class Layout(ABC):
    """A trainer's layout. `models` are the families that it trains, the default first, each with
    the frame rate that the trainer reads at (None: every frame of the file); `side` is what it
    rounds sizes to, pixels."""

    name: ClassVar[str]
    models: ClassVar[Mapping[str, float | None]] = {}
    side: ClassVar[int] = 1

    def target(self, model: str | None, frames: Sequence[int], size: str | None) -> Target:
        """What is trained, with the layout's defaults; `NO_RULES` where the reader has none.

        `size` is WIDTHxHEIGHT. Raises ExportError for what the trainer does not take.
        """
        if not self.models:
            if model or frames or size:
                raise ExportError(f"{self.name} has no rules of frames and sizes: leave them out")
            return NO_RULES
        model = model or next(iter(self.models))
        if model not in self.models:
            raise ExportError(f"{self.name} trains {', '.join(self.models)}, not {model!r}")
        lengths = tuple(sorted(set(frames or DEFAULT_FRAMES)))
        step, side = family(model).frame_step, max(self.side, family(model).side)
        for count in lengths:
            if count < 2 or (count - 1) % step:
                near = max(step + 1, family(model).frames(count))
                raise ExportError(
                    f"{model} is trained on {step}N+1 frames, not {count}: say {near} or "
                    f"{near + step}"
                )
        width, height = _size(size) if size else DEFAULT_SIZE
        if width % side or height % side:
            near_size = f"{_multiple(width, side)}x{_multiple(height, side)}"
            raise ExportError(
                f"{self.name} takes sides in multiples of {side} pixels for {model}, not "
                f"{width}x{height}: say {near_size}"
            )
        return Target(model, lengths, width, height)

    def skips(self, clip: Clip, target: Target) -> str | None:
        """Why the trainer would not train on a clip as it is, in words; None where it would."""
        return None

    @abstractmethod
    def files(self, clips: Sequence[Clip], target: Target, folder: Path) -> Iterator[File]:
        """The export's files, videos first: what names a video comes after it.

        `folder` is where the export will be, absolute.
        """


def pair(clip: Clip, folder: str) -> Iterator[File]:
    """A clip and its caption beside it, under the same name."""
    yield Video(f"{folder}/{clip.clip_id}.mp4", clip.media)
    yield Text(f"{folder}/{clip.clip_id}.txt", clip.caption + "\n")


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def toml(value: str | float | bool | Sequence[Any]) -> str:
    """A value as TOML writes it (v1.0.0: its basic strings take JSON's escapes)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ExportError(f"a size is WIDTHxHEIGHT, such as 960x544, not {text!r}")
    return int(width), int(height)


def _multiple(length: int, side: int) -> int:
    return max(side, round(length / side) * side)
