"""Which of a student's notebooks counts, when there are several that differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath

from autograder import Refusal


class Policy(StrEnum):
    """`ask` refuses, for a person to decide; `best` grades each, and the one with the most points counts."""

    ask = "ask"
    last = "last"
    first = "first"
    best = "best"


@dataclass(frozen=True)
class Attempt:
    """One notebook as it was handed in, reduced to what grading reads."""

    path: PurePosixPath
    text: str
    rank: tuple[str, int, int]  # the later one has the greater
    time: datetime | None = None


def in_order(attempts: Sequence[Attempt], policy: Policy) -> list[Attempt]:
    """The attempts that may count: one, or under `best` several, from first to last; equal copies count once.

    Raises Refusal where a person has to say which one counts.
    """
    ordered = sorted(attempts, key=lambda attempt: (attempt.rank, str(attempt.path)))
    found = list({attempt.text: attempt for attempt in reversed(ordered)}.values())[::-1]
    if len(found) == 1 or policy is Policy.best:
        return found
    names = " and ".join(str(attempt.path) for attempt in found)
    if policy is Policy.ask:
        raise Refusal(
            f"handed in different notebooks, {names}; say which counts with --attempts, or keep one",
            "você entregou cadernos diferentes; diga a quem ensina qual deles vale",
        )
    at = 0 if policy is Policy.first else -1
    if [attempt.rank for attempt in found].count(found[at].rank) > 1:
        raise Refusal(f"handed in {names}, and their names do not say which came {policy}; keep one")
    return [found[at]]
