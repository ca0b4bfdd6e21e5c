"""Models of a preset: the numbers of each kind, against transformers itself at a tiny size with
random weights, and what becomes of them in a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from captioner.engine_config import EngineConfig
from captioner.frames import FrameBatch
from captioner.handover import unpacked
from curation.engine_process import EngineProcess
from curation.engine_ray import EnginePool, run_ray
from curation.facts import Facts
from curation.keep import judge_all, preset_for
from curation.ledger import Row, arrow_schema
from curation.output import Output
from curation.pipeline import do, run_local, unfinished
from curation.preset import Preset, PresetError, load_preset
from curation.rows import RowConfig
from curation.scan import ScanConfig
from curation.scorers import Frames, Models, Scorer, ScorerError, Scoring
from curation.sources import Hashes, Source, identify
from tests import clips

try:
    import torch
    import transformers
except ImportError:  # the tests that take `folders` are skipped
    torch = transformers = None  # type: ignore[assignment]

WORDS = ["[PAD]", "[UNK]", "[EOS]", "a", "cartoon", "film", "of", "real", "people"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
TEXTS = ["a cartoon", "a film of real people"]


def kept(model: Any, folder: Path) -> Path:
    """A model whose numbers differ from picture to picture, with its processor."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.save_pretrained(folder)
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True}
    size = {"height": 32, "width": 32}
    kind = "SiglipImageProcessor" if "siglip" in model.config.model_type else "ViTImageProcessor"
    told = {"image_processor_type": kind, "size": size, "do_normalize": True, **mean}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def with_words(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    for package in ("torch", "torchvision", "transformers"):
        pytest.importorskip(package)
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    text = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 2}
    t = transformers
    clip = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    siglip = t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=VISION))
    labels = {"id2label": {0: "clean", 1: "watermark"}, "label2id": {"clean": 0, "watermark": 1}}
    return {
        "clip": with_words(kept(clip, root / "clip")),
        "siglip": with_words(kept(siglip, root / "siglip")),
        "dinov2": kept(t.Dinov2Model(t.Dinov2Config(**VISION)), root / "dinov2"),
        "vit": kept(t.ViTForImageClassification(t.ViTConfig(**VISION, **labels)), root / "vit"),
    }


@pytest.fixture(scope="module")
def head(folders: Mapping[str, Path]) -> Path:
    """Linear layers as aesthetic predictors have them; the drop-out between them has no weights."""
    from safetensors.torch import save_file

    sizes = [32, 24, 16, 12, 8, 1]
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    path = folders["siglip"].parent / "aesthetic.safetensors"
    save_file(
        {
            f"scoring_head.{2 * i}.{name}": weight.detach()
            for i, layer in enumerate(layers)
            for name, weight in layer.named_parameters()
        },
        path,
    )
    return path


def pictures() -> list[Frames]:
    """Clips of another number of frames, and of another size."""
    random = np.random.default_rng(0)
    shapes = [(4, 48, 64), (1, 72, 40), (3, 32, 32)]
    return [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def alone(folder: Path, auto: str, frames: Frames, **texts: Any) -> list[Any]:
    """What transformers says of each frame, one at a time."""
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        return [model(**processor(images=frame, return_tensors="pt"), **texts) for frame in frames]


def scores_of(**scorers: Scorer) -> list[Any]:
    return Models(tuple(scorers.items())).score(pictures())


def test_a_text_is_as_likely_as_the_model_itself_says(folders: Mapping[str, Path]) -> None:
    for name in ("clip", "siglip"):
        given = scores_of(animation=Scorer(model=str(folders[name]), text=TEXTS))
        fill = "max_length" if name == "siglip" else True
        tokens = transformers.AutoTokenizer.from_pretrained(folders[name])(
            TEXTS, padding=fill, max_length=8, return_tensors="pt"
        )
        tokens = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        for result, frames in zip(given, pictures()):
            said = alone(folders[name], "AutoModel", frames, **tokens)
            shares = [float(one.logits_per_image.softmax(-1)[0, 0]) for one in said]
            assert result.scores["animation"] == pytest.approx(np.mean(shares), abs=1e-5)
        assert len({round(one.scores["animation"], 4) for one in given}) == 3, "pictures matter"


def test_a_head_scores_the_embedding(folders: Mapping[str, Path], head: Path) -> None:
    from safetensors.torch import load_file

    given = scores_of(aesthetic=Scorer(model=str(folders["siglip"]), head=str(head)))
    weights = load_file(head)
    for result, frames in zip(given, pictures()):
        expected = []
        for said in alone(folders["siglip"], "SiglipVisionModel", frames):
            value = said.pooler_output / said.pooler_output.norm()
            for i in range(0, 10, 2):
                name = f"scoring_head.{i}"
                value = value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
            expected.append(float(value))
        assert result.scores["aesthetic"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_an_embedding_is_the_pooled_picture(folders: Mapping[str, Path]) -> None:
    given = scores_of(embedding=Scorer(model=str(folders["dinov2"])))
    for result, frames in zip(given, pictures()):
        said = alone(folders["dinov2"], "AutoModel", frames)
        each = torch.cat([torch.nn.functional.normalize(one.pooler_output) for one in said])
        expected = torch.nn.functional.normalize(each.mean(0), dim=0)
        assert result.embedding == pytest.approx(expected.tolist(), abs=1e-5)
        assert result.scores == {}


def test_a_label_is_as_likely_as_the_classifier_says(folders: Mapping[str, Path]) -> None:
    given = scores_of(watermark=Scorer(model=str(folders["vit"]), label="Watermark"))
    for result, frames in zip(given, pictures()):
        said = alone(folders["vit"], "AutoModelForImageClassification", frames)
        shares = [float(one.logits.softmax(-1)[0, 1]) for one in said]
        assert result.scores["watermark"] == pytest.approx(np.mean(shares), abs=1e-5)


def test_several_names_share_a_model_and_a_batch(folders: Mapping[str, Path], head: Path) -> None:
    siglip = str(folders["siglip"])
    both = {
        "aesthetic": Scorer(model=siglip, head=str(head)),
        "embedding": Scorer(model=siglip),
        "bright": Scorer(model="tests.curation.stand_ins:Brightness"),
    }
    models = Models(tuple(both.items()))
    assert len(models._encoders) == 1
    together = models.score(pictures())
    apart = [models.score([frames])[0] for frames in pictures()]
    assert together == apart, "what else is in a batch does not matter, not in the last digit"
    assert {name for one in together for name in one.scores} == {"aesthetic", "bright"}


def test_what_is_no_number_is_an_error() -> None:
    (result, *_) = scores_of(broken=Scorer(model="tests.curation.stand_ins:NoNumber"))
    assert (result.status, result.error) == ("error", "broken is no number for this clip")


def test_models_that_cannot_score_are_refused(
    folders: Mapping[str, Path], head: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    pickled = tmp_path / "pickled"
    model = transformers.AutoModel.from_pretrained(folders["dinov2"])
    pickled.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (pickled / name).write_bytes((folders["dinov2"] / name).read_bytes())
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (half / name).write_bytes((folders["dinov2"] / name).read_bytes())
    weights = load_file(folders["dinov2"] / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    square = tmp_path / "square.safetensors"
    save_file({"a.weight": torch.zeros(32, 32), "a.bias": torch.zeros(32)}, square)
    siglip, clip = str(folders["siglip"]), str(folders["clip"])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": str(tmp_path / "absent"), "label": "x"}, "there is no folder"),
        ({"model": str(pickled), "head": str(head)}, "safetensors"),
        ({"model": str(half), "head": str(head)}, "lacks 1 weights, such as layernorm.weight"),
        ({"model": str(folders["vit"]), "label": "logo"}, "no label 'logo'; it has clean"),
        ({"model": str(folders["dinov2"]), "text": TEXTS}, "reads no text"),
        ({"model": siglip, "head": str(tmp_path / "absent")}, "there is no head"),
        ({"model": siglip, "head": str(square)}, "no chain of linear layers"),
        ({"model": clip, "head": str(head)}, "it is the head of another model"),
        ({"model": "tests.curation.stand_ins:Absent"}, "cannot be imported"),
    ]
    for options, message in wrong:
        scoring = Scoring((("x", Scorer(**options)),))
        with pytest.raises(ScorerError, match=message):
            scoring.warm_up(scoring.build())


def test_the_identity_changes_with_the_weights_and_the_question(
    folders: Mapping[str, Path], head: Path, tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(folders["siglip"], tmp_path / "siglip"))
    other = tmp_path / "other.safetensors"
    other.write_bytes(head.read_bytes())
    asked = [{"head": str(head)}, {"head": str(other)}, {"text": TEXTS}, {"text": TEXTS[::-1]}]
    known = [Scoring((("x", Scorer(model=str(copy), **one)),)).identity() for one in asked]
    assert known == [Scoring((("x", Scorer(model=str(copy), **o)),)).identity() for o in asked]
    assert len({str(one) for one in known}) == 4
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    assert Scoring((("x", Scorer(model=str(copy), text=TEXTS)),)).identity() != known[2]


def test_frames_arrive_as_they_were_but_for_jpeg() -> None:
    ramp = np.linspace(0, 255, 1024).astype(np.uint8)
    frames = np.stack([np.tile(ramp, (600, 1)) // (i + 1) for i in range(8)])[..., None]
    batch = FrameBatch.from_rgb(list(frames.repeat(3, -1)), 8.0)
    (video,) = unpacked(Scoring(()).prepare(batch)).views
    assert video.frames.shape == (4, 448, 765, 3)  # type: ignore[union-attr]
    means = video.frames.mean((1, 2, 3))  # type: ignore[union-attr]
    assert means == pytest.approx(frames[1::2].mean((1, 2, 3)), abs=2)


# --- in a preset ----------------------------------------------------------------------------------


def preset(tmp_path: Path, text: str) -> Preset:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return load_preset(path, arrow_schema())


def test_a_preset_names_models_and_rules_use_them(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "models:\n  bright: {model: 'tests.curation.stand_ins:Brightness'}\n"
        "  game: {question: 'Is it a game?'}\nrules:\n  - model_bright: {min: 9}\n"
    )
    own = preset(tmp_path, "extends: base.yaml\nrules:\n  - model_game: {max: 50 %}\n")
    assert list(own.models) == ["bright", "game"]
    assert [(r.column, r.minimum, r.maximum) for r in own.rules] == [
        ("model_bright", 9, None),
        ("model_game", None, 0.5),
    ]
    assert own.scoring is not None
    assert [name for name, _ in own.scoring.scorers] == ["bright"]
    assert own.questions == {"game": "Is it a game?"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:\n  x: {question: Any, label: b, model: c}", "yaml:2: label and question are two"),
        ("models:\n  x: {question: Any, model: c}", "leave `model` out"),
        ("models:\n  x: {}", "name a `model`, or ask a `question`"),
        ("models:\n  x:\n    model: a\n    labl: b", "yaml:4: no option 'labl'"),
        ("models:\n  x: {model: a/b}", "say what x is"),
        ("models:\n  embedding: {model: a/b, label: c}", "an embedding has neither head"),
        ("models:\n  a-b: {question: Any}", "cannot be a name"),
        ("models:\n  x: {model: a/b, text: [one]}", "at least 2 items"),
        ("models:\n  x: {model: 'a:b', label: c}", "takes no label"),
        ("rules:\n  - model_x: {min: 1}", "no column model_x"),
        ("models:\n  x: {question: Any}\nrules:\n  - model_x: {max: 3}", "can be 0 to 1, never 3"),
        ("dedupe: {embedding: model}", "yaml:1: there is no `embedding` among"),
    ],
)
def test_a_wrong_preset_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(PresetError, match=message):
        preset_for(str(path), Facts())


# --- in a run -------------------------------------------------------------------------------------

DARK = """
models:
  bright: {model: "tests.curation.stand_ins:Brightness"}
rules:
  - model_bright: {min: 100, missing: drop}
"""


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    videos = [clips.two_shots(tmp_path / f"{i}.mp4", seed=2 * i) for i in range(2)]
    return list(identify(videos, Hashes(tmp_path / "hashes.json").sha256))


def config_of(own: Preset, engine: str) -> RowConfig:
    options = EngineConfig(f"tests.curation.stand_ins:{engine}")
    return RowConfig(ScanConfig(), options.name, False, own, options, own.scoring)


def made(sources: list[Source], config: RowConfig, out: Output, run: Any) -> list[Row]:
    todo = unfinished(sources, config, out)
    list(do(todo, config, out, partial(run, config=config, workers=1)))
    return sorted(out.rows(), key=lambda row: row.clip_id)


def told(row: Row) -> dict[str, Any]:
    return row.model_dump(exclude={"source"})


def halves(rows: list[Row]) -> float:
    """A threshold with clips on both sides."""
    values = sorted(row.scores["bright"] for row in rows)
    assert values[0] < values[-1]
    return (values[0] + values[-1]) / 2


def test_scores_decide_what_is_captioned_and_kept(sources: list[Source], tmp_path: Path) -> None:
    everything = preset(tmp_path, DARK.replace("100", "0"))
    rows = made(sources, config_of(everything, "Plain"), Output(tmp_path / "a"), run_local)
    assert [row.caption_status for row in rows] == ["ok"] * 4
    for row in rows:
        grey = float(str(row.caption.environment).split()[-1]) if row.caption else None
        assert row.scores["bright"] == pytest.approx(grey, abs=25), "of this very clip"

    limit = halves(rows)
    some = preset(tmp_path, DARK.replace("100", f"{limit:.3f}"))
    out = Output(tmp_path / "b")
    rows = made(sources, config_of(some, "Plain"), out, run_local)
    bright = [row.scores["bright"] > limit for row in rows]
    assert [row.caption is not None for row in rows] == bright
    assert 0 < sum(bright) < 4
    assert unfinished(sources, config_of(some, "Plain"), out) == []
    assert judge_all(some, out).keep.tolist() == [
        row.scores["bright"] > limit for row in out.rows()
    ]
    reasons = [row.reason or "" for row in out.rows() if row.decision == "drop"]
    assert all("model_bright" in reason and f"{limit:.3f}" in reason for reason in reasons)

    looser = made(sources, config_of(everything, "Plain"), out, run_local)
    assert [row.caption_status for row in looser] == ["ok"] * 4, "captioned now, scores kept"
    other = preset(tmp_path, DARK.replace("Brightness", "Darkness"))
    assert unfinished(sources, config_of(other, "Plain"), out) == sources


def test_a_clip_that_kills_the_models_costs_its_row_alone(
    sources: list[Source], tmp_path: Path
) -> None:
    own = preset(tmp_path, DARK.replace("Brightness", "DiesOfTheDark").replace("100", "0"))
    out = Output(tmp_path / "out")
    calm = preset(tmp_path, DARK.replace("100", "0"))
    known = made(sources, config_of(calm, "Plain"), Output(tmp_path / "a"), run_local)
    darkest = min(known, key=lambda row: row.scores["bright"])
    limit = sorted(row.scores["bright"] for row in known)[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARK", str(sum(limit) / 2))
        rows = made(sources, config_of(own, "Plain"), out, run_local)
    failed = [row for row in rows if row.decision == "error"]
    assert [(row.clip_id, row.stage) for row in failed] == [(darkest.clip_id, "models")]
    assert "SIGKILL" in str(failed[0].error)
    assert failed[0].caption is None
    assert all(row.caption for row in rows if row.decision != "error")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARK", "-1")
        rows = made(sources, config_of(own, "Plain"), out, run_local)
    assert [row.caption_status for row in rows] == ["ok"] * 4, "tried again, and well"


@pytest.fixture
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def test_a_cluster_gives_the_same_rows(
    cluster: None, sources: list[Source], tmp_path: Path
) -> None:
    rows = made(
        sources,
        config_of(preset(tmp_path, DARK.replace("100", "0")), "Plain"),
        Output(tmp_path / "a"),
        run_local,
    )
    own = preset(tmp_path, DARK.replace("100", f"{halves(rows):.3f}"))
    near = made(sources, config_of(own, "Plain"), Output(tmp_path / "near"), run_local)
    pool = EnginePool(gpus=0, cpus=0.3)
    far = made(
        sources,
        config_of(own, "Plain"),
        Output(tmp_path / "far"),
        partial(run_ray, pool=pool, scorers=pool),
    )
    assert [told(row) for row in far] == [told(row) for row in near]


def test_the_same_clips_are_alike_by_a_models_embedding(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    one = clips.two_shots(tmp_path / "a.mp4", seed=0)
    again = clips.two_shots(tmp_path / "b.mp4", seed=0, fps=24.0)
    found = list(identify([one, again], Hashes(tmp_path / "hashes.json").sha256))
    own = preset(
        tmp_path,
        f"models:\n  embedding: {{model: '{folders['dinov2']}'}}\n"
        "dedupe: {mode: likeness, embedding: model, likeness_cosine: 0.995}\n",
    )
    out = Output(tmp_path / "out")
    config = RowConfig(ScanConfig(), None, True, own, None, own.scoring)
    made(found, config, out, run_local)
    judge_all(own, out)
    rows = out.rows()
    assert all(row.model_embedding and len(row.model_embedding) == 32 for row in rows)
    assert sum(row.duplicate_of is not None for row in rows) == 2
    for row in rows:
        if row.duplicate_of:
            (best,) = (other for other in rows if other.clip_id == row.duplicate_of)
            assert best.first_frame == row.first_frame, "the same shot of the other file"


def test_a_process_without_the_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("curation.scorers._PACKAGES", ("torch", "no_such_package"))
    bright = Scorer(model="tests.curation.stand_ins:Brightness")
    assert Scoring((("bright", bright),)).build()
    with pytest.raises(ScorerError, match=r"no no_such_package here: pip install"):
        Scoring((("bright", bright), ("x", Scorer(model="a/b", label="c")))).build()


def test_a_refusal_comes_before_any_video(tmp_path: Path) -> None:
    scoring = Scoring((("x", Scorer(model="tests.curation.stand_ins:Absent")),))
    with pytest.raises(ValueError, match="cannot be imported"):
        EngineProcess(scoring)


def test_columns_hold_scores_by_name() -> None:
    from curation.ledger import arrow_table, scores
    from curation.rule_columns import column, named_columns

    about = {"source": "a", "decision": "keep", "config_hash": "0"}
    rows = [
        Row.model_validate({**about, "clip_id": str(i), "model_scores": scores(known)})
        for i, known in enumerate([{"a": 1.0, "b": 2.0}, {}, {"b": 3.0}])
    ]
    table = arrow_table(rows)
    assert column(table, "model_b").to_pylist() == [2.0, None, 3.0]
    assert named_columns(table) == [
        pa.field("model_a", pa.float64()),
        pa.field("model_b", pa.float64()),
    ]


# --- questions ------------------------------------------------------------------------------------

ASKED = """
models:
  bright: {model: "tests.curation.stand_ins:Brightness"}
  light: {question: "Is it light?"}
rules:
  - model_light: {max: 50 %, missing: drop}
"""


def test_the_model_that_captions_answers_questions(sources: list[Source], tmp_path: Path) -> None:
    own = preset(tmp_path, ASKED)
    options = EngineConfig(
        "tests.curation.stand_ins:Opinions", questions=tuple(own.questions.items())
    )
    config = RowConfig(ScanConfig(), options.name, False, own, options, own.scoring)
    out = Output(tmp_path / "out")
    rows = made(sources, config, out, run_local)
    for row in rows:
        assert row.caption is not None, "a rule on an answer does not keep it from being given"
        assert row.scores["light"] == pytest.approx(float(row.caption.environment[5:]), abs=1e-3)
        assert row.scores["light"] == pytest.approx(row.scores["bright"] / 255, abs=0.05)
    # Half way between two scores, as a preset has it in a few digits.
    limit = sum(sorted(row.scores["light"] for row in rows)[1:3]) / 2
    stricter = preset(tmp_path, ASKED.replace("50 %", f"{100 * limit:.4f} %"))
    judge_all(stricter, out)
    assert [row.decision == "keep" for row in out.rows()] == [
        row.scores["light"] <= limit for row in out.rows()
    ]
    unasked = RowConfig(
        ScanConfig(), options.name, False, own, EngineConfig(options.name), own.scoring
    )
    assert unasked.hash() != config.hash()
