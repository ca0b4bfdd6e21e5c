"""What people answer on the review pages, kept in a JSONL file that is only ever appended to.

An answer is on the disk (fsync) before it is confirmed. The last answer of a rater to a question
counts. A line of each mode, beside `clip_id`, `rater` and `time`:

    label     "labels": {"shot_type": "close_up"}          a part of a test set's line
    verdict   "field", "subject", "verdict", "answer"      as eval.judge.PersonVerdict reads it
    check     "bad": ["type"]                              [] is good, null cannot tell
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eval.judge import PersonVerdict
from eval.sample_check import Category
from eval.testset import Labels

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two servers apart
    fcntl = None  # type: ignore[assignment]

Name = Annotated[str, Field(pattern=r"^\w[\w .@+-]{0,39}$")]
"""A rater's name: letters, digits, and what names and addresses are written with."""


class AnswersError(ValueError):
    """A file of answers that cannot be used, in one line with the remedy."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    clip_id: str
    rater: Name
    time: str = ""


class LabelAnswer(_Line):
    """One label; null takes an earlier one back. `prefilled`: a caption's value was shown."""

    labels: Labels
    prefilled: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> LabelAnswer:
        if len(self.labels.model_fields_set - {"main_subject_only"}) != 1:
            raise ValueError("an answer has one label")
        return self

    @property
    def slot(self) -> str:
        """The label's field."""
        return next(iter(self.labels.model_fields_set - {"main_subject_only"}))


class VerdictAnswer(PersonVerdict):
    """What one person says of one field of one caption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rater: Name
    time: str = ""

    @property
    def slot(self) -> str:
        """The field, with the number of the subject where it is a subject's."""
        return slot(self.field, self.subject)


class CheckAnswer(_Line):
    """The categories in which a clip is bad: none of them is a good one, None cannot tell."""

    bad: tuple[Category, ...] | None

    @property
    def slot(self) -> str:
        """There is one question."""
        return "check"


def slot(field: str, subject: int | None) -> str:
    """The name of a question about a field of a caption."""
    return field if subject is None else f"{subject}.{field}"


A = TypeVar("A", LabelAnswer, VerdictAnswer, CheckAnswer)


class Answers(Generic[A]):
    """The answers in a file, of one kind. Nobody else may write to it meanwhile, all may read.

    Raises AnswersError when the file holds something else or is in use, OSError. `note` says what
    was mended on opening: a last line that a crash cut short was never confirmed, and goes.
    """

    def __init__(self, path: Path, kind: type[A], read_only: bool = False) -> None:
        self.path = path
        self.note = ""
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], dict[str, A]] = {}
        if read_only:
            self._read(kind)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._claim()
            if is_new:
                _sync_folder(path.parent)
            if rest := self._read(kind):
                os.ftruncate(self._file, os.fstat(self._file).st_size - rest)
                self.note = f"{path}: its last line was cut short by a crash and was removed"
        except BaseException:
            os.close(self._file)
            raise

    def add(self, answer: A) -> None:
        """Keep an answer: it is on the disk when this returns. Raises OSError, keeping nothing."""
        line = answer.model_dump_json(exclude_unset=True).encode() + b"\n"
        with self._lock:
            size = os.fstat(self._file).st_size
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise
            self._keep(answer)

    def of(self, clip_id: str, slot: str) -> dict[str, A]:
        """The answers to a question, by rater."""
        with self._lock:
            return dict(self._last.get((clip_id, slot), {}))

    def all(self) -> list[A]:
        """The answers that count."""
        with self._lock:
            return [answer for given in self._last.values() for answer in given.values()]

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._file)

    def _claim(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AnswersError(
                f"{self.path} is in use by another review; let its raters share one server"
            ) from None

    def _read(self, kind: type[A]) -> int:
        """Take in the whole lines; the bytes of one that is not."""
        content = self.path.read_bytes()
        whole, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            if line.strip():
                self._keep(self._parsed(kind, line, number))
        return len(rest)

    def _parsed(self, kind: type[A], line: bytes, number: int) -> A:
        try:
            return kind.model_validate_json(line)
        except ValidationError as error:
            told = error.errors(include_url=False)[0]
            where = ".".join(map(str, told["loc"]))
            raise AnswersError(
                f"{self.path}:{number}: no line of this mode: {where}: {told['msg']}; name another "
                "file with -o"
            ) from None

    def _keep(self, answer: A) -> None:
        self._last.setdefault((answer.clip_id, answer.slot), {})[answer.rater] = answer


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as safe as its content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
