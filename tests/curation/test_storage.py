"""Outputs on a real S3 API on the loopback: moto's server."""

from pathlib import Path

from curation.storage import Mirror, is_remote


def test_a_mirror_stores_what_changed_and_fetches_it_elsewhere(s3: object, tmp_path: Path) -> None:
    here = Mirror("s3://bucket/out")
    for name in ("ledger/a.parquet", "clips/a.mp4", "state/journal.jsonl", "run.json"):
        (here.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (here.folder / name).write_text("1")
    here.push()
    stored = s3.find("bucket/out")  # type: ignore[attr-defined]
    assert sorted(stored) == [
        f"bucket/out/{n}" for n in ("clips/a.mp4", "ledger/a.parquet", "run.json")
    ]

    elsewhere = Mirror("s3://bucket/out")
    elsewhere.folder = tmp_path / "elsewhere"
    elsewhere.pull()
    assert (elsewhere.folder / "ledger/a.parquet").read_text() == "1"
    assert not (elsewhere.folder / "clips").exists()

    (here.folder / "ledger/a.parquet").unlink()
    (here.folder / "ledger/b.parquet").write_text("22")
    here.push()
    elsewhere.pull()
    assert [path.name for path in (elsewhere.folder / "ledger").iterdir()] == ["b.parquet"]


def test_a_local_output_is_worked_on_in_place(tmp_path: Path) -> None:
    assert Mirror(str(tmp_path)).folder == tmp_path
    assert not is_remote("/a/b")
    assert not is_remote("file:///a")
    assert is_remote("s3://a")
