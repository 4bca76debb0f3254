"""A lesson's own cells that need an exercise's answer say so, instead of failing, while it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_exercise(number: int) -> Iterator[None]:
    """Run the block; where the answer to exercise `number` is still its stub, print what to do first."""
    try:
        yield
    except NotImplementedError:
        print(f"Faça primeiro o exercício {number}; depois rode esta célula de novo.")
