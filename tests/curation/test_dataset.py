"""Datasets: published whole, appended to, compacted, read by others."""

import multiprocessing
import os
import signal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from curation.dataset import (
    MANIFEST,
    DatasetConfig,
    DatasetError,
    Published,
    ShardWriter,
    compact,
    open_shards,
    publish,
    read_manifest,
    read_shard,
)
from curation.ledger import Ledger, Row
from curation.output import Output
from tests.curation.curated import Film, curate

SMALL = DatasetConfig(shard_bytes=1, row_group_bytes=1)


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    curate(tmp_path / "cur", [Film(), Film(licence="CC-BY | <b>")])
    return tmp_path / "cur"


def ids(folder: Path) -> list[str]:
    manifest = read_manifest(folder)
    shards = [s for split in manifest.splits for s in open_shards(folder, manifest, split)]
    return [c for s in shards for c in read_shard(folder / s.file)["clip_id"].to_pylist()]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kept(out: Path) -> set[str]:
    return {row.clip_id for row in Output(out).rows() if row.decision == "keep"}


def test_each_kept_clip_is_a_row_with_its_video(curated: Path, tmp_path: Path) -> None:
    done = publish(curated, tmp_path / "d")
    assert done == Published(added=4)
    assert sorted(ids(tmp_path / "d")) == sorted(kept(curated))
    table = pq.read_table(tmp_path / "d" / "data")
    for row in table.to_pylist():
        assert row["video"]["bytes"] == (curated / "clips" / f"{row['clip_id']}.mp4").read_bytes()
        assert (row["video_width"], row["video_height"]) == (160, 96)
    known = read_manifest(tmp_path / "d").statistics
    assert (known.clips, known.frames) == (4, 80)
    assert known.licences == {"CC-BY | <b>": 2, "CC0": 2}
    assert known.concepts == {"Animal": 2, "Human": 2}


def test_others_read_it(curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(curated, tmp_path / "d")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows == 4
    assert isinstance(loaded["train"].features["video"], datasets.Video)
    raw = loaded["train"].cast_column("video", datasets.Video(decode=False))[0]
    assert raw["video"]["bytes"][4:8] == b"ftyp"
    found = duckdb.sql(
        f"select caption.shot_type, count(*) from '{tmp_path}/d/data/*.parquet' group by 1"
    )
    assert found.fetchall() == [("long_shot", 4)]
    frame = pd.read_parquet(tmp_path / "d" / "data")
    assert len(frame) == 4
    assert list(frame.columns)[:3] == ["clip_id", "video", "caption_t2v"]


def test_lance_takes_it_over(curated: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    publish(curated, tmp_path / "d", SMALL)
    ours = dataset(tmp_path / "d" / "data", format="parquet")
    theirs = lance.write_dataset(ours.to_batches(), tmp_path / "d.lance", schema=ours.schema)
    assert theirs.to_table().equals(ours.to_table())
    assert theirs.take([3, 1]).equals(ours.take([3, 1]))


def test_appending_rewrites_nothing_and_adds_no_clip_twice(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    before = files(tmp_path / "d" / "data")
    assert publish(curated, tmp_path / "d") == Published(present=4)
    assert files(tmp_path / "d" / "data") == before
    curate(curated, [Film()], first=2)
    assert publish(curated, tmp_path / "d") == Published(added=2, present=4)
    after = files(tmp_path / "d" / "data")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert sorted(ids(tmp_path / "d")) == sorted(kept(curated))


def test_a_clip_with_another_caption_is_told_and_left(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    ledger = Output(curated).ledger
    rows = ledger.read(ledger.parts()[0])
    ledger.write(
        ledger.parts()[0].stem, [rows[0].model_copy(update={"caption_t2v": "x"}), *rows[1:]]
    )
    assert publish(curated, tmp_path / "d") == Published(present=3, changed=(rows[0].clip_id,))


def test_compacting_keeps_rows_and_order(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d", SMALL)
    curate(curated, [Film()], first=2)
    publish(curated, tmp_path / "d", SMALL)
    before, rows = ids(tmp_path / "d"), pq.read_table(tmp_path / "d" / "data").num_rows
    statistics = read_manifest(tmp_path / "d").statistics
    assert compact(tmp_path / "d") == 5
    assert ids(tmp_path / "d") == before
    assert len(before) == len(set(before)) == rows == 6
    assert len(list((tmp_path / "d" / "data").iterdir())) == 1
    assert read_manifest(tmp_path / "d").statistics == statistics
    assert compact(tmp_path / "d") == 0


def test_a_row_group_holds_one_clip_where_clips_are_large(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d", DatasetConfig(row_group_bytes=1))
    [path] = (tmp_path / "d" / "data").iterdir()
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 4
    video = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    [column] = [c for c in video if c.path_in_schema == "video.bytes"]
    assert column.compression == "UNCOMPRESSED"
    assert column.statistics is None


def test_a_source_is_in_one_split_and_stays_there(tmp_path: Path) -> None:
    config = DatasetConfig(splits={"train": 0.5, "test": 0.5})
    rows = curate(tmp_path / "cur", [Film(frames=2)] * 8)
    publish(tmp_path / "cur", tmp_path / "d", config)

    def splits() -> dict[str, str]:
        manifest = read_manifest(tmp_path / "d")
        return {
            clip: shard.split
            for shard in manifest.shards
            for clip in read_shard(tmp_path / "d" / shard.file)["clip_id"].to_pylist()
        }

    first = splits()
    assert set(first.values()) == {"train", "test"}
    by_source: dict[str, set[str]] = {}
    for row in rows:
        by_source.setdefault(row.source, set()).add(first[row.clip_id])
    assert all(len(found) == 1 for found in by_source.values())
    curate(tmp_path / "cur", [Film(frames=2)] * 4, first=8)
    publish(tmp_path / "cur", tmp_path / "d", config)
    assert first.items() <= splits().items()


def test_files_and_virtual_layouts_hold_no_video_in_the_rows(curated: Path, tmp_path: Path) -> None:
    for layout in ("files", "virtual"):
        publish(curated, tmp_path / layout, DatasetConfig(layout=layout))  # type: ignore[arg-type]
    for row in pq.read_table(tmp_path / "files" / "data").to_pylist():
        path = tmp_path / "files" / row["video"]["path"]
        assert row["video"]["bytes"] is None
        assert path.samefile(curated / "clips" / path.name)
    assert pq.read_table(tmp_path / "virtual" / "data")["video"].null_count == 4
    assert not (tmp_path / "virtual" / "videos").exists()


def test_a_missing_or_shortened_clip_is_refused_with_its_reason(
    curated: Path, tmp_path: Path
) -> None:
    gone, short = sorted((curated / "clips").iterdir())[:2]
    gone.unlink()
    short.write_bytes(short.read_bytes()[:500])
    done = publish(curated, tmp_path / "d")
    assert done.added == 2
    assert {clip for clip, _ in done.refused} == {gone.stem, short.stem}
    assert all(reason for _, reason in done.refused)


def test_the_card_says_what_is_in_it(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    text = (tmp_path / "d" / "README.md").read_text()
    assert "4 clips" in text
    assert "| CC-BY \\| &lt;b&gt; | 2 |" in text
    assert (tmp_path / "d" / "card" / "concepts.svg").read_text().count("<rect") == 3


def _publish_and_die(curated: Path, folder: Path) -> None:
    close = ShardWriter.close

    def dying(self: ShardWriter) -> list[object]:
        close(self)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    ShardWriter.close = dying  # type: ignore[assignment]
    publish(curated, folder, SMALL)


def test_a_killed_publisher_leaves_the_dataset_as_it_was(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d", SMALL)
    before = ids(tmp_path / "d")
    curate(curated, [Film()], first=2)
    process = multiprocessing.get_context("fork").Process(
        target=_publish_and_die, args=(curated, tmp_path / "d")
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert ids(tmp_path / "d") == before
    publish(curated, tmp_path / "d", SMALL)
    assert sorted(ids(tmp_path / "d")) == sorted(kept(curated))
    assert len(list((tmp_path / "d" / "data").iterdir())) == 6


@pytest.mark.parametrize("damage", ["short", "missing", "version", "manifest", "stranger"])
def test_what_is_wrong_with_a_dataset_is_one_clear_line(
    curated: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "d"
    publish(curated, folder)
    [shard] = (folder / "data").iterdir()
    manifest = folder / MANIFEST
    if damage == "short":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif damage == "missing":
        shard.unlink()
    elif damage == "version":
        text = manifest.read_text().replace('"schema_version": "', '"schema_version": "9')
        manifest.write_text(text)
    elif damage == "manifest":
        manifest.write_text("{}")
    else:
        manifest.unlink()
    says = {
        "short": "cut short",
        "missing": "is missing",
        "version": "publish the dataset anew",
        "manifest": "cannot be read",
        "stranger": "holds other things",
    }[damage]
    with pytest.raises(DatasetError, match=says) as error:
        publish(curated, folder)
    assert "\n" not in str(error.value)


def test_a_manifest_cannot_lead_out_of_the_folder(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    manifest = tmp_path / "d" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"data/', '"data/../../'))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_manifest(tmp_path / "d")


def test_a_ledger_of_another_version_is_refused(curated: Path, tmp_path: Path) -> None:
    part = Ledger(curated / "ledger", curated / "state").parts()[0]
    table = pq.read_table(part)
    metadata = {**table.schema.metadata, b"skycaptioner_schema_version": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), part)
    with pytest.raises(DatasetError, match="curate again"):
        publish(curated, tmp_path / "d")
    assert not (tmp_path / "d" / MANIFEST).exists()


def test_a_dataset_goes_on_as_it_was_begun(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d")
    with pytest.raises(DatasetError, match="begun with seed 0"):
        publish(curated, tmp_path / "d", DatasetConfig(seed=1))


def test_nothing_kept_makes_an_empty_dataset(tmp_path: Path) -> None:
    row = Row(clip_id="a", source="a", decision="drop", config_hash="0")
    Output(tmp_path / "cur").ledger.write("a", [row])
    assert publish(tmp_path / "cur", tmp_path / "d") == Published()
    assert ids(tmp_path / "d") == []
