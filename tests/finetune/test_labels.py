import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.engines.checkpoint import interface
from captioner.engines.experts import EXPRESSIONS
from captioner.experts.camera import MOVES
from captioner.merge import filled
from captioner.result import FieldSource
from captioner.schema import FIELDS, SHOT_FIELDS, ShotCaption, json_schema, options
from curation.dataset import DatasetConfig, publish
from curation.ledger import Row, clip_id
from curation.measure.embedding import DIMENSIONS
from curation.output import Output
from eval.camera_text import read_camera
from eval.fields import SCORERS, subject_value
from eval.testset import Clip, Labels, Line, sha256, truth
from finetune.disagreement import (
    KINDS,
    PRECEDENCE,
    Claim,
    Claims,
    Disagreement,
    Kind,
    Resolved,
    in_words,
    of_machine,
    of_people,
    resolve,
)
from finetune.labels import Built, LabelsConfig, build, make_config
from finetune.targets import SPLITS, Split, Target, TargetError, answer, read_targets, write_targets
from tests.curation.curated import Film, curate

SHA = "0" * 64


# --- who is believed ------------------------------------------------------------------------------

PROSE = st.sampled_from(["", "Grey wall", "Red coat"])


def _value(name: str) -> st.SearchStrategy[str]:
    if name in SHOT_FIELDS and options(name):
        return st.sampled_from(["", *options(name)])
    if name == "camera_motion":
        return st.sampled_from(["", "the camera pans left", "the camera remains static"])
    return PROSE


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A ledger's row of one subject, whose type says nothing against the others'."""
    caption: dict[str, Any] = {name: draw(_value(name)) for name in SHOT_FIELDS}
    subject = {name: draw(PROSE) for name in ("appearance", "action", "expression", "position")}
    kind = {"type": "Human", "sub_type": draw(st.sampled_from(["", "Man", "Woman"]))}
    caption["subjects"] = [{**subject, "TYPES": kind, "is_main_subject": True}]
    sure = st.none() | st.sampled_from([0.2, 0.5, 0.9])
    known = {
        name: {"source": f"seen.{name}", "confidence": draw(sure)}
        for name in FIELDS
        if draw(st.booleans())
    }
    return {"caption": caption, "caption_engine": "engine", "caption_sources": known or None}


ORDERS = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from(KINDS), unique=True).map(tuple) for name in FIELDS}
)


def _says(row: Mapping[str, Any], name: str, above: float | None) -> str:
    """What a row says in a field surely enough, by hand."""
    caption = ShotCaption.model_validate(row["caption"])
    known = (row["caption_sources"] or {}).get(name, {"confidence": None})
    if above is not None and not (known["confidence"] is not None and known["confidence"] > above):
        return ""
    if name in SHOT_FIELDS:
        return str(getattr(caption, name))
    return subject_value(caption.subjects[0], name)


@given(
    st.dictionaries(st.sampled_from(KINDS), rows(), min_size=1),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from([0.0, 0.4, 0.5])),
    ORDERS,
)
def test_the_first_in_precedence_that_says_anything_is_taken(
    given_rows: dict[Kind, dict[str, Any]],
    confidence: dict[str, float],
    precedence: dict[str, tuple[Kind, ...]],
) -> None:
    precedence["is_main_subject"] = KINDS  # whose list it is has tests of its own
    claims = {kind: of_machine(row, confidence) for kind, row in given_rows.items()}
    resolved = resolve(claims, precedence)
    caption = ShotCaption.model_validate(resolved.caption())
    assert len(caption.subjects) == 1
    for name in FIELDS:
        order = precedence[name]
        told = {
            kind: said
            for kind, row in given_rows.items()
            if (said := _says(row, name, confidence.get(name)))
        }
        wins = next((kind for kind in order if kind in told), None)
        said = (
            str(getattr(caption, name))
            if name in SHOT_FIELDS
            else subject_value(caption.subjects[0], name)
        )
        if name == "is_main_subject":
            assert said == ("true" if told else "false")
            continue
        assert said == (told[wins] if wins else ""), name
        known = given_rows[wins]["caption_sources"] or {} if wins else {}
        expected = known.get(name, {"source": "engine", "confidence": None})
        assert resolved.sources().get(name) == (FieldSource(**expected) if wins else None)


def test_the_default_is_the_papers() -> None:
    taken_over = {"shot_type", "shot_angle", "shot_position", "expression", "camera_motion"}
    for name in FIELDS:
        experts_first = PRECEDENCE[name] == ("human", "experts", "teacher")
        assert experts_first == (name in taken_over)
        assert PRECEDENCE[name][0] == "human"


def _row(*subjects: tuple[str, str, str, bool], **shot: str) -> dict[str, Any]:
    """Subjects as type, sub-type, expression, and whether it is the main one."""
    listed = [
        {"TYPES": {"type": t, "sub_type": s}, "expression": e, "is_main_subject": main}
        for t, s, e, main in subjects
    ]
    return {
        "caption": {**shot, "subjects": listed},
        "caption_engine": "e",
        "caption_sources": None,
    }


def _resolved(**said: dict[str, Any] | Claims) -> Resolved:
    return resolve(
        {k: one if isinstance(one, Claims) else of_machine(one, {}) for k, one in said.items()}  # type: ignore[misc]
    )


def _people(**labels: Any) -> Claims:
    clip = Clip(clip_id="c", path="c.mp4", sha256=SHA, labels=Labels.model_validate(labels))
    return of_people(truth([Line(clip, "f:1", Path())]), ["anna"])


def test_subjects_are_paired_by_what_they_are() -> None:
    resolved = _resolved(
        teacher=_row(("Animal", "Dog", "", True), ("Human", "Woman", "She smiles", False)),
        experts=_row(("Human", "Woman", "The expression is sad.", True)),
    )
    dog, woman = ShotCaption.model_validate(resolved.caption()).subjects
    assert (dog.expression, woman.expression) == ("", "The expression is sad.")
    assert (dog.is_main_subject, woman.is_main_subject) == (True, False)
    assert resolved.unplaced == 0


def test_main_subjects_that_differ_lend_each_other_nothing() -> None:
    resolved = _resolved(
        teacher=_row(("Animal", "Dog", "", True)),
        experts=_row(("Human", "Man", "The expression is sad.", True)),
    )
    assert ShotCaption.model_validate(resolved.caption()).subjects[0].expression == ""
    assert resolved.unplaced == 1
    counted = Disagreement()
    counted.add(resolved)
    assert counted.pairs["TYPES_type", "experts", "teacher"].differ == 1


def test_a_label_is_of_the_main_subject_and_a_sub_type_goes_with_its_type() -> None:
    label = {"type": "Human", "expression": "happiness"}
    resolved = _resolved(
        human=_people(subjects=[label], main_subject_only=True),
        teacher=_row(("Plant", "Tree", "", False), ("Animal", "Dog", "It barks", True)),
        experts=_row(("Human", "Man", "", True)),
    )
    tree, main = ShotCaption.model_validate(resolved.caption()).subjects
    assert tree.types.sub_type == "Tree"
    assert (main.types.type, main.types.sub_type) == ("Human", "Man")
    assert main.expression == "The expression is happy."
    assert resolved.sources()["TYPES_type"].source == "e + human (anna)"


def test_a_list_by_people_is_who_is_there() -> None:
    resolved = _resolved(
        human=_people(subjects=[{"type": "Human", "is_main_subject": True}, {"type": "Food"}]),
        teacher=_row(("Human", "Man", "He laughs", True), ("Animal", "Dog", "", False)),
    )
    man, food = ShotCaption.model_validate(resolved.caption()).subjects
    assert (man.types.sub_type, man.expression, man.is_main_subject) == ("Man", "He laughs", True)
    assert (food.types.type, food.is_main_subject) == ("Food", False)
    assert resolved.unplaced == 1


def test_people_can_say_that_there_is_nothing() -> None:
    label = {"type": "Human", "expression": ""}
    resolved = _resolved(
        human=_people(subjects=[label], main_subject_only=True, lighting=""),
        teacher=_row(("Human", "Man", "He laughs", True), lighting="Bright"),
    )
    caption = ShotCaption.model_validate(resolved.caption())
    assert (caption.lighting, caption.subjects[0].expression) == ("", "")


@pytest.mark.parametrize(
    ("votes", "taken"),
    [
        (["close_up"], "close_up"),
        (["close_up", "close_up", "long_shot"], "close_up"),
        (["close_up", "long_shot"], None),
        (["cannot_tell", "cannot_tell"], None),
        (["cannot_tell", "long_shot"], "long_shot"),
        ([["medium_shot", "close_up"]], "medium_shot"),
        ([], None),
    ],
)
def test_votes(votes: Sequence[Any], taken: str | None) -> None:
    lines = [
        Line(
            Clip(
                clip_id="c", path="c.mp4", sha256=SHA, rater=str(i), labels=Labels(shot_type=vote)
            ),
            "f:1",
            Path(),
        )
        for i, vote in enumerate(votes)
    ] or [Line(Clip(clip_id="c", path="c.mp4", sha256=SHA), "f:1", Path())]
    told = of_people(truth(lines), []).shot.get("shot_type")
    assert (told.text if told else None) == taken


@pytest.mark.parametrize("move", [*MOVES, "pan_left+handheld", "truck_right+tilt_up", "tracking"])
def test_moves_in_words_mean_the_same(move: str) -> None:
    said = in_words("camera_motion", move)
    assert said not in (move, "")
    read, meant = read_camera(said), read_camera(move)
    assert read is not None
    assert meant is not None
    assert (read.signs, read.handheld, read.static) == (meant.signs, meant.handheld, meant.static)
    assert in_words("camera_motion", said) == said


def test_expressions_are_in_the_experts_words() -> None:
    for name, word in EXPRESSIONS.items():
        assert in_words("expression", name) == f"The expression is {word}."
        assert SCORERS["expression"].normal(f"The expression is {word}.") == name


# --- statistics -----------------------------------------------------------------------------------

WORDS = {
    "shot_type": ["close_up", "Close-Up", "long_shot", "full_shot"],
    "camera_motion": ["the camera pans left", "pan_left", "the camera remains static"],
    "environment": ["A street", "A park"],
}


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(KINDS),
            st.fixed_dictionaries(
                {}, optional={name: st.sampled_from(words) for name, words in WORDS.items()}
            ),
        ),
        max_size=20,
    )
)
def test_statistics_are_those_of_a_slow_recount(clips: list[dict[Kind, dict[str, str]]]) -> None:
    by = FieldSource("x")
    counted = Disagreement()
    for clip in clips:
        counted.add(
            resolve(
                {
                    kind: Claims({name: Claim(text, by) for name, text in said.items()})
                    for kind, said in clip.items()
                }
            )
        )
    fields = counted.report()["fields"]
    for name in WORDS:
        normal = SCORERS[name].normal
        won = [next((k for k in PRECEDENCE[name] if name in c.get(k, {})), "nobody") for c in clips]
        if clips:
            assert {k: n for k, n in fields[name]["won"].items() if n} == Counter(won)
        for first, second in (("human", "experts"), ("human", "teacher"), ("experts", "teacher")):
            both = [(c[first][name], c[second][name]) for c in clips
                    if name in c.get(first, {}) and name in c.get(second, {})]  # fmt: skip
            if not both:
                continue
            found = fields[name]["pairs"][f"{first} / {second}"]
            same = [normal(a) == normal(b) for a, b in both]
            assert (found["both"], found["same"]) == (len(both), sum(same))
            # Of prose nobody can tell by its words that it is wrong.
            prose = name == "environment"
            assert found["differ"] == (0 if prose else len(both) - sum(same))
            pairs = Counter() if prose else Counter((normal(a), normal(b)) for a, b in both)
            assert {(a, b): n for a, b, n in found["confusion"]} == pairs
    assert not clips or all(name in counted.table() for name in WORDS)


# --- reading and writing --------------------------------------------------------------------------


def target(number: int = 0, split: Split = "train", **more: Any) -> Target:
    values = {
        "clip_id": f"c{number}", "video": "a.mp4", "start": None, "end": None,
        "sha256": None, "source": SHA, "concept": None, "caption": {"shot_type": "close_up"},
        "sources": {"shot_type": {"source": "vllm"}}, "split": split,
    }  # fmt: skip
    return Target.model_validate({**values, **more})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = [target(i, split) for i, split in enumerate(SPLITS * 2)]
    assert write_targets(tmp_path / "t", made) == Counter(dict.fromkeys(SPLITS, 2))
    for split in SPLITS:
        assert read_targets(tmp_path / "t", split) == [m for m in made if m.split == split]


def test_a_broken_input_leaves_the_old_targets(tmp_path: Path) -> None:
    write_targets(tmp_path, [target()])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing() -> Any:
        yield target(1)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_targets(tmp_path, failing())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"caption": {"shot_type": "closeup"}}, "caption.shot_type: Input should be"),
        ({"caption": {"lighting": "x" * 1501}}, "caption.lighting: String should have at most"),
        ({"sources": {}}, "no source of shot_type"),
        ({"sources": {"shot_size": {"source": "x"}}}, "sources of no field: shot_size"),
        ({"start": 1.0}, "start and end are both given, or neither"),
        ({"start": 2.0, "end": 1.0}, "the start is not before the end"),
        ({"split": "dev"}, "split: Input should be 'train', 'validation' or 'test'"),
        ({"rating": 1}, "rating: Extra inputs are not permitted"),
        (None, "Invalid JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: Any, told: str) -> None:
    good = target().model_dump(mode="json", by_alias=True)
    bad = "{" if change is None else json.dumps({**good, **change})
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(good)}\n{bad}\n")
    with pytest.raises(TargetError) as caught:
        read_targets(tmp_path, "train")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_targets(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"test\.jsonl: .*python -m jobs\.labels"):
        read_targets(tmp_path, "test")


def test_the_answer_is_the_captions_json_in_the_order_of_the_schema() -> None:
    caption = {"subjects": [{"TYPES": {"type": "Human"}, "action": "Läuft"}], "lighting": "Hell"}
    sources = {name: {"source": "x"} for name in ("TYPES_type", "action", "lighting")}
    made = target(caption=caption, sources=sources)
    text = answer(made)
    assert ShotCaption.from_json(text) == made.caption
    assert ": " not in text
    assert "Läuft" in text
    assert list(json.loads(text)) == list(json_schema()["properties"])


# --- from ledgers to targets ----------------------------------------------------------------------


def row(film: int, shot: int, folder: Path, **more: Any) -> Row:
    """A captioned row; the video is there, and is never opened."""
    video = folder / f"{film}.mp4"
    video.write_bytes(b"%d" % film)
    digest = sha256(video)
    shot_type = options("shot_type")[(film + shot) % 5]
    values = {
        "clip_id": clip_id(digest, shot, shot + 1), "source": str(video),
        "source_sha256": digest, "shot": shot, "start": float(shot), "end": shot + 1.0,
        "decision": "keep", "caption_status": "ok", "caption_engine": "vllm",
        "caption": {"shot_type": shot_type, "environment": f"Place {film}"}, "config_hash": "0",
    }  # fmt: skip
    return Row.model_validate({**values, **more})


def ledger(folder: Path, made: Sequence[Row], names: str = "") -> Path:
    by_source: dict[str, list[Row]] = {}
    for one in made:
        by_source.setdefault(str(one.source_sha256), []).append(one)
    for i, (digest, group) in enumerate(by_source.items()):
        Output(folder).ledger.write(f"{names}{i}" if names else digest[:32], group)
    return folder


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    return tmp_path / "films"


def made(out: Path, **config: Any) -> tuple[Built, list[Target]]:
    built = build(make_config(**config), out)
    return built, [one for split in SPLITS for one in read_targets(out, split)]


def why(built: Built) -> Counter[str]:
    return Counter(one.why for one in built.left_out)


def test_no_source_is_in_two_splits(films: Path, tmp_path: Path) -> None:
    teacher = ledger(tmp_path / "t", [row(s, i, films) for s in range(25) for i in range(3)])
    drawn = set()
    for seed in range(6):
        _, targets = made(tmp_path / "o", teacher=[teacher], seed=seed, splits=["train=1,test=1"])
        assert len({one.clip_id for one in targets}) == len(targets) == 75
        splits: dict[str, set[str]] = {}
        for one in targets:
            splits.setdefault(one.source, set()).add(one.split)
        assert all(len(one) == 1 for one in splits.values())
        assert set().union(*splits.values()) == {"train", "test"}
        drawn.add(tuple(sorted((source, *split) for source, split in splits.items())))
    assert len(drawn) == 6


def test_the_same_input_gives_the_same_bytes(films: Path, tmp_path: Path) -> None:
    rows_ = [row(s, i, films) for s in range(8) for i in range(2)]
    first, second = ledger(tmp_path / "a", rows_), ledger(tmp_path / "b", rows_[::-1], names="x")
    options_ = {"balance": "by=shot_type", "count": 6, "seed": 3}
    files = []
    for teacher in (first, first, second):
        made(tmp_path / "o", teacher=[teacher], **options_)
        names = [f"{split}.jsonl" for split in SPLITS] + ["left_out.jsonl"]
        files.append([(tmp_path / "o" / name).read_bytes() for name in names])
    assert files[0] == files[1] == files[2]
    assert json.loads((tmp_path / "o" / "labels.json").read_text())["targets"].keys() == {*SPLITS}


def test_each_clip_that_is_no_target_is_named(films: Path, tmp_path: Path) -> None:
    gone = row(90, 0, films)
    (films / "90.mp4").unlink()
    long = {"environment": "e" * 1500, "lighting": "l" * 1500}
    teacher = ledger(
        tmp_path / "t",
        [
            row(0, 0, films),
            row(1, 0, films, decision="drop", reason="dark"),
            row(2, 0, films, caption_status="truncated"),
            row(3, 0, films, caption=None, caption_status=None, decision="error", error="e"),
            row(4, 0, films, caption=long),
            row(5, 0, films, caption={}),
            row(6, 0, films, caption_status="repaired"),
            row(7, 0, films),
            row(8, 0, films),
            gone,
        ],
    )
    bad, excluded, alone = row(7, 0, films), row(8, 0, films), row(9, 0, films)
    human = _testset(tmp_path / "h.jsonl", bad, subjects=[{"type": "Human", "sub_type": "x" * 41}])
    human_only = _testset(tmp_path / "a.jsonl", alone, shot_type="close_up")
    test = _testset(tmp_path / "x.jsonl", excluded)
    config = {"teacher": [teacher], "human": [human, human_only], "not_in": [test]}
    built, targets = made(tmp_path / "o", **config, max_characters=2000)
    assert {one.video for one in targets} == {str(films / "0.mp4"), str(films / "6.mp4")}
    assert why(built) == {
        "dropped": 1, "no teacher": 3, "too long": 1, "nothing": 1, "schema": 1, "test set": 1,
        "video": 1,
    }  # fmt: skip
    lines = [json.loads(text) for text in (tmp_path / "o/left_out.jsonl").read_text().splitlines()]
    details = {one["why"]: one["detail"] for one in lines}
    assert "sub_type: String should have at most 40" in details["schema"]
    assert "more than 2,000" in details["too long"]
    assert "90.mp4" in details["video"]
    facts = json.loads((tmp_path / "o" / "labels.json").read_text())
    assert facts["left_out"] == why(built)
    assert {name: facts[name] for name in ("prompt", "schema")}.items() <= interface("x").items()

    _, with_partial = made(tmp_path / "o", **config, max_characters=2000, partial=True)
    assert {one.video for one in with_partial} > {str(films / "9.mp4")}


def _testset(path: Path, one: Row, **labels: Any) -> Path:
    clip = {
        "clip_id": one.clip_id, "path": one.source, "sha256": one.source_sha256,
        "start": one.start, "end": one.end, "rater": "anna", "labels": labels,
    }  # fmt: skip
    path.write_text(json.dumps(clip) + "\n")
    return path


def test_teacher_experts_and_people_in_one_target(films: Path, tmp_path: Path) -> None:
    one = row(0, 0, films, concept="walk")
    seen = {"shot_type": {"source": "experts.shot", "confidence": 0.9}}
    by_experts = one.model_copy(
        update={
            "caption": ShotCaption(shot_type="medium_shot", shot_angle="low_angle", lighting="Dim"),
            "caption_engine": "experts",
            "caption_sources": Row.model_fields["caption_sources"].annotation.__args__[0](**seen),  # type: ignore[union-attr]
        }
    )
    other = row(1, 0, films)
    config: dict[str, Any] = {
        "teacher": [ledger(tmp_path / "t", [one, other])],
        # A row by another engine is no expert's.
        "experts": ledger(tmp_path / "e", [by_experts, other]),
        "human": [_testset(tmp_path / "h.jsonl", one, shot_position="side_view")],
    }
    built, targets = made(tmp_path / "o", **config)
    found = next(t for t in targets if t.clip_id == one.clip_id)
    assert found.sources == {
        name: type(found.sources["shot_type"])(source=source, confidence=sure)
        for name, source, sure in (
            ("shot_type", "experts.shot", 0.9),
            ("shot_angle", "experts", None),
            ("shot_position", "human (anna)", None),
            ("environment", "vllm", None),
            ("lighting", "experts", None),
        )
    }
    assert set(filled(found.caption)) == set(found.sources)
    assert (found.caption.shot_type, found.caption.shot_position) == ("medium_shot", "side_view")
    assert (found.start, found.end) == (0.0, 1.0)
    assert (found.source, found.sha256, found.concept) == (one.source_sha256,) * 2 + ("walk",)
    pair = built.disagreement.pairs["shot_type", "experts", "teacher"]
    assert (pair.both, pair.differ) == (1, 1)
    assert built.disagreement.won["shot_type"] == {"experts": 1, "teacher": 1}

    _, surer = made(tmp_path / "o", **config, confidence=["0.95"])
    assert next(t for t in surer if t.clip_id == one.clip_id).sources["shot_type"].source == "vllm"
    order = ["shot_type=teacher>experts", "lighting=teacher"]
    _, other_order = made(tmp_path / "o", **config, precedence=order)
    found = next(t for t in other_order if t.clip_id == one.clip_id)
    assert found.sources["shot_type"].source == "vllm"
    assert found.caption.lighting == ""


def test_labels_alone_make_targets(films: Path, tmp_path: Path) -> None:
    one = row(0, 0, films)
    labels = _testset(tmp_path / "h.jsonl", one, camera_motion="pan_left")
    _, [found] = made(tmp_path / "o", human=[labels])
    assert found.caption == ShotCaption(camera_motion="the camera pans left")
    assert found.source == found.sha256 == one.source_sha256


def test_ties_between_raters_are_counted(films: Path, tmp_path: Path) -> None:
    one = row(0, 0, films)
    first = _testset(tmp_path / "a.jsonl", one, shot_type="close_up", shot_angle="low_angle")
    second = _testset(tmp_path / "b.jsonl", one, shot_type="long_shot", shot_angle="low_angle")
    second.write_text(second.read_text().replace("anna", "bert"))
    _, [found] = made(tmp_path / "o", human=[first, second])
    assert found.caption == ShotCaption(shot_angle="low_angle")
    assert found.sources["shot_angle"].source == "human (anna, bert)"
    statistics = json.loads((tmp_path / "o" / "labels.json").read_text())["statistics"]
    assert statistics["ties"] == {"shot_type": 1}


def test_experts_alone_make_targets(films: Path, tmp_path: Path) -> None:
    good = row(0, 0, films, caption_engine="experts")
    broken = row(1, 0, films, caption=None, caption_status="error", decision="error", error="e")
    built, [found] = made(tmp_path / "o", experts=ledger(tmp_path / "e", [good, broken]))
    assert found.clip_id == good.clip_id
    assert [(one.clip_id, one.why) for one in built.left_out] == [(broken.clip_id, "nothing")]


def test_labels_of_another_name_are_found_by_content(films: Path, tmp_path: Path) -> None:
    one = row(0, 0, films)
    renamed = one.model_copy(update={"clip_id": "mine"})
    labels = _testset(tmp_path / "h.jsonl", renamed, shot_type="full_shot")
    _, [found] = made(tmp_path / "o", teacher=[ledger(tmp_path / "t", [one])], human=[labels])
    assert (found.clip_id, found.caption.shot_type) == (one.clip_id, "full_shot")


def test_paths_are_from_the_targets_on(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = row(0, 0, films, source="films/0.mp4")
    _, [found] = made(Path("some/out"), teacher=[ledger(Path("t"), [one])])
    assert found.video == "../../films/0.mp4"
    assert (Path("some/out") / found.video).is_file()


def test_near_duplicates_stay_in_the_smaller_split(films: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vector = rng.normal(size=DIMENSIONS)
    seen = {
        "embedding": (vector / np.linalg.norm(vector)).tolist(),
        "hash_sequence": rng.integers(2**63, size=16).tolist(),
        "hash_changes": rng.integers(2**63, size=16).tolist(),
        "hash_times": [i / 16 for i in range(16)],
        "quality_score": 50.0,
    }
    # The same picture under 20 names, and two clips that were found alike before.
    copies = [row(source, 0, films, **seen) for source in range(20)]
    alike = [row(source, 0, films, duplicate_cluster="a") for source in range(20, 40)]
    apart = [row(source, 0, films) for source in range(40, 60)]
    teacher = ledger(tmp_path / "t", [*copies, *alike, *apart])
    built, targets = made(tmp_path / "o", teacher=[teacher], splits=["train=.6 test=.4"])
    split = {one.clip_id: one.split for one in targets}
    for group in (copies, alike):
        assert {split.get(one.clip_id) for one in group} == {"test", None}
    assert {split[one.clip_id] for one in apart} == {"train", "test"}
    assert why(built) == {"duplicate": 60 - len(targets)}


def test_a_dataset_is_a_teacher(tmp_path: Path) -> None:
    kept = curate(tmp_path / "cur", [Film()] * 2)
    for layout in ("files", "embedded"):
        publish(tmp_path / "cur", tmp_path / layout, DatasetConfig(layout=layout))  # type: ignore[arg-type]
        _, targets = made(tmp_path / "o", teacher=[tmp_path / layout])
        by_id = {one.clip_id: one for one in targets}
        assert set(by_id) == {one.clip_id for one in kept}
        for one in kept:
            found = by_id[one.clip_id]
            assert found.caption == one.caption
            assert found.source == one.source_sha256
            own = layout == "files"
            bounds = (None, None, None) if own else (one.start, one.end, one.source_sha256)
            assert (found.start, found.end, found.sha256) == bounds
            file = tmp_path / "files" / "videos" / f"{one.clip_id}.mp4"
            assert found.video == str(file if own else one.source)
        # Labels are of seconds in the source, whatever file the clip is in.
        shot = kept[1].model_copy(update={"clip_id": "mine"})
        human = [_testset(tmp_path / "h.jsonl", shot, shot_type="full_shot")]
        _, targets = made(tmp_path / "o", teacher=[tmp_path / layout], human=human)
        changed = {one.clip_id for one in targets if one.caption.shot_type == "full_shot"}
        assert changed == {kept[1].clip_id}


# --- which of them --------------------------------------------------------------------------------


def _types(targets: Sequence[Target]) -> Counter[str]:
    return Counter(one.caption.shot_type for one in targets)


def test_balance_and_count(films: Path, tmp_path: Path) -> None:
    few = [row(s, 0, films, caption={"shot_type": "close_up"}) for s in range(4)]
    many = [row(s, 0, films, caption={"shot_type": "long_shot"}) for s in range(4, 30)]
    config = {"teacher": [ledger(tmp_path / "t", [*few, *many])]}
    built, targets = made(tmp_path / "o", **config, balance="by=shot_type")
    assert _types(targets) == {"close_up": 4, "long_shot": 4}
    assert why(built) == {"not chosen": 22}
    _, six = made(tmp_path / "o", **config, balance="by=shot_type", count=6)
    assert _types(six) == {"close_up": 3, "long_shot": 3}
    _, others = made(tmp_path / "o", **config, balance="by=shot_type", count=6, seed=1)
    assert {one.clip_id for one in six} != {one.clip_id for one in others}
    _, drawn = made(tmp_path / "o", **config, count=7)
    assert len(drawn) == 7
    _, all_ = made(tmp_path / "o", **config, count=99)
    assert len(all_) == 30
    file = tmp_path / "b.yaml"
    file.write_text("balance: {by: [shot_type], to: {close_up: 0.4}}\n")
    _, shares = made(tmp_path / "o", **config, balance=str(file))
    assert _types(shares) == {"close_up": 4, "long_shot": 6}
    saved = json.loads((tmp_path / "o" / "labels.json").read_text())["balance"]
    assert {one["name"]: one["after"] for one in saved} == {"long_shot": 6.0, "close_up": 4.0}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"teacher": []}, "give --teacher, --experts or --human"),
        ({"confidence": ["shot_size=0.5"]}, "no field 'shot_size'"),
        ({"confidence": ["shot_type=1.5"]}, "confidence.shot_type: Input should be less than 1"),
        ({"confidence": ["shot_type="]}, "'shot_type=' is not written as 0.5 or shot_type=0.8"),
        ({"precedence": ["human>robot"]}, "no source 'robot'; they are human, experts, teacher"),
        ({"precedence": ["light=human"]}, "no field 'light'"),
        ({"splits": ["dev=1"]}, "no split 'dev'; they are train, validation, test"),
        ({"splits": ["train=0"]}, "the splits have no share above 0"),
        ({"splits": ["train"]}, "no split ''"),
        ({"balance": "by=genre"}, "no targets by 'genre'; there are concept,"),
        ({"balance": "none.yaml"}, "give a YAML file, or by=shot_type"),
        ({"count": 0}, "count: Input should be greater than or equal to 1"),
        ({"teacher": ["nowhere"]}, "nowhere: no captions in it; name an output of"),
        ({"human": ["none.jsonl"]}, "none.jsonl: No such file"),
        ({"not_in": ["none.jsonl"]}, "none.jsonl: No such file"),
    ],
)
def test_a_mistake_is_one_line(
    films: Path, tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    teacher = ledger(tmp_path / "t", [row(0, 0, films)])
    with pytest.raises(TargetError) as caught:
        build(make_config(**{"teacher": [teacher], **config}), tmp_path / "o")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_labelled_file_that_has_changed_is_refused(films: Path, tmp_path: Path) -> None:
    labels = _testset(tmp_path / "h.jsonl", row(0, 0, films), shot_type="close_up")
    (films / "0.mp4").write_bytes(b"other")
    with pytest.raises(TargetError, match="has changed since it was labelled"):
        build(make_config(human=[labels]), tmp_path / "o")


def test_two_sets_of_one_name_for_other_clips(films: Path, tmp_path: Path) -> None:
    first = _testset(tmp_path / "a.jsonl", row(0, 0, films), shot_type="close_up")
    other = row(1, 0, films).model_copy(update={"clip_id": row(0, 0, films).clip_id})
    second = _testset(tmp_path / "b.jsonl", other, shot_type="close_up")
    with pytest.raises(TargetError, match="is another clip at"):
        build(make_config(human=[first, second]), tmp_path / "o")
    with pytest.raises(TargetError, match="a second truth"):
        build(make_config(human=[first, first]), tmp_path / "o")


def test_a_ledger_of_another_version(films: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    teacher = ledger(tmp_path / "t", [row(0, 0, films)])
    [part] = (teacher / "ledger").iterdir()
    table = pq.read_table(part).replace_schema_metadata({"skycaptioner_schema_version": "0"})
    pq.write_table(table, part)
    with pytest.raises(TargetError, match="has schema version 0, not"):
        build(make_config(teacher=[teacher]), tmp_path / "o")
    part.write_bytes(b"PAR1")
    with pytest.raises(TargetError, match="cannot be read"):
        build(make_config(teacher=[teacher]), tmp_path / "o")


def test_the_configuration_goes_through_json() -> None:
    config = make_config(teacher=["t"], confidence=["0.5"], balance="by=concept")
    assert LabelsConfig.model_validate_json(config.model_dump_json()) == config
    assert set(config.confidence) == set(FIELDS)
    assert get_args(Split) == SPLITS
