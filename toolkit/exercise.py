"""A lesson's own cells that need an exercise's answer say so, instead of failing, while it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_exercise(*numbers: int) -> Iterator[None]:
    """Run the block; where the answer to one of the exercises is still its stub, print what to do first."""
    try:
        yield
    except NotImplementedError:
        which = (
            f"o exercício {numbers[0]}"
            if len(numbers) == 1
            else "os exercícios " + " e ".join(map(str, numbers))
        )
        print(f"Faça primeiro {which}; depois rode esta célula de novo.")
