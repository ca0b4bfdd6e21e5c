import json
from pathlib import Path
from typing import Any

import pytest

from curation.export import write_csv, write_jsonl
from curation.ledger import Ledger, Row
from eval.predictions import Prediction, pair, read_predictions
from eval.testset import Clip, Labels, TestsetError, Truth

SHA = "5" * 64
CAPTION = {
    "subjects": [], "shot_type": "close_up", "shot_angle": "", "shot_position": "",
    "camera_motion": "", "environment": "", "lighting": "",
}  # fmt: skip


def row(number: int, **values: Any) -> Row:
    base = {
        "clip_id": f"{number:024x}", "source": "films/a.mp4", "source_sha256": SHA,
        "start": 2.0 * number, "end": 2.0 * number + 2, "decision": "keep", "config_hash": "0",
        "caption": CAPTION, "caption_status": "ok",
    }  # fmt: skip
    return Row.model_validate({**base, **values})


ROWS = [
    row(0),
    row(1, caption=None, caption_status="invalid", error="no JSON"),
    row(2, caption=None, caption_status=None, decision="drop", reason="too dark"),
    row(3, caption_status="repaired"),
]


def truth(clip: str, start: float | None = None, end: float | None = None, **more: Any) -> Truth:
    values = {"path": "elsewhere/a.mp4", "sha256": SHA, "start": start, "end": end, **more}
    return Truth(Clip.model_validate({"clip_id": clip, **values}), Path(), Labels(), 1, (), "set:1")


def shot(start: float | None, end: float | None, **more: Any) -> Prediction:
    base = {
        "place": "p:1", "clip_id": None, "source": "a.mp4", "sha256": SHA, "start": start,
        "end": end, "status": "missing", "caption": None,
    }  # fmt: skip
    return Prediction(**{**base, **more})


def test_a_ledger_is_read_row_by_row(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger", tmp_path / "state").write("a", ROWS)
    found = read_predictions(tmp_path)
    assert [one.status for one in found] == ["ok", "invalid", "missing", "repaired"]
    assert [one.caption is None for one in found] == [False, True, True, False]
    assert [one.problem for one in found][1:3] == ["no JSON", "too dark"]
    assert found[1].place == f"{tmp_path / 'ledger' / 'a.parquet'}:2"
    assert read_predictions(tmp_path / "ledger") == found


def test_the_other_forms_say_the_same(tmp_path: Path) -> None:
    write_jsonl(ROWS, tmp_path / "c.jsonl")
    write_csv(ROWS, tmp_path / "c.csv")
    records, table = (read_predictions(tmp_path / name) for name in ("c.jsonl", "c.csv"))
    assert [one.status for one in records] == ["ok", "invalid", "missing", "repaired"]
    assert [one.caption for one in table] == [one.caption for one in records]
    assert [one.clip_id for one in table] == [row.clip_id for row in ROWS]
    assert table[3].place == f"{tmp_path / 'c.csv'}:5"


def test_a_models_text_is_mended_or_invalid(tmp_path: Path) -> None:
    path = tmp_path / "released.csv"
    texts = [
        json.dumps(CAPTION),
        f"```json\n{json.dumps(CAPTION)}\n```",
        "I cannot see a video.",
        "",
    ]
    lines = ["path,structural_caption"]
    lines += [f'{i}.mp4,"{text.replace(chr(34), chr(34) * 2)}"' for i, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    found = read_predictions(path)
    assert [one.status for one in found] == ["ok", "repaired", "invalid", "missing"]
    assert found[0].caption == found[1].caption
    assert all(one.problem for one in found[2:])


def test_a_caption_outside_the_schema_is_invalid_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"path": "a.mp4", "caption": {**CAPTION, "shot_type": "huge"}}))
    (one,) = read_predictions(path)
    assert (one.status, one.caption) == ("invalid", None)
    assert "shot_type" in one.problem


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.jsonl", '{"clip_id": "a"}\n{\n[1]\n{"caption": {}}\n', ("c.jsonl:2", "c.jsonl:4")),
        ("c.csv", "path,caption\na.mp4,{}\n", ("c.csv:1: no column structural_caption",)),
        ("c.jsonl", "\n", ("c.jsonl: no captions in it",)),
    ],
)
def test_what_is_no_file_of_captions(
    tmp_path: Path, name: str, text: str, told: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TestsetError) as caught:
        read_predictions(tmp_path / name)
    for part in told:
        assert part in str(caught.value)


def test_an_empty_folder_and_a_broken_ledger(tmp_path: Path) -> None:
    with pytest.raises(TestsetError, match="no captions in it"):
        read_predictions(tmp_path)
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "x.parquet").write_text("no Parquet")
    with pytest.raises(TestsetError, match=r"x\.parquet: not a part of a ledger"):
        read_predictions(tmp_path)


# --- whose caption is whose -----------------------------------------------------------------------


def test_a_clip_id_decides_before_all_else() -> None:
    one = shot(90.0, 99.0, clip_id="x", sha256="0" * 64, source="b.mp4")
    paired = pair([truth("x", 0.0, 2.0)], [one])
    assert paired.predictions == {"x": one}
    assert not paired.problems


def test_else_the_content_and_the_bounds() -> None:
    shots = [shot(0.0, 2.0), shot(2.0, 4.1), shot(4.1, 9.0)]
    clips = [truth("first", 0.0, 2.1), truth("second", 2.0, 4.0), truth("between", 3.0, 5.0)]
    paired = pair(clips, shots)
    assert {name: one.start for name, one in paired.predictions.items()} == {
        "first": 0.0, "second": 2.0,
    }  # fmt: skip
    assert paired.problems == (
        "p:1: not a clip of the test set: a.mp4 4.10 to 9.00 s",
        "set:1: no caption of clip between",
    )


def test_the_name_helps_where_there_is_no_content_and_is_not_shared() -> None:
    nameless = shot(None, None, sha256=None)
    assert pair([truth("x")], [nameless]).predictions == {"x": nameless}
    two = [truth("x"), truth("y", sha256="6" * 64)]
    assert not pair(two, [nameless]).predictions, "two files of that name"


def test_a_caption_of_a_whole_file_is_of_no_part_of_it() -> None:
    whole = shot(None, None)
    assert pair([truth("x", 0.0, 2.0)], [whole]).predictions == {"x": whole}
    parts = [truth("x", 0.0, 2.0), truth("y", 2.0, 4.0)]
    assert not pair(parts, [whole]).predictions


def test_a_whole_file_is_no_short_shot_of_it() -> None:
    assert not pair([truth("x")], [shot(0.0, 3.0), shot(3.0, 6.0), shot(6.0, 9.0)]).predictions
    long = shot(0.0, 8.0)
    assert pair([truth("x")], [long, shot(8.0, 9.0)]).predictions == {"x": long}


def test_a_shot_of_another_film_is_told() -> None:
    other = shot(0.0, 2.0, sha256="7" * 64, source="b.mp4", clip_id="b")
    paired = pair([truth("x", 0.0, 2.0)], [other])
    assert paired.problems == (
        "p:1: not a clip of the test set: b b.mp4 0.00 to 2.00 s",
        "set:1: no caption of clip x",
    )


def test_a_changed_file_is_another_file() -> None:
    paired = pair([truth("x", 0.0, 2.0)], [shot(0.0, 2.0, sha256="7" * 64)])
    assert not paired.predictions
    assert paired.problems[0].endswith("2.00 s (a file of this name is, with other content)")


def test_two_captions_of_one_clip() -> None:
    by_id = [shot(0.0, 2.0, clip_id="x"), shot(0.0, 2.0, clip_id="x", place="p:2")]
    with pytest.raises(TestsetError, match="p:2: a second caption of x: see p:1"):
        pair([truth("x", 0.0, 2.0)], by_id)
    with pytest.raises(TestsetError, match="one of several captions of a"):
        pair([truth("x", 0.0, 2.0)], [shot(0.0, 2.0), shot(0.0, 2.0)])
