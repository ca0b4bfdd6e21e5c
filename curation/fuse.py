"""The prose of a finished ledger, told anew by a language model.

Texts go into a record as they come, `OUT/state/fusion.<what they depend on>.jsonl`, and into the
ledger at the end: a run that was killed goes on, and one that has ended asks nothing again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from captioner.fusion import Fused, Fusion
from captioner.schema import ShotCaption
from curation.ledger_columns import read_columns, write_columns
from curation.output import Output


class _Text(BaseModel):
    """A line of the record; `caption` is the hash of what was told."""

    clip_id: str
    caption: str
    text: str
    by: str


@dataclass(frozen=True)
class Told:
    """What a run did: texts that were there, and new ones by status (ok, template, error).

    `failed` are those of them on which the engine failed, the last time for `reason`.
    """

    present: int
    statuses: Mapping[str, int]
    failed: int = 0
    reason: str = ""

    @property
    def texts(self) -> int:
        """New texts."""
        return sum(self.statuses.values())


def fuse(
    out: Output, fusions: Sequence[Fusion], tell: Callable[[int, int], None] = lambda done, of: None
) -> Told:
    """Tell the kept clips' captions, each fusion for its task, and write the texts to the ledger.

    `tell` is told how many texts there are now, of how many. What an engine failed on has the
    template's text, and is asked for again by the next run. Raises OSError, and
    curation.ledger_columns.LedgerError.
    """
    captions = {
        row.clip_id: row.caption
        for row in out.ledger.rows()
        if row.caption is not None and row.decision == "keep"
    }
    present, statuses, failed = 0, Counter[str](), list[str]()
    for fusion in fusions:
        record = _Record(out.folder / "state", fusion)
        known = record.read()
        texts = {name: known[name] for name in captions if _is_of(known, name, captions[name])}
        todo = [(name, caption) for name, caption in captions.items() if name not in texts]
        present += len(texts)
        for fused in _kept(fusion, todo, record, captions):
            texts[fused.clip_id] = _text(fused, captions[fused.clip_id])
            statuses[fused.status] += 1
            failed += [fused.error or ""] if fused.again else []
            tell(present + statuses.total(), len(captions) * len(fusions))
        _write(out, fusion.task, texts)
    reason = (failed or [""])[-1].strip().rpartition("\n")[2]
    return Told(present, dict(statuses), len(failed), reason)


def _kept(
    fusion: Fusion,
    todo: Sequence[tuple[str, ShotCaption]],
    record: _Record,
    captions: Mapping[str, ShotCaption],
) -> Iterator[Fused]:
    """New texts, each in the record before it is handed on."""
    if not todo:
        return
    with record.path.open("a", encoding="utf-8") as file:
        for fused in fusion.stream(todo):
            if not fused.again:
                text = _text(fused, captions[fused.clip_id])
                file.write(text.model_dump_json() + "\n")
                file.flush()
            yield fused


@dataclass(frozen=True)
class _Record:
    folder: Path
    fusion: Fusion

    @property
    def path(self) -> Path:
        identity = json.dumps(self.fusion.identity(), sort_keys=True)
        return self.folder / f"fusion.{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"

    def read(self) -> dict[str, _Text]:
        """The latest text of each clip. A last line that a kill cut short is taken off the file."""
        known: dict[str, _Text] = {}
        whole = 0
        if not self.path.is_file():
            return known
        with self.path.open("rb") as file:
            for line in file:
                try:
                    text = _Text.model_validate_json(line)
                except ValidationError:
                    break
                if not line.endswith(b"\n"):
                    break
                known[text.clip_id] = text
                whole += len(line)
        with self.path.open("r+b") as file:
            file.truncate(whole)
        return known


def _is_of(known: Mapping[str, _Text], name: str, caption: ShotCaption) -> bool:
    return name in known and known[name].caption == _hash(caption)


def _hash(caption: ShotCaption) -> str:
    return hashlib.sha256(caption.to_json().encode()).hexdigest()[:16]


def _text(fused: Fused, caption: ShotCaption) -> _Text:
    return _Text(clip_id=fused.clip_id, caption=_hash(caption), text=fused.text, by=fused.told_by)


def _write(out: Output, task: str, texts: Mapping[str, _Text]) -> None:
    """Put texts into the ledger; rows without one stay as they are."""
    names = (f"caption_{task}", f"caption_{task}_by")
    before, parts = read_columns(out.ledger.parts(), ["clip_id", *names])
    values = before.to_pydict()
    for row, name in enumerate(values["clip_id"]):
        if name in texts:
            values[names[0]][row], values[names[1]][row] = texts[name].text, texts[name].by
    columns = {name: pa.array(values[name], pa.string()) for name in names}
    write_columns(parts, before, columns)
