"""The ledger that deciding anew is timed on."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.ledger import Ledger, Row, arrow_table
from curation.measure.embedding import DIMENSIONS
from eval.redecide import repeated


def row(number: int) -> Row:
    return Row(
        clip_id=f"{number}",
        source=f"{number}.mp4",
        fps=10.0 + number,
        embedding=[0.0] * DIMENSIONS,
        hash_sequence=[number] * number,
        hash_changes=[0] * number,
        decision="keep",
        config_hash="0",
    )


def test_rows_are_those_known_and_each_has_values_of_its_own(tmp_path: Path) -> None:
    known: pa.Table = arrow_table([row(number) for number in range(4)])
    repeated(known, tmp_path / "ledger", 25, 10)
    ledger = Ledger(tmp_path / "ledger", tmp_path)
    assert [len(ledger.read(path)) for path in ledger.parts()] == [10, 10, 5]
    rows = list(ledger.rows())
    assert len({one.clip_id for one in rows}) == 25
    assert len({tuple(np.array(one.embedding)) for one in rows}) == 25
    for one in rows:
        assert one.source == f"{(one.fps or 0) - 10:.0f}.mp4"
        assert one.decision == "drop"
        assert len(one.hash_sequence or []) == int(one.source.split(".")[0])
    state = ledger.state_of("000000000020")
    assert state is not None
    assert state.final
