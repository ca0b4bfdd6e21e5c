"""Boxes in fractions of the frame, so that they mean the same at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Edges in fractions of the frame, x rightwards and y downwards; may reach outside 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Fraction of the frame's width."""
        return max(0.0, self.right - self.left)

    @property
    def height(self) -> float:
        """Fraction of the frame's height."""
        return max(0.0, self.bottom - self.top)

    @property
    def area(self) -> float:
        """Fraction of the frame's area."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def inside(self) -> bool:
        """Whether it keeps clear of every edge of the frame, by a hundredth."""
        return min(self.left, self.top, 1 - self.right, 1 - self.bottom) >= 0.01

    def clipped(self) -> Box:
        """The part inside the frame."""
        left, top, right, bottom = (
            min(1.0, max(0.0, edge)) for edge in (self.left, self.top, self.right, self.bottom)
        )
        return Box(left, top, right, bottom)

    def common(self, other: Box) -> float:
        """Area of the intersection, a fraction of the frame's area."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        common = self.common(other)
        union = self.area + other.area - common
        return common / union if union > 0 else 0.0

    def holds(self, x: float, y: float) -> bool:
        """Whether the point lies inside."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


def keep_best(boxes: Sequence[Box], scores: Sequence[float], overlap: float) -> list[int]:
    """Non-maximum suppression: indices, best score first, of boxes that overlap no better one."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(boxes[i].overlap(boxes[j]) <= overlap for j in kept):
            kept.append(i)
    return kept
