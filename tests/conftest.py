"""Settings for all tests, and a real S3 API on the loopback: moto's server."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from captioner.weights import cache_folder

settings.register_profile("shared-machine", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("shared-machine")

SLOWEST = (
    "test_curate",
    "test_caption",
    "test_vllm",
    "test_loop_demo",
    "test_sft",
    "test_loop",
    "test_precompute",
    "test_ray_train",
    "test_scorers",
    "test_generate",
    "test_select",
    "test_review",
    "test_camera",
    "test_engine_ray",
    "test_server_vllm",
    "test_finetune",
    "test_inputs",
    "test_motion",
    "test_engine_process",
    "test_overfit",
    "test_labels",
    "test_worker",
    "test_scan",
)
"""Files that take the longest, in the order of their time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files, so that no worker is left alone with one at the end."""
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(Path(item.path).stem, len(rank)))


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """In a process of its own: vLLM does not start beside its web framework."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                    break
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """An s3fs file system with an empty bucket named `bucket`."""
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    cache = tmp_path / "cache"
    cache.mkdir()
    for weight in cache_folder().glob("*"):
        if weight.name not in ("outputs", "rates.json"):
            (cache / weight.name).symlink_to(weight)
    monkeypatch.setenv("SKYCAPTIONER_CACHE", str(cache))
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
