"""Presets and what they decide, on rows made for it."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.schema import ShotCaption
from curation.balance import BalanceConfig
from curation.decide import STAGE, Decisions, decide, funnel, moved, needed
from curation.ledger import Ledger, Row, arrow_schema
from curation.ledger_columns import LedgerError, read_columns, write_columns
from curation.measure.columns import Scale
from curation.preset import PresetError, load_preset, shipped
from curation.rule_columns import column, inputs, scales

MEASURED = {
    "quality_sharpness": Scale("", 0, 1),
    "quality_luma": Scale("", 0, 255),
    "safety_nsfw": Scale("", 0, 1),
}
SCHEMA = pa.schema(
    [
        *arrow_schema(),
        *(pa.field(name, pa.float64()) for name in MEASURED if name not in arrow_schema().names),
        pa.field("source_genre", pa.string()),
        pa.field("source_year", pa.int64()),
    ]
)
KNOWN = {**scales(), **MEASURED}


def preset(folder: Path, text: str, name: str = "mine.yaml"):
    path = folder / name
    path.write_text(text)
    return load_preset(path, SCHEMA, KNOWN)


def row(i: int = 0, **values: object) -> dict[str, object]:
    basic = {
        "clip_id": f"{i:024x}",
        "source": "a.mp4",
        "start": 0.0,
        "end": 5.0,
        "width": 1920,
        "height": 1080,
        "fps": 25.0,
        "decision": "keep",
        "config_hash": "0",
    }
    return basic | values


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def decided(folder: Path, rules: str, *rows: dict[str, object]) -> Decisions:
    return decide(table(*rows), preset(folder, f"rules:\n{rules}"))


def test_each_rule_says_why_in_words_with_score_and_threshold(tmp_path: Path) -> None:
    rules = (
        "  - duration: {min: 1 s, max: 1 min}\n"
        "  - short_side: {min: 360 px}\n"
        "  - quality_sharpness: {min: 20 %}\n"
        "  - source_genre: {in: [film, tv]}\n"
        "  - shot_type: {not_in: [other]}\n"
        "  - motion_tracking: {in: [false]}\n"
        "  - source_year: {min: 1990, missing: drop}\n"
    )
    film = {"source_genre": "film", "source_year": 2001}
    decisions = decided(
        tmp_path,
        rules,
        row(**film),
        row(**film, end=0.8),
        row(**film, end=61.26),
        row(**film, width=240),
        row(**film, quality_sharpness=0.12),
        row(source_genre="ugc", source_year=2001),
        row(**film, caption={"shot_type": "other"}),
        row(**film, motion_tracking=True),
        row(source_genre="tv", source_year=1985),
        row(source_genre=None, source_year=None),
        row(**film, end=0.5, width=240),
    )
    assert decisions.reason.to_pylist() == [
        None,
        "duration 0.8 s is below 1 s",
        "duration 61.26 s is above 60 s",
        "short_side 240 px is below 360 px",
        "quality_sharpness 0.12 is below 0.2",
        "source_genre ugc is not one of film, tv",
        "shot_type other is excluded",
        "motion_tracking true is not one of False",
        "source_year 1985 is below 1990",
        "source_year is missing",
        "duration 0.5 s is below 1 s",
    ]
    assert decisions.decision.to_pylist() == ["keep", *["drop"] * 10]
    assert decisions.stage.to_pylist() == [None, *[STAGE] * 10]


def test_a_missing_value_is_kept_unless_the_rule_says_otherwise(tmp_path: Path) -> None:
    clips = [row(safety_nsfw=value) for value in (None, math.nan, 0.1, 0.9)]
    keep = decided(tmp_path, "  - safety_nsfw: {max: 0.5}", *clips)
    drop = decided(tmp_path, "  - safety_nsfw: {max: 0.5, missing: drop}", *clips)
    assert keep.keep.tolist() == [True, True, True, False]
    assert drop.keep.tolist() == [False, False, True, False]
    assert drop.reason[1].as_py() == "safety_nsfw is missing"


def test_errors_stay_errors(tmp_path: Path) -> None:
    failed = row(decision="error", reason="no video stream", stage="open", end=None, width=None)
    decisions = decided(tmp_path, "  - duration: {min: 9 s, missing: drop}", failed, row())
    assert decisions.decision.to_pylist() == ["error", "drop"]
    assert decisions.reason.to_pylist() == ["no video stream", "duration 5 s is below 9 s"]
    assert decisions.stage.to_pylist() == ["open", STAGE]
    assert not decisions.dropped[:, 0].any()
    assert funnel(decisions)[0].total == 1


def test_without_rules_and_without_rows(tmp_path: Path) -> None:
    assert decide(table(row(), row()), preset(tmp_path, "name: all")).keep.all()
    empty = decided(tmp_path, "  - duration: {min: 1 s}\n  - shot_type: {in: [other]}")
    assert len(empty.decision) == len(empty.reason) == 0
    assert funnel(empty)[0].total == 0


values = st.none() | st.floats(0, 1)
bounds = st.none() | st.floats(0, 1)


@given(st.lists(st.tuples(values, values), max_size=12), bounds, bounds, st.booleans())
def test_the_columns_decide_as_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, rows, low, high, strict
) -> None:
    names = ("quality_sharpness", "safety_nsfw")
    wanted = [("min", low), ("max", high)]
    given = [
        f"  - {name}: {{{key}: {bound!r}, missing: {'drop' if strict else 'keep'}}}"
        for name, (key, bound) in zip(names, wanted)
        if bound is not None
    ]
    rules = "\n".join(given) or "  []"
    clips = [row(i, **dict(zip(names, pair))) for i, pair in enumerate(rows)]
    decisions = decided(tmp_path_factory.getbasetemp(), rules, *clips)

    def fails(value: float | None, key: str, bound: float | None) -> bool:
        if bound is None:
            return False
        if value is None:
            return strict
        return value < bound if key == "min" else value > bound

    truth = [[fails(v, *w) for v, w in zip(pair, wanted)] for pair in rows]
    assert decisions.keep.tolist() == [not any(flags) for flags in truth]
    counted = {count.rule: count for count in funnel(decisions)}
    for r, name in enumerate(names):
        if wanted[r][1] is None:
            assert name not in counted
        else:
            assert counted[name].total == sum(flags[r] for flags in truth)
            assert counted[name].alone == sum(flags[r] and sum(flags) == 1 for flags in truth)
            assert counted[name].hours == pytest.approx(counted[name].total * 5 / 3600)
    for text, pair in zip(decisions.reason.to_pylist(), rows):
        if text and "missing" not in text:
            # Rounding never makes a reason that contradicts itself.
            name, shown, _, side, bound = text.split()
            assert float(shown) < float(bound) or side == "above"
            assert float(shown) > float(bound) or side == "below"
            assert float(shown) == pytest.approx(pair[names.index(name)], rel=1e-3)


def test_moved_counts_both_directions() -> None:
    before = pa.array(["keep", "keep", "drop", "drop", "error"])
    after = pa.array(["keep", "drop", "keep", "drop", "error"])
    assert (moved(before, after).kept_to_dropped, moved(before, after).dropped_to_kept) == (1, 1)


def test_derived_columns_come_from_the_row_and_its_caption() -> None:
    woman = {"TYPES": {"type": "Human", "sub_type": "Woman"}, "is_main_subject": True}
    cat = {"TYPES": {"type": "Animal", "sub_type": "Cat"}, "is_main_subject": False}
    empty = {"TYPES": {"type": "", "sub_type": ""}, "is_main_subject": True}
    clips = table(
        row(
            caption={"subjects": [cat, woman], "shot_type": "close_up"}, motion_camera=["pan", "x"]
        ),
        row(
            caption={"subjects": [cat], "shot_type": ""}, motion_camera=[], width=1080, height=1920
        ),
        row(caption={"subjects": [empty, woman]}),
        row(caption=None, width=None),
    )
    assert column(clips, "subject_type").to_pylist() == ["Human", None, None, None]
    assert column(clips, "subject_sub_type").to_pylist() == ["Woman", None, None, None]
    assert column(clips, "shot_type").to_pylist() == ["close_up", None, None, None]
    assert column(clips, "camera_move").to_pylist() == ["pan", None, None, None]
    assert column(clips, "short_side").to_pylist() == [1080, 1080, 1080, None]
    assert column(clips, "aspect_ratio").to_pylist()[:2] == [1920 / 1080, 1080 / 1920]
    assert column(clips, "megapixels")[0].as_py() == pytest.approx(2.0736)


# ---- presets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (3, "rules:\n  - duration: {min: 1 s}\n  - sharpness: {min: 0.2}", "no column sharpness"),
        (2, "rules:\n  - quality_sharpnes: {min: 0.2}", "did you mean quality_sharpness?"),
        (2, "rules:\n  - duration: {min: 2 px}", "duration is in s, not in 'px'"),
        (4, "rules:\n  - duration:\n      min: 1 s\n      max: 9 fps", "in s, not in 'fps'"),
        (2, "rules:\n  - safety_nsfw: {max: 1 s}", "a number without a unit"),
        (2, "rules:\n  - quality_luma: {max: 50 %}", "not in '%'"),
        (2, "rules:\n  - duration: {min: 9 s, max: 3 s}", "at least 9 s and at most 3 s"),
        (2, "rules:\n  - safety_nsfw: {max: 1.5}", "can be 0 to 1, never 1.5"),
        (2, "rules:\n  - duration: {min: -1 s}", "can be 0 to inf, never -1 s"),
        (2, "rules:\n  - duration: {min: .inf}", "no number"),
        (2, "rules:\n  - duration: {min: 1e999}", "too large"),
        (2, "rules:\n  - duration: {min: true}", "min"),
        (2, "rules:\n  - duration: {minimum: 1 s}", "minimum"),
        (2, "rules:\n  - duration: {}", "no min, max, in or not_in"),
        (2, "rules:\n  - duration: 5 s", "a rule is one `duration: {min: ..., max: ...}`"),
        (2, "rules:\n  - duration: {in: [5]}", "no list of values"),
        (2, "rules:\n  - shot_type: {min: 2}", "no number"),
        (2, "rules:\n  - source_genre: {in: [film, no]}", "values of source_genre are string"),
        (2, "rules:\n  - source_genre: {in: []}", "in"),
        (2, "rules:\n  - text_lines: {in: [a]}", "no list of values"),
        (3, "rules:\n  - fps: {min: 9}\n  - fps: {min: 10}", "second rule for fps"),
        (2, "rules:\n  - fps: {min: 9}\n    width: {min: 9}", "one `column: {...}`"),
        (2, "rules:\n  - fps: off", "no inherited rule"),
        (2, "name: x\nrule: []", "rule"),
        (1, "rules: {fps: 1}", "rules"),
        (2, "name: x\nname: y", "twice"),
        (3, "rules:\n  - fps: {min: 9}\n  - fps: {min: 9", "expected"),
        (1, "- fps", "no `key: value` lines"),
        (1, "", "no `key: value` lines"),
        (2, "name: x\nextends: nothing", "there is no preset 'nothing'"),
        (2, "name: x\nextends: mine.yaml", "extends this preset itself"),
        (2, "name: x\ncrop: &a {}\ndedupe: *a", "anchors"),
        (2, "name: x\nbalance: {by: [mood]}", "no column mood"),
        (2, "name: x\nbalance: {by: [subject_type], to: tempered}", "needs `alpha`"),
        (4, "balance:\n  by: [subject_type]\n  to:\n    Human: 1.2", "Human"),
        (3, "balance:\n  by: [subject_type]\n  to: shares.yaml", "there is no file"),
        (1, "balance: {by: [text_lines]}", "no concept"),
        (1, "balance: {by: [subject_type], too: uniform}", "no option 'too'"),
    ],
)
def test_a_wrong_preset_is_refused_with_its_line(
    tmp_path: Path, line: int, text: str, says: str
) -> None:
    with pytest.raises(PresetError) as error:
        preset(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'mine.yaml'}:{line}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_presets(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.yaml", "binary.yaml", "."):
        with pytest.raises(PresetError):
            load_preset(tmp_path / name, SCHEMA, KNOWN)
    with pytest.raises(PresetError, match="one of 256p, 360p, 540p, 720p-sft"):
        load_preset("1080p", SCHEMA, KNOWN)


def test_a_preset_extends_another_and_overrides_by_column(tmp_path: Path) -> None:
    base = "rules:\n  - duration: {min: 1 s}\n  - fps: {min: 16}\n  - width: {min: 64 px}\n"
    preset(tmp_path, base + "crop: {min_area: 0.9}\ndedupe: {copies: true}", "base.yaml")
    mine = preset(
        tmp_path,
        "extends: base.yaml\n"
        "rules:\n  - height: {min: 64 px}\n  - duration: {max: 9 s}\n  - fps: off\n"
        "dedupe: {}",
    )
    assert [(rule.column, rule.threshold) for rule in mine.rules] == [
        ("duration", "at most 9 s"),
        ("width", "at least 64 px"),
        ("height", "at least 64 px"),
    ]
    assert mine.rules[0].place == f"{tmp_path / 'mine.yaml'}:4"
    assert mine.name == "mine"
    assert (mine.crop.values, mine.dedupe.values) == ({"min_area": 0.9}, {})


def test_a_rule_taken_away_may_name_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rules:\n  - fps: {min: 9}\n  - unheard_of: {min: 1}\n")
    mine = preset(tmp_path, "extends: base.yaml\nrules:\n  - unheard_of: off")
    assert [rule.column for rule in mine.rules] == ["fps"]
    with pytest.raises(PresetError, match=r"base\.yaml:3: the ledger has no column unheard_of"):
        preset(tmp_path, "extends: base.yaml")


@dataclass(frozen=True)
class _Crop:
    min_area: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ValueError("min_area is a share")


def test_a_section_becomes_its_config_or_names_its_line(tmp_path: Path) -> None:
    assert preset(tmp_path, "crop: {min_area: 0.9}").crop.make(_Crop) == _Crop(0.9)
    assert preset(tmp_path, "name: x").crop.make(_Crop) == _Crop()
    for options, says in (
        ("min_area: much", "min_area"),
        ("area: 1", "area"),
        ("min_area: 2", "share"),
    ):
        with pytest.raises(PresetError, match=rf"mine.yaml:[12]: .*{says}"):
            preset(tmp_path, f"crop:\n  {options}").crop.make(_Crop)


def test_balance_takes_shares_from_a_file_beside_the_preset(tmp_path: Path) -> None:
    (tmp_path / "shares.json").write_text('{"Human": 0.5}')
    mine = preset(tmp_path, "balance: {by: [subject_type, shot_type], to: shares.json}")
    assert mine.balance == BalanceConfig(by=("subject_type", "shot_type"), to={"Human": 0.5})
    assert mine.columns() == ["subject_type", "shot_type"]


TIERS = ("256p", "360p", "540p", "720p-sft")


def tiers():
    """The shipped presets over a schema with the measures that they name."""
    text = "".join(path.read_text() for path in (Path("curation/presets")).glob("*.yaml"))
    names = {line.split("- ")[1].split(":")[0] for line in text.splitlines() if line[:4] == "  - "}
    extra = [n for n in names if n.split("_")[0] in FAMILIES and n not in SCHEMA.names]
    schema = pa.schema([*SCHEMA, *(pa.field(name, pa.float64()) for name in sorted(extra))])
    known = {name: Scale("", 0, 1) for name in extra if "%" in text} | KNOWN
    known |= {"quality_score": Scale("", 0, 100), "motion_abrupt": Scale("", 0)}
    return schema, [load_preset(name, schema, known) for name in TIERS]


FAMILIES = ("quality", "motion", "border", "text", "overlay", "safety")


def test_the_shipped_tiers_go_from_loose_to_strict() -> None:
    assert shipped() == sorted(TIERS)
    schema, presets = tiers()
    rng = np.random.default_rng(0)
    rows = 4000
    # Mostly good clips, so that some pass every rule of the strictest tier.
    limits = {rule.column: rule for tier in presets for rule in tier.rules}
    columns: dict[str, object] = {}
    for name in schema.names:
        rule = limits.get(name)
        if rule is None:
            continue
        spread = rng.normal(1.0, 0.35, rows)
        bound = rule.minimum if rule.minimum is not None else rule.maximum
        columns[name] = bound * (spread + (0.7 if rule.minimum is not None else -0.5))
    columns |= {
        "decision": ["keep"] * rows,
        "start": np.zeros(rows),
        "end": rng.uniform(0, 20, rows),
        "width": rng.choice([1280, 1920], rows),
        "height": rng.choice([240, 300, 480, 720, 1080], rows, p=[0.1, 0.1, 0.2, 0.3, 0.3]),
    }
    clips = pa.table(
        {
            field.name: pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(rows, field.type)
            for field in schema
        }
    )
    kept = [decide(clips, tier).keep for tier in presets]
    counts = [int(keep.sum()) for keep in kept]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(TIERS)
    assert counts[-1] > 0
    for loose, strict in itertools.pairwise(kept):
        assert not (strict & ~loose).any()


# ---- the ledger ----------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "ledger", tmp_path / "state")
    caption = ShotCaption.from_json('{"subjects": [], "shot_type": "close_up"}')
    for part, seconds in (("a", 2.0), ("b", 20.0)):
        rows = [
            Row.model_validate(row(i, source=part, end=seconds + i, caption=caption))
            for i in range(5)
        ]
        made.write(part, rows)
    return made


def test_only_changed_parts_are_written_and_nothing_else_in_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    mine = load_preset(_write(tmp_path, "rules: [{duration: {max: 10 s}}]"), arrow_schema())
    before, parts = read_columns(ledger.parts(), needed(mine))
    decisions = decide(before, mine)
    old = {path.name: (path.stat().st_ino, pq.read_table(path)) for path in ledger.parts()}
    assert write_columns(parts, before, decisions.columns()) == 1
    a, b = ledger.parts()
    assert a.stat().st_ino == old[a.name][0]
    new = pq.read_table(b)
    changed = ["decision", "reason", "stage"]
    assert new.drop_columns(changed).equals(old[b.name][1].drop_columns(changed))
    assert new.schema.equals(old[b.name][1].schema, check_metadata=True)
    assert ledger.state_of("b") is not None
    assert next(r.reason for r in ledger.read(b)) == "duration 20 s is above 10 s"
    assert [r.decision for r in ledger.rows()] == ["keep"] * 5 + ["drop"] * 5
    assert not list(tmp_path.rglob("*.part"))

    before, parts = read_columns(ledger.parts(), needed(mine))
    assert write_columns(parts, before, decide(before, mine).columns()) == 0


def test_a_write_that_fails_leaves_the_part(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {path: path.read_bytes() for path in ledger.parts()}
    before, parts = read_columns(ledger.parts(), ["decision"])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write_columns(parts, before, {"decision": pa.array(["drop"] * 10)})
    assert {path: path.read_bytes() for path in ledger.parts()} == old


def test_only_the_leaves_that_are_needed_are_read(ledger: Ledger) -> None:
    found, _ = read_columns(ledger.parts(), inputs(["subject_type", "shot_type"]))
    names = [field.name for field in found.schema.field("caption").type]
    assert sorted(names) == ["shot_type", "subjects"]
    assert column(found, "shot_type").to_pylist() == ["close_up"] * 10


def test_a_part_that_cannot_be_read_is_named(ledger: Ledger) -> None:
    ledger.parts()[1].write_text("no parquet")
    with pytest.raises(LedgerError, match=r"b\.parquet: cannot be read"):
        read_columns(ledger.parts(), ["decision"])


def _write(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"
