import hashlib
import heapq
import os
import random
from pathlib import Path

import pytest

from curation.feed import AHEAD
from curation.sources import (
    Hashes,
    Source,
    find_videos,
    identify,
    in_turn,
    largest_first,
    printable,
)


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folders_are_searched_and_files_taken(tmp_path: Path) -> None:
    inside = [put(tmp_path / "in" / name) for name in ("b.mp4", "a.MKV", "deep/er/c.webm")]
    for name in ("notes.txt", ".hidden.mp4", ".git/d.mp4", "out/e.mp4"):
        put(tmp_path / "in" / name)
    named = put(tmp_path / "strange.name")
    found = list(find_videos([tmp_path / "in", named, inside[0]], besides=tmp_path / "in/out"))
    assert sorted(found) == sorted([*inside, named])
    assert found == list(find_videos([tmp_path / "in", named], besides=tmp_path / "in/out"))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(find_videos([tmp_path / "nothing"]))


def test_copies_are_one_source(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{i}.mp4", b"same" if i != 1 else b"other") for i in range(3)]
    first, second = identify(paths, Hashes(tmp_path / "hashes.json").sha256)
    assert (first.path, first.copies) == (paths[0], (paths[2],))
    assert second.path == paths[1]
    assert first.key != second.key


def test_what_cannot_be_read_is_a_source_with_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (source,) = identify([tmp_path / "pipe.mp4"], Hashes(tmp_path / "hashes.json").sha256)
    assert source.error
    assert source.sha256 is None


def test_hashes_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = put(tmp_path / "a.mp4", b"one"), tmp_path / "hashes.json"
    hashes = Hashes(memory)
    first = hashes.sha256(path)
    hashes.save()
    with monkeypatch.context() as no_reading:
        no_reading.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert Hashes(memory).sha256(path) == first
    put(path, b"another")
    assert Hashes(memory).sha256(path) != first
    memory.write_text("damaged")
    assert Hashes(memory).sha256(path)[1] == 7


def test_any_name_can_be_printed() -> None:
    name = os.fsdecode(b"\xff\n-.mp4")
    assert printable(Path(name)) == "\\xff\n-.mp4"


def sizes(*of: int) -> list[Source]:
    return [Source(Path(f"{at}.mp4"), bytes=size) for at, size in enumerate(of)]


def test_small_sources_come_first_beside_large_ones() -> None:
    order = [source.bytes for source in in_turn(sizes(5, 1, 2, 9, 3, 8, 4))]
    assert order == [1, 9, 2, 3, 4, 8, 5]
    assert [source.bytes for source in largest_first(sizes(5, 1, 9))] == [9, 5, 1]


def waits(order: list[Source], ahead: int, workers: int = 2) -> tuple[float, float]:
    """Share of the time that an engine as fast as the workers waits once it has begun, with at
    most `ahead` clips on their way, and the time that decoding takes beside the least."""
    total = sum(source.bytes for source in order)
    service = total / workers / len(order)
    hands = sorted((float(source.bytes), at) for at, source in enumerate(order[:workers]))
    following = iter(order[workers:])
    finished: list[float] = []
    waited = 0.0
    first = hands[0][0]
    while hands:
        time, hand = heapq.heappop(hands)
        if len(finished) >= ahead:
            time = max(time, finished[-ahead])
        free = finished[-1] if finished else time
        waited += max(0.0, time - free)
        finished.append(max(time, free) + service)
        if (source := next(following, None)) is not None:
            heapq.heappush(hands, (time + source.bytes, hand))
    return waited / (finished[-1] - first), time / (total / workers)


@pytest.mark.parametrize("count", [96, 200, 2000])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_an_engine_as_fast_as_decoding_hardly_waits(count: int, seed: int) -> None:
    draw = random.Random(seed)
    sources = sizes(*(round(1e6 * draw.lognormvariate(0, 0.8)) for _ in range(count)))
    share, makespan = waits(in_turn(sources), AHEAD)
    assert share < 0.03
    assert makespan < 1.03, "the workers end together"
    assert sorted(in_turn(sources), key=str) == sorted(sources, key=str)
    assert waits(largest_first(sources), AHEAD)[0] > 0.1
