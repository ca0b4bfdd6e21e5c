"""Training shows the model what inference shows it, token for token, and grades its answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.engines.vlm import VlmEngine
from captioner.policies import POLICIES, ModelVideo
from captioner.schema import ShotCaption
from finetune.examples import END, IGNORED, Encoder, TooLongError
from tests.captioner.engines.conftest import clip


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Any:
    from captioner.engines.transformers import TransformersGenerator

    loaded = TransformersGenerator(str(tiny_model), "float32")
    loaded._load()
    return loaded


@pytest.fixture(scope="module")
def encoder(generator: Any) -> Encoder:
    return Encoder(generator._processor, 8192)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("frames", [1, 9, 40])
def test_prompt_and_frames_are_those_of_inference(
    generator: Any, encoder: Encoder, policy: str, frames: int
) -> None:
    batch = clip(frames=frames)
    asked = generator.inputs(VlmEngine(generator, policy).request(batch))

    example = encoder.encode(POLICIES[policy](batch), '{"subjects":[]}')

    prompt = asked["input_ids"].shape[1]
    assert set(example) == {*asked, "labels"}
    for name, value in asked.items():
        told = example[name]
        told = (
            told[:, :prompt]
            if name in ("input_ids", "attention_mask", "mm_token_type_ids")
            else told
        )
        assert np.array_equal(np.asarray(told), np.asarray(value)), name


@given(st.text(max_size=80), st.integers(1, 5))
def test_the_loss_is_on_the_answer_and_its_end_alone(
    encoder: Encoder, environment: str, seed: int
) -> None:
    answer = ShotCaption(environment=environment).model_dump_json(by_alias=True)
    example = encoder.encode(small(seed), answer)

    labels = example["labels"][0]
    graded = labels != IGNORED
    first = int(graded.nonzero()[0])

    assert graded[first:].all()
    assert (example["input_ids"][0][graded] == labels[graded]).all()
    # With the special token cut off, a byte-level tokenizer gives back any text.
    assert encoder.processor.tokenizer.decode(labels[graded]).removesuffix(END) == answer
    assert encoder.tokens(small(seed).frames.shape[:3], answer) == len(labels)


def test_a_batch_gives_each_example_what_it_gets_alone(generator: Any, encoder: Encoder) -> None:
    import torch

    pairs = [
        (small(0), "short"),
        (small(1, 112), "a much longer answer than the other"),
        (small(2), "x"),
    ]
    examples = [encoder.encode(video, answer) for video, answer in pairs]
    together = encoder.collate(examples)
    labels = together.pop("labels")
    with torch.no_grad():
        logits = generator._loaded(**together).logits
        for i, example in enumerate(examples):
            alone = dict(example)
            length = alone["input_ids"].shape[1]
            assert labels[i, :length].equal(alone.pop("labels")[0])
            assert (labels[i, length:] == IGNORED).all()
            expected = generator._loaded(**alone).logits[0]
            assert torch.allclose(logits[i, :length], expected, atol=1e-4)


def test_an_example_that_does_not_fit_is_refused(encoder: Encoder) -> None:
    small_context = Encoder(encoder.processor, 700)
    with pytest.raises(TooLongError, match="do not fit into a context of 700"):
        small_context.encode(small(0), "word " * 500)


def small(seed: int, side: int = 56) -> ModelVideo:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (4, 56, side, 3), np.uint8)
    return ModelVideo(frames, (0.0, 0.1, 0.2, 0.3), 10.0, 4, (0, 1, 2, 3))
