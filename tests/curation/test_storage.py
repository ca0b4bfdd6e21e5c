"""A real S3 API on the loopback: moto's server."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from curation.clips import ClipConfig
from curation.engine_ray import run_ray
from curation.keep import cut_clips
from curation.output import Output
from curation.pipeline import do, unfinished
from curation.rows import RowConfig
from curation.scan import ScanConfig
from curation.sources import Hashes, Source, identify
from curation.storage import Mirror, StorageError, find_inputs, is_remote, near, with_uris
from tests import clips

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


# --- on another node ------------------------------------------------------------------------------


@pytest.fixture
def far(s3: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A remote video whose copy the driver has, and this node has not."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    video = clips.two_shots(tmp_path / "a.mp4")
    s3.put_file(str(video), "bucket/films/a.mp4")  # type: ignore[attr-defined]
    uri = "s3://bucket/films/a.mp4"
    (source,) = identify([video], Hashes(tmp_path / "hashes.json"))
    video.rename(tmp_path / "elsewhere.mp4")
    return replace(source, uris=((video, uri),))


def test_a_node_fetches_what_it_works_on_for_as_long(far: Source, tmp_path: Path) -> None:
    content = (tmp_path / "elsewhere.mp4").read_bytes()
    with near(far) as here, near(far) as again:
        assert here.path == again.path != far.path
        assert here.path.read_bytes() == content
        assert here.label(here.path) == far.label(far.path) == "s3://bucket/films/a.mp4"
        assert here.key == far.key
    assert not here.path.exists()
    with near(far) as first:
        inode = first.path.stat().st_ino
        with near(far) as second:
            assert second.path.stat().st_ino == inode, "fetched once"
        assert first.path.exists(), "still in use"
    here_already = replace(far, path=tmp_path / "elsewhere.mp4")
    with near(here_already) as same:
        assert same is here_already


def test_what_has_changed_meanwhile_is_not_taken(far: Source, s3: object) -> None:
    s3.pipe_file("bucket/films/a.mp4", b"another")  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match="it has changed since the run began"), near(far):
        pass
    s3.rm("bucket/films/a.mp4")  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"s3://bucket/films/a\.mp4"), near(far):
        pass


def test_a_cluster_decodes_and_cuts_what_the_driver_alone_has(
    far: Source, s3: object, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    near_by = replace(far, path=tmp_path / "elsewhere.mp4", uris=())
    config = RowConfig(ScanConfig(), None)
    clip_config = ClipConfig()
    made: dict[str, dict[str, bytes]] = {}
    rows: dict[str, list[dict[str, object]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            for name, source in (("far", far), ("near", near_by)):
                out = Output(tmp_path / name)
                run = partial(run_ray, config=config, workers=1)
                list(do(unfinished([source], config, out), config, out, run))
                assert cut_clips([source], clip_config, out, 2, ray=True).clips == 2
                made[name] = {path.name: path.read_bytes() for path in out.clips.iterdir()}
                rows[name] = [row.model_dump(exclude={"source"}) for row in out.rows()]
                assert cut_clips([source], clip_config, out, 2, ray=True).clips == 0, "once"
            assert made["far"] == made["near"]
            assert rows["far"] == rows["near"]
            assert {row.source for row in Output(tmp_path / "far").rows()} == {
                "s3://bucket/films/a.mp4"
            }

            out = Output(tmp_path / "local")
            list(do([near_by], config, out, partial(run_ray, config=config, workers=1)))
            assert cut_clips([near_by], clip_config, out, 2).clips == 2
            assert {path.name: path.read_bytes() for path in out.clips.iterdir()} == made["far"]

            s3.rm("bucket/films/a.mp4")  # type: ignore[attr-defined]
            out = Output(tmp_path / "gone")
            list(do([far], config, out, partial(run_ray, config=config, workers=1)))
            (row,) = out.rows()
            assert (row.decision, row.stage) == ("error", "open")
            assert "s3://bucket/films/a.mp4" in str(row.error)
            assert unfinished([far], config, out) == [far], "tried again by the next run"
        finally:
            ray.shutdown()
