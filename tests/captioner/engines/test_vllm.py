"""vLLM itself, on the CPU, with a tiny model of random weights."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from captioner.engines.checkpoint import MIN_CONTEXT, ModelError
from captioner.engines.vllm import VllmGenerator, VllmOptions, check_version, memory
from captioner.engines.vlm import Request, VlmEngine, answer_schema
from captioner.policies import native, reference
from captioner.schema import ShotCaption
from tests.captioner.engines.conftest import clip

PROMPT = "Describe the video."
OPTIONS = VllmOptions(dtype="float32", running=8, eager=True, context=8192)


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Iterator[VllmGenerator]:
    pytest.importorskip("vllm")
    generator = VllmGenerator(str(tiny_model), OPTIONS)
    yield generator
    generator.close()


def ask(schema: dict[str, Any] | None = None, **how: Any) -> Request:
    wanted = {"temperature": 1.0, "max_tokens": 24, "video": native(clip()), **how}
    return Request(prompt=PROMPT, schema=schema, **wanted)


def test_every_answer_of_a_random_model_fits_the_schema(generator: VllmGenerator) -> None:
    engine = VlmEngine(generator, temperature=1.0, longest_string=24, most_subjects=2)
    schema = answer_schema(24, 2)
    requests = [ask(schema, max_tokens=engine.max_tokens) for _ in range(40)]

    answers = generator.generate(requests)

    assert [answer.finish for answer in answers] == ["stop"] * 40
    captions = [ShotCaption.from_json(answer.text) for answer in answers]
    assert len(set(captions)) > 30, "temperature 1 gives different answers"
    assert all(len(caption.lighting) <= 24 for caption in captions)
    assert generator.tokens >= sum(answer.tokens for answer in answers) > 0


def test_an_engine_captions_clips(generator: VllmGenerator) -> None:
    engine = VlmEngine(generator, temperature=1.0, longest_string=24, most_subjects=1)

    results = engine.caption([clip(seed) for seed in range(3)])

    assert {result.status for result in results} <= {"ok", "repaired"}
    assert all(result.raw for result in results)


def test_greedy_answers_equal_those_of_transformers(
    generator: VllmGenerator, tiny_model: Path
) -> None:
    from captioner.engines.transformers import TransformersGenerator

    requests = [ask(temperature=0.0, video=native(clip(seed))) for seed in range(2)]
    requests.append(ask(temperature=0.0, video=reference(clip())))
    requests.append(ask(temperature=0.0, video=native(clip(frames=3))))

    answers = generator.generate(requests)

    same = TransformersGenerator(str(tiny_model), "float32").generate(requests)
    assert answers == same
    assert len({answer.text for answer in answers}) > 1, "the frames matter"
    assert all(answer.tokens == 24 and answer.finish == "length" for answer in answers)


def test_choices_are_as_likely_as_in_transformers(
    generator: VllmGenerator, tiny_model: Path
) -> None:
    from captioner.engines.transformers import TransformersGenerator

    how: dict[str, Any] = {"max_tokens": 1, "choices": ("in", "is", "or")}
    requests = [ask(video=native(clip(seed)), **how) for seed in range(3)]
    requests.append(ask(video=None, **how))

    answers = generator.generate([*requests, ask(max_tokens=2)])

    assert answers.pop().shares == ()
    same = TransformersGenerator(str(tiny_model), "float32").generate(requests)
    for one, other in zip(answers, same, strict=True):
        assert one.shares == pytest.approx(other.shares, rel=1e-4)
        assert sum(one.shares) == pytest.approx(1)
    assert len({round(answer.shares[0], 6) for answer in answers}) == 4, "the frames matter"


def test_every_token_stands_where_transformers_puts_it(
    generator: VllmGenerator, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

    from captioner.engines.transformers import TransformersGenerator

    seen: list[Any] = []
    positions = Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions

    def spy(*given: Any, **named: Any) -> Any:
        seen.append(positions(*given, **named))
        return seen[-1]

    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "get_mrope_input_positions", spy)
    # The last is longer than wide: its frames reach further in time than in width.
    videos = [native(clip(frames=40)), reference(clip()), native(clip(frames=40, fps=1.0))]
    for video in videos:
        generator.generate([ask(video=video, max_tokens=1)])
    other = TransformersGenerator(str(tiny_model), "float32")
    for video, (found, ahead) in zip(videos, seen, strict=True):
        given = other.inputs(ask(video=video))
        names = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")
        told = {name: given[name] for name in names}
        expected, by = other._loaded.model.get_rope_index(**told)
        assert (found == expected[:, 0]).all()
        assert ahead == int(by)


def test_vllm_knows_the_time_between_frames(
    generator: VllmGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

    seen: list[float] = []
    positions = Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions

    def spy(self: Any, tokens: Any, features: Any, *rest: Any, **named: Any) -> Any:
        told = features[0].data.get("second_per_grid_ts")
        seen.append(float(getattr(told, "data", told)))
        return positions(self, tokens, features, *rest, **named)

    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "get_mrope_input_positions", spy)
    videos = [native(clip(frames=40)), native(clip(frames=90)), reference(clip())]
    for video in videos:
        generator.generate([ask(video=video, max_tokens=1)])

    expected = [2 * 40 / 25 / 16, 2 * 90 / 25 / 16, 1.0]
    assert [video.second_per_grid_ts for video in videos] == pytest.approx(expected)
    assert seen == pytest.approx(expected)


def test_a_bad_request_costs_only_itself(generator: VllmGenerator) -> None:
    wrong = ask({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True})
    long = Request("word " * 9000, None, None, 1.0, 2)

    answers = generator.generate([ask(), wrong, long, ask()])

    assert [answer.finish == "error" for answer in answers] == [False, True, True, False]
    assert answers[1].error
    assert answers[2].error


def test_requests_are_pulled_only_as_there_is_room(generator: VllmGenerator) -> None:
    pulled: list[int] = []
    answered = 0

    def requests() -> Iterator[tuple[int, Request]]:
        for i in range(20):
            assert len(pulled) - answered < OPTIONS.running
            pulled.append(i)
            yield i, ask(max_tokens=1 + i % 5)

    for _ in generator.stream(requests()):
        answered += 1

    assert answered == len(pulled) == 20


def test_without_a_gpu_all_that_run_have_room_and_take_no_more(generator: VllmGenerator) -> None:
    generator.generate([ask()])

    cache = generator._engine.vllm_config.cache_config
    room = cache.num_gpu_blocks * cache.block_size
    assert room == OPTIONS.running * MIN_CONTEXT + cache.block_size


def test_what_does_not_fit_takes_a_share_of_the_free_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil")
    model, gib = str(tiny_model), 2**30
    machine = SimpleNamespace(available=8 * gib, total=16 * gib)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    many = 10**9 // MIN_CONTEXT
    assert memory(model, "auto", many, MIN_CONTEXT) == {"gpu_memory_utilization": 0.4}
    assert memory(model, "auto", 1, MIN_CONTEXT)["kv_cache_memory_bytes"] < gib
    assert memory(model, "auto", 1, MIN_CONTEXT, 0.7) == {"gpu_memory_utilization": 0.7}
    monkeypatch.setattr("captioner.engine_config.has_gpu", lambda: True)
    assert memory(model, "auto", 1, MIN_CONTEXT) == {"gpu_memory_utilization": 0.9}


def test_text_alone_needs_no_video(generator: VllmGenerator) -> None:
    (answer,) = generator.generate([ask(video=None, stop=("zzzz",))])

    assert answer.error is None
    assert answer.prompt_tokens < 100


def test_a_generator_can_be_sent_to_another_process(generator: VllmGenerator) -> None:
    generator.generate([ask(max_tokens=1)])

    assert pickle.loads(pickle.dumps(generator)).identity() == generator.identity()


def test_a_killed_engine_costs_what_ran_and_is_started_again(tiny_model: Path) -> None:
    # In a process of its own: vLLM reads once whether its engine has one too.
    pytest.importorskip("vllm")
    command = [sys.executable, "-m", "tests.captioner.engines.killed", str(tiny_model)]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}

    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr[-6000:]
    finishes = json.loads(told.stdout.splitlines()[-1])
    assert len(finishes) == 12
    lost = [number for number, (finish, _) in enumerate(finishes) if finish == "error"]
    assert set(range(4)) <= set(lost), "what ran is lost"
    assert len(lost) <= OPTIONS.running, "what had not begun is not"
    assert all("engine died" in finishes[number][1] for number in lost)


@pytest.mark.parametrize("version", ["0.29.0", "0.8.4", "0.31.2"])
def test_versions_that_tell_wrong_times_are_refused(version: str) -> None:
    with pytest.raises(ModelError, match="wrong times"):
        check_version(version)


@pytest.mark.parametrize("version", ["0.32.0", "0.33.1", "1.0.0", "0.32.0+cpu"])
def test_versions_that_tell_right_times_are_taken(version: str) -> None:
    check_version(version)


def test_a_wrong_model_is_refused_before_vllm_is_loaded(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))

    with pytest.raises(ModelError, match="takes no video"):
        VllmGenerator(str(tmp_path))
