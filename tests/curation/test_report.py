from pathlib import Path

from captioner.schema import ShotCaption, Subject, SubjectTypes
from curation.report import MAX_SHOTS, write_report
from tests.curation.test_ledger import a_row


def page(tmp_path: Path, rows: list) -> str:
    write_report(rows, lambda clip: tmp_path / clip, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_untrusted_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>'\" onmouseover=x"
    subject = Subject(types=SubjectTypes(type=evil[:40]), expression=evil, is_main_subject=True)
    row = a_row().model_copy(
        update={
            "frames": 5,
            "source": evil,
            "caption": ShotCaption(subjects=(subject,), lighting=evil),
            "caption_t2v": evil,
            "text_lines": [evil],
            "error": evil,
        }
    )
    text = page(tmp_path, [row])
    assert text.count("<script>") == 1
    assert "<article class=shot" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "' onmouseover" not in text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, [a_row().model_copy(update={"frames": 5})])
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_large_ledger_is_sampled_evenly(tmp_path: Path) -> None:
    rows = [a_row(i).model_copy(update={"frames": 5}) for i in range(2 * MAX_SHOTS + 1)]
    text = page(tmp_path, rows)
    assert MAX_SHOTS / 2 < text.count("<article") <= MAX_SHOTS
    assert f"of {len(rows)} shots" in text


def test_counts_are_right(tmp_path: Path) -> None:
    rows = [a_row(i).model_copy(update={"frames": 5}) for i in range(3)]
    text = page(tmp_path, rows)
    assert "<h3>shot_type <small>3 of 3</small></h3>" in text
    assert "<h3>camera_motion <small>0 of 3</small></h3>" in text
