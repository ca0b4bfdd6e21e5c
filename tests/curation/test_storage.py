"""A real S3 API on the loopback: moto's server."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.sources import Source
from curation.storage import Mirror, StorageError, find_inputs, is_remote, with_uris

s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """In a process of its own: vLLM does not start beside its web framework."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                    break
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("SKYCAPTIONER_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


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


def test_remote_videos_are_fetched_once_and_keep_their_names(s3: object, tmp_path: Path) -> None:
    for name in ("films/a.mp4", "films/deep/b.mkv", "films/notes.txt"):
        s3.pipe_file(f"bucket/{name}", b"x")  # type: ignore[attr-defined]
    found = find_inputs(["s3://bucket/films/"], tmp_path)
    assert list(found.values()) == ["s3://bucket/films/a.mp4", "s3://bucket/films/deep/b.mkv"]
    assert all(path.read_bytes() == b"x" for path in found)
    path = next(iter(found))
    assert with_uris(Source(path), found).label(path) == "s3://bucket/films/a.mp4"
    path.write_bytes(b"y")
    assert find_inputs(["s3://bucket/films"], tmp_path) == found
    assert path.read_bytes() == b"y"


def test_a_place_that_is_not_there_is_one_line(s3: object) -> None:
    with pytest.raises(StorageError, match="s3://nowhere"):
        find_inputs(["s3://nowhere/films"], Path("unused"))
    with pytest.raises(StorageError, match="nosuch://"):
        find_inputs(["nosuch://films"], Path("unused"))


def test_a_local_output_is_worked_on_in_place(tmp_path: Path) -> None:
    assert Mirror(str(tmp_path)).folder == tmp_path
    assert not is_remote("/a/b")
    assert not is_remote("file:///a")
    assert is_remote("s3://a")
