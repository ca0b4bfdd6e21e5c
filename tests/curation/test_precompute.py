"""Precomputed latents: the encoder's own, each clip once, and what fails or differs is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import ClipDataset, precompute
from curation.buckets import Bucket
from curation.clip_dataset import ClipError
from curation.dataset import DatasetConfig, publish
from curation.encoders import Model, PrecomputeError
from curation.engine_ray import EnginePool
from curation.output import Output
from curation.precompute import (
    Missing,
    PrecomputeConfig,
    Precomputed,
    ShardMaker,
    latents,
    read_report,
)
from tests.curation.curated import Film, curate

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

FILMS = [Film(20), Film(20, 96, 160), Film(44)]
BUCKETS = (Bucket(17, 80, 48), Bucket(17, 48, 80), Bucket(33, 80, 48))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models(tmp_path_factory.mktemp("models"))


def tiny_models(folder: Path) -> Path:
    """A pipeline's folder: the real classes, tiny, with random weights."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.5] * 16
    )
    vae.save_pretrained(folder / "vae")
    config = transformers.UMT5Config(
        vocab_size=16, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    words = ("<pad>", "</s>", "<unk>", "A", "woman", "walks", "along", "left", "coat", "number")
    known = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(known)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "cur"
    curate(out, FILMS)
    return out


@pytest.fixture(scope="module")
def dataset(curated: Path) -> Path:
    publish(curated, curated.parent / "d")
    return curated.parent / "d"


@pytest.fixture(scope="module")
def config(models: Path) -> PrecomputeConfig:
    return PrecomputeConfig(
        Model.vae(str(models)), Model.text(str(models)), BUCKETS, dtype="float32"
    )


@pytest.fixture(scope="module")
def made(dataset: Path, config: PrecomputeConfig) -> Path:
    """Six shards, made by this process."""
    out = dataset.parent / "made"
    assert precompute.precompute(dataset, out, config, shard_clips=1) == Precomputed(
        6, 0, Missing()
    )
    return out


def files(out: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and inodes of the shards."""
    return {
        path.name: (path.read_bytes(), path.stat().st_ino)
        for path in sorted((out / "data").iterdir())
    }


def rows(out: Path) -> list[dict[str, Any]]:
    return sorted(
        (row for path in (out / "data").iterdir() for row in pq.read_table(path).to_pylist()),
        key=lambda row: str(row["clip_id"]),
    )


def test_latents_and_text_are_what_a_pipeline_gives_on_the_loaders_pixels(
    dataset: Path, models: Path, made: Path
) -> None:
    clips = ClipDataset(dataset, buckets=BUCKETS, dtype="float32", dropout=0.0)
    samples = {clips[i]["clip_id"]: clips[i] for i in range(len(clips))}
    vae = diffusers.AutoencoderKLWan.from_pretrained(models / "vae")
    pipeline = diffusers.SkyReelsV2Pipeline(
        tokenizer=transformers.AutoTokenizer.from_pretrained(models / "tokenizer"),
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(models / "text_encoder"),
        transformer=None,
        vae=vae,
        scheduler=None,
    )
    seen = {clip.clip_id: clip for clip in latents(made)}
    assert seen.keys() == samples.keys()
    with torch.no_grad():
        for name, clip in seen.items():
            sample = samples[name]
            assert (clip.caption, clip.fps) == (sample["caption"], sample["fps"])
            assert torch.equal(
                clip.latents, vae.encode(sample["video"][None]).latent_dist.mode()[0]
            )
            features = pipeline._get_t5_prompt_embeds(clip.caption, max_sequence_length=64)[0]
            length = len(clip.text)
            assert 5 < length < 64
            assert torch.allclose(clip.text, features[:length], atol=1e-5)
            assert not features[length:].any()
    assert {tuple(clip.latents.shape) for clip in seen.values()} == {
        (16, 5, 6, 10),
        (16, 5, 10, 6),
        (16, 9, 6, 10),
    }
    assert read_report(made).scales["latents_mean"] == [0.5] * 16


def test_others_read_it(
    dataset: Path, config: PrecomputeConfig, made: Path, tmp_path: Path
) -> None:
    small = replace(config, dtype="bfloat16")
    precompute.precompute(dataset, tmp_path / "x", small, workers=2)
    [path] = (tmp_path / "x" / "data").iterdir()
    exact = {row["clip_id"]: row for row in rows(made)}
    ours, theirs = duckdb.read_parquet(str(path)), duckdb.read_parquet(f"{dataset}/data/*.parquet")
    joined = ours.join(theirs.project("clip_id, caption_t2v"), "clip_id")
    for row in joined.to_arrow_table().to_pylist():
        assert row["caption"] == row["caption_t2v"]
        assert row["config_hash"] == small.hash() != config.hash()
        for kind in ("latents", "text"):
            tensor = torch.frombuffer(bytearray(row[kind]), dtype=torch.bfloat16)
            full = torch.frombuffer(bytearray(exact[row["clip_id"]][kind]), dtype=torch.float32)
            assert torch.equal(tensor, full.bfloat16())
            assert tensor.view(row[f"{kind}_shape"]).dim() == (4 if kind == "latents" else 2)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "x"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["latents"][0] == pq.read_table(path)["latents"][0].as_py()


@given(st.sets(st.integers(0, 5)))
@settings(max_examples=4)
def test_another_run_makes_what_is_missing_and_nothing_else(
    dataset: Path, config: PrecomputeConfig, made: Path, gone: set[int]
) -> None:
    before = files(made)
    lost = [sorted(before)[i] for i in gone]
    for name in lost:
        (made / "data" / name).unlink()
    told: list[tuple[int, int]] = []
    done = precompute.precompute(
        dataset, made, config, shard_clips=1, tell=lambda *count: told.append(count)
    )
    assert done == Precomputed(len(gone), 6 - len(gone), Missing())
    assert told == [(i + 1, len(gone)) for i in range(len(gone))]
    after = files(made)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }
    assert all(after[name] == before[name] for name in before.keys() - set(lost))


def _precompute_and_die(dataset: Path, out: Path, config: PrecomputeConfig) -> None:
    write = ShardMaker._write

    def dying(self: ShardMaker, rows: Sequence[dict[str, Any]]) -> None:
        if len(list((out / "data").glob("*.parquet"))) == 2:
            (out / "data" / ".train-x.parquet.1.part").write_bytes(b"half of a shard")
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, rows)

    ShardMaker._write = dying  # type: ignore[method-assign]
    precompute.precompute(dataset, out, config, shard_clips=1)


def test_a_killed_run_loses_one_shard(
    dataset: Path, config: PrecomputeConfig, made: Path, tmp_path: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_precompute_and_die, args=(dataset, tmp_path / "x", config)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(latents(tmp_path / "x"))) == 2
    again = precompute.precompute(dataset, tmp_path / "x", config, shard_clips=1)
    assert again == Precomputed(4, 2, Missing())
    assert rows(tmp_path / "x") == rows(made)
    assert len(files(tmp_path / "x")) == 6


def test_a_clip_that_fails_is_told_and_tried_again(
    curated: Path, config: PrecomputeConfig, tmp_path: Path
) -> None:
    source = tmp_path / "cur"
    shutil.copytree(curated, source)
    curate(source, [Film(8)], first=7)
    publish(source, tmp_path / "d", DatasetConfig(layout="files"))
    broken = min((tmp_path / "d" / "videos").iterdir())
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(whole[:200])
    done = precompute.precompute(tmp_path / "d", tmp_path / "x", config)
    assert (done.added, list(done.missing.failed)) == (5, [broken.stem])
    assert "Error: " in done.missing.failed[broken.stem]
    assert done.missing.left_out == {"shorter than the shortest bucket (17 frames)": 2}
    assert read_report(tmp_path / "x").splits == {"train": done.missing}
    broken.write_bytes(whole)
    again = precompute.precompute(tmp_path / "d", tmp_path / "x", config)
    assert (again.added, again.present, again.missing.failed) == (1, 5, {})
    assert read_report(tmp_path / "x").splits == {"train": again.missing}


def test_what_a_type_does_not_hold_is_a_failure(
    dataset: Path, models: Path, config: PrecomputeConfig, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "m")
    encoder = transformers.UMT5EncoderModel.from_pretrained(tmp_path / "m" / "text_encoder")
    torch.nn.init.constant_(encoder.encoder.final_layer_norm.weight, 1e6)
    encoder.save_pretrained(tmp_path / "m" / "text_encoder")
    loud = replace(config, text=Model.text(str(tmp_path / "m")), dtype="float16")
    done = precompute.precompute(dataset, tmp_path / "x", loud)
    assert (done.added, len(done.missing.failed)) == (0, 6)
    assert {*done.missing.failed.values()} == {
        "ValueError: the encoder gave values that torch.float16 does not hold"
    }
    # Nothing was stored, so that another configuration may begin the folder.
    assert precompute.precompute(dataset, tmp_path / "x", config) == Precomputed(6, 0, Missing())


def test_a_clip_with_another_caption_is_made_anew(
    curated: Path, dataset: Path, config: PrecomputeConfig, tmp_path: Path
) -> None:
    precompute.precompute(dataset, tmp_path / "x", config, shard_clips=1)
    shutil.copytree(curated, tmp_path / "cur")
    ledger = Output(tmp_path / "cur").ledger
    part = ledger.parts()[0]
    first, *others = ledger.read(part)
    ledger.write(part.stem, [first.model_copy(update={"caption_t2v": "A woman"}), *others])
    publish(tmp_path / "cur", tmp_path / "d")
    done = precompute.precompute(tmp_path / "d", tmp_path / "x", config, shard_clips=1)
    assert done == Precomputed(1, 5, Missing())
    texts = {clip.clip_id: clip.text for clip in latents(tmp_path / "x")}
    assert len(texts) == 6
    assert len(texts[first.clip_id]) == 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


class DiesOnce(ShardMaker):
    """Its process is gone before its first shard is written."""

    def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        died = self._out / "data" / "died"
        if not died.exists():
            died.parent.mkdir(exist_ok=True)
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super()._write(rows)


def test_the_same_on_ray_though_an_actor_dies(
    cluster: None,
    dataset: Path,
    config: PrecomputeConfig,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = EnginePool(largest=2, gpus=0)
    monkeypatch.setattr(precompute, "ShardMaker", DiesOnce)
    done = precompute.precompute(dataset, tmp_path / "x", config, shard_clips=2, pool=pool)
    (tmp_path / "x" / "data" / "died").unlink()
    assert done == Precomputed(6, 0, Missing())
    assert rows(tmp_path / "x") == rows(made)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"_class_name": "AutoencoderKLWan"}')
    wrong = replace(config, vae=Model.vae(str(tmp_path / "m")))
    with pytest.raises(PrecomputeError, match="cannot be used as a VAE") as error:
        precompute.precompute(dataset, tmp_path / "y", wrong, pool=pool)
    assert "\n" not in str(error.value)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("nothing there", "there is no folder"),
        ("no configuration", "is no model"),
        ("a text encoder as VAE", "_class_name is not in its config.json"),
        ("a VAE as text encoder", "model_type is not in its config.json"),
        ("no weights", "cannot be used as a VAE"),
        ("weights in a pickle", "cannot be used as a text encoder"),
        ("weights of another model", "others are not in its weights"),
        ("a VAE of images", "cannot be used as a VAE"),
        ("no tokenizer", "cannot be used as a text encoder"),
    ],
)
def test_a_wrong_model_is_one_line_before_any_decoding(
    dataset: Path, models: Path, tmp_path: Path, damage: str, says: str, monkeypatch: Any
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(models, folder)
    vae, text = folder, folder
    if damage == "nothing there":
        vae = folder / "no"
    elif damage == "no configuration":
        (folder / "vae" / "config.json").unlink()
    elif damage == "a text encoder as VAE":
        vae = folder / "text_encoder"
    elif damage == "a VAE as text encoder":
        text = folder / "vae"
    elif damage == "no weights":
        (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    elif damage == "weights in a pickle":
        (folder / "text_encoder" / "model.safetensors").unlink()
        encoder = transformers.UMT5EncoderModel.from_pretrained(models / "text_encoder")
        torch.save(encoder.state_dict(), folder / "text_encoder" / "pytorch_model.bin")
    elif damage == "weights of another model":
        path = folder / "text_encoder" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": 3}))
    elif damage == "a VAE of images":
        shutil.rmtree(folder / "vae")
        diffusers.AutoencoderKL().save_pretrained(folder / "vae")
    else:
        shutil.rmtree(folder / "tokenizer")
        text = folder / "text_encoder"

    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    def run(vae: Path, text: Path) -> None:
        config = PrecomputeConfig(Model.vae(str(vae)), Model.text(str(text)), BUCKETS)
        precompute.precompute(dataset, tmp_path / "x", config)

    monkeypatch.setattr("curation.clip_dataset.read_frames", decode)
    with pytest.raises(PrecomputeError, match=says) as error:
        run(vae, text)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "x").glob("data/*"))


def test_another_configuration_or_other_things_in_the_folder_are_refused(
    dataset: Path, config: PrecomputeConfig, made: Path, tmp_path: Path
) -> None:
    before = files(made)
    with pytest.raises(PrecomputeError, match="was begun with another dtype, max_tokens: "):
        precompute.precompute(dataset, made, replace(config, dtype="float16", max_tokens=9))
    assert files(made) == before
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(PrecomputeError, match=r"holds other things \(photo.jpg\)"):
        precompute.precompute(dataset, tmp_path, config)
    large = replace(config, buckets=(Bucket(17, 800, 480),))
    with pytest.raises(ClipError, match="no clip of"):
        precompute.precompute(dataset, tmp_path / "x", large)
    for wrong in ({"dtype": "int8"}, {"task": "haiku"}, {"max_tokens": 0}):
        with pytest.raises(PrecomputeError):
            replace(config, **wrong)  # type: ignore[arg-type]


def test_a_damaged_shard_is_told(
    dataset: Path, config: PrecomputeConfig, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "x")
    [first, *_] = sorted((tmp_path / "x" / "data").iterdir())
    first.write_bytes(first.read_bytes()[:-9])
    for use in (
        lambda: list(latents(tmp_path / "x")),
        lambda: precompute.precompute(dataset, tmp_path / "x", config),
    ):
        with pytest.raises(PrecomputeError, match=r"cannot be read .* delete it") as error:
            use()
        assert "\n" not in str(error.value)
    first.unlink()
    assert precompute.precompute(dataset, tmp_path / "x", config).added == 1
    with pytest.raises(PrecomputeError, match="holds no latents"):
        list(latents(tmp_path))


def test_identity_is_the_files_not_their_place(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "m")
    same = Model.vae(str(tmp_path / "m"))
    assert (
        same.identity == Model.vae(str(models)).identity == Model.vae(str(models / "vae")).identity
    )
    path = tmp_path / "m" / "vae" / "config.json"
    path.write_text(path.read_text() + " ")
    assert Model.vae(str(tmp_path / "m")).identity != same.identity
