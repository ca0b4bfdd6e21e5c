"""Remote videos read by the nodes of a Ray cluster: nothing passes through the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from curation.inputs import AT_ONCE, Remote, divide, divided_here, is_worth_dividing, read_through
from curation.pipeline import Divided
from curation.ray_tasks import map_on_ray
from curation.segments import Segment
from curation.sources import Source


def digests_on_ray(
    unknown: Sequence[Remote], workers: int
) -> Iterator[tuple[Remote, str | OSError]]:
    """Read remote videos through; at most `workers` tasks at a time."""
    yield from map_on_ray(read_through, unknown, workers, cpus=1 / AT_ONCE)


def divided_on_ray(
    sources: Sequence[Source], seconds: float, workers: int
) -> Iterator[tuple[Source, list[Segment]]]:
    """The segments of each source that is worth it, in any order."""
    yield from divided_here([source for source in sources if source.path.exists()], seconds)
    far = [s for s in sources if not s.path.exists() and is_worth_dividing(s)]
    yield from map_on_ray(partial(divide, seconds=seconds), far, workers)


def dividing(seconds: float, workers: int, ray: bool) -> Divided:
    """What finds the segments of about `seconds`: this machine, or at most `workers` tasks on the
    cluster."""
    if ray:
        return partial(divided_on_ray, seconds=seconds, workers=workers)
    return partial(divided_here, seconds=seconds)
