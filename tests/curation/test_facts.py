from pathlib import Path

import pytest

from curation.facts import FactsError, load_facts
from curation.sources import Source


def test_facts_come_from_csv_and_jsonl_alike(tmp_path: Path) -> None:
    csv, jsonl = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text("file,genre,year\na.mp4,film,1940\n/x/b.mp4,,2001\n")
    jsonl.write_text(
        '{"file": "a.mp4", "genre": "film", "year": 1940}\n\n{"file": "/x/b.mp4", "year": 2001}\n'
    )
    for path in (csv, jsonl):
        facts = load_facts(path)
        assert facts.columns == ("source_genre", "source_year")
        by_name = facts.of(Source(Path("/somewhere/a.mp4")))
        assert by_name.facts == (("genre", "film"), ("year", "1940"))
        assert facts.of(Source(Path("/x/b.mp4"))).facts == (("year", "2001"),)
        assert facts.of(Source(Path("/y/c.mp4"), copies=(Path("/y/a.mp4"),))) != Source(Path("c"))
        assert facts.of(Source(Path("/y/c.mp4"))).facts == ()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", "file,genre\n,film\n", 2),
        ("a.csv", "name,genre\na.mp4,film\n", 2),
        ("a.csv", "file,genre\na.mp4,film,drama\n", 2),
        ("a.csv", "file,genre\na.mp4,film\na.mp4,tv\n", 3),
        ("a.csv", "file,sha256\na.mp4,0\n", 2),
        ("a.jsonl", '{"file": "a.mp4"}\n[]\n', 2),
        ("a.jsonl", "{\n", 1),
    ],
)
def test_a_bad_line_is_named(name: str, content: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(FactsError, match=f"{name}:{line}: "):
        load_facts(path)
