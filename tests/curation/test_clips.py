from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from captioner import decode_pyav
from captioner.decode import open_video
from captioner.decode_pyav import AvFrame, Position, open_pyav
from captioner.video import Video
from curation import clips as module
from curation.clips import ClipConfig, ClipRange, Written, clip_path, write_clips
from curation.scan import scan
from eval.synth import Rgb, still, write_video
from tests.clips import panning, rotated, two_shots

FAST = ClipConfig(preset="ultrafast", crf=12)


def ranges(path: Path, bounds: list[tuple[int, int]]) -> list[ClipRange]:
    """Clips from and up to frames of a source."""
    with open_pyav(path, 1) as video:
        shown = [(f.pts, f.duration) for f in video.frames()]
        base = video.info.time_base
    ends = [pts for pts, _ in shown] + [sum(shown[-1])]
    return [
        ClipRange(f"clip-{first}", ends[first], ends[end], base, first, end - first)
        for first, end in bounds
    ]


def greys(path: Path) -> NDArray[np.int16]:
    with open_video(path, 1) as video:
        return np.stack([f.picture().grey.astype(np.int16) for f in video.frames()])


def times(path: Path) -> list[float]:
    with open_video(path, 1) as video:
        return [float(f.pts * video.info.time_base) for f in video.frames()]


def nearest(clip: Path, source: Path) -> list[int]:
    """For each frame of a clip, the frame of the source that looks most like it."""
    every = greys(source)
    return [int(np.abs(every - frame).mean((1, 2)).argmin()) for frame in greys(clip)]


def seconds(path: Path) -> float:
    """How long the file says that it is (ISO/IEC 14496-12 section 8.4.2, media header)."""
    content = path.read_bytes()
    at = content.index(b"mdhd") + 16
    scale, duration = (int.from_bytes(content[i : i + 4], "big") for i in (at, at + 4))
    return duration / scale


def whole(written: list[Written]) -> list[Path]:
    assert [clip.error for clip in written] == [None] * len(written)
    return [clip.path for clip in written]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_clip_holds_its_own_frames_and_no_other(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    source = write_video(tmp_path / name, panning(1) + panning(2), codec=codec)
    bounds = [(30, 50), (0, 25), (25, 30)]
    clips = ranges(source, bounds)
    written = write_clips(source, clips, tmp_path / "out", FAST)
    for path, row, clip, (first, end) in zip(whole(written), clips, written, bounds):
        assert nearest(path, source) == list(range(first, end))
        assert times(path) == pytest.approx([i / 25 for i in range(end - first)], abs=1e-4)
        length = (row.end_pts - row.start_pts) * row.time_base
        assert seconds(path) == pytest.approx(float(length), abs=1e-3)
        assert (clip.frames, clip.width, clip.height) == (end - first, 320, 180)
        assert clip.bytes == path.stat().st_size
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clip-0.mp4",
        "clip-25.mp4",
        "clip-30.mp4",
    ]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_timestamps_stay_where_the_rate_varies(tmp_path: Path, name: str) -> None:
    steps = np.random.default_rng(3).choice((0.02, 0.04, 0.1), 60)
    at = list(np.cumsum(steps))
    frames = panning(1, 30) + panning(2, 30)
    source = write_video(tmp_path / name, frames, times=at, start=7.0)
    (clip,) = ranges(source, [(20, 45)])
    (path,) = whole(write_clips(source, [clip], tmp_path, FAST))
    shown = times(source)
    assert times(path) == pytest.approx([t - shown[20] for t in shown[20:45]], abs=1e-4)
    assert seconds(path) == pytest.approx(shown[45] - shown[20], abs=1e-3)
    assert nearest(path, source) == list(range(20, 45))


@pytest.mark.parametrize(("fps", "count"), [(10.0, 8), (50.0, 40)])
def test_a_constant_rate_shows_what_is_shown_then(tmp_path: Path, fps: float, count: int) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1, 40))
    config = ClipConfig(preset="ultrafast", crf=12, fps=fps)
    (path,) = whole(write_clips(source, ranges(source, [(10, 30)]), tmp_path, config))
    assert times(path) == pytest.approx([i / fps for i in range(count)], abs=1e-4)
    assert nearest(path, source) == [10 + int(i * 25 / fps) for i in range(count)]


def test_shots_of_a_scan_are_written_as_found(tmp_path: Path) -> None:
    source = two_shots(tmp_path / "a.mp4")
    with scan(source, threads=1) as video:
        shots = list(video)
    clips = [
        ClipRange(str(s.index), s.start_pts, s.end_pts, s.time_base, s.first_frame, s.frames)
        for s in shots
    ]
    first, second = whole(write_clips(source, clips, tmp_path, FAST))
    assert nearest(first, source) == list(range(25))
    assert nearest(second, source) == list(range(25, 50))


def test_a_far_clip_is_reached_by_a_seek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_seen: list[int] = []
    frames = decode_pyav._pyav_frames

    def watched(*args: object) -> Iterator[AvFrame]:
        decoded = frames(*args)  # type: ignore[arg-type]
        first = next(decoded)
        first_seen.append(first.index)
        return itertools.chain([first], decoded)

    monkeypatch.setattr(decode_pyav, "_pyav_frames", watched)
    place = still(1, 1200, 120)
    source = write_video(tmp_path / "a.mp4", (place[:, i : i + 160] for i in range(900)))
    clips = ranges(source, [(5, 15), (30, 40), (700, 720)])
    first_seen.clear()
    paths = whole(write_clips(source, clips, tmp_path, FAST))
    assert first_seen == [5, 700]
    assert nearest(paths[2], source) == list(range(700, 720))


def test_where_a_seek_gives_other_frames_the_source_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1) + panning(2))
    clips = ranges(source, [(10, 20), (30, 40)])

    def short_of_a_frame(
        path: Path, threads: int = 0, *, at: Position | None = None, exact: bool = False
    ) -> Video:
        video = open_pyav(path, threads, at=at, exact=exact)
        kept = (f for f in video.frames() if at is None or f.index % 7)
        return Video(video.info, kept, video.warnings, video.__exit__)

    monkeypatch.setattr(module, "open_pyav", short_of_a_frame)
    paths = whole(write_clips(source, clips, tmp_path, FAST))
    assert [nearest(p, source) for p in paths] == [list(range(10, 20)), list(range(30, 40))]


def test_what_is_wrong_with_a_clip_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1, 40))
    good, other, far = ranges(source, [(0, 10), (20, 30), (30, 40)])
    tick = good.end_pts // 10
    wrong = [
        ClipRange("count", 10 * tick, 20 * tick, good.time_base, 10, 9),
        ClipRange("between", 10 * tick + 1, 20 * tick, good.time_base, 10, 10),
        ClipRange("behind", 900 * tick, 910 * tick, good.time_base, 900, 10),
        ClipRange("base", 10 * tick, 20 * tick, Fraction(1, 7), 10, 10),
        ClipRange("crop", 10 * tick, 20 * tick, good.time_base, 10, 10, (200, 0, 122, 100)),
    ]
    clips = [wrong[0], good, *wrong[1:], other, far]
    written = write_clips(source, clips, tmp_path / "out", FAST)
    assert [clip.clip_id for clip in written] == [clip.clip_id for clip in clips]
    failed = [clip for clip in written if clip.error is not None]
    assert [clip.clip_id for clip in failed] == [clip.clip_id for clip in wrong]
    assert "time base" in str(failed[3].error)
    assert "crop" in str(failed[4].error)
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("content", [b"no video", b"", b"#EXTM3U\n/etc/passwd\n"])
def test_a_source_that_cannot_be_read_is_an_error_of_its_clips(
    tmp_path: Path, content: bytes
) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(content)
    (written,) = write_clips(source, [ClipRange("b", 0, 9, Fraction(1, 9), 0, 9)], tmp_path, FAST)
    assert written.error is not None
    assert not written.path.exists()


def test_a_damaged_source_gives_the_clips_before_the_damage(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", panning(1, 60) + panning(2, 60))
    clips = ranges(source, [(0, 50), (60, 120)])
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.8)])
    good, cut_short = write_clips(source, clips, tmp_path / "out", FAST)
    assert good.error is None
    assert "not 60" in str(cut_short.error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip-0.mp4"]


def test_a_file_of_the_same_configuration_is_left_as_it_is(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1))
    (clip,) = ranges(source, [(0, 25)])
    (first,) = write_clips(source, [clip], tmp_path, FAST)
    before = first.path.read_bytes()
    (again,) = write_clips(source, [clip], tmp_path, FAST)
    assert (first.made, again.made) == (True, False)
    assert (again.frames, again.width, again.bytes) == (25, 320, len(before))
    (rougher,) = write_clips(source, [clip], tmp_path, ClipConfig(preset="ultrafast", crf=40))
    assert rougher.made
    assert rougher.bytes < len(before)
    (back,) = write_clips(source, [clip], tmp_path, FAST)
    assert back.path.read_bytes() == before
    cropped = ClipRange(
        clip.clip_id, clip.start_pts, clip.end_pts, clip.time_base, 0, 25, (0, 0, 100, 90)
    )
    assert write_clips(source, [cropped], tmp_path, FAST)[0].made
    first.path.write_bytes(before[:100])
    assert write_clips(source, [clip], tmp_path, FAST)[0].made


def cropped_to(source: Path, folder: Path, crop: tuple[int, int, int, int]) -> NDArray[np.int16]:
    """The first frame of the source, written with a crop."""
    (clip,) = ranges(source, [(0, 1)])
    clip = ClipRange("crop", clip.start_pts, clip.end_pts, clip.time_base, 0, 1, crop)
    (path,) = whole(write_clips(source, [clip], folder, FAST))
    return greys(path)[0]


@pytest.mark.parametrize("crop", [(0, 0, 320, 180), (2, 40, 150, 90), (220, 130, 100, 50)])
def test_a_crop_is_where_its_row_says(tmp_path: Path, crop: tuple[int, int, int, int]) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1, 3))
    x, y, w, h = crop
    expected = greys(source)[0][y : y + h, x : x + w]
    found = cropped_to(source, tmp_path, crop)
    assert found.shape == (h, w)
    assert np.abs(found - expected).mean() < 1.5


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_comes_before_the_crop(tmp_path: Path, degrees: int) -> None:
    source = rotated(tmp_path / "a.mp4", degrees)
    upright = greys(source)[0]
    crop = (20, 10, 60, 80)
    found = cropped_to(source, tmp_path, crop)
    assert np.abs(found - upright[10:90, 20:80]).mean() < 1.5
    (clip,) = ranges(source, [(0, 5)])
    (path,) = whole(write_clips(source, [clip], tmp_path, FAST))
    with open_video(path, 1) as video:
        assert video.info.rotation == 0
        assert (video.info.height, video.info.width) == upright.shape


def test_pixels_become_square(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1, 3), aspect=Fraction(3, 2))
    upright = greys(source)[0]
    assert upright.shape == (180, 480)
    found = cropped_to(source, tmp_path, (240, 0, 240, 180))
    assert np.abs(found - upright[:, 240:]).mean() < 3


def stored(path: Path, pictures: list[Rgb], pixels: str, codec: str = "ffv1") -> Path:
    """A file of any size and pixel format."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p", "bgr0", "yuva420p", "yuvj420p"])
def test_odd_sizes_and_other_formats_become_what_every_player_shows(
    tmp_path: Path, pixels: str
) -> None:
    codec = "mjpeg" if pixels == "yuvj420p" else "ffv1"
    source = stored(tmp_path / "a.mkv", [p[:91, :161] for p in panning(1, 4)], pixels, codec)
    (clip,) = ranges(source, [(1, 3)])
    (path,) = whole(write_clips(source, [clip], tmp_path, FAST))
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
    found, expected = greys(path), greys(source)[1:3, :90, :160]
    assert found.shape == (2, 90, 160)
    assert np.abs(found - expected).mean() < 2


def test_colours_stay_when_the_size_changes(tmp_path: Path) -> None:
    # Unmarked, 720 rows are read as BT.709 and 360 as BT.601.
    picture = still(4, 1280, 720)
    source = write_video(tmp_path / "a.mp4", [picture] * 2)
    config = ClipConfig(preset="ultrafast", crf=8, height=360)
    (path,) = whole(write_clips(source, ranges(source, [(0, 2)]), tmp_path, config))
    with open_video(source, 1) as before, open_video(path, 1) as after:
        old = next(before.frames()).picture().rgb.astype(np.int16)
        new = next(after.frames()).picture().rgb.astype(np.int16)
    assert new.shape == (360, 640, 3)
    assert np.abs(old.reshape(-1, 3).mean(0) - new.reshape(-1, 3).mean(0)).max() < 1.5
    assert np.abs(old - new).mean() < 4


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", panning(1, 2))
    config = ClipConfig(preset="ultrafast", height=720)
    (written,) = write_clips(source, ranges(source, [(0, 2)]), tmp_path, config)
    assert written.error is None
    assert (written.width, written.height) == (320, 180)


def with_sound(path: Path, silent: float, seconds: float) -> Path:
    """A pan, with a tone after some seconds of silence."""
    at = np.arange(round(seconds * 44_100)) / 44_100
    tone = np.where(at < silent, 0, 0.5 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = container.add_stream("aac", rate=44_100, layout="stereo")
        for picture in panning(1, round(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
        sound.sample_rate, sound.pts = 44_100, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def samples(path: Path) -> tuple[NDArray[np.float32], int]:
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        parts = [f.to_ndarray()[0] for f in container.decode(audio=0) if (f.pts or 0) >= 0]
    return np.concatenate(parts).astype(np.float32), rate


def test_sound_is_cut_with_the_picture(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "a.mp4", silent=1.6, seconds=3)
    (clip,) = ranges(source, [(25, 65)])
    config = ClipConfig(preset="ultrafast", audio=True)
    (written,) = write_clips(source, [clip], tmp_path / "out", config)
    assert written.warning is None
    found, rate = samples(whole([written])[0])
    assert len(found) / rate == pytest.approx(1.6, abs=1024 / rate)
    loud = np.flatnonzero(np.abs(found) > 0.2)
    assert loud[0] / rate == pytest.approx(0.6, abs=0.01)
    assert loud[-1] / rate == pytest.approx(1.6, abs=0.01)
    assert nearest(written.path, source) == list(range(25, 65))


def test_sound_is_left_out_unless_it_is_asked_for_and_there(tmp_path: Path) -> None:
    loud = with_sound(tmp_path / "loud.mp4", silent=0.5, seconds=1)
    mute = write_video(tmp_path / "mute.mp4", panning(1))
    asked = ClipConfig(preset="ultrafast", audio=True)
    for source, config in ((loud, FAST), (mute, asked)):
        (path,) = whole(write_clips(source, ranges(source, [(0, 25)]), tmp_path / "out", config))
        with av.open(str(path)) as container:
            assert not container.streams.audio


def test_sound_that_ends_early_goes_on_as_silence_and_says_so(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "a.mp4", silent=0.0, seconds=1)
    with av.open(str(source)) as old, av.open(str(tmp_path / "b.mkv"), "w") as new:
        streams = [new.add_stream_from_template(stream) for stream in old.streams]
        for packet in old.demux():
            sound = packet.stream.type == "audio"
            if packet.dts is None or (sound and packet.dts * packet.time_base > 0.5):
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    (clip,) = ranges(tmp_path / "b.mkv", [(0, 25)])
    config = ClipConfig(preset="ultrafast", audio=True)
    (written,) = write_clips(tmp_path / "b.mkv", [clip], tmp_path / "out", config)
    found, rate = samples(whole([written])[0])
    assert len(found) / rate == pytest.approx(1.0, abs=1024 / rate)
    assert "of the sound is missing" in str(written.warning)
    assert np.abs(found[: rate // 4]).max() > 0.3
    assert np.abs(found[int(0.7 * rate) :]).max() < 0.01


@pytest.mark.parametrize(
    "bad",
    [
        {"crf": 52},
        {"preset": "fastest"},
        {"fps": 0.0},
        {"height": 361},
        {"audio_bitrate": 1},
        {"threads": 0},
    ],
)
def test_a_configuration_that_makes_no_sense_raises(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ClipConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../a", "", "a/b", "a.mp4", "a" * 101])
def test_an_identity_that_is_no_file_name_raises(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        ClipRange(name, 0, 1, Fraction(1, 25), 0, 1)
    assert clip_path(Path("out"), "0af3") == Path("out/0af3.mp4")


@pytest.mark.parametrize("crop", [(1, 0, 10, 10), (0, 0, 0, 10), (-2, 0, 10, 10)])
def test_a_crop_that_is_not_even_raises(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="crop"):
        ClipRange("a", 0, 1, Fraction(1, 25), 0, 1, crop)
