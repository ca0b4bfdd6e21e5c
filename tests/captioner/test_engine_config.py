import itertools
from pathlib import Path

import numpy as np
import pytest

from captioner import Captioner
from captioner.engine_config import EngineConfig, EngineOptionError, has_gpu
from captioner.frames import FrameBatch
from captioner.handover import Prepared, pack, unpack, unpacked
from captioner.policies import ModelVideo, native
from captioner.result import CaptionResult
from captioner.schema import ShotCaption
from eval.synth import still

BATCH = FrameBatch.from_rgb([still(0, 320, 180)] * 32, 8.0)


class Echo:
    """An engine that says how many frames it was given."""

    name = "echo"

    def caption(self, batches: list[FrameBatch]) -> list[CaptionResult]:
        says = [ShotCaption(environment=f"{len(one.pictures)} frames") for one in batches]
        return [CaptionResult("ok", self.name, caption) for caption in says]

    def identity(self) -> dict[str, str]:
        return {"engine": self.name}


ECHO = f"{__name__}:Echo"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "gpt"}, "'gpt' is none of auto, experts, vllm"),
        ({"name": "server"}, "needs --endpoint"),
        ({"name": "vllm", "endpoint": "http://127.0.0.1/v1"}, "--endpoint is for engine server"),
        ({"name": "vllm", "policy": "best"}, "policy 'best'"),
        ({"name": "vllm", "temperature": 3.0}, "temperature 3"),
        ({"name": "vllm", "window": 0.0}, "window 0 s"),
        ({"name": "experts", "model": "a/b"}, "--model: only for a model"),
        ({"name": "transformers", "vllm": ("eager=true",)}, "--vllm is for engine vllm"),
        ({"name": "vllm", "merge": "mood=expert"}, "mood"),
        ({"name": "no.such.module:Engine"}, "cannot be imported"),
    ],
)
def test_mistakes_are_told_in_a_line(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        EngineConfig(**options).build()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_auto_takes_vllm_only_with_a_gpu_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu()
    config, why = EngineConfig().chosen()
    assert (config.name, why) == ("experts", "there is no GPU here")
    config, why = EngineConfig().chosen(gpu=True)
    assert config.name == "vllm" or "pip install" in why
    assert EngineConfig("experts").chosen(gpu=True)[0].name == "experts"


def test_identity_follows_what_the_captions_depend_on() -> None:
    configs = [
        EngineConfig(ECHO),
        EngineConfig(ECHO, window=5.0),
        EngineConfig(ECHO, merge="paper"),
    ]
    identities = [config.identity() for config in configs]
    assert all(a != b for a, b in itertools.combinations(identities, 2))
    known = configs[0].knowing({"engine": "another"})
    assert known.identity() == {"engine": "another"}
    assert Captioner("experts").engine.identity() == EngineConfig("experts").identity()


def test_windows_and_experts_come_together_in_one_result() -> None:
    config = EngineConfig(ECHO, window=2.0, merge="camera_motion=expert")
    prepared = config.prepare(BATCH, "clip")
    assert len(prepared.views) == 2
    ((key, result),) = config.answers(config.build(), [(7, prepared)])
    assert key == 7
    assert result.caption is not None
    assert "frames" in result.caption.environment
    assert result.sources["camera_motion"].source == "experts.camera"


def test_packed_frames_are_nearly_the_same_and_much_smaller() -> None:
    video = native(BATCH)
    packed = pack(video)
    again = unpack(packed)
    assert np.abs(again.frames.astype(int) - video.frames).mean() < 3
    assert again.frames.shape == video.frames.shape
    assert (again.times, again.indices, again.fps, again.total_frames) == (
        video.times,
        video.indices,
        video.fps,
        video.total_frames,
    )
    assert sum(map(len, packed.frames)) < video.frames.nbytes / 5
    (view,) = unpacked(Prepared((packed,))).views
    assert isinstance(view, ModelVideo)


def test_a_model_of_ones_own_sees_packed_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCAPTIONER_STAND_IN_SECONDS", "0")
    config = EngineConfig("eval.feed:StandIn")
    (view,) = unpacked(config.prepare(BATCH)).views
    assert isinstance(view, ModelVideo)
    ((_, result),) = config.answers(config.build(), [("a", unpacked(config.prepare(BATCH)))])
    assert (result.status, result.engine) == ("ok", "stand-in")


def test_a_captioner_takes_a_configuration(tmp_path: Path) -> None:
    assert Captioner(EngineConfig(ECHO)).caption(BATCH).engine == "echo"
    with pytest.raises(EngineOptionError):
        Captioner("gpt")
