"""A model that cannot caption is refused in one line, before anything is loaded."""

import json
from pathlib import Path

import pytest

from captioner.engines.checkpoint import MIN_CONTEXT, ModelError, check


def folder(path: Path, without: str = "", **config: object) -> str:
    """A checkpoint's small files; nothing else is looked at."""
    told = {
        "model_type": "qwen2_5_vl",
        "text_config": {"max_position_embeddings": 32_768},
        **config,
    }
    files = {
        "config.json": json.dumps(told),
        "preprocessor_config.json": "{}",
        "tokenizer.json": "{}",
    }
    for name, content in files.items():
        if name != without:
            (path / name).write_text(content)
    return str(path)


def test_a_good_one_gets_the_context_that_both_have(tmp_path: Path) -> None:
    model = folder(tmp_path)

    assert check(model, 16_384) == 16_384
    assert check(model, 100_000) == 32_768


def test_a_text_model_needs_no_processor(tmp_path: Path) -> None:
    model = folder(tmp_path, "preprocessor_config.json", model_type="qwen2")

    assert check(model, 8192, video=False) == 8192


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    model = folder(tmp_path, without=name)

    with pytest.raises(ModelError, match=name.replace(".", r"\.")) as refused:
        check(model, 8192)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "context", "reason"),
    [
        ({"model_type": "llama"}, 8192, "llama model and takes no video"),
        ({"text_config": {"max_position_embeddings": 2048}}, 8192, "context of 2048 tokens"),
        ({}, MIN_CONTEXT - 1, f"ask for {MIN_CONTEXT} or more"),
    ],
)
def test_what_cannot_caption_is_refused(
    tmp_path: Path, config: dict[str, object], context: int, reason: str
) -> None:
    model = folder(tmp_path, **config)

    with pytest.raises(ModelError, match=reason) as refused:
        check(model, context)

    assert "\n" not in str(refused.value)


def test_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    model = folder(tmp_path)
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(ModelError, match="cannot be read"):
        check(model, 8192)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        check(str(tmp_path / "nothing"), 8192)
