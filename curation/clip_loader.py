"""Batches of a ClipDataset: each of one bucket, each clip once an epoch, over ranks and workers.

The batches of an epoch are planned from seed and epoch, dealt to the ranks in turn, and read by
worker processes ahead of the training loop. Every rank gets the same number of steps, so that none
waits for another for ever: where the batches do not come out even, large ones are halved. A state
counts the batches that the training loop has had, not those that workers have read ahead.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from curation.clip_dataset import ClipDataset, ClipError, Draw, Failure, Sample, torch_or_none

Uneven = Literal["drop", "repeat", "keep"]
"""What becomes of the last batches where halving others does not make them come out even: they are
left out (counted), some of the epoch's first come again (counted), or some ranks have a step more
(for loops without collective operations)."""

_log = logging.getLogger(__name__)


class ResumeError(ValueError):
    """A state that does not belong to this dataset or loader; the message says why."""


class Batch(TypedDict):
    """Clips of one bucket: `video` (B, C, T, H, W), the rest B values in the same order.

    `failures` are clips that failed, and were left out or replaced.
    """

    video: Any
    caption: list[str]
    task: list[str]
    clip_id: list[str]
    fps: list[float]
    failures: list[Failure]


class BucketSampler:
    """Which clips make the batches of an epoch, for one rank; a batch sampler for a DataLoader.

    `batch` is the size of batches where the dataset has no buckets. Raises ValueError.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        batch: int = 1,
        uneven: Uneven = "drop",
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not below a world of {world}")
        if uneven not in ("drop", "repeat", "keep"):
            raise ValueError(f"uneven {uneven!r} is none of drop, repeat, keep")
        if batch < 1:
            raise ValueError(f"a batch has at least one clip, not {batch}")
        self.rank, self.world = rank, world
        self.epoch = 0
        self.counts: Counter[str] = Counter()
        """Clips of the epoch that were left out, or that come twice, to make ranks even."""
        self._seed = dataset.seed
        self._numbers = dataset.bucket_numbers
        self._sizes = {i: bucket.batch for i, bucket in enumerate(dataset.buckets)} or {-1: batch}
        self._shuffle = shuffle
        self._uneven = uneven
        self._done: list[tuple[int, int]] = []
        self.options = f"{shuffle} {sorted(self._sizes.items())} {uneven}"

    def plan(self) -> list[list[int]]:
        """The batches of the epoch, whatever the number of ranks; each clip is in one."""
        rng = np.random.default_rng([self._seed, self.epoch])
        batches: list[list[int]] = []
        for number, size in self._sizes.items():
            clips = np.flatnonzero(self._numbers == number)
            if self._shuffle:
                rng.shuffle(clips)
            batches += [clips[i : i + size].tolist() for i in range(0, len(clips), size)]
        if self._shuffle:
            order = rng.permutation(len(batches))
            batches = [batches[i] for i in order]
        return batches

    def steps(self) -> list[list[int]]:
        """The batches that this rank has still to read in the epoch."""
        rest = self.plan()
        for world, steps in self._done:
            rest = self._even(rest, world)[steps * world :]
        self.counts.clear()
        rest = self._even(rest, self.world)
        return rest[self.rank :: self.world]

    def _even(self, batches: list[list[int]], world: int) -> list[list[int]]:
        """The batches, as many for each of `world` ranks."""
        batches = list(batches)
        while len(batches) % world:
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            whole = batches[largest]
            if len(whole) < 2:
                break
            batches[largest : largest + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        over = len(batches) % world
        if over and self._uneven == "drop":
            self.counts["dropped"] = sum(map(len, batches[-over:]))
            del batches[-over:]
        elif over and self._uneven == "repeat":
            again = [batches[i % len(batches)] for i in range(world - over)]
            self.counts["repeated"] = sum(map(len, again))
            batches += again
        return batches

    def advance(self, done: Sequence[tuple[int, int]]) -> None:
        """Begin behind batches that were read already: numbers of ranks, and steps of each."""
        merged: list[tuple[int, int]] = []
        for world, steps in done:
            if merged and merged[-1][0] == world:
                steps += merged.pop()[1]
            merged.append((world, steps))
        self._done = [(world, steps) for world, steps in merged if steps]

    def __len__(self) -> int:
        return len(self.steps())

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.epoch
        for batch in self.steps():
            yield [Draw(index, epoch) for index in batch]


def collate(samples: Sequence[Sample | Failure]) -> Batch:
    """One batch of samples of one bucket; `video` is None where all of them failed."""
    good = [sample for sample in samples if not isinstance(sample, Failure)]
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    failures += [Failure(s["replaces"], "replaced") for s in good if s["replaces"] is not None]
    return Batch(
        video=_stack([sample["video"] for sample in good]) if good else None,
        caption=[sample["caption"] for sample in good],
        task=[sample["task"] for sample in good],
        clip_id=[sample["clip_id"] for sample in good],
        fps=[sample["fps"] for sample in good],
        failures=failures,
    )


def _stack(videos: Sequence[Any]) -> Any:
    if len({tuple(video.shape) for video in videos}) > 1:
        raise ValueError("clips of different sizes make no batch: give buckets, or say batch=1")
    torch = torch_or_none()
    if torch is None:
        return np.stack(videos)
    if torch.utils.data.get_worker_info() is None:
        return torch.stack(videos)
    # In a worker the batch is made in shared memory at once, as PyTorch's own collate does.
    shape = (len(videos), *videos[0].shape)
    storage = videos[0]._typed_storage()._new_shared(int(np.prod(shape)), device="cpu")
    return torch.stack(videos, out=videos[0].new(storage).resize_(*shape))


class ClipLoader:
    """Iterates over the batches of an epoch; iterate again for the next one.

    `workers` processes decode, `prefetch` batches ahead each (with 0, and without torch, this
    process does). `rank` and `world` number the processes that train, `batch` is the batch's size
    without buckets, `pin_memory` as in PyTorch, `timeout` seconds after which a worker that gives
    nothing is an error rather than a hang (0: never). A batch whose clips all failed is left out
    and counted in `empty_batches`; with several ranks it raises ClipError. `failures` counts clips
    that failed by their error; what else is left out, `counts` and the dataset's `left_out` say.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        workers: int = 0,
        prefetch: int = 2,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        batch: int = 1,
        uneven: Uneven = "drop",
        pin_memory: bool = False,
        timeout: float = 600.0,
    ) -> None:
        self.dataset = dataset
        self.sampler = BucketSampler(
            dataset, rank=rank, world=world, shuffle=shuffle, batch=batch, uneven=uneven
        )
        self.failures: Counter[str] = Counter()
        self.empty_batches = 0
        self._before: list[tuple[int, int]] = []
        self._steps = 0
        self._source = _batches(
            dataset, self.sampler, workers, prefetch, pin_memory, timeout if workers else 0
        )

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0."""
        return self.sampler.epoch

    @property
    def counts(self) -> Mapping[str, int]:
        """As BucketSampler.counts."""
        return self.sampler.counts

    def __len__(self) -> int:
        """Batches that the rest of the epoch has for this rank."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self._steps = 0
        self.sampler.advance(self._before)
        for batch in self._source:
            self._steps += 1
            for failure in batch["failures"]:
                self.failures[failure.error] += 1
                _log.warning("clip %s left out: %s", failure.clip_id, failure.error)
            if batch["video"] is None:
                if self.sampler.world > 1:
                    raise ClipError(
                        f"all {len(batch['failures'])} clips of a batch failed, and the other "
                        "ranks would wait for its step: say on_error='replace'"
                    )
                self.empty_batches += 1
                continue
            yield batch
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch."""
        self.sampler.epoch = epoch
        self._before, self._steps = [], 0
        self.sampler.advance([])

    def state_dict(self) -> dict[str, Any]:
        """Where the training loop is: behind the batch that it had last."""
        return {
            "epoch": self.epoch,
            "done": [*self._before, (self.sampler.world, self._steps)],
            "dataset": self.dataset.fingerprint(),
            "options": self.sampler.options,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, also with another number of ranks or workers. Raises ResumeError."""
        if state["dataset"] != self.dataset.fingerprint():
            raise ResumeError(
                "the dataset or its buckets, rate or seed are not those of the state: begin an "
                "epoch anew with set_epoch, or open the dataset as it was"
            )
        if state["options"] != self.sampler.options:
            raise ResumeError("shuffle, batch or uneven are not those of the state")
        self.sampler.epoch = int(state["epoch"])
        self._before = [(int(world), int(steps)) for world, steps in state["done"]]
        self._steps = 0
        self.sampler.advance(self._before)


class _InProcess:
    """Batches read by this process."""

    def __init__(self, dataset: ClipDataset, sampler: BucketSampler) -> None:
        self._dataset, self._sampler = dataset, sampler

    def __iter__(self) -> Iterator[Batch]:
        for draws in self._sampler:
            yield collate([self._dataset[draw] for draw in draws])


def _batches(
    dataset: ClipDataset,
    sampler: BucketSampler,
    workers: int,
    prefetch: int,
    pin_memory: bool,
    timeout: float,
) -> Any:
    """An iterable over batches, once an epoch."""
    if workers == 0:
        return _InProcess(dataset, sampler)
    if torch_or_none() is None:
        raise ValueError("workers need torch: pip install torch, or say workers=0")
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset,  # type: ignore[arg-type, unused-ignore]
        batch_sampler=sampler,  # type: ignore[arg-type, unused-ignore]
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=prefetch,
        persistent_workers=True,
        pin_memory=pin_memory,
        timeout=timeout,
    )
