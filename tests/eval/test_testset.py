import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.ledger import Ledger, Row
from eval.synth import still, write_video
from eval.testset import (
    Candidate,
    Clip,
    Labels,
    TestsetError,
    answers,
    changed_files,
    draw,
    read_testset,
    sha256,
    truths,
    write_testset,
)

SHA = "0" * 64


def line(clip: str = "a", rater: str = "anna", labels: Any = None, **more: Any) -> dict[str, Any]:
    base = {"clip_id": clip, "path": f"{clip}.mp4", "sha256": SHA, "rater": rater}
    return {**base, "labels": labels or {}, **more}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(TestsetError) as caught:
        read_testset(path)
    return caught.value.problems


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "eval.testset", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


FULL = {
    "shot_type": ["close_up", "medium_shot"],
    "shot_angle": "cannot_tell",
    "camera_motion": "pan_left",
    "lighting": "Warm.",
    "subjects": [{"type": "Human", "expression": "", "is_main_subject": True}],
}


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    clips = [
        Clip.model_validate(line(labels=FULL, start=0.5, end=2.0)),
        Clip.model_validate(line("b", labels={})),
    ]
    write_testset(clips, tmp_path / name)
    assert [one.clip for one in read_testset(tmp_path / name)] == clips


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"shot_type": "closeup"}, "shot_type: 'closeup' is none of long_shot,"),
        ({"shot_angle": ["eye_level", "up"]}, "shot_angle: 'up' is none of eye_level,"),
        ({"camera_motion": "a man walks"}, "camera_motion: 'a man walks' says nothing"),
        ({"camera_motion": ""}, "camera_motion: '' says nothing of the camera"),
        ({"subjects": [{"type": "Robot"}]}, "subjects.0.type: 'Robot' is none of Human,"),
        ({"shot_size": "close_up"}, "labels.shot_size: Extra inputs are not permitted"),
        ({"subjects": [{}] * 9}, "subjects: Tuple should have at most 8 items"),
    ],
)
def test_labels_outside_the_lists(tmp_path: Path, suffix: str, labels: Any, told: str) -> None:
    path = tmp_path / f"set.{suffix}"
    good, bad = line(), line("b", labels=labels)
    if suffix == "jsonl":
        written(path, good, bad)
    else:
        records = [{**one, "labels": json.dumps(one["labels"])} for one in (good, bad)]
        pq.write_table(pa.Table.from_pylist(records), path)
    assert len(problems(path)) == 1
    assert problems(path)[0].startswith(f"{path}:2: labels")
    assert told in problems(path)[0]


def test_two_truths_for_one_clip(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", line(), line(rater="bert"), line())
    assert problems(path) == (f"{path}:3: a second truth by anna for a: see {path}:1",)


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.jsonl",
        "{",
        line("b", sha256="1234"),
        "",
        line("c", start=3.0, end=2.0),
        line("c", rater="bert", sha256="1" * 64),
    )
    places = [one.split(": ")[0].rpartition(":")[2] for one in problems(path)]
    assert places == ["1", "2", "4", "5"]
    assert "another clip at" in problems(path)[3]


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet"])
def test_no_test_set(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(TestsetError, match=name):
        read_testset(tmp_path / name)


def test_changed_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one")
    (tmp_path / "b.mp4").write_bytes(b"two")
    path = written(
        tmp_path / "s.jsonl",
        line(sha256=sha256(tmp_path / "a.mp4")),
        line("b", sha256=sha256(tmp_path / "a.mp4")),
        line("c"),
    )
    changed, gone = changed_files(read_testset(path))
    assert [one.split(": ")[0] for one in changed] == [f"{path}:2"]
    assert [one.split(": ")[0] for one in gone] == [f"{path}:3"]
    done = command("validate", path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [*changed, *gone]


# --- several raters -------------------------------------------------------------------------------


def one_truth(tmp_path: Path, *labels: dict[str, Any]) -> Labels:
    lines = [line(rater=str(i), labels=one) for i, one in enumerate(labels)]
    return truths(read_testset(written(tmp_path / "s.jsonl", *lines)))[0].labels


def test_the_majority_is_true(tmp_path: Path) -> None:
    said = ({"shot_type": "close_up"}, {"shot_type": "close_up"}, {"shot_type": "long_shot"})
    assert one_truth(tmp_path, *said).shot_type == ("close_up",)


def test_without_a_majority_each_is_right_and_the_field_disputed(tmp_path: Path) -> None:
    lines = [
        line(rater="a", labels={"shot_type": "close_up", "camera_motion": "pan_left"}),
        line(rater="b", labels={"shot_type": "long_shot", "camera_motion": "the camera pans left"}),
    ]
    truth = truths(read_testset(written(tmp_path / "s.jsonl", *lines)))[0]
    assert set(truth.labels.shot_type or ()) == {"close_up", "long_shot"}
    assert truth.labels.camera_motion == ("pan_left",), "said in two ways, meant alike"
    assert truth.disputed == ("shot_type",)
    assert truth.raters == 2


def test_who_cannot_tell_has_no_vote(tmp_path: Path) -> None:
    both = {"shot_type": "cannot_tell", "shot_angle": "cannot_tell"}
    labels = one_truth(tmp_path, both, {"shot_type": "close_up", "shot_angle": "cannot_tell"})
    assert labels.shot_type == ("close_up",)
    assert labels.shot_angle == "cannot_tell"
    assert answers(labels.shot_angle) == ()
    assert labels.shot_position is None


def test_free_text_of_all_is_right_and_subjects_are_the_first_ones(tmp_path: Path) -> None:
    labels = one_truth(
        tmp_path,
        {"lighting": "Dim."},
        {"lighting": "Dark.", "subjects": [{"type": "Human"}], "main_subject_only": True},
        {"lighting": "Dim.", "subjects": [{"type": "Animal"}]},
    )
    assert labels.lighting == ("Dim.", "Dark.")
    assert labels.main_subject_only
    assert [one.type for one in labels.subjects or ()] == ["Human"]


# --- drawing --------------------------------------------------------------------------------------


def candidate(number: int, *concepts: str) -> Candidate:
    return Candidate(Clip.model_validate(line(f"{number:04}")), concepts)


pools = st.lists(
    st.lists(st.sampled_from(["x=1", "x=2", "y=1", "y=2"]), max_size=2, unique=True), max_size=40
).map(lambda concepts: [candidate(i, *some) for i, some in enumerate(concepts)])


@given(pools, st.integers(0, 50), st.integers(0, 3), st.randoms())
def test_a_draw_is_seeded_and_takes_each_clip_once(
    pool: list[Candidate], count: int, seed: int, random: Any
) -> None:
    drawn = draw(pool, count, seed)
    assert len(drawn) == min(count, len(pool))
    assert len({one.clip.clip_id for one in drawn}) == len(drawn)
    shuffled = random.sample(pool, len(pool))
    assert draw(shuffled, count, seed) == drawn


def test_rare_concepts_are_there_in_useful_numbers() -> None:
    pool = [candidate(i, "shot=long") for i in range(900)]
    pool += [candidate(1000 + i, "shot=close", f"angle={'low' if i < 20 else 'eye'}")
             for i in range(80)]  # fmt: skip
    drawn = draw(pool, 120, seed=1)
    counts = {
        name: sum(name in one.concepts for one in drawn)
        for name in ("shot=long", "shot=close", "angle=low", "angle=eye")
    }
    assert counts["angle=low"] == 20, "all there are"
    assert counts["angle=eye"] == counts["shot=long"] == 50, "the rest in equal parts"
    assert draw(pool, 120, seed=2) != drawn


def rows(source: int, count: int, **caption: Any) -> list[Row]:
    base = {"subjects": [], "camera_motion": "static", "environment": "", "lighting": ""}
    full = {"shot_type": "", "shot_angle": "", "shot_position": "", **base, **caption}
    rng = np.random.default_rng(source)
    return [
        Row.model_validate(
            {
                "clip_id": f"{source:012}{i:012}", "source": f"films/{source}.mp4",
                "source_sha256": f"{source:064}", "start": 2.0 * i, "end": 2.0 * i + 2,
                "decision": "keep", "config_hash": "0", "caption": full, "caption_status": "ok",
                "embedding": rng.standard_normal(256).tolist(),
                "hash_sequence": [int(x) for x in rng.integers(1, 2**63, 6 * 4)],
                "hash_changes": [int(x) for x in rng.integers(1, 2**63, 6 * 4)],
                "hash_times": [0.0, 0.5, 1.0, 1.5],
            }
        )
        for i in range(count)
    ]  # fmt: skip


def curated(folder: Path, *sources: list[Row]) -> Path:
    for part in sources:
        Ledger(folder / "ledger", folder / "state").write(part[0].source_sha256 or "", part)
    return folder


def test_build_draws_from_a_ledger_apart_from_what_is_trained_on(tmp_path: Path) -> None:
    everything = curated(
        tmp_path / "all",
        rows(1, 5, shot_type="close_up"),
        rows(2, 5, shot_type="long_shot"),
        rows(3, 1, shot_type="full_shot"),
    )
    # Source 2 is trained on, and a copy of source 3 under another name and content.
    copy = rows(3, 1)[0].model_copy(update={"clip_id": "copy", "source_sha256": "9" * 64})
    training = curated(tmp_path / "train", rows(2, 5), [copy])
    path = tmp_path / "set.jsonl"
    done = command("build", everything, "-o", path, "--clips", 4, "--not-in", training)
    assert done.returncode == 0, done.stderr
    assert "5 clips of sources that are trained on and 1 near-duplicates" in done.stdout
    clips = [one.clip for one in read_testset(path)]
    assert len(clips) == 4
    assert {Path(one.path).name for one in clips} == {"1.mp4"}
    assert {one.concept for one in clips} == {"shot_type=close_up,camera=static"}
    first = path.read_bytes()
    command("build", everything, "-o", path, "--clips", 4, "--not-in", training)
    assert path.read_bytes() == first


def test_build_takes_few_clips_of_one_source(tmp_path: Path) -> None:
    everything = curated(tmp_path / "all", rows(1, 5), rows(2, 5))
    path = tmp_path / "set.jsonl"
    assert command("build", everything, "-o", path, "--per-source", 2).returncode == 0
    assert len(read_testset(path)) == 4


def test_build_without_a_ledger_is_a_line(tmp_path: Path) -> None:
    done = command("build", tmp_path, "-o", tmp_path / "set.jsonl")
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}: no ledger in it; name the output of jobs.curate\n"


# --- labels from a table --------------------------------------------------------------------------

HEAD = (
    "file,shot_type,shot_type_conf,shot_angle,shot_angle_conf,shot_position,shot_position_conf,"
    "camera_motion,camera_motion_conf,subject_type,subject_conf,expression,expression_conf\n"
)


def test_a_table_of_labels_becomes_a_test_set(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [still(0, 64, 48)] * 5)
    table = tmp_path / "labels.csv"
    table.write_text(
        HEAD
        + "a.mp4,close_up,high,eye_level,low,,,pan_left+tilt_up,high,Vehicle,high,sad>happy,high\n"
        + "gone.mp4,,,,,,,,,,,,\n"
    )
    out = tmp_path / "sub" / "set.jsonl"
    done = command("import-labels", table, "-o", out)
    assert done.returncode == 0, done.stderr
    (one,) = read_testset(out)
    assert one.file.resolve() == video
    assert one.clip.sha256 == sha256(video)
    labels = one.clip.labels
    assert (labels.shot_type, labels.shot_angle) == ("close_up", None)
    assert labels.camera_motion == "pan_left+tilt_up"
    subject = (labels.subjects or ())[0]
    assert (subject.type, subject.expression) == ("Vehicles", ("sadness", "happiness"))
    assert labels.main_subject_only
    assert command("validate", out).returncode == 0
    command("import-labels", table, "-o", out, "--low")
    assert read_testset(out)[0].clip.labels.shot_angle == "eye_level"


def test_a_wrong_table_is_named_with_its_line(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [still(0, 64, 48)] * 5)
    table = tmp_path / "labels.csv"
    table.write_text(HEAD + "a.mp4,closeup,high,,,,,,,,,,\n" + "gone.mp4,close_up,high,,,,,,,,,,\n")
    done = command("import-labels", table, "-o", tmp_path / "s.jsonl")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"{table}:2: shot_type: 'closeup' is none of")
    assert done.stderr.splitlines()[1].startswith(f"{table}:3: {tmp_path / 'gone.mp4'} is not")
