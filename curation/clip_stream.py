"""A ClipDataset as PyTorch's IterableDataset, for loops that take no other. Needs torch.

DataLoader(ClipStream(clips, rank=0, world=8), batch_size=None, num_workers=4)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from curation.clip_dataset import ClipDataset
from curation.clip_loader import Batch, BucketSampler, collate


class ClipStream(IterableDataset):  # type: ignore[misc, type-arg, unused-ignore]
    """Whole batches of one epoch, shared among the workers of a DataLoader with batch_size=None.

    The batches and their order are those of a ClipLoader of the same options, which are
    BucketSampler's. Batches that failed whole have `video` None. `set_epoch` before each epoch.
    """

    def __init__(self, dataset: ClipDataset, **options: Any) -> None:
        self._dataset = dataset
        self._sampler = BucketSampler(dataset, **options)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; workers that live on must be started again."""
        self._sampler.epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, draws in enumerate(self._sampler):
            if i % of == number:
                yield collate([self._dataset[draw] for draw in draws])
