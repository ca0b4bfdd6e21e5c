"""Outputs on a real S3 API on the loopback: moto's server."""

import time
from pathlib import Path
from typing import Any

import pytest

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
    (elsewhere.folder / "ledger/a.parquet").write_text("2")
    elsewhere.push()
    assert s3.cat_file("bucket/out/ledger/a.parquet") == b"2"  # type: ignore[attr-defined]
    assert s3.exists("bucket/out/clips/a.mp4"), "of clips that are not here nothing is known"  # type: ignore[attr-defined]
    here.pull()

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


def test_what_was_stored_is_not_stored_again_by_the_next_run(s3: Any, tmp_path: Path) -> None:
    here = Mirror("s3://bucket/out")
    for name in ("ledger/a.parquet", "clips/a.mp4", "run.json"):
        (here.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (here.folder / name).write_text(name)
    here.push()
    before = {name: facts["LastModified"] for name, facts in listed(s3).items()}
    time.sleep(1.1)  # the storage tells whole seconds
    (here.folder / "run.json").write_text("another")
    again = Mirror("s3://bucket/out")
    again.pull()
    again.push()
    after = {name: facts["LastModified"] for name, facts in listed(s3).items()}
    assert {name for name in after if after[name] != before[name]} == {"bucket/out/run.json"}


def listed(s3: Any) -> dict[str, Any]:
    s3.invalidate_cache()
    found: dict[str, Any] = s3.find("bucket/out", detail=True)
    return found


def test_clips_that_are_kept_no_more_go(s3: object, tmp_path: Path) -> None:
    here = Mirror("s3://bucket/out")
    (here.folder / "clips").mkdir(parents=True)
    for name in "ab":
        (here.folder / "clips" / f"{name}.mp4").write_text(name)
    here.push()
    (here.folder / "clips" / "a.mp4").unlink()
    here.push(clips=False)
    assert len(s3.ls("bucket/out/clips", refresh=True)) == 2  # type: ignore[attr-defined]
    here.push(clips=True)
    assert s3.ls("bucket/out/clips", refresh=True) == ["bucket/out/clips/b.mp4"]  # type: ignore[attr-defined]


def test_now_and_then_only_what_is_new_is_stored(
    s3: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Mirror("s3://bucket/out")
    (here.folder / "ledger").mkdir(parents=True)
    (here.folder / "ledger" / "a.parquet").write_text("1")
    here.push_now_and_then()
    assert not s3.exists("bucket/out"), "a minute has not passed"  # type: ignore[attr-defined]
    monkeypatch.setattr("curation.storage.PUSH_EVERY", -1.0)
    here.push_now_and_then()
    s3.pipe_file("bucket/out/ledger/a.parquet", b"kept")  # type: ignore[attr-defined]
    (here.folder / "ledger" / "b.parquet").write_text("2")
    here.push_now_and_then()
    stored = {name[-9]: s3.cat_file(name) for name in s3.find("bucket/out")}  # type: ignore[attr-defined]
    assert stored == {"a": b"kept", "b": b"2"}
