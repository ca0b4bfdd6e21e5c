"""The server engine against vLLM's own server on this machine's CPU, with tiny real models."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("vllm")
pytest.importorskip("torchvision")

from captioner import prompts
from captioner.engines.checkpoint import video_metadata
from captioner.engines.server import EndpointError, ServerGenerator, connect, payload
from captioner.engines.transformers import TransformersGenerator
from captioner.engines.vlm import Request, VlmEngine
from captioner.frames import FrameBatch
from captioner.policies import ModelVideo, native
from captioner.schema import ShotCaption, Subject, SubjectTypes
from eval import overfit

START = 600.0
"""Seconds that the server has to start, on a busy machine."""

WOMAN = Subject(
    TYPES=SubjectTypes(type="Human", sub_type="Woman"), action="She waves.", is_main_subject=True
)
CAPTIONS = (
    ShotCaption(subjects=(WOMAN,), shot_type="close_up", lighting="Soft light."),
    ShotCaption(shot_type="long_shot", camera_motion="the camera pans left"),
)


def clip(seed: int) -> FrameBatch:
    rng = np.random.default_rng(seed)
    tile = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    picture = np.kron(tile, np.ones((28, 28, 1), np.uint8))
    return FrameBatch.from_rgb([np.roll(picture, 4 * i, 1) for i in range(16)], 8.0)


def small(seed: int) -> ModelVideo:
    frames = np.random.default_rng(seed).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8)
    frames = np.kron(frames, np.ones((1, 28, 28, 1), np.uint8))
    return ModelVideo(frames, (0.0, 0.5, 1.0, 1.5), 8.0, 16, (0, 4, 8, 12))


VIDEOS = tuple(map(small, range(len(CAPTIONS))))


@contextmanager
def served(model: Path, log: Path) -> Iterator[ServerGenerator]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quick = ["--enforce-eager", "--dtype", "float32", "--max-num-seqs", "4"]
    command = [sys.executable, "-m", "captioner.serve", str(model), "--port", str(port)]
    environment = {
        **os.environ,
        "SKYCAPTIONER_API_KEY": "a key",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--context", "4096", "--", *quick],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _connected(f"http://127.0.0.1:{port}/v1", server, log)
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _connected(url: str, server: subprocess.Popen[bytes], log: Path) -> ServerGenerator:
    end = time.monotonic() + START
    while True:
        try:
            return connect(url)
        except EndpointError as error:
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{error}\n{log.read_text()[-4000:]}")
            time.sleep(1)


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_vllm_reads_the_frames_and_their_times(encoding: Literal["jpeg", "png"]) -> None:
    from vllm.multimodal.media import ImageMediaIO, VideoMediaIO

    video = native(clip(0))
    generator = ServerGenerator("http://127.0.0.1:1/v1", "m", encoding=encoding)
    body = json.loads(payload(Request("describe", video, None, 0.0, 1), generator))
    url = body["messages"][0]["content"][0]["video_url"]["url"]
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    reader = VideoMediaIO(ImageMediaIO(), **body["media_io_kwargs"]["video"])
    frames, told = reader.load_base64(kind, data).media
    off = np.abs(np.asarray(frames).astype(float) - video.frames).mean()
    assert off == 0 if encoding == "png" else off < 6
    true = {k: v for k, v in video_metadata(video).items() if k != "video_backend"}
    assert true["frames_indices"] == list(video.indices)
    assert {name: told[name] for name in true} == true
    assert told["do_sample_frames"] is False


@pytest.mark.timeout(1200)
def test_a_real_server_gives_the_captions_that_its_model_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels in, captions out: frames, their times, the schema and the answer all go through."""
    monkeypatch.setenv("SKYCAPTIONER_API_KEY", "a key")
    monkeypatch.setattr(prompts, "STRUCTURED", "Describe.")  # learnt faster
    model = tmp_path / "model"
    overfit.overfit(
        model,
        [
            overfit.Example(video, caption.model_dump_json(by_alias=True))
            for video, caption in zip(VIDEOS, CAPTIONS)
        ],
    )
    with served(model, tmp_path / "log") as generator:
        assert generator.frames == "video"
        assert generator.context == 4096
        cold = VlmEngine(generator, temperature=0.0).caption(VIDEOS)
        assert [one.caption for one in cold] == list(CAPTIONS)
        assert [one.status for one in cold] == ["ok", "ok"]

        # What it does not know it makes up, and that is held to the schema.
        unknown = [small(seed) for seed in range(100, 120)]
        wild = VlmEngine(generator, temperature=1.5, longest_string=20, most_subjects=2)
        assert {one.status for one in wild.caption(unknown)} == {"ok"}

        request = Request("Is it?", VIDEOS[0], None, 1.0, 1, choices=("yes", "no"))
        (asked,) = replace(generator, encoding="png").generate([request])
        (here,) = TransformersGenerator(str(model), "float32").generate([request])
        assert asked.shares == pytest.approx(here.shares, rel=1e-3)

        with pytest.raises(EndpointError, match="no model 'other'"):
            connect(generator.url, "other")
        monkeypatch.setenv("SKYCAPTIONER_API_KEY", "another key")
        with pytest.raises(EndpointError, match="refuses the key"):
            connect(generator.url)
    monkeypatch.setenv("SKYCAPTIONER_API_KEY", "a key")
    with pytest.raises(EndpointError, match="no server answers"):
        connect(generator.url)
