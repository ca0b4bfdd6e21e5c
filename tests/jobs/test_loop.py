"""`python -m jobs.loop`, from its command line on, over a generator with known faults."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.dataset import publish
from curation.ledger import Row
from curation.output import Output
from eval.synth import Rgb, still, write_video
from generation.ledger import LEDGER, Generation, arrow_schema
from tests.clips import two_shots
from tests.command import refused, run_job

WAYS = {"pan_left": (-1, 0), "pan_right": (1, 0), "static": (0, 0)}
CLIPS = 5
FPS = 8.0
FAULTY = "pan_left"


def shot(seed: int, move: str) -> list[Rgb]:
    """A second over one picture."""
    frames, step, width, height = 9, 3, 192, 108
    (dx, dy), length = WAYS[move], 3 * 9
    picture = still(seed, width + length, height + length)
    ways = [(step * i if d > 0 else -step * i + length - step if d else 0) for d in (dx, dy)
            for i in range(frames)]  # fmt: skip
    return [picture[y : y + height, x : x + width] for x, y in zip(ways[:frames], ways[frames:])]


def run(job: str, *arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = run_job(f"jobs.{job}", *arguments)
    assert done.returncode == code, done.stderr
    return done


def preset(folder: Path, mode: str) -> Path:
    path = folder / f"{mode}.yaml"
    path.write_text(
        "rules:\n  - width: {min: 100 px}\n"
        f"balance: {{by: [camera_move], to: uniform, mode: {mode}}}\n"
    )
    return path


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What jobs.curate makes of five clips of each move."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / "films").mkdir()
    for number, move in enumerate(WAYS):
        for clip in range(CLIPS):
            name = folder / "films" / f"{move}{clip}.mp4"
            write_video(name, shot(100 * number + clip, move), FPS)
    run("curate", "-i", folder / "films", "-o", folder / "cur", "--captions", "all",
        "--engine", "experts", "--preset", preset(folder, "weight"), "--workers", 1)  # fmt: skip
    return folder / "cur"


def kept(curated: Path) -> list[Row]:
    rows = sorted(Output(curated).rows(), key=lambda row: row.clip_id)
    return [row for row in rows if row.decision == "keep"]


def generation(row: Row, folder: Path, **changed: object) -> Generation:
    values = {
        "generation_id": f"{int(row.clip_id, 16) ^ 1:024x}",
        "clip_id": row.clip_id,
        "source_sha256": row.source_sha256,
        "concept": row.concept or "none",
        "task": "t2v",
        "prompt": row.caption_t2v or "",
        "prompt_sent": row.caption_t2v or "",
        "caption": row.caption,
        "seed": int(row.clip_id[:4], 16),
        "model": "stub@1",
        "config_hash": "0",
        "preset": "own",
        "frames": 9,
        "fps": FPS,
        "width": 192,
        "height": 108,
        "status": "ok",
        "steps": 1,
    }
    values["video"] = f"videos/{values['generation_id']}.mp4"
    return Generation.model_validate(values | changed)


def write(rows: list[Generation], folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    values = [row.model_dump(mode="python", by_alias=True) for row in rows]
    pq.write_table(pa.Table.from_pylist(values, schema=arrow_schema()), folder / LEDGER)
    return folder


def generate(curated: Path, folder: Path, each: int = 5) -> Path:
    """The stub: it paints what it is told, but for the one move that it ignores."""
    rows = []
    (folder / "videos").mkdir(parents=True)
    for move in WAYS:
        for row in [row for row in kept(curated) if row.concept == move][:each]:
            one = generation(row, folder)
            made = "static" if move == FAULTY else move
            number = list(WAYS).index(move) * 100 + int(Path(row.source).stem[-1])
            write_video(folder / str(one.video), shot(number, made), FPS, crf=23)
            rows.append(one)
    return write(rows, folder)


RESULTS = ("adherence.json", "adherence.md", "items.parquet", "scored.parquet", "loop_weights.json")


def loop(generations: Path, curated: Path, out: Path, *more: object, code: int = 0) -> dict:
    done = run("loop", generations, "--real", curated, "-o", out, "--engine", "experts",
               "--workers", 1, *more, code=code)  # fmt: skip
    return json.loads(done.stdout)


def test_three_rounds_find_the_fault_and_balance_by_it(curated: Path, tmp_path: Path) -> None:
    work = tmp_path / "cur"
    shutil.copytree(curated, work)
    shares, factors = [], []
    before: tuple[object, ...] = ()
    for number in (1, 2, 3):
        generations = generate(work, tmp_path / f"gen{number}")
        out = tmp_path / f"loop{number}"
        if number > 1:  # the stub paints the same videos again: their captions are there
            shutil.copytree(tmp_path / "loop1" / "ledger", out / "ledger")
        facts = loop(generations, work, out, *before, "--pairs")
        assert facts["round"] == number
        assert facts["captioned_now"] == (15 if number == 1 else 0)
        assert facts["missed"][FAULTY] > 0.4 > 0.1 > facts["missed"]["pan_right"]
        factors.append(facts["factors"])
        decided = run("decide", work, "--preset", preset(tmp_path, "weight"),
                      "--from-loop", out / "loop_weights.json")  # fmt: skip
        shares.append(json.loads(decided.stdout)["concepts"][FAULTY]["share_after"])
        before = ("--before", out)
    assert 1 / 3 < shares[0] < shares[1] < shares[2] < 4 / 6
    assert [max(one, key=one.get) for one in factors] == [FAULTY] * 3

    # The page, the pairs and the history are there.
    weights = json.loads((tmp_path / "loop3" / "loop_weights.json").read_text())
    assert [one["round"] for one in weights["history"]] == [1, 2, 3]
    assert weights["by"] == ["camera_move"]
    assert [one["factors"] for one in weights["history"]] == factors
    found = json.loads((tmp_path / "loop3" / "adherence.json").read_text())
    assert {one["concept"] for one in found["changed"]} == {"", *WAYS}
    assert all(one["prompts"] == (15 if not one["concept"] else 5) for one in found["changed"])
    camera = {
        one["concept"]: one["accuracy"]
        for one in found["fields"]
        if one["field"] == "camera_motion"
    }
    assert camera == {"": 0.6667, FAULTY: 0.0, "pan_right": 1.0, "static": 1.0}
    motion = {
        one["concept"]: one["high"]
        for one in found["measures"]
        if one["measure"] == "motion_camera_amount"
    }
    assert motion[FAULTY] < 0 <= motion["pan_right"]
    pairs = [json.loads(line) for line in (tmp_path / "loop3" / "preferences.jsonl").open()]
    assert len(pairs) == 15
    for pair in pairs:
        for side in ("chosen", "rejected"):
            assert (tmp_path / "loop3" / pair[side]).is_file()

    # Selecting instead of weighing leaves more of it, too.
    selected = run("decide", work, "--preset", preset(tmp_path, "select"), "--from-loop",
                   tmp_path / "loop3" / "loop_weights.json")  # fmt: skip
    concepts = json.loads(selected.stdout)["concepts"]
    assert concepts[FAULTY]["clips_after"] == CLIPS
    assert concepts["pan_right"]["clips_after"] < CLIPS

    # Killed and resumed, and with the dataset in the place of the curation: the same bytes.
    again = tmp_path / "again"
    assert killed(tmp_path / "gen1", curated, again) >= 3
    publish(curated, tmp_path / "set")
    facts = loop(tmp_path / "gen1", tmp_path / "set", again, "--pairs")
    assert facts["captioned_now"] <= 12
    for name in (*RESULTS, "preferences.jsonl", "preferences.parquet", "loop.html"):
        assert (again / name).read_bytes() == (tmp_path / "loop1" / name).read_bytes(), name
    assert loop(tmp_path / "gen1", curated, again)["captioned_now"] == 0


def killed(generations: Path, curated: Path, out: Path) -> int:
    """Start the job and kill it when it has three rows; how many it had."""
    command = [sys.executable, "-m", "jobs.loop", str(generations), "--real", str(curated),
               "-o", str(out), "--engine", "experts", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while len(list((out / "ledger").glob("*.parquet"))) < 3 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    return len(list((out / "ledger").glob("*.parquet")))


def test_what_is_broken_is_a_row_with_its_reason(curated: Path, tmp_path: Path) -> None:
    rows = kept(curated)[:7]
    folder = tmp_path / "gen"
    (folder / "videos").mkdir(parents=True)
    made = [generation(row, folder) for row in rows]
    write_video(folder / str(made[0].video), shot(1, "pan_right"), FPS)
    (folder / str(made[1].video)).write_bytes(b"no video")
    # 2: the file is not there. 3: never generated. 4: of another data set. 5: a cut inside. 6: one
    # before the last frame, which is too short for a shot.
    changed = {"status": "error", "video": None, "error": "Traceback\nOutOfMemory: on <b>"}
    made[3] = made[3].model_copy(update=changed)
    made[4] = made[4].model_copy(update={"clip_id": "f" * 24, "concept": "unheard <i>of"})
    write_video(folder / str(made[4].video), shot(2, "static"), FPS)
    two_shots(folder / str(made[5].video))
    made[5] = made[5].model_copy(update={"frames": 50})
    write_video(folder / str(made[6].video), shot(3, "static")[:8] + shot(9, "static")[:1], FPS)
    write(made, folder)
    facts = loop(folder, curated, tmp_path / "out", code=1)
    assert (facts["generations"], facts["not_generated"], facts["failed"]) == (7, 1, 2)
    found = json.loads((tmp_path / "out" / "adherence.json").read_text())
    told = "\n".join(found["problems"])
    for said in (
        "the file cannot be read as a video",
        "no such file",
        "not generated: OutOfMemory: on <b>",
        "1 generations of 'unheard <i>of' are of clips that are not among the real ones",
        "concept 'unheard <i>of' has no real clips to compare with",
    ):
        assert said.lower() in told.lower(), told
    assert found["with_cuts"] == 2
    # Too few of each for the weights to move.
    assert set(facts["factors"].values()) == {1.0}
    whole = {one["concept"]: one for one in found["concepts"]}
    assert sum(one["failed"] for one in whole.values()) == 3
    page = (tmp_path / "out" / "loop.html").read_text()
    assert "<b> " not in page
    assert "unheard &lt;i&gt;of" in page
    assert "unheard <i>of" not in page
    scored = pq.read_table(tmp_path / "out" / "scored.parquet").to_pylist()
    assert sum(one["caption"] is None for one in scored) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("NOWHERE", "--real", "CUR"), "holds no generations.parquet"),
        (("GEN", "--real", "NOWHERE"), "is neither a dataset nor the output of jobs.curate"),
        (("GEN", "--real", "CUR", "--by", "shot_type"), "was balanced by other columns"),
        (("GEN", "--real", "CUR", "--by", "colour"), "the ledger has no such column"),
        (("GEN", "--real", "CUR", "--before", "NOWHERE"), "give the loop_weights.json"),
        (("EMPTY", "--real", "CUR"), "has no generation"),
        (("OUTSIDE", "--real", "CUR"), "leads out of"),
        (
            ("TWO", "--real", "CUR"),
            "2 ways of generating, other@2 0, stub@1 0: choose one with --made-by",
        ),
        (("TWO", "--real", "CUR", "--made-by", "0"), "choose one with --made-by"),
        (("TWO", "--real", "CUR", "--made-by", "mine"), "nothing was generated by mine"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], says: str, curated: Path, tmp_path: Path
) -> None:
    row = kept(curated)[0]
    places = {
        "NOWHERE": tmp_path / "nowhere",
        "CUR": curated,
        "GEN": write([generation(row, tmp_path)], tmp_path / "gen"),
        "EMPTY": write([], tmp_path / "empty"),
        "TWO": write(
            [generation(row, tmp_path), generation(row, tmp_path, model="other@2")],
            tmp_path / "two",
        ),
        "OUTSIDE": write([generation(row, tmp_path, video="../../x.mp4")], tmp_path / "outside"),
    }
    command = [places.get(one, one) for one in arguments]
    assert says in refused("jobs.loop", *command, "-o", tmp_path / "out", "--engine", "experts")
    assert not (tmp_path / "out" / "loop_weights.json").exists()


def test_results_go_into_a_folder_of_their_own(curated: Path) -> None:
    said = refused("jobs.loop", curated, "--real", curated, "-o", curated)
    assert "give a new folder" in said


def test_weights_of_other_columns_are_refused(curated: Path, tmp_path: Path) -> None:
    weights = {
        "round": 1, "by": ["shot_type"], "factors": {"long_shot": 2.0}, "history": [],
        "rule": {"bound": 4, "temper": 0.5, "smoothing": 0.05, "min_samples": 5},
    }  # fmt: skip
    path = tmp_path / "w.json"
    path.write_text(json.dumps(weights))
    mine = preset(tmp_path, "weight")
    command = (curated, "--preset", mine, "--from-loop", path, "--dry-run")
    assert "preset weight balances by camera_move" in refused("jobs.decide", *command)
    path.write_text("{}")
    said = refused("jobs.decide", *command)
    assert "give the loop_weights.json that jobs.loop wrote" in said
