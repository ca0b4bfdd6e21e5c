from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from eval.synth import still
from eval.synth_set import Score, app, crop_of, render, score, shots, textures_of
from eval.testset import Clip


def lines(folder: Path) -> list[Clip]:
    return [Clip.model_validate_json(line) for line in (folder / "set.jsonl").open()]


def test_a_set_is_the_same_however_many_processes_render_it(tmp_path: Path) -> None:
    for workers in (1, 2):
        render(tmp_path / str(workers), (), 3, 5, workers)
    one, two = tmp_path / "1", tmp_path / "2"
    assert lines(one) == lines(two)
    assert [clip.concept for clip in lines(one)] == [
        f"truck:truck_right:{speed}" for speed in ("slow", "medium", "fast")
    ]
    for clip in lines(one):
        assert (one / clip.path).read_bytes() == (two / clip.path).read_bytes()
        assert clip.labels.camera_motion == "truck_right"
    scores = score(one, 2)
    assert [result.true for result in scores] == [("truck_right",)] * 3
    assert all(not result.said or result.right_on("truck") for result in scores)
    assert any(result.exact for result in scores)


def test_scenes_are_made_of_the_pictures_of_a_folder(tmp_path: Path) -> None:
    red = np.zeros((300, 400, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "a.png"), red)
    cv2.imwrite(str(tmp_path / "small.png"), red[:100])
    (tmp_path / "notes.txt").write_text("no picture")
    textures = textures_of(tmp_path)
    assert [picture.shape for picture in textures] == [(300, 400, 3)]
    frame = next(next(shots(1, textures)).render())
    assert frame[..., 0].mean() > 150
    assert frame[..., 1:].max() < 30


@pytest.mark.parametrize("size", [(640, 360), (270, 480), (320, 320)])
def test_a_part_of_a_texture_has_the_size_asked_for(size: tuple[int, int]) -> None:
    textures = (still(1, 500, 300), still(2, 300, 500))
    parts = [crop_of(textures, seed, *size) for seed in range(4)]
    assert {part.shape for part in parts} == {(size[1], size[0], 3)}
    assert np.array_equal(parts[0], crop_of(textures, 0, *size))
    assert not np.array_equal(parts[0], parts[1])


def test_an_axis_is_right_where_its_sign_is() -> None:
    shot = Score("", ("pan_left", "handheld"), ("pan_left", "tilt_up"))
    assert shot.exact
    assert shot.right_on("pan")
    assert not shot.right_on("tilt")
    assert not Score("", ("push_in",), ()).exact


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments in (
        ["score", str(tmp_path)],
        ["render", str(tmp_path / "out"), "--from", str(tmp_path)],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert len(result.output.strip().splitlines()) == 1
