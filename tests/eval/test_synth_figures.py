"""The tiny clips: the same bytes each time, and the camera moves as the label says."""

from pathlib import Path

import numpy as np

from captioner.decode import read_clip
from captioner.frames import FrameBatch
from eval.synth_figures import FRAMES, HEIGHT, MOVES, SHOT_TYPES, WIDTH, render
from eval.testset import Truth, read_testset, truths

COUNT = len(MOVES) * len(SHOT_TYPES)


def test_labels_tell_what_the_clips_show(tmp_path: Path) -> None:
    found = truths(read_testset(render(tmp_path / "one", COUNT, seed=3, workers=1)))
    again = render(tmp_path / "two", COUNT, seed=3, workers=2)
    assert again.read_bytes() == (tmp_path / "one" / "set.jsonl").read_bytes()
    assert len(found) == COUNT
    labels = {(one.labels.camera_motion, one.labels.shot_type) for one in found}
    assert len(labels) == COUNT  # every move with every shot type

    for truth in found:
        batch = read_clip(truth.file, threads=1)
        assert len(batch.pictures) == FRAMES
        assert batch.pictures[0].y.shape == (HEIGHT, WIDTH)
        _moves_as_labelled(truth, batch)


def _moves_as_labelled(truth: Truth, batch: FrameBatch) -> None:
    """Redder as the camera pans right, bluer as it tilts down: the wall is painted so."""
    first, last = (batch.pictures[i].rgb.astype(float) for i in (0, -1))
    redder, _, bluer = (np.median(last, (0, 1)) - np.median(first, (0, 1))).tolist()
    move = truth.clip.concept
    if move in ("pan_left", "pan_right"):
        assert (redder > 8) == (move == "pan_right"), (move, redder)
        assert abs(redder) > 2 * abs(bluer)
    elif move in ("tilt_up", "tilt_down"):
        assert (bluer > 8) == (move == "tilt_down"), (move, bluer)
        assert abs(bluer) > 2 * abs(redder)
    elif move == "static":
        assert np.abs(last - first).mean() < 4
