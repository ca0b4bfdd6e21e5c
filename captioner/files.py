"""What several parts tell of files: their content in one hash, an error about one in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_files(files: Iterable[tuple[Path, Path]]) -> str:
    """sha256 over names and contents of files, each given after its folder. Raises OSError."""
    known = hashlib.sha256()
    for folder, path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        known.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return known.hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or what kind it is where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
