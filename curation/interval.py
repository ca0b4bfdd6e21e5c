"""Wilson's score interval of a share."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


def wilson(share: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a share (0 to 1) of trials (Wilson 1927); (0, 1) without any."""
    if trials <= 0:
        return 0.0, 1.0
    weight = Z95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(max(0.0, share * (1 - share)) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)
