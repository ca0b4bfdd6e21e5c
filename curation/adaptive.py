"""PySceneDetect's adaptive detector, its arithmetic done by OpenCV: the same scores and cuts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, FrameTimecode


class Adaptive(AdaptiveDetector):  # type: ignore[misc]
    """The library takes differences in 32-bit copies of each plane, which at 64 x 36 costs three
    times what all the rest of it does. Without `luma_only`, weights and a statistics file."""

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
