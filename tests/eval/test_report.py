import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from captioner.schema import FIELDS
from eval.agreement import cohen_kappa
from eval.drift import Drift, Drifts
from eval.evaluation import Evaluation
from eval.fields import SCORERS, Item
from eval.report import MAX_WORST, PAPER, Page, worst, write_report
from eval.scores import Difference, camera_result, field_results

HOSTILE = "<script>document.title = 'taken over'</script>"


def item(clip: str, answer: str, field: str = "shot_type", truth: str = "close_up") -> Item:
    one = SCORERS[field].item(clip, -1, -1, (truth,), answer)
    one.verdict = one.verdict or "wrong"
    return one


ITEMS = [
    *(item(f"clip {i}", "close_up") for i in range(3)),
    item(HOSTILE, HOSTILE),
    item(HOSTILE, "pan left", "camera_motion", "pan_right"),
    item("clip 1", "A forest.", "environment", "A wood."),
]


def page(strip: Any = None, **more: Any) -> Page:
    found = Evaluation(
        ITEMS, field_results(ITEMS), camera_result(ITEMS), {"ok": 4, "missing": 1},
        {"found": 2, "missed": 1, "extra": 1}, "similarity", "Words in common, & no more.",
        {"all": cohen_kappa(["right", "wrong"], ["right", "wrong"])}, (f"{HOSTILE}:3: unknown",),
    )  # fmt: skip
    return Page("set.jsonl", found, strip or (lambda clip: None), **more)


def written(tmp_path: Path, one: Page) -> str:
    write_report(one, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_the_page_has_the_figures_beside_the_papers(tmp_path: Path) -> None:
    text = written(tmp_path, page(lambda clip: b"jpeg" if clip == HOSTILE else None))
    assert "5 clips, captions: 4 ok, 1 missing; 2 of 3 labelled subjects found, 1 extra" in text
    assert "<td>shot_type<td><b>75.0</b><td>30.1 to 95.4<td>3<td>4<td>4<td>100.0" in text
    assert (
        "<td class=paper>76.8<td class=paper>82.5<td class=paper>60.2<td class=paper>93.7" in text
    )
    assert "another test set, never released" in text
    assert text.count("no label") == len(FIELDS) - 3
    assert "Words in common, &amp; no more." in text
    assert "kappa 1.00" in text
    assert text.count("data:image/jpeg;base64,anBlZw==") == 1
    assert text.count("no frames here") == 1
    assert "<circle" in text


def test_what_is_optional_is_there_when_asked_for(tmp_path: Path) -> None:
    assert not {"Drift", "Gate", "Against"} & set(written(tmp_path, page()).split())
    text = written(
        tmp_path,
        page(
            differences={"avg": Difference("avg", 0.5, 0.75, 0.1, 0.4)},
            drift=Drifts((Drift("shot_type", 9, 0.25, (1.0, 0.5), 0.1, (("", 0.5),)),), 1, 2),
            failures=["shot_type: 0.7 is below its floor"],
        ),
    )
    assert "<td>50.0<td>75.0<td>+25.0<td>+10.0 to +40.0" in text
    assert "9 clips have both captions, 1 only the other, 2 only this one" in text
    assert "empty +50.0" in text
    assert "<b>Gate failed.</b><ul><li>shot_type: 0.7 is below its floor" in text
    assert "Gate passed." in written(tmp_path, page(failures=[]))


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path, page()) == written(tmp_path, page())


def test_the_worst_clips_come_first_and_are_bounded() -> None:
    items = [item(f"{i:03}", "close_up" if j < i else "x") for i in range(60) for j in range(50)]
    found = worst(items)
    assert [clip for clip, _ in found] == [f"{i:03}" for i in range(MAX_WORST)]
    assert worst([item("a", "close_up")]) == []


def test_the_papers_figures_are_consistent() -> None:
    """Its averages are unweighted means, but for the second column, as the docstring says."""
    assert set(PAPER) == {*FIELDS, "avg"}
    for column, mean in enumerate(PAPER["avg"]):
        exact = sum(PAPER[name][column] for name in FIELDS) / len(FIELDS)
        assert abs(exact - mean) < (0.6 if column == 1 else 0.05)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_browser_draws_it_and_runs_nothing(tmp_path: Path) -> None:
    text = written(tmp_path, page())
    assert "<script" not in text
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    uri = (tmp_path / "report.html").as_uri()
    done = subprocess.run([*command, uri], capture_output=True, text=True, check=True)
    assert "<title>set.jsonl</title>" in done.stdout
    assert "<svg" in done.stdout
