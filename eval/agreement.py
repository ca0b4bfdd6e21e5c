"""How far two raters, or a judge and people, agree beyond chance: Cohen's kappa (Cohen 1960)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

from curation.interval import Z95
from eval.camera_text import read_camera
from eval.testset import FREE, SHOT_LABELS, Line, answers


@dataclass(frozen=True)
class Agreement:
    """Of `n` things that both rated: the share rated alike, the share that chance would give, and
    kappa with its 95 % interval. nan where there is nothing, or where chance alone gives 1."""

    n: int
    observed: float
    chance: float
    kappa: float
    interval: tuple[float, float]

    @property
    def in_words(self) -> str:
        """One phrase."""
        if self.n == 0:
            return "nothing was rated by both"
        if math.isnan(self.kappa):
            return f"{self.observed:.2f} alike of {self.n}; kappa is not defined: one answer only"
        low, high = self.interval
        return (
            f"kappa {self.kappa:.2f} ({low:.2f} to {high:.2f}), {self.observed:.2f} alike "
            f"of {self.n}"
        )


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> Agreement:
    """Agreement of two ratings of the same things, in the same order.

    The interval is the large-sample one (Fleiss, Cohen and Everitt 1969). Raises ValueError when
    the lengths differ.
    """
    pairs = Counter(zip(first, second, strict=True))
    n = pairs.total()
    if n == 0:
        return Agreement(0, math.nan, math.nan, math.nan, (math.nan, math.nan))
    rows, columns = Counter(first), Counter(second)
    names = sorted({*rows, *columns}, key=repr)
    observed = sum(pairs[name, name] for name in names) / n
    chance = sum(rows[name] * columns[name] for name in names) / n**2
    if chance >= 1:
        return Agreement(n, observed, chance, math.nan, (math.nan, math.nan))
    kappa = (observed - chance) / (1 - chance)
    # Both marginals of a cell, as shares.
    on = sum(
        pairs[name, name]
        / n
        * ((1 - chance) - (rows[name] + columns[name]) / n * (1 - observed)) ** 2
        for name in names
    )
    off = (1 - observed) ** 2 * sum(
        count / n * ((columns[a] + rows[b]) / n) ** 2 for (a, b), count in pairs.items() if a != b
    )
    variance = on + off - (observed * chance - 2 * chance + observed) ** 2
    half = Z95 * math.sqrt(max(0.0, variance) / n) / (1 - chance) ** 2
    return Agreement(n, observed, chance, kappa, (max(-1.0, kappa - half), min(1.0, kappa + half)))


def between_raters(lines: Sequence[Line]) -> dict[str, Agreement]:
    """Kappa of the shot fields over all pairs of raters who answered for one clip, by field.

    A rater's several right answers count as one answer of their own; the first two raters of a
    pair are told apart by name, so that more raters than two are pooled.
    """
    by_clip: dict[str, list[Line]] = {}
    for line in lines:
        by_clip.setdefault(line.clip.clip_id, []).append(line)
    pooled: dict[str, Agreement] = {}
    for field in SHOT_LABELS:
        both = [
            (_meaning(field, one), _meaning(field, other))
            for group in by_clip.values()
            for one, other in combinations(sorted(group, key=lambda g: g.clip.rater or ""), 2)
            if answers(getattr(one.clip.labels, field))
            and answers(getattr(other.clip.labels, field))
        ]
        if both and field not in FREE:
            pooled[field] = cohen_kappa([a for a, _ in both], [b for _, b in both])
    return pooled


def _meaning(field: str, line: Line) -> tuple[str, ...]:
    given = answers(getattr(line.clip.labels, field))
    if field != "camera_motion":
        return tuple(sorted(given))
    moves = (read_camera(one) for one in given)
    return tuple(sorted(move.name for move in moves if move))
