from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.balance import BalanceConfig
from curation.dedupe import DedupeConfig
from curation.ledger import Row, arrow_schema, arrow_table
from curation.measure.embedding import DIMENSIONS
from curation.preset import Preset, load_preset
from curation.verdict import clusters, judge

RULES = "rules: [{quality_score: {min: 20}}]\n"


def preset(tmp_path: Any, more: str = "") -> Preset:
    path = tmp_path / "p.yaml"
    path.write_text(RULES + more)
    return load_preset(path, arrow_schema())


def row(number: int, **values: Any) -> Row:
    base = {
        "clip_id": f"{number:024x}", "source": "a.mp4", "start": 0.0, "end": 3600.0, "frames": 9,
        "width": 640, "height": 360, "quality_score": 50.0, "decision": "keep", "config_hash": "0",
    }  # fmt: skip
    return Row.model_validate({**base, **values})


def judged(rows: list[Row], by: Preset) -> list[dict[str, Any]]:
    verdict = judge(arrow_table(rows), by)
    assert verdict.keep.sum() == sum(d == "keep" for d in verdict.columns["decision"].to_pylist())
    return pa.table(dict(verdict.columns)).to_pylist()


def test_each_step_sees_what_the_ones_before_it_kept(tmp_path: Any) -> None:
    rows = [
        row(0, duplicate_cluster="a", quality_score=90.0, text_boxes=[[0.0, 0.0, 1.0, 0.5]]),
        row(1, duplicate_cluster="a", quality_score=60.0),
        row(2, duplicate_cluster="a", quality_score=70.0, text_boxes=[[0.0, 0.95, 1.0, 1.0]]),
        row(3, duplicate_cluster="a", quality_score=10.0),
        row(4, decision="error", stage="open", reason="broken", error="e"),
    ]
    said = judged(rows, preset(tmp_path))
    assert [(one["decision"], one["stage"]) for one in said] == [
        ("drop", "crop"),
        ("drop", "dedupe"),
        ("keep", None),
        ("drop", "decide"),
        ("error", "open"),
    ]
    assert "under 80%" in said[0]["reason"]
    assert said[1]["duplicate_of"] == rows[2].clip_id
    x, y, w, h = said[2]["crop"]
    assert (x, y, h % 2) == (0, 0, 0)
    assert 330 <= h <= 342
    assert w > 600
    assert [one["crop"] for one in said if one["decision"] != "keep"] == [None] * 4


def test_another_threshold_gives_another_member_of_a_cluster(tmp_path: Any) -> None:
    rows = [row(i, duplicate_cluster="a", quality_score=30.0 + i) for i in range(3)]
    low = judged(rows, preset(tmp_path))
    assert [one["decision"] for one in low] == ["drop", "drop", "keep"]
    rows[2] = row(2, duplicate_cluster="a", quality_score=19.0)
    assert [one["decision"] for one in judged(rows, preset(tmp_path))] == ["drop", "keep", "drop"]


def test_balance_drops_or_weighs_what_is_kept(tmp_path: Any) -> None:
    def of(kind: str, number: int) -> Row:
        subject = {"TYPES": {"type": kind}, "is_main_subject": True}
        return row(number, caption={"subjects": [subject]}, caption_status="ok")

    rows = [of("Human" if i < 6 else "Animal", i) for i in range(8)] + [row(9, quality_score=0.0)]
    said = judged(rows, preset(tmp_path, "balance: {by: [subject_type]}"))
    kept = [one["concept"] for one in said if one["decision"] == "keep"]
    assert sorted(kept) == ["Animal"] * 2 + ["Human"] * 2
    assert {one["stage"] for one in said if one["decision"] == "drop"} == {"balance", "decide"}
    assert "more Human than 50 %" in {one["reason"] for one in said}
    weighed = judged(rows, preset(tmp_path, "balance: {by: [subject_type], mode: weight}"))
    weights = [one["sampling_weight"] for one in weighed[:8]]
    assert weights == pytest.approx([4 / 6] * 6 + [2.0] * 2)
    assert weighed[8]["sampling_weight"] is None


def test_facts_about_the_source_can_be_rules_and_concepts(tmp_path: Any) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text("rules: [{source_genre: {in: [film], missing: drop}}]")
    by = load_preset(path, arrow_schema().append(pa.field("source_genre", pa.string())))
    facts = [[{"name": "genre", "value": "film"}], [{"name": "genre", "value": "tv"}], []]
    said = judged([row(i, source_facts=one) for i, one in enumerate(facts)], by)
    assert [one["decision"] for one in said] == ["keep", "drop", "drop"]
    assert BalanceConfig(by=("source_genre",)).by == ("source_genre",)


def clip(number: int, look: int, **values: Any) -> Row:
    """Clips of one look are copies of each other."""
    random = np.random.default_rng(look)
    embedding = random.standard_normal(DIMENSIONS)
    hashes = random.integers(1, 2**63, 48).tolist()
    return row(
        number,
        end=4.0,
        embedding=(embedding / np.linalg.norm(embedding)).tolist(),
        hash_sequence=hashes,
        hash_changes=hashes,
        hash_times=np.arange(8) * 0.5,
        **values,
    )


def test_clips_of_another_output_stay_whatever_their_quality(tmp_path: Any) -> None:
    there = arrow_table([clip(10, 0, quality_score=1.0), clip(11, 3), clip(3, 4)])
    rows = [
        clip(0, 0, quality_score=99.0),
        clip(1, 0, quality_score=50.0),
        clip(2, 1),
        clip(3, 4),  # the same clip as there
        clip(4, 2, quality_score=2.0),
        clip(5, 2, quality_score=3.0),
    ]
    table = arrow_table(rows)
    names = clusters(table, DedupeConfig(), there)
    place = table.schema.get_field_index("duplicate_cluster")
    path = tmp_path / "none.yaml"
    path.write_text("rules: []")
    none = load_preset(path, arrow_schema())
    said = judge(table.set_column(place, "duplicate_cluster", names), none)
    ids = [one.clip_id for one in rows]
    outside = clip(10, 0).clip_id
    assert said.columns["duplicate_of"].to_pylist() == [
        outside, outside, None, ids[3], ids[5], None,
    ]  # fmt: skip
    assert said.columns["reason"].to_pylist() == [
        f"near-duplicate of {outside}, of another output",
        f"near-duplicate of {outside}, of another output",
        None,
        f"near-duplicate of {ids[3]}, of another output",
        f"near-duplicate of {ids[5]}",
        None,
    ]
    alone = clusters(table, DedupeConfig())
    assert clusters(table, DedupeConfig(), there.slice(0, 0)).equals(alone)
    assert clusters(table.slice(3, 1), DedupeConfig(), there).to_pylist() == [f"outside:{ids[3]}"]


def test_clusters_do_not_depend_on_what_is_kept() -> None:
    rows = [clip(0, 0), clip(1, 1), clip(2, 0, decision="drop"), row(3)]
    found = clusters(arrow_table(rows), DedupeConfig()).to_pylist()
    assert found[0] == found[2] is not None
    assert (found[1], found[3]) == (None, None)
