"""Near-duplicates within and across sources: which clips go because a better one stays.

Embeddings propose pairs, perceptual hash sequences confirm the copies among them, and connected
clips form clusters. Of each cluster the clip of best quality stays. No frame is looked at: what is
needed are the columns of `curation.measure.embedding`, a quality and the seconds.
The result depends on the set of clips alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from usearch.index import BatchMatches, Index

_NOTHING = 255

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

EXACT = 100_000**2
"""Comparisons of embeddings up to which all are made: half a minute on two cores. Above, the
approximate index (HNSW, Malkov and Yashunin 2016) is faster."""

CONNECTIVITY, EXPANSION = 16, 128
"""Edges a node, and candidates a step on building and searching the index: usearch's defaults, but
for 64 on searching."""

PROBES = 4
"""Pictures of a clip that are compared before all are."""

BLOCK = 1024
"""Clips or pairs worked on at a time, to bound memory."""


@dataclass(frozen=True)
class DedupeConfig:
    """What counts as a duplicate.

    `mode`: "copies" (the same footage: re-encoded, scaled, cropped, subtitled, recoloured, shifted
    in time) or "likeness" (also clips whose embeddings have at least `likeness_cosine`).
    `candidate_cosine`: pairs of embeddings with less are not compared by their hashes.
    `neighbours`: pairs compared a clip at most, the most alike first.
    `max_distance`: bits of 64 that the hashes of two copies differ by at most, averaged over time.
    `min_agreement`: how alike the two change over time at least, from 0 (by chance) to 1.
    `still_distance`: like `max_distance`, where nothing moves in one of the two.
    `min_overlap`: share of the shorter clip that both must show, 0 to 1.
    `embedding`: "own", the one that is measured, or "model", that of the preset's `models`; the
    defaults of the cosines are for the measured one.

    The defaults were chosen on copies of the shots of 41 real files (eval.dedupe, seeds 0 and 1).
    There copies differ by 1 bit (median) to 16 and agree by 0.82 (median), 0.48 for the lowest
    twentieth. Parts of one take with a still camera differ by 3 bits and more and agree by 0.47 for
    the highest hundredth, all by less than 0.6. Different scenes differ by 17 bits and more but for
    1 in 1000. Embeddings of different scenes have a cosine of 0.73 at most, parts of one take
    0.97 for the highest hundredth: likeness takes nearly the same picture alone.
    """

    mode: Literal["copies", "likeness"] = "copies"
    candidate_cosine: float = 0.5
    neighbours: int = 32
    max_distance: float = 16.0
    min_agreement: float = 0.6
    still_distance: float = 13.0
    min_overlap: float = 0.5
    likeness_cosine: float = 0.97
    embedding: Literal["own", "model"] = "own"

    def __post_init__(self) -> None:
        if self.mode not in ("copies", "likeness"):
            raise ValueError(f"mode {self.mode!r} is neither copies nor likeness")
        if self.embedding not in ("own", "model"):
            raise ValueError(f"embedding {self.embedding!r} is neither own nor model")
        for name in ("candidate_cosine", "min_agreement", "min_overlap", "likeness_cosine"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is over 0 and at most 1, not {getattr(self, name)}")
        if self.neighbours < 1:
            raise ValueError(f"neighbours is at least 1, not {self.neighbours}")
        for name in ("max_distance", "still_distance"):
            if not 0 <= getattr(self, name) < 32:
                raise ValueError(f"{name} is 0 to 32 bits of 64, not {getattr(self, name)}")


@dataclass(frozen=True)
class Track:
    """The hashes of one clip over time: `hashes` (n, 2, V) and `times` (n,) as in `Clips`."""

    hashes: NDArray[np.uint64]
    times: NDArray[np.float64]
    seconds: float

    @property
    def still(self) -> bool:
        """Whether nothing moves."""
        return not self.hashes[:, 1].any()

    @property
    def spacing(self) -> float:
        """Seconds between two pictures."""
        return float(self.times[-1] - self.times[0]) / max(1, len(self.times) - 1)


@dataclass(frozen=True)
class Clips:
    """N clips, as columns.

    `ids` are unique; `embeddings` (N, D) are float16 or float32; `hashes` holds for each clip
    (n, 2, V) uint64: of n pictures the hashes of V views, the whole one first, and those of their
    changes (0 where flat or still), and `times` their (n,) seconds from its start; `quality` (N,),
    higher is better; `seconds` (N,).
    """

    ids: Sequence[str]
    embeddings: NDArray[np.floating]
    hashes: Sequence[NDArray[np.uint64]]
    times: Sequence[NDArray[np.float64]]
    quality: NDArray[np.floating]
    seconds: NDArray[np.floating]

    def __post_init__(self) -> None:
        columns = (self.embeddings, self.hashes, self.times, self.quality, self.seconds)
        if any(len(one) != len(self.ids) for one in columns):
            raise ValueError(f"columns of {[len(one) for one in columns]} for {len(self)} clips")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("two clips have one id")
        if self.embeddings.ndim != 2:
            raise ValueError(f"embeddings are (N, D), not {self.embeddings.shape}")
        if any(len(h) != len(t) for h, t in zip(self.hashes, self.times)):
            raise ValueError("every hashed picture has its time")

    def __len__(self) -> int:
        return len(self.ids)

    def track(self, place: int) -> Track:
        """The hashes of one clip."""
        return Track(self.hashes[place], self.times[place], float(self.seconds[place]))

    def take(self, order: Ints) -> Clips:
        """The clips at these places."""
        return Clips(
            [self.ids[i] for i in order],
            self.embeddings[order],
            [self.hashes[i] for i in order],
            [self.times[i] for i in order],
            self.quality[order],
            self.seconds[order],
        )


@dataclass(frozen=True)
class Pair:
    """Two clips found to be duplicates. `cosine` of their embeddings; `distance` in bits of 64,
    None where the hashes do not confirm a copy and the likeness alone counts."""

    first: str
    second: str
    cosine: float
    distance: float | None


@dataclass(frozen=True)
class Duplicates:
    """`duplicate_of` leads from each new clip that goes to the clip that stays in its place;
    `pairs` is what was found, in order of the ids."""

    duplicate_of: dict[str, str]
    pairs: tuple[Pair, ...]


def dedupe(
    new: Clips, existing: Clips | None = None, config: DedupeConfig | None = None
) -> Duplicates:
    """The duplicates among new clips, and those of clips that are in a dataset already.

    Clips of `existing` all stay, and a new clip never takes the place of one. Equal quality is
    decided by the smaller id. Raises ValueError when an id is in both.
    """
    config = config or DedupeConfig()
    clips = _in_order(new) if existing is None else _joined(_in_order(existing), _in_order(new))
    staying = len(clips) - len(new)
    pairs, cosines = _candidates(_unit(clips.embeddings), staying, config)
    distances = _distances(clips, pairs, config)
    found = distances < np.inf
    if config.mode == "likeness":
        found |= cosines >= config.likeness_cosine
    pairs, cosines, distances = pairs[found], cosines[found], distances[found]
    kept = _kept(clips, staying, pairs)
    going = [i for i in range(staying, len(clips)) if kept[i] != i]
    return Duplicates(
        {clips.ids[i]: clips.ids[kept[i]] for i in going},
        tuple(
            Pair(clips.ids[i], clips.ids[j], float(cosine), float(bits) if bits < np.inf else None)
            for (i, j), cosine, bits in zip(pairs, cosines, distances)
        ),
    )


def _in_order(clips: Clips) -> Clips:
    return clips.take(np.array(sorted(range(len(clips)), key=clips.ids.__getitem__), np.int64))


def _joined(first: Clips, second: Clips) -> Clips:
    return Clips(
        [*first.ids, *second.ids],
        np.concatenate([_unit(first.embeddings), _unit(second.embeddings)]),
        [*first.hashes, *second.hashes],
        [*first.times, *second.times],
        np.concatenate([first.quality, second.quality]),
        np.concatenate([first.seconds, second.seconds]),
    )


def _unit(embeddings: NDArray[np.floating]) -> Floats:
    """The same as float32 of unit length: rounding to float16 took a little off."""
    full = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(full, axis=1, keepdims=True)
    return np.asarray(full / np.maximum(lengths, 1e-6), np.float32)


def _candidates(embeddings: Floats, staying: int, config: DedupeConfig) -> tuple[Ints, Floats]:
    """(P, 2) places of pairs that are alike enough, each once, and their (P,) cosines.

    The first `staying` clips are not compared with each other.
    """
    count = len(embeddings)
    exact = (count - staying) * count <= EXACT
    search = _exact(embeddings, staying, config) if exact else _near(embeddings, staying, config)
    found = [(np.minimum(i, j) * count + np.maximum(i, j), cosines) for i, j, cosines in search]
    if not found:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    keys, at = np.unique(np.concatenate([keys for keys, _ in found]), return_index=True)
    cosines = np.concatenate([cosines for _, cosines in found])[at]
    return np.stack([keys // count, keys % count], axis=1), cosines


Found = Iterator[tuple[Ints, Ints, Floats]]
"""Places of the one clip and of the other, and the cosines."""


def _exact(embeddings: Floats, staying: int, config: DedupeConfig) -> Found:
    """Each clip with those before it."""
    for start in range(staying, len(embeddings), BLOCK):
        end = min(start + BLOCK, len(embeddings))
        cosines = embeddings[start:end] @ embeddings[:end].T
        # Of two clips in one block the later is compared with the earlier, none with itself.
        cosines[:, start:][np.triu_indices(end - start)] = -1.0
        i, j = np.nonzero(cosines >= config.candidate_cosine)
        found = cosines[i, j]
        kept = _most_alike(i, found, config.neighbours)
        yield i[kept] + start, j[kept], found[kept]


def _most_alike(rows: Ints, cosines: Floats, most: int) -> Ints:
    """Places of the `most` highest cosines of each row; `rows` is in order."""
    kept = []
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows)) + 1):
        if len(places) > most:
            places = places[np.argpartition(-cosines[places], most - 1)[:most]]
        kept.append(places)
    return np.concatenate(kept)


def _near(embeddings: Floats, staying: int, config: DedupeConfig) -> Found:
    """Each clip with its nearest ones, nearly all of them found."""
    index = Index(
        ndim=embeddings.shape[1],
        metric="cos",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION,
        expansion_search=EXPANSION,
    )
    # The index depends on the order in which it is filled: with one thread that is always the same.
    index.add(np.arange(len(embeddings)), embeddings, threads=1)
    for start in range(staying, len(embeddings), BLOCK):
        block = embeddings[start : start + BLOCK]
        # Each clip finds itself.
        matches = cast(BatchMatches, index.search(block, config.neighbours + 1))
        j = np.asarray(matches.keys, np.int64)
        i = np.broadcast_to(np.arange(start, start + len(block))[:, None], j.shape)
        cosines = 1 - np.asarray(matches.distances, np.float32)
        found = np.arange(j.shape[1]) < np.asarray(matches.counts)[:, None]
        alike = found & (cosines >= config.candidate_cosine) & (i != j)
        yield i[alike], j[alike], cosines[alike]


def _distances(clips: Clips, pairs: Ints, config: DedupeConfig) -> Floats:
    """(P,) bits of 64 that the hashes of each pair differ by, infinite where they are no copies."""
    distances = np.full(len(pairs), np.inf, np.float32)
    if not len(pairs):
        return distances
    stacked = _stacked([one[:, 0] for one in clips.hashes])
    lengths = np.array([len(one) for one in clips.hashes])
    probes_at = ((np.arange(PROBES) + 0.5) / PROBES * lengths[:, None]).astype(np.int64)
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        # Most pairs are told apart by a few pictures of the one clip.
        probes = stacked[block[:, 0, None], probes_at[block[:, 0]]]
        others = stacked[block[:, 1]]
        nearest = _apart(probes, others).min(axis=(1, 2, 3), initial=_NOTHING)
        for at in np.flatnonzero(nearest <= max(config.max_distance, config.still_distance)):
            i, j = block[at]
            distances[start + at] = copy_distance(clips.track(i), clips.track(j), config)
    return distances


def copy_distance(first: Track, second: Track, config: DedupeConfig) -> float:
    """Mean bits of 64 by which the hashes of two clips differ, at the shift in time and with the
    views that bring them together; infinite where they are no copies by the configuration.

    Copies look alike and change alike. Two parts of one take look alike too, but change otherwise.
    """
    if not len(first.times) or not len(second.times):
        return float("inf")
    near, together = _alignments(first, second, config.min_overlap)
    bits, changes = (
        _apart(first.hashes[None, :, kind], second.hashes[None, :, kind])[0][
            :, np.arange(len(first.times)), near
        ]
        for kind in (0, 1)
    )
    seen = together & (bits < _NOTHING)
    distances = _mean(bits, seen)
    if first.still or second.still:
        likely = distances <= config.still_distance
    else:
        agreement = 1 - _mean(changes, seen & (changes < _NOTHING)) / 32
        likely = (distances <= config.max_distance) & (agreement >= config.min_agreement)
    return float(distances[likely].min(initial=np.inf))


def _alignments(first: Track, second: Track, min_overlap: float) -> tuple[Ints, NDArray[np.bool_]]:
    """For each of S shifts in time and each of n pictures of the first clip, (S, n): which picture
    of the second is nearest, and whether it is near enough to show the same moment."""
    shifts = np.unique(
        np.concatenate([first.times - second.times[0], first.times[0] - second.times])
    )
    ends = np.minimum(first.seconds, shifts + second.seconds)
    shared = ends - np.maximum(0.0, shifts)
    least = min_overlap * min(first.seconds, second.seconds)
    shifts = shifts[shared >= least - 1e-6]
    gaps = np.abs(first.times[:, None] - second.times - shifts[:, None, None])
    reach = max(first.spacing, second.spacing) / 2
    return gaps.argmin(axis=2), gaps.min(axis=2) <= reach + 1e-6


def _mean(bits: NDArray[np.uint8], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean over the last axis of what is usable, infinite where nothing is."""
    total = np.where(usable, bits, 0).sum(axis=-1, dtype=np.float64)
    count = usable.sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.inf))


def _apart(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(P, 2 V - 1, n, m) bits between the hashes of (P, n, V) and (P, m, V): the whole picture of
    the first clip with every view of the second, then the other way round."""
    first, second = first.swapaxes(1, 2)[..., None], second.swapaxes(1, 2)[:, :, None]
    return np.concatenate([_bits(first[:, :1], second), _bits(first[:, 1:], second[:, :1])], axis=1)


def _bits(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits that differ, 0 to 64, and `_NOTHING` where a hash is 0."""
    bits = np.asarray(np.bitwise_count(first ^ second), np.uint8)
    bits[(first == 0) | (second == 0)] = _NOTHING
    return bits


def _stacked(hashes: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """(P, n, V) of P times (n or fewer, V), 0 after the last."""
    length = max(1, *(len(one) for one in hashes))
    stacked = np.zeros((len(hashes), length, hashes[0].shape[1]), np.uint64)
    for row, one in zip(stacked, hashes):
        row[: len(one)] = one
    return stacked


def _kept(clips: Clips, staying: int, pairs: Ints) -> Ints:
    """(N,) for each clip the place of the one that stays in its place, often itself."""
    quality = np.nan_to_num(clips.quality, nan=-np.inf)
    root = np.arange(len(clips))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = int(root[i])
        return i

    for i, j in pairs:
        root[find(int(i))] = find(int(j))
    best: dict[int, int] = {}
    roots = [find(i) for i in range(len(clips))]
    for i in sorted(range(len(clips)), key=lambda i: (i >= staying, -quality[i], clips.ids[i])):
        best.setdefault(roots[i], i)
    kept = np.array([best[one] for one in roots], np.int64)
    kept[:staying] = np.arange(staying)
    return kept
