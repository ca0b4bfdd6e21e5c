import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scenedetect import AdaptiveDetector, FrameTimecode, SceneDetector

from curation.detectors import Adaptive, detector


def _frames(seed: int, cuts: int) -> list[np.ndarray]:
    """Takes of 3 to 20 frames, each of one noisy picture."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(cuts + 1):
        picture = rng.integers(0, 256, (36, 64, 3))
        noise = rng.integers(0, 60)
        for _ in range(rng.integers(3, 21)):
            shaken = picture + rng.integers(-noise, noise + 1, picture.shape)
            frames.append(np.clip(shaken, 0, 255).astype(np.uint8))
    return frames


def _found(detector: SceneDetector, frames: list[np.ndarray]) -> list[int]:
    found = []
    for number, frame in enumerate(frames):
        found += detector.process_frame(FrameTimecode(number, 25.0), frame)
    return [cut.frame_num for cut in found]


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_scores_and_cuts_are_those_of_the_library(seed: int, cuts: int) -> None:
    frames = _frames(seed, cuts)
    ours, library = (kind(1.6, 1, min_content_val=1.5) for kind in (Adaptive, AdaptiveDetector))
    code = FrameTimecode(0, 25.0)
    for frame in frames:
        scores = [kind._calculate_frame_score(code, frame) for kind in (ours, library)]
        assert scores[0] == scores[1]
    ours, library = (kind(1.6, 1, min_content_val=1.5) for kind in (Adaptive, AdaptiveDetector))
    assert _found(ours, frames) == _found(library, frames)


def test_it_is_what_the_default_detector_is_made_of() -> None:
    found = _found(detector("adaptive"), _frames(3, cuts=4))
    assert isinstance(detector("adaptive"), Adaptive)
    assert len(found) >= 4


def test_a_process_that_only_reads_rows_does_not_start_ffmpeg() -> None:
    script = "import sys, curation.pipeline; sys.exit('scenedetect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
