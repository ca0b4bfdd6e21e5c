"""Generate what is missing, here or on a Ray cluster, and keep each row as it is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from captioner.video import UnreadableVideoError
from generation.config import GenerationConfig
from generation.enhance import Enhancer
from generation.ledger import Generation, Generations, generation_id
from generation.make import Made, Work, failed, make
from generation.model import GenerationError, VideoModel
from generation.prompts import Asked, read_condition

Engine = Callable[[Iterable[Work]], Iterator[Made]]
"""Makes each work, in any order; pulls one when it has room for it."""

TOGETHER = 32
"""Prompts that are enhanced together: a server answers many as fast as one."""


def run(
    asked: Sequence[Asked],
    model: VideoModel,
    config: GenerationConfig,
    ledger: Generations,
    enhancer: Enhancer | None = None,
    retry: bool = False,
) -> Iterator[Generation]:
    """Generate here what the ledger lacks; each row as it is kept, its video written.

    `retry` also generates anew what failed before. Raises OSError where nothing can be written.
    """
    known = config_hash(config, enhancer)
    engine = partial(_local, model=model, config=config, known=known)
    yield from run_by(engine, asked, model.name, config, ledger, enhancer, retry)


def _local(
    works: Iterable[Work], model: VideoModel, config: GenerationConfig, known: str
) -> Iterator[Made]:
    for work in works:
        yield make(work, model, config, known)


def run_by(
    engine: Engine,
    asked: Sequence[Asked],
    model: str,
    config: GenerationConfig,
    ledger: Generations,
    enhancer: Enhancer | None = None,
    retry: bool = False,
) -> Iterator[Generation]:
    """`run` by any engine, `model` being the name of the one that it runs."""
    known = config_hash(config, enhancer)
    unmade: deque[Made] = deque()

    def works() -> Iterator[Work]:
        todo = missing(asked, model, known, ledger, retry)
        for at in range(0, len(todo), TOGETHER):
            some = todo[at : at + TOGETHER]
            sent = enhancer.enhance([one.prompt.text for _, one in some]) if enhancer else None
            for number, (name, one) in enumerate(some):
                answer = sent[number] if sent else one.prompt.text
                work = Work(name, one.prompt, one.prompt.text)
                try:
                    ready = _ready(work, one, answer, config)
                except _UNREADY as error:
                    unmade.append(failed(work, _line(error), model, config, known))
                else:
                    yield ready

    for made in engine(works()):
        while unmade:
            yield _kept(unmade.popleft(), ledger)
        yield _kept(made, ledger)
    while unmade:
        yield _kept(unmade.popleft(), ledger)


def config_hash(config: GenerationConfig, enhancer: Enhancer | None) -> str:
    """The hash of all settings, those of the enhancement included."""
    return config.hash(**(enhancer.identity() if enhancer else {}))


def missing(
    asked: Sequence[Asked], model: str, known: str, ledger: Generations, retry: bool = False
) -> list[tuple[str, Asked]]:
    """What has no row yet, or with `retry` only one of an error, with the id of its generation."""
    todo: dict[str, Asked] = {}
    for one in asked:
        name = generation_id(one.prompt, model, known)
        row = ledger.rows.get(name)
        if row is None or (retry and row.status == "error"):
            todo[name] = one
    return list(todo.items())


_UNREADY = (GenerationError, UnreadableVideoError, OSError, pa.ArrowException)


def _ready(work: Work, one: Asked, answer: str | GenerationError, config: GenerationConfig) -> Work:
    """The work with what the model is told and given. Raises _UNREADY."""
    if isinstance(answer, GenerationError):
        raise answer
    condition = None
    if config.first_frame:
        condition = read_condition(one.clip, config.width, config.height, config.last_frame)
    return replace(work, sent=answer, condition=condition)


def _line(error: BaseException) -> str:
    if isinstance(error, GenerationError):
        return str(error)
    return f"the real clip cannot be read ({type(error).__name__}: {error}): publish it anew"


def _kept(made: Made, ledger: Generations) -> Generation:
    ledger.add(made.row, made.video, made.pictures)
    return made.row
