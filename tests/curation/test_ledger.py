from itertools import groupby
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from captioner.schema import FIELDS, ShotCaption, Subject, SubjectTypes
from curation.ledger import Ledger, Row, arrow_schema, clip_id, replacing, sweep
from curation.measure.clip import Measures


def a_row(shot: int = 0, sha: str = "ab" * 32) -> Row:
    subject = Subject(types=SubjectTypes(type="Human", sub_type="Man"), is_main_subject=True)
    return Row(
        clip_id=clip_id(sha, shot * 100, shot * 100 + 100),
        source="a.mp4",
        source_sha256=sha,
        shot=shot,
        start=shot * 1.1,
        end=shot * 1.1 + 0.1,
        decision="keep",
        caption=ShotCaption(subjects=(subject,), shot_type="close_up", lighting="dark"),
        caption_status="ok",
        caption_sources={"shot_type": {"source": "face extent", "confidence": 0.1}},
        config_hash="c",
    )


def a_ledger(folder: Path) -> Ledger:
    return Ledger(folder / "ledger", folder / "state")


def test_rows_come_back(tmp_path: Path) -> None:
    ledger, rows = a_ledger(tmp_path), [a_row(i) for i in range(3)]
    ledger.write("key", rows)
    assert list(ledger.rows()) == rows
    state = ledger.state_of("key")
    assert state is not None
    assert (state.config_hash, state.final, state.source) == ("c", True, "a.mp4")


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    first = ledger.write("key", [a_row()]).read_bytes()
    assert ledger.write("key", [a_row()]).read_bytes() == first


def test_others_open_the_parquet_without_our_code(tmp_path: Path) -> None:
    """pandas, DuckDB and datasets see the documented columns."""
    ledger = a_ledger(tmp_path)
    for key in "ab":
        ledger.write(key, [a_row(0, key * 64), a_row(1, key * 64)])
    ledger.write("c", [Row(clip_id="0", source="b", decision="error", error="why", config_hash="")])
    columns = arrow_schema().names
    glob = str(tmp_path / "ledger" / "*.parquet")

    frame = pd.read_parquet(tmp_path / "ledger")
    assert list(frame.columns) == columns
    assert frame.caption.dropna().iloc[0]["shot_type"] == "close_up"

    count = duckdb.sql(
        f"select count(*) from '{glob}' where caption.subjects[1].TYPES.sub_type = 'Man'"
    ).fetchall()
    assert count == [(4,)]

    data = load_dataset("parquet", data_files=glob, cache_dir=str(tmp_path / "cache"))["train"]
    assert data.column_names == columns
    assert {row["decision"] for row in data} == {"keep", "error"}


def test_columns_begin_with_what_a_clip_is_and_keep_families_together() -> None:
    names = arrow_schema().names
    assert names[:2] == ["clip_id", "source"]
    assert set(names) == set(Row.model_fields)
    families = [name.split("_")[0] for name in names if name in Measures.model_fields]
    assert [family for family, _ in groupby(families)] == [
        *("quality", "motion", "border", "text", "overlay", "safety", "embedding", "hash")
    ]
    assert names.index("transition_in") < names.index("quality_luma") < names.index("decision")


def test_every_column_says_what_it_is(tmp_path: Path) -> None:
    path = a_ledger(tmp_path).write("key", [a_row()])
    for column in pq.read_schema(path):
        assert column.metadata[b"description"]
    sources = arrow_schema().field("caption_sources").type
    assert [field.name for field in sources] == list(FIELDS)


def test_the_identity_of_a_clip_is_its_content_and_bounds() -> None:
    ids = {clip_id(sha, a, b) for sha in "xy" for a in (0, 1) for b in (2, 3)}
    assert len(ids) == 8
    assert clip_id("x", 0, 2) in ids


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.write("key", [a_row()])
    (ledger.folder / ".key.parquet.123.part").write_text("half")
    assert len(list(ledger.rows())) == 1
    sweep(ledger.folder)
    assert [p.name for p in ledger.folder.iterdir()] == ["key.parquet"]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"no parquet at all" * 10])
def test_a_damaged_part_counts_as_missing(damage: bytes, tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.write("key", [a_row()]).write_bytes(damage)
    assert ledger.state_of("key") is None
    assert ledger.state_of("never written") is None


def test_the_journal_keeps_whole_lines(tmp_path: Path) -> None:
    journal = a_ledger(tmp_path).journal("key", "c")
    assert journal.rows() == {}
    rows = [a_row(i) for i in range(3)]
    for row in rows:
        journal.add(row)
    journal.close()
    assert list(journal.rows().values()) == rows
    content = journal.path.read_bytes()
    for cut in range(0, len(content), 97):
        journal.path.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        assert list(journal.rows().values())[:whole] == rows[:whole]
    journal.restart(rows[:1])
    journal.add(rows[2])
    assert list(journal.rows().values()) == [rows[0], rows[2]]
    journal.discard()
    assert journal.rows() == {}
