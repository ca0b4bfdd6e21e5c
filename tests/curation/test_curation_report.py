import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from captioner import FrameBatch
from curation.curation_report import write_curation_report
from curation.ledger import Row, arrow_schema, arrow_table
from curation.output import Output
from curation.preset import load_preset
from curation.rows import preview
from curation.verdict import judge
from eval.synth import still, write_video

HOSTILE = "<script>document.title = 'taken over'</script>"


def row(number: int, **values: Any) -> Row:
    base = {
        "clip_id": f"{number:024x}", "source": f"{HOSTILE}.mp4", "start": 0.0, "end": 2.0,
        "frames": 50, "width": 640, "height": 360, "quality_score": 10.0 * number,
        "decision": "keep", "config_hash": "0",
    }  # fmt: skip
    return Row.model_validate({**base, **values})


@pytest.fixture
def page(tmp_path: Path) -> Path:
    preset = tmp_path / "p.yaml"
    preset.write_text("name: mine\nrules: [{quality_score: {min: 35}}]\nbalance: {by: [shot_type]}")
    chosen, out = load_preset(preset, arrow_schema()), Output(tmp_path / "out")
    rows = [row(i) for i in range(6)]
    rows[3] = row(3, model_scores=[{"name": "game", "value": 0.25}])
    rows[4] = row(4, text_boxes=[[0.0, 0.94, 1.0, 1.0]])
    rows.append(row(6, duplicate_cluster="a"))
    rows.append(row(7, duplicate_cluster="a", clip="clips/7.mp4"))
    rows.append(row(8, frames=None, decision="error", reason="broken", error=HOSTILE))
    verdict = judge(arrow_table(rows), chosen)
    named = {name: values.to_pylist() for name, values in verdict.columns.items()}
    judged = [
        one.model_copy(update={name: values[i] for name, values in named.items()})
        for i, one in enumerate(rows)
    ]
    picture = preview(FrameBatch.from_rgb([still(i, 320, 180) for i in range(8)], 4.0))
    for one in judged:
        out.preview(one.clip_id).parent.mkdir(parents=True, exist_ok=True)
        out.preview(one.clip_id).write_bytes(picture)
    out.clips.mkdir(parents=True)
    write_video(out.clips / "7.mp4", [still(i, 320, 180) for i in range(8)])
    write_curation_report(judged, verdict, chosen, out, out.report)
    return out.report


def test_the_page_shows_what_was_decided(page: Path) -> None:
    text = page.read_text()
    assert "8 clips, 0.004 h; 3 kept" in text
    assert "<td>quality_score<td>at least 35<td>4<td>4<td>" in text
    assert "quality_score 30 is below 35" in text
    assert "near-duplicate of" in text
    assert "<b>model_game</b> <small>1 clips, 7 without</small>" in text
    assert text.count("<i style=") == 2 * 4, "the crop in four frames, among the crops and the kept"
    assert "<line " in text, "the threshold in the histogram"
    assert "src='clips/7.mp4'" in text
    assert "<td>none<td>" in text, "the concept of clips without a caption"
    assert "broken" in text
    assert "<script" not in text


def test_an_empty_ledger_has_a_page(tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text("rules: [{quality_score: {min: 35}}]")
    chosen = load_preset(preset, arrow_schema())
    path = tmp_path / "report.html"
    write_curation_report(
        [], judge(arrow_table([]), chosen), chosen, Output(tmp_path / "out"), path
    )
    assert "0 clips" in path.read_text()


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_browser_draws_it_and_runs_nothing(page: Path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True)
    assert "<title>skycaptioner: curation</title>" in done.stdout
    assert done.stdout.count("<video") == 1
