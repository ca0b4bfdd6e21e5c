"""A tiny model that has learned two clips gives each its caption: pixels in, right JSON out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("transformers")

from captioner import prompts
from captioner.engines.vlm import Generator, VlmEngine
from captioner.frames import FrameBatch
from captioner.policies import native
from captioner.schema import ShotCaption, Subject, SubjectTypes
from eval.overfit import ENOUGH, Example, overfit
from tests.clips import panning

CAPTIONS = (
    ShotCaption(
        subjects=(
            Subject(types=SubjectTypes(type="Animal", sub_type="Cat"), is_main_subject=True),
        ),
        shot_type="close_up",
        camera_motion="the camera pans left",
    ),
    ShotCaption(shot_type="long_shot", shot_angle="high_angle", environment='A "snowy" slope.'),
)


def clips() -> list[FrameBatch]:
    return [FrameBatch.from_rgb(panning(seed, 20, 64, 64), 25.0) for seed in range(2)]


@pytest.fixture(scope="module", autouse=True)
def short_prompt() -> Iterator[None]:
    """Learnt in a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "STRUCTURED", "Describe.")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("overfit") / "model"
    answers = [caption.model_dump_json(by_alias=True) for caption in CAPTIONS]
    examples = [Example(native(clip), answer) for clip, answer in zip(clips(), answers)]

    assert overfit(out, examples) < ENOUGH
    return out


def captioned(generator: Generator) -> list[ShotCaption | None]:
    return [result.caption for result in VlmEngine(generator).caption(clips())]


def test_transformers_gives_each_clip_its_caption(model: Path) -> None:
    from captioner.engines.transformers import TransformersGenerator

    assert captioned(TransformersGenerator(str(model), "float32")) == list(CAPTIONS)


def test_vllm_gives_each_clip_its_caption(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm")
    from captioner.engines.vllm import VllmGenerator, VllmOptions

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    generator = VllmGenerator(
        str(model), VllmOptions(dtype="float32", running=2, eager=True, context=8192)
    )

    assert captioned(generator) == list(CAPTIONS)
    generator.close()
