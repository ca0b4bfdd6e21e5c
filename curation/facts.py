"""Facts about the sources that a user gives beside them: a CSV or JSONL file with a column `file`.

Each other column becomes a fact of the source that `file` names, by its path or by its name alone:
`licence` can be used in rules and in the balance as `source_licence`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from curation.ledger import Row
from curation.rule_columns import FACT
from curation.sources import Source

KEY = "file"


class FactsError(Exception):
    """A file of facts that cannot be used: what is wrong, and in which line."""


@dataclass(frozen=True)
class Facts:
    """`names` of the columns, and the values by what the column `file` says."""

    names: tuple[str, ...] = ()
    by_file: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rules can name."""
        return tuple(FACT + name for name in self.names)

    def of(self, source: Source) -> Source:
        """The source with the facts about it or one of its copies."""
        for path in (source.path, *source.copies):
            for name in (source.label(path), path.name):
                if name in self.by_file:
                    return replace(source, facts=self.by_file[name])
        return source


def load_facts(path: Path | None) -> Facts:
    """Read a .csv file with a header, or a .jsonl file with an object a line.

    Raises FactsError, and OSError when it cannot be read.
    """
    if path is None:
        return Facts()
    names: dict[str, None] = {}
    by_file: dict[str, tuple[tuple[str, str], ...]] = {}
    try:
        for line, record in _records(path):
            key = record.pop(KEY, "")
            if not key:
                raise FactsError(f"{path}:{line}: there is no `{KEY}`")
            if key in by_file:
                raise FactsError(f"{path}:{line}: {key} is here twice")
            for name in record:
                if FACT + name in Row.model_fields:
                    raise FactsError(f"{path}:{line}: the ledger has a column {FACT}{name}")
            names |= dict.fromkeys(record)
            by_file[key] = tuple((name, value) for name, value in record.items() if value)
    except UnicodeDecodeError:
        raise FactsError(f"{path}: not a text file in UTF-8") from None
    return Facts(tuple(names), by_file)


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the line, and text by name."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            rows = csv.DictReader(file, restkey=os.sep)
            for row in rows:
                if os.sep in row or None in row.values():
                    raise FactsError(f"{path}:{rows.line_num}: not as many values as the header")
                yield rows.line_num, dict(row)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError:
                raise FactsError(f"{path}:{number}: no JSON object") from None
            if not isinstance(value, dict):
                raise FactsError(f"{path}:{number}: no JSON object")
            yield number, {key: _text(one) for key, one in value.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
