"""Prompts of datasets and curations, by concept; frames of the real clips."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.decode import read_clip
from captioner.fusion import i2v, t2v
from curation.dataset import DatasetConfig, Layout, publish
from curation.ledger import Row
from curation.output import Output
from generation.frames import GenerationOptionError
from generation.prompts import choose, read_condition, shares
from tests.generation.stand_ins import curated_by_concept


@pytest.fixture(scope="module")
def curation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    folder = tmp_path_factory.mktemp("prompts") / "cur"
    return folder, curated_by_concept(folder)


SIZES = st.dictionaries(st.text("abc", min_size=1), st.integers(1, 60), min_size=1, max_size=8)


@given(SIZES, st.integers(1, 200))
def test_each_group_has_its_share_and_at_least_one(sizes: dict[str, int], count: int) -> None:
    total = sum(sizes.values())
    if count < len(sizes):
        with pytest.raises(GenerationOptionError, match="too few"):
            shares(sizes, count)
        return
    found = shares(sizes, count)
    assert sum(found.values()) == min(count, total)
    assert found.keys() == sizes.keys()
    small = sum(size * count / total < 1 for size in sizes.values())
    for name, size in sizes.items():
        assert 1 <= found[name] <= size
        # Groups too small for one take it from the others, one each.
        assert found[name] <= max(1, size * count / total + 1)
        assert found[name] > min(size, size * count / total) - 1 - small


@pytest.mark.parametrize("layout", ["curation", "embedded", "files", "virtual"])
def test_prompts_are_the_captions_of_each_concept(
    curation: tuple[Path, list[Row]], tmp_path: Path, layout: Layout
) -> None:
    source, rows = curation
    if layout != "curation":  # type: ignore[comparison-overlap]
        publish(source, tmp_path / "set", DatasetConfig(layout))
        source = tmp_path / "set"
    known = {row.clip_id: row for row in rows}
    chosen = choose(source, "t2v", 4, seed=3)
    assert Counter(one.prompt.concept for one in chosen.asked) == chosen.concepts
    assert chosen.concepts == {"Animal": 3, "Human": 1}
    assert (chosen.clips, chosen.without) == (6, 0)
    for one in chosen.asked:
        row, prompt = known[one.prompt.clip_id], one.prompt
        assert row.caption is not None
        assert prompt.caption == row.caption
        assert prompt.text == t2v(row.caption)
        assert (prompt.source_sha256, prompt.concept) == (row.source_sha256, row.concept)
    assert len({one.prompt.seed for one in chosen.asked}) == 4
    for one in choose(source, "i2v").asked:
        row = known[one.prompt.clip_id]
        assert row.caption is not None
        assert one.prompt.text == i2v(row.caption)
        film = read_all(Path(row.source))[(row.first_frame or 0) :][: row.frames]
        condition = read_condition(one.clip, 160, 96, last=True)
        assert condition.last is not None
        assert close(condition.first, film[0])
        assert close(condition.last, film[-1])
        assert not close(condition.first, film[-1])


def read_all(path: Path) -> list[np.ndarray]:
    from captioner.decode_pyav import open_pyav

    with open_pyav(path) as video:
        return [frame.picture().rgb for frame in video.frames()]


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether they are the same picture, after another round of H.264."""
    return float(np.abs(one.astype(float) - other).mean()) < 3


def test_a_condition_covers_the_size_that_is_generated(curation: tuple[Path, list[Row]]) -> None:
    [one, *_] = choose(curation[0], "i2v", 2).asked
    condition = read_condition(one.clip, 64, 64, last=False)
    assert condition.first.shape == (64, 64, 3)
    assert condition.last is None


def test_the_seed_decides_and_a_larger_count_goes_on(curation: tuple[Path, list[Row]]) -> None:
    folder = curation[0]
    few, many = choose(folder, "t2v", 2, seed=1), choose(folder, "t2v", 6, seed=1)
    assert few == choose(folder, "t2v", 2, seed=1)
    assert set(few.asked) == set(few.asked) & set(many.asked) if few.asked else False
    seeds = {one.prompt.seed for one in choose(folder, "t2v", 6, seed=2).asked}
    assert not seeds & {one.prompt.seed for one in many.asked}
    firsts = {choose(folder, "t2v", 2, seed=s).asked[0].prompt.clip_id for s in range(12)}
    assert len(firsts) > 1


def test_several_samples_of_a_prompt_have_seeds_of_their_own(
    curation: tuple[Path, list[Row]],
) -> None:
    asked = choose(curation[0], "t2v", 2, samples=3).asked
    assert len(asked) == 6
    assert len({one.prompt.clip_id for one in asked}) == 2
    assert len({one.prompt.seed for one in asked}) == 6


def test_clips_without_a_caption_are_counted(tmp_path: Path) -> None:
    rows = curated_by_concept(tmp_path / "cur", films=2)
    ledger = Output(tmp_path / "cur").ledger
    part = ledger.parts()[0]
    mute = [
        row.model_copy(update={"caption": None, "caption_status": "error", "caption_t2v": None})
        for row in ledger.read(part)
    ]
    ledger.write(part.stem, mute)
    chosen = choose(tmp_path / "cur", "t2v")
    assert (chosen.clips, chosen.without, len(chosen.asked)) == (len(rows), 2, 2)
    for other in ledger.parts()[1:]:
        other.unlink()
    with pytest.raises(GenerationOptionError, match="none of the 2 clips"):
        choose(tmp_path / "cur", "t2v")


def test_what_holds_no_prompts_is_told(curation: tuple[Path, list[Row]], tmp_path: Path) -> None:
    with pytest.raises(GenerationOptionError, match="neither a dataset nor"):
        choose(tmp_path, "t2v")
    with pytest.raises(GenerationOptionError, match="1 prompts are too few for 2 concepts"):
        choose(curation[0], "t2v", 1)
    assert len(choose(curation[0], "t2v", 1, by="none").asked) == 1
    with pytest.raises(GenerationOptionError, match="has no split"):
        choose(curation[0], "t2v", split="test")
    publish(curation[0], tmp_path / "set", DatasetConfig(splits={"test": 1.0}))
    with pytest.raises(GenerationOptionError, match="name a split"):
        choose(tmp_path / "set", "t2v")
    assert len(choose(tmp_path / "set", "t2v", split="test").asked) == 6


def test_a_real_clip_is_read_from_the_curation(curation: tuple[Path, list[Row]]) -> None:
    [one, *_] = choose(curation[0], "t2v").asked
    video, part = one.clip.video()
    assert isinstance(video, Path)
    assert part is None
    assert len(read_clip(video).frames)
