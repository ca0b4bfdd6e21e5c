"""`python -m jobs.labels`, from its command line on, on what `jobs.curate` writes."""

import json
from pathlib import Path

import pytest

from curation.output import Output
from eval.synth import write_video
from eval.testset import Clip, Labels, write_testset
from finetune.targets import SPLITS, Target, read_targets
from tests import clips
from tests.command import refused, run_job

PRESET = "name: test\nrules:\n  - duration: {min: 0.5 s}\n"


def targets(out: Path) -> list[Target]:
    return [one for split in SPLITS for one in read_targets(out, split)]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of two shots and a copy of the first in other quality, curated for real."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "films").mkdir()
    for i in range(3):
        clips.two_shots(folder / "films" / f"{i}.mp4", seed=2 * i)
    write_video(folder / "films" / "copy.mp4", clips.panning(0) + clips.panning(1), crf=30)
    (folder / "p.yaml").write_text(PRESET)
    options = ["--preset", folder / "p.yaml", "--engine", "experts", "--workers", 1]
    done = run_job("jobs.curate", "-i", folder / "films", "-o", folder / "cur", *options)
    assert done.returncode == 0, done.stderr
    return folder / "cur"


def test_targets_of_a_curation_and_of_people(curated: Path, tmp_path: Path) -> None:
    kept = [row for row in Output(curated).rows() if row.decision == "keep"]
    assert len(kept) >= 6
    labelled = [
        Clip(
            clip_id=row.clip_id,
            path=row.source,
            sha256=row.source_sha256 or "",
            start=row.start,
            end=row.end,
            rater="anna",
            labels=Labels(camera_motion="pan_left", shot_angle="low_angle"),
        )
        for row in kept[:2]
    ]
    write_testset(labelled, tmp_path / "set.jsonl")
    out = tmp_path / "out"
    options = ["--teacher", curated, "--experts", curated, "--human", tmp_path / "set.jsonl"]
    done = run_job("jobs.labels", out, *options, "--split", "train=.5 validation=.5")
    assert done.returncode == 0, done.stderr
    found = {one.clip_id: one for one in targets(out)}
    copies = json.loads((out / "labels.json").read_text())["left_out"].get("duplicate", 0)
    assert len(found) + copies == len(kept)
    for row in kept:
        if (one := found.get(row.clip_id)) is None:
            continue
        assert (one.video, one.start, one.end) == (row.source, row.start, row.end)
        human = row.clip_id in {clip.clip_id for clip in labelled}
        said = one.caption.camera_motion
        assert said == ("the camera pans left" if human else row.caption.camera_motion)
        assert (one.sources["camera_motion"].source == "human (anna)") == human
    [line] = [text for text in done.stdout.splitlines() if text.startswith("shot_angle")]
    assert line.split()[1] == str(sum(clip.clip_id in found for clip in labelled))
    assert f"{len(found)} targets: train " in done.stdout


def test_a_refused_clip_is_told(curated: Path, tmp_path: Path) -> None:
    options = ["--teacher", curated, "--max-characters", 10]
    done = run_job("jobs.labels", tmp_path / "o", *options)
    assert done.returncode == 2
    assert done.stderr == "labels: no target is left: its answer has too many characters\n"
    kept = [row for row in Output(curated).rows() if row.caption]
    longest = max(len(row.caption.model_dump_json(by_alias=True)) for row in kept if row.caption)
    done = run_job(
        "jobs.labels", tmp_path / "o", "--teacher", curated, "--max-characters", longest - 1
    )
    assert done.returncode == 0
    assert "is left out: " in done.stderr
    assert f"more than {longest - 1:,}" in done.stderr
    assert "left out: its answer has too many characters" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --teacher, --experts or --human"),
        (["--teacher", "nowhere"], "nowhere: no captions in it"),
        (["--teacher", "CUR", "--confidence", "shot_size=0.5"], "no field 'shot_size'"),
        (["--teacher", "CUR", "--balance", "by=none_such"], "no targets by 'none_such'"),
        (["--teacher", "CUR", "--count", "0"], "count: "),
    ],
)
def test_a_mistake_is_one_line(
    curated: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    given = [str(curated) if a == "CUR" else a for a in arguments]
    assert says in refused("jobs.labels", tmp_path / "o", *given)
    assert not (tmp_path / "o").exists()
