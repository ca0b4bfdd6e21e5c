"""The tiny model: Qwen's own tokens, and the same weights each time."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("transformers")

from captioner import prompts
from captioner.engines.checkpoint import check
from eval import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("tiny") / "model", vocab=2048)


def test_it_is_a_checkpoint_that_can_caption(model: Path) -> None:
    assert check(str(model), 8192) == 8192


def test_the_tokenizer_gives_text_back(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    text = prompts.STRUCTURED + " Ünïcode, 你好, \t tabs"

    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_all_of_the_vocabulary_is_qwens() -> None:
    # Ids of Qwen2.5's published tokenizer: two words, a Chinese greeting, the special tokens.
    tokenizer = tiny._tokenizer(tiny._ranks(None))

    assert tokenizer("Hello world").input_ids == [9707, 1879]
    assert tokenizer("你好").input_ids == [108386]
    assert tokenizer.convert_tokens_to_ids(list(tiny.SPECIAL)) == list(range(151643, 151657))


def test_the_same_seed_gives_the_same_weights(model: Path, tmp_path: Path) -> None:
    again = tiny.build(tmp_path / "again", vocab=2048)

    assert (again / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
