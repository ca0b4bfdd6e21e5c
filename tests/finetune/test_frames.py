"""Training sees the frames that inference sees, each source decoded once."""

from pathlib import Path

import numpy as np
import pytest

from captioner.handover import pack, unpack
from captioner.policies import POLICIES
from captioner.schema import ShotCaption
from curation.scan import scan
from finetune.frames import prepare
from finetune.targets import Target
from tests.clips import two_shots


def target(number: int, video: str, start: float | None = None, end: float | None = None) -> Target:
    given = {
        "clip_id": f"clip{number}",
        "video": video,
        "start": start,
        "end": end,
        "sha256": None,
        "source": video,
        "concept": None,
        "caption": ShotCaption(),
        "sources": {},
        "split": "train",
    }
    return Target.model_validate(given)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_frames_of_a_shot_are_those_that_the_scan_hands_to_the_engine(
    policy: str, tmp_path: Path
) -> None:
    video = two_shots(tmp_path / "two.mp4")
    shots = list(scan(video))
    assert len(shots) == 2
    targets = [target(i, video.name, shot.start, shot.end) for i, shot in enumerate(shots)]

    clips = prepare(targets, tmp_path, tmp_path / "frames", policy)

    for one, shot in zip(targets, shots):
        inference = unpack(pack(POLICIES[policy](shot.batch)))
        training = clips.video(one.clip_id)
        assert np.array_equal(training.frames, inference.frames)
        assert training.times == inference.times
        assert training.indices == inference.indices
        assert training.total_frames == inference.total_frames
        assert training.second_per_grid_ts == pytest.approx(inference.second_per_grid_ts)


def test_a_bad_clip_has_its_reason_and_costs_no_other(tmp_path: Path) -> None:
    two_shots(tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 99)
    targets = [
        target(0, "good.mp4"),
        target(1, "bad.mp4"),
        target(2, "missing.mp4"),
        target(3, "good.mp4", 70.0, 80.0),
    ]

    clips = prepare(targets, tmp_path, tmp_path / "frames", "native")

    assert set(clips.places) == {"clip0"}
    assert set(clips.unreadable) == {"clip1", "clip2", "clip3"}
    assert "no frame from 70.0 to 80.0 s" in clips.unreadable["clip3"]


def test_nothing_is_decoded_twice(tmp_path: Path) -> None:
    video = two_shots(tmp_path / "two.mp4")
    targets = [target(0, video.name)]
    first = prepare(targets, tmp_path, tmp_path / "frames", "native").video("clip0")
    video.unlink()

    again = prepare(targets, tmp_path, tmp_path / "frames", "native").video("clip0")

    assert np.array_equal(first.frames, again.frames)
