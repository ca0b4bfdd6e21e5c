"""transformers with a tiny model; its answers are compared with vLLM's in test_vllm."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from captioner.engines.vlm import Request, VlmEngine
from captioner.policies import native
from tests.captioner.engines.conftest import clip


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Any:
    from captioner.engines.transformers import TransformersGenerator

    return TransformersGenerator(str(tiny_model), "float32")


def ask(**how: Any) -> Request:
    given: dict[str, Any] = {
        "prompt": "Describe.",
        "video": native(clip()),
        "schema": None,
        "temperature": 0.0,
    }
    return Request(**{**given, "max_tokens": 12, **how})


def test_answers_come_in_order_each_of_its_own_frames(generator: Any) -> None:
    requests = [ask(video=native(clip(seed))) for seed in range(3)]

    together = generator.generate(requests)

    assert together == [generator.generate([request])[0] for request in requests]
    assert all(a.tokens == 12 and a.finish == "length" and a.prompt_tokens > 500 for a in together)


def test_a_stop_text_ends_the_answer(generator: Any) -> None:
    (whole,) = generator.generate([ask()])
    stop = whole.text[4:8]

    (ended,) = generator.generate([ask(stop=(stop,))])

    assert ended.finish == "stop"
    assert ended.text == whole.text[: whole.text.index(stop)]


def test_it_is_told_the_time_between_frames(generator: Any) -> None:
    video = native(clip(frames=90))

    told = generator.inputs(ask(video=video))["second_per_grid_ts"]

    assert float(told[0]) == pytest.approx(video.second_per_grid_ts) == 2 * 90 / 25 / 16


@pytest.mark.parametrize("fps", [25.0, 1.0])
def test_text_stands_after_the_furthest_of_a_video(generator: Any, fps: float) -> None:
    given = generator.inputs(ask(video=native(clip(fps=fps))))
    kinds = given["mm_token_type_ids"][0]
    first = int((kinds == 2).nonzero()[0])
    after = int((kinds == 2).nonzero()[-1]) + 1

    names = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")
    model = generator._loaded.model
    (positions, ahead) = model.get_rope_index(**{name: given[name] for name in names})

    frames = positions[:, 0, first:after]
    text = positions[:, 0, after:]
    times = [int(i * 40 / fps / 16 * 2 * 2) for i in range(8)]  # 2 places a second, 2 frames each
    assert sorted(set((frames[0] - first).tolist())) == sorted(set(times))
    assert text[:, 0].tolist() == [int(frames.max()) + 1] * 3
    assert (text[:, 1:] - text[:, :-1] == 1).all()
    assert int(ahead) == int(text.max()) + 1 - len(kinds)

    padded = {name: given[name] for name in names}
    for name in ("input_ids", "mm_token_type_ids"):
        padded[name] = torch_pad(given[name])
    mask = torch_pad(given["input_ids"] * 0 + 1)
    again, by = model.get_rope_index(**padded, attention_mask=mask)
    assert (again[:, 0, : len(kinds)] == positions[:, 0]).all()
    assert int(by) == int(ahead)


def torch_pad(row: Any) -> Any:
    """With three tokens of padding on the right."""
    import torch

    return torch.nn.functional.pad(row, (0, 3))


def test_a_bad_request_costs_only_itself(generator: Any) -> None:
    answers = generator.generate([ask(), ask(temperature=-1.0, max_tokens=-5), ask()])

    assert [answer.finish for answer in answers] == ["length", "error", "length"]
    assert answers[1].error


def test_what_a_random_model_says_is_a_row(generator: Any) -> None:
    (result,) = VlmEngine(generator, max_tokens=12).caption([clip()])

    assert result.status == "invalid"
    assert result.raw
    assert result.error


def test_text_alone_needs_no_video(generator: Any) -> None:
    (answer,) = generator.generate([ask(video=None)])

    assert answer.error is None
    assert answer.prompt_tokens < 100


def test_it_can_be_sent_to_another_process(generator: Any) -> None:
    generator.generate([ask(max_tokens=1)])

    assert pickle.loads(pickle.dumps(generator)).identity() == generator.identity()
