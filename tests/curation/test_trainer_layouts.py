"""Exports: what each trainer's own rules and readers say of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import av
import datasets
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from captioner.schema import ShotCaption
from curation.buckets import FAMILIES
from curation.dataset import DatasetConfig, publish, read_manifest
from curation.layouts import clips as layout_clips
from curation.layouts.clips import ExportError
from curation.layouts.diffusion_pipe import DiffusionPipe
from curation.layouts.export import LAYOUTS, ExportConfig, Report, export
from curation.layouts.layout import NO_RULES, toml
from curation.layouts.musubi import kept_frames
from curation.ledger import Row
from curation.output import Output
from tests.curation.curated import Film, curate

LONG = Film(frames=60, fps=24.0)
SHORT = Film(frames=15, fps=24.0)
SLOW = Film(frames=40, fps=12.0)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 60 frames at 24 a second, two of 15 at 24, two of 40 at 12."""
    out = tmp_path_factory.mktemp("curated") / "cur"
    curate(out, [LONG, SHORT, SLOW])
    return out


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))


def rows(curated: Path, film: Film) -> list[Row]:
    kept = [row for row in Output(curated).rows() if row.decision == "keep"]
    return [row for row in kept if (row.frames, row.fps) == (film.frames, film.fps)]


def names(curated: Path, *films: Film) -> set[str]:
    return {row.clip_id for film in films for row in rows(curated, film)}


def caption(curated: Path, clip_id: str) -> str:
    return next(r.caption_t2v or "" for r in Output(curated).rows() if r.clip_id == clip_id)


def skipped(report: Report) -> dict[str, str]:
    return {one.clip_id: one.reason for one in report.skipped}


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, time and content of each file."""
    return {
        path.relative_to(folder).as_posix(): (stat.st_ino, stat.st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (stat := path.stat())
    }


def content(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (_, _, data) in tree(folder).items()}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- each layout --------------------------------------------------------------------------------


def test_diffusion_pipe_reads_pairs_at_the_rate_of_the_model(curated: Path, tmp_path: Path) -> None:
    report, _ = export(curated, tmp_path / "x", ExportConfig("diffusion-pipe"))
    # At 16 frames a second: 40, 10, and 53 of the slow ones, of which it shows some twice.
    assert skipped(report) == dict.fromkeys(
        names(curated, SHORT), "shorter than 33 frames at 16 a second"
    )
    configuration = tomllib.loads((tmp_path / "x/dataset.toml").read_text())
    assert configuration["frame_buckets"] == [1, 33]
    assert configuration["resolutions"] == [[960, 544]]
    folder = Path(configuration["directory"][0]["path"])
    assert folder.is_absolute()
    # It takes every file that is not .txt, .npz, .json or .parquet for a picture or a video.
    assert {p.suffix for p in folder.iterdir()} == {".mp4", ".txt"}
    for clip_id in names(curated, LONG, SLOW):
        assert (folder / f"{clip_id}.txt").read_text().strip() == caption(curated, clip_id)
        assert (folder / f"{clip_id}.mp4").samefile(curated / f"clips/{clip_id}.mp4")

    at_24 = ExportConfig("diffusion-pipe", model="skyreels-v2", frames=(57, 61))
    report, _ = export(curated, tmp_path / "y", at_24)
    assert skipped(report) == dict.fromkeys(
        names(curated, SHORT), "shorter than 57 frames at 24 a second"
    )


def test_musubi_has_a_list_for_each_rate(curated: Path, tmp_path: Path) -> None:
    report, _ = export(curated, tmp_path / "x", ExportConfig("musubi"))
    assert skipped(report) == {
        **dict.fromkeys(names(curated, SHORT), "shorter than 33 frames at 16 a second"),
        **dict.fromkeys(
            names(curated, SLOW), "fewer than 16 frames a second: it would play too fast"
        ),
    }
    configuration = tomllib.loads((tmp_path / "x/dataset.toml").read_text())
    (dataset,) = configuration["datasets"]
    assert isinstance(dataset["source_fps"], float)
    assert dataset["source_fps"] == 24.0
    assert dataset["target_frames"] == [33]
    assert dataset["cache_directory"].startswith(str(tmp_path / "x"))
    listed = records(Path(dataset["video_jsonl_file"]))
    assert {Path(one["video_path"]).stem for one in listed} == names(curated, LONG)
    for one in listed:
        video = Path(one["video_path"])
        assert video.is_file()
        assert one["caption"] == video.with_suffix(".txt").read_text().strip()
        assert one["caption"] == caption(curated, video.stem)


def test_musubi_keeps_rates_apart(tmp_path: Path) -> None:
    curate(tmp_path / "cur", [LONG, Film(frames=80, fps=30.0)])
    export(tmp_path / "cur", tmp_path / "x", ExportConfig("musubi"))
    configuration = tomllib.loads((tmp_path / "x/dataset.toml").read_text())
    of_rate = {
        d["source_fps"]: records(Path(d["video_jsonl_file"])) for d in configuration["datasets"]
    }
    assert {rate: len(listed) for rate, listed in of_rate.items()} == {24.0: 2, 30.0: 2}
    assert len({d["cache_directory"] for d in configuration["datasets"]}) == 2


@pytest.mark.parametrize(("layout", "root"), [("finetrainers", "data"), ("hf-folder", "")])
def test_datasets_reads_the_folders(curated: Path, tmp_path: Path, layout: str, root: str) -> None:
    export(curated, tmp_path / "x", ExportConfig(layout, frames=(17,) if root else ()))
    read = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "x" / root), split="train")
    read = read.cast_column("video", datasets.Video(decode=False))
    found = {Path(row["video"]["path"]).stem: row for row in read}
    # finetrainers would make stills of the short ones; `datasets` has no rules.
    assert set(found) == names(curated, LONG, SLOW, *([] if root else [SHORT]))
    for clip_id, row in found.items():
        assert row["caption"] == caption(curated, clip_id)
        assert Path(row["video"]["path"]).samefile(curated / f"clips/{clip_id}.mp4")
    if layout == "hf-folder":
        row = found[rows(curated, SLOW)[1].clip_id]
        assert (row["frames"], row["fps"], row["width"], row["height"]) == (40, 12.0, 160, 96)
        assert row["licence"] == "CC0"
        assert ShotCaption.from_json(row["structural_caption"]).shot_type == "long_shot"


def test_finetrainers_configuration(curated: Path, tmp_path: Path) -> None:
    config = ExportConfig("finetrainers", model="ltx-video", frames=(17, 25), size="512x256")
    export(curated, tmp_path / "x", config)
    (dataset,) = json.loads((tmp_path / "x/training.json").read_text())["datasets"]
    assert dataset["video_resolution_buckets"] == [[17, 256, 512], [25, 256, 512]]
    # It looks at the files of its root alone: two metadata files, or captions there, confuse it.
    root = Path(dataset["data_root"])
    assert {path.name for path in root.iterdir()} == {"metadata.jsonl", "videos"}


def test_ltx(curated: Path, tmp_path: Path) -> None:
    report, _ = export(curated, tmp_path / "x", ExportConfig("ltx", frames=(41,)))
    short = dict.fromkeys(names(curated, SHORT, SLOW), "shorter than 41 frames")
    assert skipped(report) == short
    listed = json.loads((tmp_path / "x/dataset.json").read_text())
    assert {Path(one["video"]).stem for one in listed} == names(curated, LONG)
    for one in listed:
        assert set(one) == {"caption", "video"}
        assert (tmp_path / "x" / one["video"]).resolve().is_relative_to(tmp_path / "x")
        assert (tmp_path / "x" / one["video"]).is_file()


def test_webdataset_and_datasets_read_the_tars(curated: Path, tmp_path: Path) -> None:
    report, _ = export(curated, tmp_path / "x", ExportConfig("webdataset", shard_bytes=1))
    shards = [str(tmp_path / "x" / name) for name in report.files]
    assert len(shards) == 6
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert {sample["__key__"] for sample in samples} == names(curated, LONG, SHORT, SLOW)
    for sample in samples:
        key = sample["__key__"]
        assert sample["mp4"] == (curated / f"clips/{key}.mp4").read_bytes()
        assert sample["txt"] == sample["json"]["caption"] == caption(curated, key)
    read = datasets.load_dataset("webdataset", data_dir=str(tmp_path / "x"), split="train")
    assert set(read["__key__"]) == names(curated, LONG, SHORT, SLOW)
    assert isinstance(read.features["mp4"], datasets.Video)
    with tarfile.open(shards[0]) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}

    report, _ = export(curated, tmp_path / "one", ExportConfig("webdataset"))
    assert report.files == ["train-00000.tar"]


def test_openvid(curated: Path, tmp_path: Path) -> None:
    report, _ = export(curated, tmp_path / "x", ExportConfig("openvid-csv"))
    assert set(skipped(report)) == names(curated, SHORT)
    with (tmp_path / "x/clips.csv").open(newline="") as file:
        listed = list(csv.reader(file))
    assert listed[0][:2] == ["video", "caption"]
    assert {Path(row[0]).stem for row in listed[1:]} == names(curated, LONG, SLOW)
    for row in listed[1:]:
        assert (tmp_path / "x/video" / row[0]).is_file()
        assert row[1] == caption(curated, Path(row[0]).stem)
        known = dict(zip(listed[0], row, strict=True))
        assert (known["frame"], float(known["fps"])) in {("60", 24.0), ("40", 12.0)}
        seconds = int(known["frame"]) / float(known["fps"])
        assert float(known["seconds"]) == pytest.approx(seconds, abs=0.001)


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_model_takes_the_defaults(name: str) -> None:
    layout = LAYOUTS[name]()
    if not layout.models:
        assert layout.target(None, (), None) is NO_RULES
    for model in layout.models:
        target = layout.target(model, (), None)
        assert FAMILIES[model].accepts(target.shortest, target.width, target.height)
        assert target.width % layout.side == target.height % layout.side == 0


@given(
    name=st.sampled_from(["diffusion-pipe", "musubi", "finetrainers", "ltx"]),
    frames=st.integers(-3, 200),
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    data=st.data(),
)
def test_a_refusal_names_what_is_taken(
    name: str, frames: int, width: int, height: int, data: st.DataObject
) -> None:
    layout = LAYOUTS[name]()
    model = data.draw(st.sampled_from(sorted(layout.models)))
    size = f"{width}x{height}"
    for _ in range(2):
        try:
            target = layout.target(model, (frames,), size)
        except ExportError as error:
            said = str(error).split("say ")[1]
            if "frames" in str(error):
                frames = int(said.split(" or ")[0])
            else:
                size = said
    target = layout.target(model, (frames,), size)
    assert FAMILIES[model].accepts(target.shortest, target.width, target.height)
    assert target.width % layout.side == target.height % layout.side == 0
    assert target.shortest > 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (ExportConfig("ltx", frames=(50,)), r"8N\+1 frames, not 50: say 49 or 57"),
        (ExportConfig("ltx", size="960x540"), "multiples of 32 .* say 960x544"),
        (ExportConfig("ltx", model="wan"), "trains ltx-video, not 'wan'"),
        (ExportConfig("musubi", size="big"), "WIDTHxHEIGHT"),
        (ExportConfig("hf-folder", frames=(33,)), "no rules"),
        (ExportConfig("hf-folder", split="train"), "no dataset"),
        (ExportConfig("ltx", frames=(1001,)), "no clip .* 6 shorter than 1001 frames"),
    ],
)
def test_mistakes_are_told_and_write_nothing(
    curated: Path, tmp_path: Path, config: ExportConfig, told: str
) -> None:
    with pytest.raises(ExportError, match=told):
        export(curated, tmp_path / "x", config)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("wrong", [("nothing",), ("ltx", "t3v"), ("ltx", "t2v", "fill")])
def test_unknown_words_are_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ExportError, match="is none of"):
        ExportConfig(*wrong)


@given(frames=st.integers(1, 400), fps=st.floats(16, 120))
def test_frames_that_a_rate_leaves(frames: int, fps: float) -> None:
    left = kept_frames(frames, fps, 16.0)
    assert left == pytest.approx((frames - 1) * 16 / fps + 1, abs=1)
    assert kept_frames(frames, 16.0, 16.0) == frames


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_toml_strings(text: str) -> None:
    assert tomllib.loads(f"a = {toml(text)}") == {"a": text}


# --- captions -----------------------------------------------------------------------------------


def test_captions_by_kind(curated: Path, tmp_path: Path) -> None:
    said = {}
    for kind in ("t2v", "i2v", "structured"):
        export(curated, tmp_path / kind, ExportConfig("ltx", caption=kind))  # type: ignore[arg-type]
        listed = json.loads((tmp_path / kind / "dataset.json").read_text())
        said[kind] = {Path(one["video"]).stem: one["caption"] for one in listed}
    for row in rows(curated, LONG):
        assert said["t2v"][row.clip_id] == row.caption_t2v
        assert said["i2v"][row.clip_id] == row.caption_i2v
        assert ShotCaption.from_json(said["structured"][row.clip_id]) == row.caption


def recaption(curated: Path, clip_id: str, **columns: Any) -> None:
    ledger = Output(curated).ledger
    for part in ledger.parts():
        changed = [
            row.model_copy(update=columns) if row.clip_id == clip_id else row
            for row in ledger.read(part)
        ]
        ledger.write(part.stem, changed)


def test_a_clip_without_caption_is_counted(tmp_path: Path) -> None:
    curate(tmp_path / "cur", [LONG])
    bare, other = rows(tmp_path / "cur", LONG)
    recaption(tmp_path / "cur", bare.clip_id, caption_i2v="")
    recaption(tmp_path / "cur", other.clip_id, caption_i2v="Two\nlines,\r\n one caption.")
    report, _ = export(tmp_path / "cur", tmp_path / "x", ExportConfig("musubi", "i2v"))
    assert skipped(report) == {bare.clip_id: "no i2v caption"}
    assert (report.clips, report.without_caption) == (1, 0)
    text = (tmp_path / f"x/videos/{other.clip_id}.txt").read_text()
    assert text == "Two lines, one caption.\n"

    report, _ = export(tmp_path / "cur", tmp_path / "x", ExportConfig("musubi", "i2v", "empty"))
    assert not report.skipped
    assert (report.clips, report.without_caption) == (2, 1)
    # musubi-tuner stops at a video without a .txt.
    assert (tmp_path / f"x/videos/{bare.clip_id}.txt").read_text() == "\n"


# --- sources ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["embedded", "files"])
@pytest.mark.parametrize("name", ["hf-folder", "webdataset"])
def test_a_dataset_gives_the_same_as_its_curation(
    curated: Path, tmp_path: Path, layout: Any, name: str
) -> None:
    # Small row groups, so that clips are in several of a shard and several of a group.
    publish(curated, tmp_path / "d", DatasetConfig(layout=layout, row_group_bytes=30_000))
    shard = next((tmp_path / "d/data").glob("*.parquet"))
    assert 1 < pq.read_metadata(shard).num_row_groups < 6 or layout == "files"
    export(tmp_path / "d", tmp_path / "x", ExportConfig(name))
    export(curated, tmp_path / "y", ExportConfig(name))
    assert content(tmp_path / "x") == content(tmp_path / "y")
    before = tree(tmp_path / "x")
    assert export(tmp_path / "d", tmp_path / "x", ExportConfig(name))[1] == 0
    assert tree(tmp_path / "x") == before


def test_splits(curated: Path, tmp_path: Path) -> None:
    for seed in range(20):  # three films fall into both splits three times in four
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shares = {"train": 0.5, "validation": 0.5}
        publish(curated, tmp_path / "d", DatasetConfig(splits=shares, seed=seed))
        if len(read_manifest(tmp_path / "d").shards) == 2:
            break
    parts = []
    for split in (None, "validation"):
        report, _ = export(
            tmp_path / "d", tmp_path / f"{split}", ExportConfig("hf-folder", split=split)
        )
        parts.append({Path(name).stem for name in report.files if name.endswith(".mp4")})
    assert parts[0] | parts[1] == names(curated, LONG, SHORT, SLOW)
    assert not parts[0] & parts[1]
    with pytest.raises(ValueError, match="no split 'test'"):
        export(tmp_path / "d", tmp_path / "x", ExportConfig("hf-folder", split="test"))


def test_a_virtual_dataset_has_no_clips(curated: Path, tmp_path: Path) -> None:
    publish(curated, tmp_path / "d", DatasetConfig(layout="virtual"))
    with pytest.raises(ExportError, match="export the curation's output"):
        export(tmp_path / "d", tmp_path / "x", ExportConfig("hf-folder"))


def test_a_folder_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="neither a dataset nor"):
        export(tmp_path, tmp_path / "x", ExportConfig("hf-folder"))


def test_broken_files_are_told(tmp_path: Path) -> None:
    curate(tmp_path / "cur", [LONG, SHORT, SLOW])
    files = sorted((tmp_path / "cur/clips").glob("*.mp4"))
    gone, cut, other, outside, empty, whole = files
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    other.write_text("not a video")
    recaption(tmp_path / "cur", outside.stem, clip="../cur/../../elsewhere.mp4")
    recaption(tmp_path / "cur", empty.stem, clip=None)
    report, _ = export(tmp_path / "cur", tmp_path / "x", ExportConfig("hf-folder"))
    assert skipped(report) == {
        gone.stem: "its file is missing",
        cut.stem: "its file is cut short",
        other.stem: "its file cannot be read as video",
        outside.stem: "its file leads out of the folder",
        empty.stem: "it has no file",
    }
    assert report.reasons == dict.fromkeys(skipped(report).values(), 1)
    assert [one["clip_id"] for one in records(tmp_path / "x/metadata.jsonl")] == [whole.stem]


# --- the folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_twice_changes_nothing_and_elsewhere_gives_the_same(
    curated: Path, tmp_path: Path, name: str
) -> None:
    first, changed = export(curated, tmp_path / "x", ExportConfig(name))
    assert changed == len(first.files)
    assert first.clips + len(first.skipped) == 6
    assert set(first.files) | {"export.json"} == set(content(tmp_path / "x"))
    assert Report.model_validate_json((tmp_path / "x/export.json").read_bytes()).finished
    before = tree(tmp_path / "x")
    again, changed = export(curated, tmp_path / "x", ExportConfig(name))
    assert (again.clips, changed) == (first.clips, 0)
    assert tree(tmp_path / "x") == before
    shutil.move(tmp_path / "x", tmp_path / "moved")
    export(curated, tmp_path / "x", ExportConfig(name))
    assert content(tmp_path / "x") == content(tmp_path / "moved")


def test_copies_where_links_cannot_be(
    curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    export(curated, tmp_path / "x", ExportConfig("hf-folder"))
    for clip_id in names(curated, LONG, SHORT, SLOW):
        copy, clip = tmp_path / f"x/videos/{clip_id}.mp4", curated / f"clips/{clip_id}.mp4"
        assert not copy.samefile(clip)
        assert copy.read_bytes() == clip.read_bytes()
    assert export(curated, tmp_path / "x", ExportConfig("hf-folder"))[1] == 0


def test_what_is_no_longer_exported_goes_and_what_others_put_there_stays(
    curated: Path, tmp_path: Path
) -> None:
    export(curated, tmp_path / "x", ExportConfig("diffusion-pipe", frames=(5,)))
    (tmp_path / "x/videos/cache").mkdir()
    (tmp_path / "x/videos/cache/latents").write_text("the trainer's own")
    export(curated, tmp_path / "x", ExportConfig("diffusion-pipe", frames=(33,)))
    found = {Path(name).stem for name in content(tmp_path / "x") if name.endswith(".mp4")}
    assert found == names(curated, LONG, SLOW)
    assert (tmp_path / "x/videos/cache/latents").exists()
    for clip_id in names(curated, SHORT):
        assert (curated / f"clips/{clip_id}.mp4").exists()


def test_a_clip_that_changed_is_exported_anew(tmp_path: Path) -> None:
    curate(tmp_path / "cur", [LONG])
    export(tmp_path / "cur", tmp_path / "x", ExportConfig("hf-folder"))
    one, two = sorted((tmp_path / "cur/clips").glob("*.mp4"))
    shutil.copy(two, tmp_path / "new.mp4")
    (tmp_path / "new.mp4").replace(one)
    _, changed = export(tmp_path / "cur", tmp_path / "x", ExportConfig("hf-folder"))
    assert changed == 1
    assert (tmp_path / "x/videos" / one.name).read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["diffusion-pipe", "webdataset"])
def test_a_killed_export_is_mended(
    curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    export(curated, tmp_path / "whole", ExportConfig(name))
    for survives in range(0, 6, 2):
        with monkeypatch.context() as patch:
            left = iter(range(survives))

            def fsync(_: int, left: Any = left) -> None:
                if next(left, None) is None:
                    raise KeyboardInterrupt

            patch.setattr("curation.ledger.os.fsync", fsync)
            try:
                export(curated, tmp_path / "x", ExportConfig(name, caption="i2v"))
            except KeyboardInterrupt:
                report = tmp_path / "x/export.json"
                assert (
                    not report.exists()
                    or not Report.model_validate_json(report.read_bytes()).finished
                )
        export(curated, tmp_path / "x", ExportConfig(name))
        expected = content(tmp_path / "whole")
        if name == "diffusion-pipe":  # names its own folder
            expected["dataset.toml"] = expected["dataset.toml"].replace(
                str(tmp_path / "whole").encode(), str(tmp_path / "x").encode()
            )
        assert content(tmp_path / "x") == expected
        shutil.rmtree(tmp_path / "x")


def test_a_leftover_link_of_a_killed_export_does_not_harm_the_clips(
    curated: Path, tmp_path: Path
) -> None:
    one, two, *_ = sorted((curated / "clips").glob("*.mp4"))
    videos = tmp_path / "x/videos"
    export(curated, tmp_path / "x", ExportConfig("hf-folder"))
    (videos / one.name).unlink()
    left = videos / f".{one.name}.{os.getpid()}.part"
    left.hardlink_to(two)
    before = two.read_bytes()
    export(curated, tmp_path / "x", ExportConfig("hf-folder"))
    assert two.read_bytes() == before
    assert (videos / one.name).samefile(one)
    assert not left.exists()


def test_folders_of_others_are_left_alone(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds other things"):
        export(curated, curated, ExportConfig("hf-folder"))
    export(curated, tmp_path / "x", ExportConfig("hf-folder"))
    with pytest.raises(ExportError, match="an export for hf-folder"):
        export(curated, tmp_path / "x", ExportConfig("ltx"))
    precious = tmp_path / "precious"
    precious.write_text("mine")
    report = Report.model_validate_json((tmp_path / "x/export.json").read_bytes())
    forged = report.model_copy(update={"files": ["../precious"]})
    (tmp_path / "x/export.json").write_text(forged.model_dump_json())
    with pytest.raises(ExportError, match="outside of it"):
        export(curated, tmp_path / "x", ExportConfig("hf-folder"))
    assert precious.exists()
    (tmp_path / "x/export.json").write_text("{}")
    with pytest.raises(ExportError, match="cannot be read"):
        export(curated, tmp_path / "x", ExportConfig("hf-folder"))


def test_the_video_itself_is_asked_for_its_length(tmp_path: Path) -> None:
    """A row may be of other frames than a file that was written at another rate."""
    curate(tmp_path / "cur", [LONG])
    row = rows(tmp_path / "cur", LONG)[0]
    recaption(tmp_path / "cur", row.clip_id, frames=7, fps=1.0, width=2, height=2)
    found = {clip.clip_id: clip for clip in layout_clips.find_clips(tmp_path / "cur", "t2v", None)}
    clip = found[row.clip_id]
    assert isinstance(clip, layout_clips.Clip)
    with av.open(str(tmp_path / "cur" / str(row.clip))) as container:
        assert clip.frames == sum(1 for _ in container.decode(video=0)) == 60
    assert (clip.width, clip.height, clip.fps) == (160, 96, 24.0)
    assert DiffusionPipe().skips(clip, DiffusionPipe().target(None, (), None)) is None
