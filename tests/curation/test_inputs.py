"""Remote videos: a real S3 API on the loopback (moto's server)."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from curation import inputs
from curation.clips import ClipConfig
from curation.engine_ray import run_ray
from curation.inputs import (
    Remote,
    Videos,
    digests_here,
    divided_here,
    fetch,
    find_inputs,
    have_room,
    near,
    some,
    sources_of,
)
from curation.inputs_ray import digests_on_ray, divided_on_ray
from curation.keep import cut_clips
from curation.output import Output
from curation.pipeline import do, run_local, unfinished
from curation.rows import RowConfig
from curation.scan import ScanConfig
from curation.sources import Hashes, Source, identify
from curation.storage import StorageError
from eval.synth import write_video
from tests import clips


def stored(s3: object, **files: bytes) -> None:
    for name, content in files.items():
        s3.pipe_file(f"bucket/films/{name.replace('_', '.')}", content)  # type: ignore[attr-defined]


class Reading:
    """Reads remote videos through and counts which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, unknown: Sequence[Remote]) -> Iterator[tuple[Remote, str | OSError]]:
        self.read += [remote.uri.rpartition("/")[2] for remote in unknown]
        return digests_here(unknown)


def found_in(out: Path, reading: Reading) -> tuple[Videos, list[Source]]:
    videos = find_inputs(["s3://bucket/films/"], out)
    hashes = Hashes(out / "hashes.json")
    return videos, sources_of(videos, hashes, out / "inputs.json", reading)


def test_remote_videos_are_found_and_fetched_once(s3: object, tmp_path: Path) -> None:
    for name in ("films/a.mp4", "films/deep/b.mkv", "films/notes.txt"):
        s3.pipe_file(f"bucket/{name}", b"x")  # type: ignore[attr-defined]
    videos = find_inputs(["s3://bucket/films/"], tmp_path)
    uris = [remote.uri for remote in videos.values() if remote]
    assert uris == ["s3://bucket/films/a.mp4", "s3://bucket/films/deep/b.mkv"]
    assert not any(path.exists() for path in videos), "nothing is fetched to find them"
    fetch(videos)
    assert all(path.read_bytes() == b"x" for path in videos)
    next(iter(videos)).write_bytes(b"y")
    fetch(videos)
    assert next(iter(videos)).read_bytes() == b"y"
    stored(s3, a_mp4=b"z")
    fetch(find_inputs(["s3://bucket/films/"], tmp_path))
    assert next(iter(videos)).read_bytes() == b"z", "another file of the same size"


def test_videos_are_told_apart_without_keeping_them(s3: object, tmp_path: Path) -> None:
    stored(s3, a_mp4=b"one", b_mp4=b"two", c_mp4=b"one")
    videos, sources = found_in(tmp_path, Reading())
    assert [source.sha256 for source in sources] == [
        hashlib.sha256(content).hexdigest() for content in (b"one", b"two")
    ]
    assert [source.bytes for source in sources] == [3, 3]
    first = sources[0]
    names = [first.label(path) for path in (first.path, *first.copies)]
    assert names == ["s3://bucket/films/a.mp4", "s3://bucket/films/c.mp4"]
    assert not any(path.exists() for path in videos)
    fetch(videos)
    _, copied = found_in(tmp_path, reading := Reading())
    assert copied == sources, "the same whether fetched or not"
    assert reading.read == []
    stored(s3, b_mp4=b"TWO")
    videos, (_, changed) = found_in(tmp_path, reading)
    assert changed.sha256 == hashlib.sha256(b"TWO").hexdigest()
    assert reading.read == ["b.mp4"]
    assert [path.exists() for path in videos] == [True, False, True], "not the copy of another"


def test_only_what_is_new_or_has_changed_is_read(s3: object, tmp_path: Path) -> None:
    stored(s3, a_mp4=b"one", b_mp4=b"two")
    _, before = found_in(tmp_path, Reading())
    _, again = found_in(tmp_path, reading := Reading())
    assert (again, reading.read) == (before, [])
    stored(s3, b_mp4=b"TWO", c_mp4=b"three")
    _, after = found_in(tmp_path, reading := Reading())
    assert reading.read == ["b.mp4", "c.mp4"]
    assert after[0] == before[0]
    assert after[1].sha256 == hashlib.sha256(b"TWO").hexdigest()
    known = json.loads((tmp_path / "inputs.json").read_text())
    assert len(known) == 3, "of each the latest"
    (tmp_path / "inputs.json").write_text("{damaged")
    assert found_in(tmp_path, Reading())[1] == after


def test_one_that_cannot_be_read_costs_itself(s3: object, tmp_path: Path) -> None:
    stored(s3, a_mp4=b"one", b_mp4=b"two")

    def digests(unknown: Sequence[Remote]) -> Iterator[tuple[Remote, str | OSError]]:
        s3.rm("bucket/films/a.mp4")  # type: ignore[attr-defined]
        return digests_here(unknown)

    videos = find_inputs(["s3://bucket/films/"], tmp_path)
    memory = tmp_path / "inputs.json"
    good, bad = sources_of(videos, Hashes(tmp_path / "hashes.json"), memory, digests)
    assert (good.error, good.label(good.path)) == (None, "s3://bucket/films/b.mp4")
    assert "s3://bucket/films/a.mp4" in str(bad.error)
    assert [one["uri"] for one in json.loads(memory.read_text())] == ["s3://bucket/films/b.mp4"]


def test_one_that_cannot_be_copied_costs_itself(s3: object, tmp_path: Path) -> None:
    stored(s3, a_mp4=b"one", b_mp4=b"two")
    videos = find_inputs(["s3://bucket/films/"], tmp_path)
    s3.rm("bucket/films/a.mp4")  # type: ignore[attr-defined]
    fetch(videos)
    assert [path.exists() for path in videos] == [False, True]
    hashes = Hashes(tmp_path / "hashes.json")
    good, bad = sources_of(videos, hashes, tmp_path / "inputs.json", digests_here)
    assert (good.error, good.label(good.path)) == (None, "s3://bucket/films/b.mp4")
    assert "s3://bucket/films/a.mp4" in str(bad.error)


def test_clips_of_a_video_that_is_gone_have_its_error(
    far: Source, s3: object, tmp_path: Path
) -> None:
    config, out = RowConfig(ScanConfig(), None), Output(tmp_path / "out")
    list(do([far], config, out, partial(run_local, config=config, workers=1)))
    s3.rm("bucket/films/a.mp4")  # type: ignore[attr-defined]
    assert cut_clips([far], ClipConfig(), out, 1).clips == 0
    assert [row.stage for row in out.rows()] == ["clips", "clips"]
    assert all("s3://bucket/films/a.mp4" in str(row.error) for row in out.rows())


def test_copies_are_made_where_there_is_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    fits = {tmp_path / "new" / "a.mp4": Remote(uri="s3://b/a.mp4", bytes=free // 100, tag="1")}
    too_large = {tmp_path / "b.mp4": Remote(uri="s3://b/b.mp4", bytes=free, tag="1")}
    assert have_room(fits, tmp_path / "new")
    assert not have_room({**fits, **too_large}, tmp_path / "new")
    assert have_room({tmp_path / "c.mp4": None}, tmp_path)


def test_a_plan_looks_at_some_of_all_sizes() -> None:
    videos: Videos = {
        Path(f"{i}.mp4"): Remote(uri=f"s3://b/{i}.mp4", bytes=i, tag="1") for i in range(100)
    }
    sizes = [remote.bytes for remote in some(videos, 10).values() if remote]
    assert sizes == list(range(0, 100, 10))
    assert some(videos, 1000) == videos


def test_a_place_that_is_not_there_is_one_line(s3: object) -> None:
    with pytest.raises(StorageError, match="s3://nowhere"):
        find_inputs(["s3://nowhere/films"], Path("unused"))
    with pytest.raises(StorageError, match="nosuch://"):
        find_inputs(["nosuch://films"], Path("unused"))


def test_a_run_without_copies_makes_the_same(
    s3: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inputs, "LONG", 1)
    shots = [frame for seed in range(24) for frame in clips.panning(seed)]
    far = only_remote(write_video(tmp_path / "a.mp4", shots), s3, tmp_path)
    config = RowConfig(ScanConfig(), None)
    here = replace(far, path=tmp_path / "elsewhere.mp4")
    divided = partial(divided_here, seconds=11)
    parts = [[found for _, found in divided([source])] for source in (far, here)]
    assert parts[0] == parts[1]
    assert len(parts[0][0]) == 2
    made = []
    for name, source in (("far", far), ("here", here)):
        out = Output(tmp_path / name)
        run = partial(run_local, config=config, workers=2)
        list(do([source], config, out, run, divided=divided))
        cut_clips([source], ClipConfig(), out, 2)
        rows = [row.model_dump(exclude={"source"}) for row in out.rows()]
        made.append((rows, {path.name: path.read_bytes() for path in out.clips.iterdir()}))
    assert made[0] == made[1]
    assert len(made[0][1]) == 24
    assert not list(tmp_path.glob("skycaptioner-*/*.mp4")), "nothing is left behind"


# --- on another node ------------------------------------------------------------------------------


@pytest.fixture
def far(s3: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A remote video whose copy the driver has, and this node has not."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return only_remote(clips.two_shots(tmp_path / "a.mp4"), s3, tmp_path)


def only_remote(video: Path, s3: object, tmp_path: Path) -> Source:
    """The video in the bucket; its file is called elsewhere.mp4 now."""
    s3.put_file(str(video), "bucket/films/a.mp4")  # type: ignore[attr-defined]
    uri = "s3://bucket/films/a.mp4"
    (source,) = identify([video], Hashes(tmp_path / "hashes.json").sha256)
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
        patch.setattr(inputs, "LONG", 1)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            remotes = [r for r in find_inputs(["s3://bucket/films"], tmp_path).values() if r]
            assert list(digests_on_ray(remotes, 2)) == [(remotes[0], far.sha256)]
            assert list(divided_on_ray([far], 0.5, 2)) == [
                (far, found) for _, found in divided_here([near_by], 0.5)
            ]
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
