"""PySceneDetect's detectors, as they propose cuts here.

Only the process that scans imports this: importing PySceneDetect takes 0.2 s and starts ffmpeg.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import (
    AdaptiveDetector,
    ContentDetector,
    FrameTimecode,
    HashDetector,
    HistogramDetector,
    SceneDetector,
    ThresholdDetector,
)


def detector(name: str) -> SceneDetector:
    """The detector of that name, of `curation.cuts.DETECTORS`, for one source: the adaptive one
    set so low that it misses no cut of the rendered edits, the others at their own thresholds."""
    match name:
        case "adaptive":
            return Adaptive(1.6, min_scene_len=1, min_content_val=1.5)
        case "content":
            return ContentDetector(min_scene_len=1)
        case "hash":
            return HashDetector(min_scene_len=1)
        case "histogram":
            return HistogramDetector(min_scene_len=1)
        case "threshold":
            return ThresholdDetector(min_scene_len=1)
    raise ValueError(f"there is no detector {name!r}")


class Proposals:
    """What a detector says of the frames of a source, given to it one by one."""

    def __init__(self, name: str, fps: float) -> None:
        self._detector = detector(name)
        self._clock = FrameTimecode(0, fps)
        self._fed = 0

    def push(self, bgr: NDArray[np.uint8]) -> list[int]:
        """The cuts that the next frame, (H, W, 3) uint8 BGR, decides: numbers of the first frame
        of the new shot."""
        code = FrameTimecode(self._fed, self._clock)
        self._fed += 1
        return [cut.frame_num for cut in self._detector.process_frame(code, bgr)]


class Adaptive(AdaptiveDetector):  # type: ignore[misc]
    """The same scores and cuts, the arithmetic done by OpenCV.

    The library takes differences in 32-bit copies of each plane, which at 64 x 36 costs three
    times what all the rest of it does. Without `luma_only`, weights and a statistics file.
    """

    _before: NDArray[np.uint8] | None = None

    def _calculate_frame_score(
        self, timecode: FrameTimecode, frame_img: NDArray[np.uint8]
    ) -> float:
        """Mean difference of hue, saturation and value to the frame before."""
        hsv = np.asarray(cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV), np.uint8)
        before, self._before = self._before, hsv
        if before is None:
            return 0.0
        pixels = hsv.shape[0] * hsv.shape[1]
        hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(hsv, before))
        return float(hue / pixels + saturation / pixels + value / pixels) / 3
