"""A generator that counts what goes through another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from captioner.engines.vlm import Generation, Generator, Request

K = TypeVar("K")


class CountedGenerator:
    """Another generator, in all but `prompt_tokens` read and `tokens` written so far."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.prompt_tokens = 0
        self.tokens = 0

    @property
    def name(self) -> str:
        """The other's."""
        return self._generator.name

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """The other's answers."""
        return [self._count(generation) for generation in self._generator.generate(requests)]

    def stream(self, requests: Iterable[tuple[K, Request]]) -> Iterator[tuple[K, Generation]]:
        """The other's answers as they come."""
        for key, generation in self._generator.stream(requests):
            yield key, self._count(generation)

    def identity(self) -> dict[str, str]:
        """The other's."""
        return self._generator.identity()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def _count(self, generation: Generation) -> Generation:
        self.prompt_tokens += generation.prompt_tokens
        self.tokens += generation.tokens
        return generation
