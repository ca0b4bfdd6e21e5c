"""The ledger of generations: a row for every prompt, whether it came to a video or not.

`generations.parquet` is replaced whole; rows since then are in a journal beside it, so that a
killed run loses none. A row is written after its video. `python -m generation.ledger` prints the
columns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from captioner.files import first_line
from captioner.schema import ShotCaption, arrow_struct
from curation.ledger import replacing, sweep
from curation.output import Output
from generation.config import Task
from generation.frames import GenerationOptionError
from generation.model import Prompt

SCHEMA_VERSION = "1"

LEDGER = "generations.parquet"

EVERY = 100
"""Rows after which the journal goes into the ledger: writing 10,000 rows takes under a second."""


class Generation(BaseModel):
    """A row: a prompt and what came of it."""

    generation_id: str = Field(
        description="24 hex digits: hash of clip, prompt, seed, model and configuration"
    )
    clip_id: str = Field(description="the real clip that the prompt describes")
    source_sha256: str | None = Field(description="sha256 of that clip's source file")
    concept: str = Field(description="what that clip counts as in the balance")
    task: Task = Field(description="t2v, i2v or df")
    prompt: str = Field(description="the dataset's caption")
    prompt_sent: str = Field(description="what the model read: enhanced or cut, if asked for")
    caption: ShotCaption = Field(description="the structured caption: the truth to adhere to")
    seed: int = Field(description="of the noise")
    model: str = Field(description="the model; changes with its weights")
    config_hash: str = Field(description="hash of all settings")
    preset: str = Field(description="540p, 720p, or own")
    frames: int = Field(description="number of frames; those asked for where there is no video")
    fps: float = Field(description="frames a second")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    video: str | None = Field(default=None, description="path of the MP4 beside the ledger")
    condition: str | None = Field(
        default=None, description="path of the given first frame, PNG; a last one is beside it"
    )
    status: Literal["ok", "error"] = Field(description="ok or error")
    error: str | None = Field(default=None, description="why there is no video, in full")
    seconds: float | None = Field(default=None, description="seconds that it took")
    peak_bytes: int | None = Field(
        default=None, description="most memory: of the GPU, or of the process without one"
    )
    steps: int = Field(description="steps of denoising")


def generation_id(prompt: Prompt, model: str, config_hash: str) -> str:
    """The identity of a generation: what its video depends on, and nothing else."""
    known = json.dumps([prompt.clip_id, prompt.text, prompt.seed, model, config_hash])
    return hashlib.sha256(known.encode()).hexdigest()[:24]


def arrow_schema() -> pa.Schema:
    """The ledger's Arrow schema; each field's metadata holds its description."""
    return pa.schema(
        list(arrow_struct(Generation)), {"skycaptioner_generations_version": SCHEMA_VERSION}
    )


def read_generations(folder: Path) -> list[Generation]:
    """The rows of an output folder, in order of concept, clip and seed.

    Raises GenerationOptionError where there is no ledger that can be read.
    """
    path = folder / LEDGER
    try:
        table = pq.read_table(path)
        version = (table.schema.metadata or {}).get(b"skycaptioner_generations_version", b"")
        if version.decode() != SCHEMA_VERSION:
            raise GenerationOptionError(
                f"{path} has schema version {version.decode() or 'none'}, not {SCHEMA_VERSION}: "
                "generate into a new folder"
            )
        return [Generation.model_validate(row) for row in table.to_pylist()]
    except FileNotFoundError:
        raise GenerationOptionError(f"{folder} holds no {LEDGER}: generate first") from None
    except (pa.ArrowException, ValidationError, OSError) as error:
        line = first_line(error)
        raise GenerationOptionError(
            f"{path} cannot be read ({line}): remove it, or generate into a new folder"
        ) from None


class Generations:
    """The ledger in `folder` while it is being written; `opened` makes one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, Generation] = {}
        self._journal = folder / "state" / "generations.jsonl"
        self._file: TextIO | None = None
        self._new = 0

    def add(
        self, row: Generation, video: bytes | None = None, pictures: dict[str, bytes] | None = None
    ) -> None:
        """Keep a row after its files: the MP4 at `row.video`, pictures by path. Raises OSError."""
        for name, content in (pictures or {}).items():
            _write(self.folder / name, content)
        if row.video is not None and video is not None:
            _write(self.folder / row.video, video)
        if self._file is None:
            self._file = self._journal.open("a", encoding="utf-8")
        self._file.write(row.model_dump_json(by_alias=True) + "\n")
        self._file.flush()
        self.rows[row.generation_id] = row
        self._new += 1
        if self._new >= EVERY:
            self.write()

    def write(self) -> None:
        """Put all rows into the ledger. Raises OSError."""
        rows = sorted(
            self.rows.values(),
            key=lambda row: (row.concept, row.clip_id, row.seed, row.generation_id),
        )
        values = [row.model_dump(mode="python", by_alias=True) for row in rows]
        table = pa.Table.from_pylist(values, schema=arrow_schema())
        with replacing(self.folder / LEDGER) as part:
            pq.write_table(table, part, compression="zstd")
        self.close()
        self._journal.unlink(missing_ok=True)
        self._new = 0

    def load(self) -> None:
        """Take over what earlier runs left, finished or killed. Raises GenerationOptionError."""
        if (self.folder / LEDGER).exists():
            self.rows = {row.generation_id: row for row in read_generations(self.folder)}
        with contextlib.suppress(FileNotFoundError):
            for line in self._journal.read_text(encoding="utf-8").splitlines():
                try:
                    row = Generation.model_validate_json(line)
                except ValidationError:
                    break  # the last line, cut short by a kill
                self.rows[row.generation_id] = row
        self.write()

    def close(self) -> None:
        """Close the journal, keep it."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Generations]:
    """The ledger of a folder, with other runs kept out and what killed ones left cleared away.

    Raises GenerationOptionError, curation.output.OutputInUseError and OSError.
    """
    strangers = (folder / "dataset.json", folder / "ledger")
    if any(path.exists() for path in strangers):
        raise GenerationOptionError(f"{folder} holds a dataset or a curation: give a new folder")
    with Output(folder).locked():
        for name in ("videos", "conditions"):
            sweep(folder / name)
        ledger = Generations(folder)
        ledger.load()
        try:
            yield ledger
        finally:
            ledger.write()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


if __name__ == "__main__":
    for name, field in Generation.model_fields.items():
        print(f"{name:14} {arrow_schema().field(name).type!s:.40}  {field.description}")
