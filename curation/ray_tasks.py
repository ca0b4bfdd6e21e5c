"""A function mapped over items by tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from curation.engine_ray import connect

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRIES = 3
"""How often a task is repeated whose node is lost: Ray's own default (ray.remote, max_retries)."""


def map_on_ray(
    function: Callable[[Item], Result], items: Iterable[Item], most: int, cpus: float = 1.0
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, as they come; at most `most` tasks at a time, of `cpus` cores.

    Raises what the function raises.
    """
    import ray

    connect()
    # Ray names a task by its function, and a partial has no name.
    task: Any = ray.remote(num_cpus=cpus, max_retries=RETRIES)(_apply)
    waiting = iter(items)
    running: dict[Any, Item] = {}
    while True:
        for item in islice(waiting, max(1, most) - len(running)):
            running[task.remote(function, item)] = item
        if not running:
            return
        (ended,), _ = ray.wait(list(running))
        yield running.pop(ended), ray.get(ended)


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
