"""`python -m jobs.dataset`, from its command line on."""

import json
from functools import partial
from pathlib import Path

import pytest

from curation import ClipDataset
from curation.output import Output
from tests.command import run_job
from tests.curation.curated import Film, curate

run = partial(run_job, "jobs.dataset")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("job") / "cur"
    curate(out, [Film()] * 4)
    return out


def test_published_appended_and_compacted(curated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    first = run(curated, "-o", folder, "--split", "train=0.5", "--split", "test=0.5")
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    assert (facts["added"], facts["present"], facts["statistics"]["clips"]) == (8, 0, 8)
    counts = [len(ClipDataset(folder, split)) for split in ("train", "test")]
    assert sum(counts) == 8

    curate(tmp_path / "more", [Film()], first=9)
    options = ["-o", folder, "--split", "train=0.5", "--split", "test=0.5"]
    second = json.loads(run(tmp_path / "more", *options, "--compact").stdout)
    assert (second["added"], second["shards_fewer"], second["shards"]) == (2, 1, 2)
    again = run(curated, *options, "--table")
    assert "0 clips added, 8 there already" in again.stdout


def test_what_is_refused_is_told(curated: Path, tmp_path: Path) -> None:
    ledger = Output(curated).ledger
    rows = ledger.read(ledger.parts()[0])
    other = Output(tmp_path / "cur")
    other.ledger.write("a", rows)
    done = run(tmp_path / "cur", "-o", tmp_path / "d")
    assert done.returncode == 1
    assert f"clip {rows[0].clip_id} is not in it: " in done.stderr
    assert json.loads(done.stdout)["statistics"]["clips"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give the output folder"),
        (["nowhere"], "holds no ledger"),
        (["CUR", "--layout", "zip"], "is none of embedded, files, virtual"),
        (["CUR", "--split", "train"], "--split is a name and a share"),
        (["CUR", "--split", "train=0"], "a share above 0"),
        (["--compact"], "is no dataset"),
    ],
)
def test_a_mistake_is_one_line(
    curated: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    given = [str(curated) if a == "CUR" else a for a in arguments]
    done = run(*given, "-o", tmp_path / "d")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d" / "dataset.json").exists()
