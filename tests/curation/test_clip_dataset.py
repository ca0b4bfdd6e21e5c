"""ClipDataset and its loader: every clip once, resumed where it was, and what fails is told."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner import Captioner, ShotCaption
from captioner.fusion import t2v
from curation import ClipDataset
from curation.buckets import Bucket, Fit
from curation.clip_dataset import ClipError, caption_text, drop_fields
from curation.clip_frames import Choice, Range, UnreadableVideoError, read_frames
from curation.clip_loader import BucketSampler, ClipLoader, ResumeError
from curation.dataset import DatasetConfig, DatasetError, publish
from curation.output import Output
from eval.synth import still, write_video
from tests import clips
from tests.curation.curated import Film, caption, curate

FILMS = [
    *(Film(20, 160, 96), Film(20, 96, 160), Film(44, 160, 96), Film(25, 160, 96, fps=30.0)),
    *(Film(22, 160, 96), Film(24, 96, 160), Film(21, 128, 128), Film(48, 96, 160)),
]
BUCKETS = (Bucket(17, 80, 48, 3), Bucket(33, 80, 48, 2), Bucket(17, 48, 80, 2), Bucket(33, 48, 80))
WIDE = Fit(max_crop=0.5)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "cur"
    curate(out, FILMS)
    return out


@pytest.fixture(scope="module")
def folder(curated: Path) -> Path:
    publish(
        curated, curated.parent / "d", DatasetConfig(row_group_bytes=50_000, shard_bytes=200_000)
    )
    return curated.parent / "d"


@pytest.fixture(scope="module")
def dataset(folder: Path) -> ClipDataset:
    return ClipDataset(folder, buckets=BUCKETS, fit=WIDE, task={"t2v": 0.5, "structured": 0.5})


def as_array(video: Any) -> np.ndarray:
    return np.asarray(video)


def said(batches: Iterator[Any] | ClipLoader) -> list[tuple[Any, ...]]:
    """What a training loop sees: clips, captions and pictures."""
    return [
        (tuple(b["clip_id"]), tuple(b["caption"]), as_array(b["video"]).tobytes()) for b in batches
    ]


def names(loader: ClipLoader) -> list[str]:
    return [clip for batch in loader for clip in batch["clip_id"]]


# --- frames -------------------------------------------------------------------------------------


def decode(path: Path) -> tuple[np.ndarray, list[int]]:
    """Every frame at its own size, by a plain decode, and its timestamps."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pictures = [f.reformat(format="rgb24", src_colorspace="ITU601").to_ndarray() for f in frames]
    return np.stack(pictures), [f.pts or 0 for f in frames]


@pytest.mark.parametrize("gop", [1, 12, 250])
@pytest.mark.parametrize("frames", [1, 5, 16, 120])
def test_chosen_frames_are_those_of_a_full_decode(tmp_path: Path, gop: int, frames: int) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": str(gop), "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i, picture in enumerate(clips.panning(1, 100, 96, 64)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = i + (i > 40) * 30, Fraction(1, 25)  # a gap in time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    full, pts = decode(path)
    times = np.array(pts) / pts[1] / 25
    chosen = read_frames(path, Choice(frames))
    end = times[-1] + 1 / 25
    for i, picture in enumerate(chosen):
        shown = np.flatnonzero(times <= (i + 0.5) * end / frames + 1e-9)[-1]
        assert np.array_equal(picture, full[shown])
    assert np.array_equal(chosen, read_frames(path.read_bytes(), Choice(frames)))


@given(
    st.integers(1, 60),
    st.sampled_from([12.0, 16.0, 24.0, 25.0, 30.0, 60.0]),
    st.sampled_from([16.0, 24.0]),
    st.floats(0, 1),
)
def test_frames_at_a_rate_are_in_order_and_none_twice(
    n: int, fps: float, rate: float, offset: float
) -> None:
    times = np.arange(n) / fps
    count = max(1, int(n / fps * rate + 1e-6))
    chosen = Choice(count, rate, offset).of(times, n / fps)
    steps = np.diff(chosen)
    assert chosen.min() >= 0
    assert chosen.max() < n
    if rate <= fps:
        assert (steps >= 1).all()
    assert (np.abs(np.diff(times[chosen]) - 1 / rate) <= 1 / fps + 1e-9).all()


def test_a_clip_is_cut_out_of_its_source_as_the_clip_writer_does(curated: Path) -> None:
    row = next(r for r in Output(curated).rows() if r.shot == 1 and r.decision == "keep")
    part = Range(
        row.start_pts or 0, row.end_pts or 0, Fraction(row.time_base or 1), (16, 8, 96, 64)
    )
    from_source = read_frames(Path(row.source), Choice(7), None, part)
    from_clip = read_frames(curated / (row.clip or ""), Choice(7))[:, 8:72, 16:112]
    assert from_source.shape == (7, 64, 96, 3)
    assert np.abs(from_source.astype(int) - from_clip.astype(int)).mean() < 6
    shifted = Range((row.start_pts or 0) + 1, row.end_pts or 0, part.time_base)
    with pytest.raises(UnreadableVideoError, match="the source has changed"):
        read_frames(Path(row.source), Choice(7), None, shifted)


def test_pictures_come_out_upright_with_square_pixels(tmp_path: Path) -> None:
    sideways = read_frames(clips.rotated(tmp_path / "r.mp4", 90), Choice(2))
    assert sideways.shape == (2, 160, 120, 3)
    assert sideways[0, 20, 60, 0] > 200 > 50 > sideways[0, 140, 60, 0]  # red was left, now above
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for picture in clips.panning(1, 5, 64, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    assert read_frames(tmp_path / "wide.mp4", Choice(2)).shape == (2, 64, 128, 3)
    assert read_frames(tmp_path / "wide.mp4", Choice(2), (32, 32)).shape == (2, 32, 32, 3)


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("size", [(320, 180), (448, 252), (896, 504)])
def test_pictures_of_another_size_keep_their_brightness(
    seed: int, size: tuple[int, int], tmp_path: Path
) -> None:
    picture = still(seed, 640, 360)
    path = write_video(tmp_path / "a.mp4", [picture] * 5, crf=1)
    found = read_frames(path, Choice(2), size)[1].astype(float)
    scaling = cv2.INTER_CUBIC if size[0] > 640 else cv2.INTER_AREA
    truth = cv2.resize(picture.astype(np.float32), size, interpolation=scaling)
    difference = found - np.clip(truth, 0, 255)
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7, "levels of 255, by channel"


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\nfile:///etc/passwd", b"\x00" * 64])
def test_what_is_no_video_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    for video in (content, tmp_path / "x.mp4"):
        with pytest.raises(UnreadableVideoError):
            read_frames(video, Choice(4))


# --- samples ------------------------------------------------------------------------------------


def test_a_sample_has_its_buckets_size_and_layout(folder: Path) -> None:
    whole = ClipDataset(folder, buckets=Bucket(17, 80, 48), fit=Fit(1, 9), dtype="float32")
    sample = whole[0]
    video = as_array(sample["video"])  # type: ignore[typeddict-item]
    assert (video.shape, video.dtype) == ((3, 17, 48, 80), np.float32)
    assert -1 <= video.min() < video.max() <= 1
    small = as_array(ClipDataset(folder, buckets=Bucket(17, 80, 48), fit=Fit(1, 9))[0]["video"])
    assert small.dtype == np.uint8
    assert np.allclose(small / 127.5 - 1, video, atol=1e-6)


def test_without_buckets_clips_keep_size_and_length(folder: Path) -> None:
    shapes = {as_array(s["video"]).shape for s in ClipDataset(folder)}  # type: ignore[union-attr]
    # 25 frames at 30 a second are read at 24.
    assert shapes == {(3, f.frames if f.fps == 24 else 20, f.height, f.width) for f in FILMS}


def test_layouts_give_the_same_clips(curated: Path, folder: Path, dataset: ClipDataset) -> None:
    for layout in ("files", "virtual"):
        publish(curated, curated.parent / layout, DatasetConfig(layout=layout))  # type: ignore[arg-type]
        other = ClipDataset(curated.parent / layout, buckets=BUCKETS, fit=WIDE)
        assert len(other) == len(dataset)
        a, b = other[0], dataset[0]
        difference = as_array(a["video"]).astype(int) - as_array(b["video"])  # type: ignore[index]
        assert np.abs(difference).mean() < (0.01 if layout == "files" else 6)


def test_tasks_are_drawn_by_their_probabilities_and_by_clip_and_epoch(folder: Path) -> None:
    mixed = ClipDataset(folder, task={"t2v": 0.5, "i2v": 0.25, "structured": 0.25, "empty": 0.0})
    loader = mixed.loader()
    first = [t for batch in loader for t in batch["task"]]
    second = [t for batch in loader for t in batch["task"]]
    assert set(first + second) == {"t2v", "i2v", "structured"}
    loader.set_epoch(0)
    assert [t for batch in loader for t in batch["task"]] == first


def test_fields_are_dropped_at_their_rate() -> None:
    rng = random.Random(0)
    dropped = [drop_fields(caption(1), rng, 0.1) for _ in range(2000)]
    rates = Counter(
        name
        for one in dropped
        for name, text in [
            ("appearance", one.subjects[0].appearance),
            ("position", one.subjects[0].position),
            ("lighting", one.lighting),
        ]
        if not text
    )
    assert all(abs(count / 2000 - 0.1) < 0.03 for count in rates.values())
    assert len(rates) == 3
    assert {one.camera_motion for one in dropped} == {"Pans left"}
    assert {one.subjects[0].action for one in dropped} == {"Walks along"}


def test_dropout_shortens_our_template_and_leaves_a_models_prose() -> None:
    row = {"caption": caption(1).model_dump(mode="json", by_alias=True), "caption_i2v": "moves"}
    rng = random.Random(0)
    template = {**row, "caption_t2v": t2v(caption(1))}
    assert caption_text(template, "t2v", rng, 0.0) == t2v(caption(1))
    assert "coat" not in caption_text(template, "t2v", rng, 1.0)
    assert caption_text({**row, "caption_t2v": "By a model."}, "t2v", rng, 1.0) == "By a model."
    assert caption_text(template, "i2v", rng, 1.0) == "moves"
    told = ShotCaption.from_json(caption_text(template, "structured", rng, 0.0))
    assert told == caption(1)


# --- epochs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_has_every_clip_once_in_the_same_order(dataset: ClipDataset, workers: int) -> None:
    if workers:
        pytest.importorskip("torch")
    loader = dataset.loader(workers=workers)
    first = said(loader)
    clips_ = [clip for batch in first for clip in batch[0]]
    assert len(clips_) == len(set(clips_)) == 2 * len(FILMS)
    assert first == said(dataset.loader())
    assert loader.epoch == 1
    second = names(loader)
    assert sorted(second) == sorted(clips_)
    assert second != clips_


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_an_epoch_in_equal_steps(dataset: ClipDataset, world: int) -> None:
    ranks = [dataset.loader(rank=rank, world=world) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    clips_ = [clip for rank in ranks for clip in names(rank)]
    assert len(clips_) == len(set(clips_)) == 2 * len(FILMS)
    assert not ranks[0].counts


def test_a_batch_is_of_one_bucket(dataset: ClipDataset) -> None:
    for batch in dataset.loader():
        shape = as_array(batch["video"]).shape
        bucket = next(b for b in BUCKETS if (b.frames, b.height, b.width) == shape[2:])
        assert shape[:2] == (len(batch["clip_id"]), 3)
        assert len(batch["clip_id"]) <= bucket.batch


class _Numbers:
    """What a sampler needs to know of a dataset."""

    def __init__(self, numbers: list[int], sizes: list[int]) -> None:
        self.bucket_numbers = np.array(numbers, np.int64)
        self.buckets = tuple(Bucket(1, 8, 8 * (i + 1), size) for i, size in enumerate(sizes))
        self.seed = 0


@given(st.data())
def test_no_number_of_ranks_loses_a_clip_without_counting(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    numbers = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=40))
    world = data.draw(st.integers(1, 6))
    uneven = data.draw(st.sampled_from(["drop", "repeat", "keep"]))
    samplers = [
        BucketSampler(_Numbers(numbers, sizes), rank=r, world=world, uneven=uneven)  # type: ignore[arg-type]
        for r in range(world)
    ]
    steps = [sampler.steps() for sampler in samplers]
    seen = Counter(i for rank in steps for batch in rank for i in batch)
    counts = samplers[0].counts
    assert sum(seen.values()) == len(numbers) - counts["dropped"] + counts["repeated"]
    if uneven != "keep":
        assert len({len(rank) for rank in steps}) == 1
    else:
        assert seen == Counter(range(len(numbers)))
    for batch in (batch for rank in steps for batch in rank):
        assert len({numbers[i] for i in batch}) == 1
        assert len(batch) <= sizes[numbers[batch[0]]]


def test_fifty_interruptions_change_nothing(folder: Path) -> None:
    """Interrupted at a random step of a random epoch and resumed: the same batches follow."""
    tiny = [Bucket(3, 32, 16, 2), Bucket(3, 16, 32, 2)]
    dataset = ClipDataset(folder, buckets=tiny, fit=WIDE, fps=None)
    rng = random.Random(7)
    whole = dataset.loader()
    expected = [said(whole) for _ in range(3)]
    for _ in range(50):
        epoch = rng.randrange(3)
        stop = rng.randrange(1, len(expected[epoch]))
        loader = dataset.loader()
        loader.set_epoch(epoch)
        seen = said(itertools.islice(loader, stop))
        resumed = dataset.loader()
        resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        assert [*seen, *said(resumed)] == expected[epoch]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loop_sees_what_an_uninterrupted_one_does(
    dataset: ClipDataset, workers: int
) -> None:
    if workers:
        pytest.importorskip("torch")
    whole = dataset.loader()
    expected = [*said(whole), *said(whole)]
    for stop in (1, 4, len(whole) + 2):
        loader = dataset.loader(workers=workers)
        seen: list[tuple[Any, ...]] = []
        while len(seen) < stop:
            for batch in loader:
                seen += said(iter([batch]))
                if len(seen) == stop:
                    state = json.loads(json.dumps(loader.state_dict()))
                    break
        resumed = dataset.loader(workers=workers)
        resumed.load_state_dict(state)
        assert len(resumed) == len(whole) - stop % len(whole)
        rest = said(resumed)
        assert seen + rest == expected[: len(seen) + len(rest)]


@given(st.data())
def test_going_on_with_other_ranks_reads_each_clip_once(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 1), min_size=12, max_size=40))
    worlds = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    known = _Numbers(numbers, [4, 3])
    seen: list[int] = []
    done: list[tuple[int, int]] = []
    for world in worlds:
        ranks = [BucketSampler(known, rank=r, world=world, uneven="keep") for r in range(world)]  # type: ignore[arg-type]
        for rank in ranks:
            rank.advance(done)
        steps = [rank.steps() for rank in ranks]
        taken = data.draw(st.integers(0, min(map(len, steps))))
        seen += [i for rank in steps for batch in rank[:taken] for i in batch]
        done.append((world, taken))
    last = BucketSampler(known, uneven="keep")  # type: ignore[arg-type]
    last.advance(done)
    seen += [i for batch in last.steps() for i in batch]
    assert sorted(seen) == list(range(len(numbers)))


def test_a_state_of_another_dataset_is_refused(folder: Path, dataset: ClipDataset) -> None:
    state = dataset.loader().state_dict()
    other = ClipDataset(folder, buckets=BUCKETS, fit=WIDE, seed=1)
    with pytest.raises(ResumeError, match="not those of the state"):
        other.loader().load_state_dict(state)
    with pytest.raises(ResumeError, match="shuffle"):
        dataset.loader(shuffle=False).load_state_dict(state)


def test_an_iterable_dataset_gives_the_same_batches(dataset: ClipDataset) -> None:
    torch = pytest.importorskip("torch")
    from curation.clip_stream import ClipStream

    for workers in (0, 2):
        stream = ClipStream(dataset)
        loaded = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
        assert said(iter(loaded)) == said(dataset.loader())


def test_a_video_model_learns_from_the_loader(folder: Path) -> None:
    """A tiny SkyReels-V2 (real architecture, random weights): 20 steps, and its loss falls."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 16
    ).eval()
    model = diffusers.SkyReelsV2Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        text_dim=32,
        ffn_dim=64,
        num_layers=2,
        rope_max_seq_len=64,
    )
    letters = torch.nn.Embedding(256, 32).requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def features(batch: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            latents = vae.encode(batch["video"]).latent_dist.mode()
            latents = (latents - latents.mean()) / latents.std()
            texts = [list(c.encode()[:32].ljust(32)) for c in batch["caption"]]
            return latents, letters(torch.tensor(texts))

    def loss(latents: Any, text: Any, generator: Any) -> Any:
        """Flow matching: the model predicts noise minus latents."""
        noise = torch.randn(latents.shape, generator=generator)
        share = torch.rand(len(latents), generator=generator)
        mixed = torch.lerp(latents, noise, share[:, None, None, None, None])
        said = model(mixed, (share * 1000).long(), text, return_dict=False)[0]
        return torch.nn.functional.mse_loss(said, noise - latents)

    clips_ = ClipDataset(
        folder, buckets=[Bucket(17, 80, 48, 4), Bucket(17, 48, 80, 4)], fit=WIDE, dtype="float32"
    )
    loader = clips_.loader(workers=0)
    fixed = features(next(iter(loader)))

    def fixed_loss() -> float:
        with torch.no_grad():
            return float(loss(*fixed, torch.Generator().manual_seed(1)))

    before, steps, noise = fixed_loss(), 0, torch.Generator().manual_seed(2)
    while steps < 20:
        for batch in loader:
            optimiser.zero_grad()
            loss(*features(batch), noise).backward()
            optimiser.step()
            steps += 1
    after = fixed_loss()
    assert after < 0.9 * before, f"{before:.3f} before, {after:.3f} after {steps} steps"


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.fixture
def damaged(curated: Path, tmp_path: Path) -> tuple[Path, str]:
    """A dataset with files beside it, of which one is gone; and its clip_id."""
    publish(curated, tmp_path / "d", DatasetConfig(layout="files"))
    gone = sorted((tmp_path / "d" / "videos").iterdir())[0]
    gone.unlink()
    return tmp_path / "d", gone.stem


def test_a_missing_file_is_an_error_a_counted_skip_or_replaced(damaged: tuple[Path, str]) -> None:
    folder, gone = damaged
    options = {"buckets": BUCKETS, "fit": WIDE}
    with pytest.raises(ClipError, match=gone):
        names(ClipDataset(folder, **options).loader())  # type: ignore[arg-type]

    skipping = ClipDataset(folder, **options, on_error="skip").loader()  # type: ignore[arg-type]
    seen = names(skipping)
    assert len(seen) == len(set(seen)) == 2 * len(FILMS) - 1
    assert gone not in seen
    assert sum(skipping.failures.values()) == 1

    replacing = ClipDataset(folder, **options, on_error="replace").loader()  # type: ignore[arg-type]
    steps = len(replacing)
    batches = list(replacing)
    assert len(batches) == steps
    assert sum(len(b["clip_id"]) for b in batches) == 2 * len(FILMS)
    assert [f.clip_id for b in batches for f in b["failures"]] == [gone]


def test_clips_of_different_sizes_make_no_batch(folder: Path) -> None:
    with pytest.raises(ValueError, match="give buckets"):
        names(ClipDataset(folder).loader(batch=4))


def test_a_batch_of_failures_alone_is_counted(damaged: tuple[Path, str]) -> None:
    folder, _ = damaged
    loader = ClipDataset(folder, on_error="skip").loader()
    assert len(names(loader)) == 2 * len(FILMS) - 1
    assert loader.empty_batches == 1
    ranks = [ClipDataset(folder, on_error="skip").loader(rank=r, world=2) for r in range(2)]
    with pytest.raises(ClipError, match="the other ranks would wait"):
        print([names(rank) for rank in ranks])


def test_a_clip_that_no_bucket_fits_is_an_error_or_counted(folder: Path) -> None:
    long = Bucket(33, 80, 48)
    with pytest.raises(ClipError, match="shorter than the shortest bucket"):
        ClipDataset(folder, buckets=long, fit=Fit(1, 9))
    some = ClipDataset(folder, buckets=long, fit=Fit(1, 9), on_error="skip")
    assert (len(some), sum(some.left_out.values())) == (4, 12)
    with pytest.raises(ClipError, match="is left"):
        ClipDataset(folder, buckets=Bucket(999, 80, 48), on_error="skip")


@pytest.fixture
def uncaptioned(curated: Path, tmp_path: Path) -> Path:
    """A dataset in which one film's clips have no caption."""
    output = Output(tmp_path / "cur")
    (tmp_path / "cur").mkdir()
    (tmp_path / "cur" / "clips").symlink_to(curated / "clips")
    ledger = Output(curated).ledger
    empty = dict.fromkeys(("caption", "caption_status", "caption_t2v", "caption_i2v"))
    for i, part in enumerate(ledger.parts()):
        rows = [r.model_copy(update=empty) if i == 0 else r for r in ledger.read(part)]
        output.ledger.write(part.stem, rows)
    publish(tmp_path / "cur", tmp_path / "d", DatasetConfig(layout="virtual"))
    return tmp_path / "d"


def test_a_row_without_caption_is_an_error_or_counted(uncaptioned: Path) -> None:
    with pytest.raises(ClipError, match="no caption"):
        ClipDataset(uncaptioned)
    some = ClipDataset(uncaptioned, on_error="skip")
    assert (len(some), some.left_out) == (2 * len(FILMS) - 2, {"no caption": 2})
    assert len(ClipDataset(uncaptioned, task="empty")) == 2 * len(FILMS)


class _Counting:
    """An engine that says how often it was asked, in its captions."""

    name = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def caption(self, batches: Any) -> list[Any]:
        from captioner import CaptionResult

        self.asked += len(batches)
        return [
            CaptionResult("ok", self.name, caption(9), t2v=f"clip {self.asked}") for _ in batches
        ]

    def identity(self) -> dict[str, str]:
        return {"version": "1"}


def test_clips_without_caption_are_captioned_once(uncaptioned: Path, tmp_path: Path) -> None:
    engine = _Counting()
    options: dict[str, Any] = {"captioner": Captioner(engine), "caption_cache": tmp_path / "cache"}
    live = ClipDataset(uncaptioned, **options)
    first = {c: t for b in live.loader() for c, t in zip(b["clip_id"], b["caption"])}
    assert len(first) == 2 * len(FILMS)
    assert sorted(t for t in first.values() if t.startswith("clip")) == ["clip 1", "clip 2"]
    again = ClipDataset(uncaptioned, **options)
    assert {c: t for b in again.loader() for c, t in zip(b["clip_id"], b["caption"])} == first
    assert engine.asked == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "test"}, "has no split 'test', only train"),
        ({"task": "poem"}, "is none of t2v"),
        ({"task": {"t2v": 0.0}}, "no task has a probability"),
        ({"dtype": "float16"}, "is none of uint8"),
        ({"on_error": "ignore"}, "is none of raise"),
        ({"buckets": ()}, "empty list of buckets"),
        ({"dropout": 2}, "is a probability"),
    ],
)
def test_options_that_cannot_be(folder: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClipDataset(folder, **options)


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no dataset"):
        ClipDataset(tmp_path)


def test_a_path_in_a_row_cannot_lead_out_of_the_dataset(folder: Path, dataset: ClipDataset) -> None:
    rows = dataset._rows
    rows._layout = "files"
    try:
        with pytest.raises(ClipError, match="is not in the dataset"):
            rows.video({"video": {"bytes": None, "path": "../../secret.mp4"}})
    finally:
        rows._layout = "embedded"


def test_reading_holds_no_more_memory_with_each_clip(tmp_path: Path) -> None:
    """3,000 opens of a small file: the resident set after 500 and after 3,000."""
    path = write_video(tmp_path / "a.mp4", clips.panning(1, 4, 64, 48), 24.0)
    content = path.read_bytes()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for i in range(3000):
        read_frames(content if i % 2 else path, Choice(2))
        if i == 500:
            before = resident()
    assert resident() - before < 8 << 20
