"""The loader beside named peers: `python -m eval.loader CURATED`.

Epochs over the same clips at the same size with the same number of workers: ClipDataset, WebDataset
(tars) and `datasets` (the same Parquet shards), the last two with decord and, where it can be
imported, torchcodec, which both resize while they decode. Each runs as a process of its own, in
turn (A B C A B C ...). Then 16 frames of rendered files, short and long, with dense and sparse
keyframes, beside decord, PyAV and, where they are installed, torchcodec and qwen-vl-utils; and the
memory of 3,000 opens. Ratios hold on a noisy machine; single times do not. Needs torch, webdataset,
datasets and decord.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from curation.clip_frames import Choice, read_frames
from eval.speed import compile_packages
from eval.synth import still

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

FRAMES, WIDTH, HEIGHT, BATCH = 16, 448, 256, 4
TARS = 4
"""Shards of the WebDataset: at least one a worker."""


def uniform(count: int) -> list[int]:
    """Indices of `FRAMES` frames at the centres of equal parts of a clip."""
    return [int((i + 0.5) * count / FRAMES) for i in range(FRAMES)]


def decord_frames(content: bytes) -> Any:
    """(C, T, H, W) uint8 tensor by decord, resized while decoding."""
    import decord
    import torch

    reader = decord.VideoReader(io.BytesIO(content), width=WIDTH, height=HEIGHT, num_threads=1)
    frames = reader.get_batch(uniform(len(reader))).asnumpy()
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))


def torchcodec_frames(content: bytes) -> Any:
    """(C, T, H, W) uint8 tensor by torchcodec in its fast seek mode, resized while decoding."""
    decoders: Any = import_module("torchcodec.decoders")
    resize = import_module("torchcodec.transforms").Resize((HEIGHT, WIDTH))
    reader = decoders.VideoDecoder(content, seek_mode="approximate", transforms=[resize])
    frames = reader.get_frames_at(uniform(len(reader))).data
    return frames.transpose(0, 1).contiguous()


@cache
def has_torchcodec() -> bool:
    """Whether torchcodec finds an FFmpeg and a torch that it can work with."""
    try:
        import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):
        return False
    return True


Decode = Callable[[bytes], Any]


# --- loaders: each an iterable over batches with `video` (B, C, T, H, W) ------------------------


def ours(folder: Path, workers: int) -> Iterable[Any]:
    """ClipDataset."""
    from curation import ClipDataset
    from curation.buckets import Bucket, Fit

    bucket = Bucket(FRAMES, WIDTH, HEIGHT, BATCH)
    fit = Fit(max_crop=1.0, max_enlarge=99.0)
    data = ClipDataset(folder / "ours", buckets=bucket, fit=fit, fps=None, on_error="skip")
    return (batch["video"] for batch in data.loader(workers=workers))


def webdataset(folder: Path, workers: int, decode: Decode = decord_frames) -> Iterable[Any]:
    """WebDataset, a tar a worker at least."""
    wds: Any = import_module("webdataset")
    tars = sorted(str(path) for path in (folder / "tars").glob("*.tar"))
    data = wds.WebDataset(tars, shardshuffle=False, empty_check=False)
    data = data.map(lambda s: (decode(s["mp4"]), s["txt"].decode()))
    loader = wds.WebLoader(data.batched(BATCH), batch_size=None, num_workers=workers)
    return (video for video, _ in loader)


class _Hugging:
    """A map-style dataset over the same shards, read by `datasets`."""

    def __init__(self, folder: Path, decode: Decode) -> None:
        from datasets import Video, load_dataset

        files = str(folder / "ours" / "data" / "*.parquet")
        data = load_dataset(
            "parquet",
            data_files=files,
            split="train",
            cache_dir=str(folder / "hf"),
            filters=[("frames", ">=", FRAMES)],
        )
        data = data.select_columns(["video", "caption_t2v"])
        self._data = data.cast_column("video", Video(decode=False))
        self._decode = decode

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        row = self._data[index]
        return self._decode(row["video"]["bytes"]), row["caption_t2v"]


def hugging(folder: Path, workers: int, decode: Decode = decord_frames) -> Iterable[Any]:
    """`datasets` over Parquet, shuffled by a DataLoader."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Hugging(folder, decode),  # type: ignore[arg-type, unused-ignore]
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
    )
    return (video for video, _ in loader)


LOADERS: dict[str, Callable[[Path, int], Iterable[Any]]] = {
    "ours": ours,
    "webdataset": webdataset,
    "datasets": hugging,
    "webdataset, torchcodec": partial(webdataset, decode=torchcodec_frames),
    "datasets, torchcodec": partial(hugging, decode=torchcodec_frames),
}


def loaders() -> list[str]:
    """Those that can run here."""
    return [name for name in LOADERS if "torchcodec" not in name or has_torchcodec()]


def prepare(curated: Path, folder: Path) -> int:
    """The same clips in both layouts; returns how many are long enough to be read."""
    compile_packages()
    from curation.dataset import DatasetConfig, publish, read_manifest, read_shard

    publish(curated, folder / "ours", DatasetConfig())
    manifest = read_manifest(folder / "ours")
    rows = [
        row
        for shard in manifest.shards
        for row in read_shard(
            folder / "ours" / shard.file, ["clip_id", "frames", "video", "caption_t2v"]
        ).to_pylist()
        if row["frames"] >= FRAMES
    ]
    if not rows:
        raise typer.BadParameter(f"{curated} keeps no clip of {FRAMES} frames or more")
    (folder / "tars").mkdir()
    for number in range(TARS):
        with tarfile.open(folder / "tars" / f"{number}.tar", "w") as tar:
            for row in rows[number::TARS]:
                parts = {"mp4": row["video"]["bytes"], "txt": (row["caption_t2v"] or "").encode()}
                for kind, content in parts.items():
                    info = tarfile.TarInfo(f"{row['clip_id']}.{kind}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return len(rows)


def run_one(name: str, folder: str, workers: str, epochs: str) -> None:
    """Time a loader; print seconds to the first batch, samples, seconds in all, CPU-seconds."""
    import resource

    import torch

    torch.set_num_threads(1)
    started = time.monotonic()
    first, samples = None, 0
    for _ in range(int(epochs)):
        for video in LOADERS[name](Path(folder), int(workers)):
            first = first or time.monotonic() - started
            samples += len(video)
    wall = time.monotonic() - started
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"first": first, "samples": samples, "wall": wall, "cpu": cpu}))


def timed(name: str, folder: Path, workers: int, epochs: int) -> dict[str, float]:
    """What `run_one` says of a loader. Raises RuntimeError with its errors when it fails."""
    command = [sys.executable, "-c", "import sys; from eval.loader import run_one; "]
    command[-1] += "run_one(*sys.argv[1:])"
    arguments = [name, str(folder), str(workers), str(epochs)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip()[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


# --- sixteen frames -----------------------------------------------------------------------------


def render(path: Path, seconds: int, gop: int) -> Path:
    """A pan over a picture, 640x360 at 25 frames a second, a keyframe every `gop` frames."""
    picture = still(seconds + gop, 1640, 360)
    with av.open(str(path), "w") as container:
        options = {"g": str(gop), "keyint_min": str(gop), "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        room = picture.shape[1] - 640
        for i in range(25 * seconds):
            at = abs(2 * i % (2 * room) - room)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture[:, at : at + 640]), "rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _ours_16(path: Path) -> Any:
    return read_frames(path, Choice(FRAMES))


def _decord_16(path: Path) -> Any:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch(uniform(len(reader))).asnumpy()


def _pyav_16(path: Path) -> Any:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = set(uniform(stream.frames))
        frames = enumerate(container.decode(stream))
        return np.stack([f.to_ndarray(format="rgb24") for i, f in frames if i in wanted])


def _qwen_16(path: Path) -> Any:
    """What Qwen2.5-VL's own package reads, before it resizes."""
    process: Any = import_module("qwen_vl_utils.vision_process")
    reader = process.VIDEO_READER_BACKENDS["decord"]
    return reader({"video": str(path), "nframes": FRAMES})[0]


def _torchcodec_16(path: Path) -> Any:
    decoders: Any = import_module("torchcodec.decoders")
    reader = decoders.VideoDecoder(str(path), seek_mode="approximate")
    return reader.get_frames_at(uniform(len(reader))).data


def _readers() -> dict[str, Callable[[Path], Any]]:
    readers: dict[str, Callable[[Path], Any]] = {
        "ours": _ours_16,
        "decord": _decord_16,
        "PyAV": _pyav_16,
    }
    if has_torchcodec():
        readers["torchcodec"] = _torchcodec_16
    if find_spec("qwen_vl_utils") is not None:
        readers["qwen-vl-utils"] = _qwen_16
    return readers


def sampling(path: Path, runs: int) -> dict[str, float]:
    """Medians of CPU-milliseconds by reader, taken in turn."""
    readers = _readers()
    used: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(runs):
        for name, read in readers.items():
            started = time.process_time()
            read(path)
            used[name].append((time.process_time() - started) * 1000)
    return {name: statistics.median(values) for name, values in used.items()}


def resident() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


# --- the report ---------------------------------------------------------------------------------


@app.command()
def compare(
    curated: Annotated[Path, typer.Argument(help="The output folder of jobs.curate.")],
    workers: Annotated[int, typer.Option(min=0)] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="A process, from a cold start.")] = 2,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Print samples a second, first-sample latency, frame sampling, and memory."""
    console = Console()
    if not has_torchcodec():
        console.print("torchcodec cannot be imported: without it")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clips = prepare(curated, folder)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in loaders()}
        timed("datasets", folder, 0, 1)  # converts its Parquet to Arrow once; not counted
        for _ in range(runs):
            for name in results:
                results[name].append(timed(name, folder, workers, epochs))
        table = Table(
            title=f"{clips} clips, {FRAMES} frames of {WIDTH}x{HEIGHT}, {workers} workers"
        )
        for column in ("loader", "samples/s", "ratio", "CPU-ms a sample", "ratio", "first, s"):
            table.add_column(column, justify="right")
        for name, said in results.items():
            rate = [one["samples"] / one["wall"] for one in said]
            cpu = [1000 * one["cpu"] / one["samples"] for one in said]
            mine = results["ours"]
            faster = [m["samples"] / m["wall"] / r for m, r in zip(mine, rate)]
            cheaper = [1000 * m["cpu"] / m["samples"] / c for m, c in zip(mine, cpu)]
            table.add_row(
                name,
                f"{statistics.median(rate):.2f}",
                f"{statistics.median(faster):.2f}",
                f"{statistics.median(cpu):.0f}",
                f"{statistics.median(cheaper):.2f}",
                f"{statistics.median(one['first'] for one in said):.2f}",
            )
        console.print(table)
        console.print("ratio: ours to the loader's, median of paired runs", style="dim")

        table = Table(title=f"{FRAMES} frames of 640x360, CPU-ms, one thread")
        for column in ("file", *_readers(), "ours / best"):
            table.add_column(column, justify="right")
        for seconds in (5, 60):
            for gop in (12, 250):
                path = render(folder / f"{seconds}-{gop}.mp4", seconds, gop)
                used = sampling(path, 2 * runs + 1)
                best = min(taken for reader, taken in used.items() if reader != "ours")
                figures = [f"{taken:.0f}" for taken in used.values()]
                name = f"{seconds} s, keyframe every {gop}"
                table.add_row(name, *figures, f"{used['ours'] / best:.2f}")
        console.print(table)

        path = render(folder / "short.mp4", 1, 12)
        memory = []
        for i in range(3001):
            read_frames(path, Choice(2), (64, 36))
            if i % 500 == 0:
                memory.append(f"{resident():.1f}")
        console.print(f"MiB resident after 0, 500, ... 3,000 opens: {', '.join(memory)}")


if __name__ == "__main__":
    app()
