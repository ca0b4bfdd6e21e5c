from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from captioner import decode
from captioner.decode import open_video, read_clip
from captioner.decode_pyav import open_pyav
from captioner.video import UnreadableVideoError, Video
from eval.synth import still, write_video
from tests import clips


def colours(size: int = 64) -> np.ndarray:
    """Four quarters: red, green, blue, grey."""
    frame = np.full((size, size, 3), 120, np.uint8)
    half = size // 2
    frame[:half, :half] = (200, 30, 30)
    frame[:half, half:] = (30, 200, 30)
    frame[half:, :half] = (30, 30, 200)
    return frame


@pytest.mark.parametrize("decoder", ["pyav", "decord", "opencv"])
def test_each_decoder_reads_the_same_pictures(
    decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", [colours()] * 12, 25.0)
    only = {decoder: decode._DECODERS[decoder]}
    monkeypatch.setattr(decode, "_DECODERS", only)
    with open_video(path) as video:
        frames = list(video.frames())
        assert video.info.decoder == decoder
        assert video.info.fps == pytest.approx(25.0)
        assert [f.index for f in frames] == list(range(12))
        picture = frames[5].picture()
        assert picture.time == pytest.approx(0.2, abs=1e-3)
        for y, x in [(16, 16), (16, 48), (48, 16), (48, 48)]:
            assert np.abs(picture.rgb[y, x].astype(int) - colours()[y, x]).max() < 14
        bgr = frames[5].thumbnail(32, 32)
        assert bgr[8, 8].argmax() == 2
        assert bgr[24, 8].argmax() == 0


def test_the_next_decoder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, threads: int) -> Video:
        raise UnreadableVideoError("not today")

    monkeypatch.setitem(decode._DECODERS, "pyav", broken)
    with open_video(write_video(tmp_path / "a.mp4", [still(0)] * 3)) as video:
        assert video.info.decoder == "decord"


def test_variable_frame_rate_and_a_late_start_keep_their_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.4, 1.0]
    path = write_video(tmp_path / "a.mkv", [still(i) for i in range(5)], times=times, start=5.0)
    with open_video(path) as video:
        seen = [float(f.pts * video.info.time_base) for f in video.frames()]
    assert seen == pytest.approx([5.0 + t for t in times], abs=2e-3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_undone(degrees: int, tmp_path: Path) -> None:
    with open_video(clips.rotated(tmp_path / "a.mp4", degrees)) as video:
        picture = next(video.frames()).picture()
        assert (video.info.width, video.info.height) == (picture.width, picture.height)
    red = picture.rgb[..., 0] > 128
    height, width = red.shape
    assert (width, height) == ((160, 120) if degrees in (0, 180) else (120, 160))
    halves = {
        0: red[:, : width // 2],
        90: red[: height // 2],
        180: red[:, width // 2 :],
        270: red[height // 2 :],
    }
    assert halves[degrees].mean() > 0.95
    assert red.mean() == pytest.approx(0.5, abs=0.05)


def test_pixels_become_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [still(0, 160, 120)] * 3, aspect=Fraction(2, 1))
    with open_video(path) as video:
        assert (video.info.width, video.info.height) == (320, 120)
        assert next(video.frames()).picture().y.shape == (120, 320)


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "libsvtav1", "mpeg4"])
def test_codecs(codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [colours(128)] * 5, codec=codec)
    batch = read_clip(path)
    assert len(batch) == 5
    assert np.abs(batch.frames[2, 32, 32].astype(int) - colours()[16, 16]).max() < 14


def test_damage_is_told_and_survived(tmp_path: Path) -> None:
    with open_video(clips.bit_flipped(tmp_path / "a.mp4")) as video:
        assert sum(1 for _ in video.frames()) > 30
    with open_video(clips.truncated(tmp_path / "b.mkv")) as video:
        assert 20 < sum(1 for _ in video.frames()) < 90


def test_a_pixel(tmp_path: Path) -> None:
    assert read_clip(clips.one_pixel(tmp_path / "a.mkv")).frames.shape == (5, 1, 1, 3)


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    secret = write_video(folder / "secret.mp4", [still(0)] * 3)
    cut = write_video(folder / "cut.mp4", [still(0)] * 30)
    texts = {
        "playlist": f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "dash": f"<?xml version='1.0'?><MPD><BaseURL>{secret}</BaseURL></MPD>",
    }
    files = {name: (folder / f"{name}.mp4", "text, not a video") for name in texts}
    for name, text in texts.items():
        files[name][0].write_text(text)
    cut.write_bytes(cut.read_bytes()[:2000])
    noise = folder / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.mp4").touch()
    (folder / "lfs.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    audio = clips.audio_only(folder / "audio.mp4")
    return files | {
        "cut": (cut, "cut short"),
        "noise": (noise, "not a video"),
        "empty": (folder / "empty.mp4", "empty"),
        "lfs": (folder / "lfs.mp4", "git lfs pull"),
        "audio": (audio, "no video stream"),
        "folder": (folder, "not a regular file"),
        "nothing": (folder / "nothing.mp4", "no such file"),
    }


def test_what_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    for name, (path, words) in broken_files(tmp_path).items():
        with pytest.raises(UnreadableVideoError, match=words):
            open_video(path)
        assert name


def test_playlists_are_refused_by_the_demuxer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the first bytes look harmless, the list of formats holds."""
    monkeypatch.setattr(decode, "is_text", lambda header: False)
    for name in ("playlist", "concat", "dash"):
        path, _ = broken_files(tmp_path)[name]
        with pytest.raises(UnreadableVideoError):
            open_video(path)


def test_huge_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [still(0)] * 2)
    monkeypatch.setattr("captioner.video.MAX_PIXELS", 640 * 360 - 1)
    with pytest.raises(UnreadableVideoError, match="over the limit"):
        open_video(path)


def test_endless_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [still(0)] * 10)
    monkeypatch.setattr("captioner.video.MAX_SOURCE_FRAMES", 4)
    with open_video(path) as video:
        assert sum(1 for _ in video.frames()) == 4
        assert "limit" in video.warnings[0]


@pytest.mark.parametrize("name", ["-dash.mp4", "new\nline.mp4", "concat:a|b.mp4", "ünï 码.mp4"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [still(0)] * 3)
    assert len(read_clip(path.rename(tmp_path / name))) == 3


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [still(0)] * 3)
    assert (
        len(read_clip(path.rename(tmp_path / b"\xff\xfe.mp4".decode("utf-8", "surrogateescape"))))
        == 3
    )


@pytest.mark.parametrize(
    "pixels", ["gray", "gray10le", "yuv420p10le", "yuv444p", "bgr0", "yuva420p"]
)
def test_pixel_formats(pixels: str, tmp_path: Path) -> None:
    """Whatever the planes are, thumbnails and pictures show the same brightness."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        frame = av.VideoFrame.from_ndarray(colours(), format="rgb24").reformat(format=pixels)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_video(path) as video:
        decoded = next(video.frames())
        rgb, bgr = decoded.picture().rgb, decoded.thumbnail(32, 32)
    grey = colours().mean(axis=2) if "gray" not in pixels else None
    for y, x in [(16, 16), (16, 48), (48, 16), (48, 48)]:
        assert np.abs(rgb[y, x].astype(int) - bgr[y // 2, x // 2, ::-1]).max() < 30
        if grey is None:
            assert np.ptp(rgb[y, x].astype(int)) <= 2
            assert rgb[y, x].mean() > 30
        else:
            assert np.abs(rgb[y, x].astype(int) - colours()[y, x]).max() < 12


@pytest.mark.parametrize(("width", "height"), [(640, 360), (1920, 1080)])
def test_only_pictures_that_are_halved_go_without_the_loop_filter(
    width: int, height: int, tmp_path: Path
) -> None:
    place = still(3, width + 60, height)
    pan = [place[:, 3 * i : 3 * i + width] for i in range(20)]
    path = write_video(tmp_path / "a.mp4", pan, crf=23)
    errors = []
    with open_pyav(path, 1) as quick, open_pyav(path, 1, exact=True) as exact:
        for a, b in zip(quick.frames(), exact.frames(), strict=True):
            errors.append(np.square(a.picture().y.astype(float) - b.picture().y).mean())
    if width < 1280:
        assert max(errors) == 0
    else:
        assert max(errors) > 0, "the loop filter was run on every frame"
        assert 10 * np.log10(255**2 / max(errors)) > 40, "one sees the difference"
