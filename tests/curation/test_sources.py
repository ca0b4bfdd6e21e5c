import hashlib
import os
from pathlib import Path

import pytest

from curation.sources import Hashes, find_videos, identify, printable


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folders_are_searched_and_files_taken(tmp_path: Path) -> None:
    inside = [put(tmp_path / "in" / name) for name in ("b.mp4", "a.MKV", "deep/er/c.webm")]
    for name in ("notes.txt", ".hidden.mp4", ".git/d.mp4", "out/e.mp4"):
        put(tmp_path / "in" / name)
    named = put(tmp_path / "strange.name")
    found = list(find_videos([tmp_path / "in", named, inside[0]], besides=tmp_path / "in/out"))
    assert sorted(found) == sorted([*inside, named])
    assert found == list(find_videos([tmp_path / "in", named], besides=tmp_path / "in/out"))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(find_videos([tmp_path / "nothing"]))


def test_copies_are_one_source(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{i}.mp4", b"same" if i != 1 else b"other") for i in range(3)]
    first, second = identify(paths, Hashes(tmp_path / "hashes.json").sha256)
    assert (first.path, first.copies) == (paths[0], (paths[2],))
    assert second.path == paths[1]
    assert first.key != second.key


def test_what_cannot_be_read_is_a_source_with_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (source,) = identify([tmp_path / "pipe.mp4"], Hashes(tmp_path / "hashes.json").sha256)
    assert source.error
    assert source.sha256 is None


def test_hashes_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = put(tmp_path / "a.mp4", b"one"), tmp_path / "hashes.json"
    hashes = Hashes(memory)
    first = hashes.sha256(path)
    hashes.save()
    with monkeypatch.context() as no_reading:
        no_reading.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert Hashes(memory).sha256(path) == first
    put(path, b"another")
    assert Hashes(memory).sha256(path) != first
    memory.write_text("damaged")
    assert Hashes(memory).sha256(path)[1] == 7


def test_any_name_can_be_printed() -> None:
    name = os.fsdecode(b"\xff\n-.mp4")
    assert printable(Path(name)) == "\\xff\n-.mp4"
