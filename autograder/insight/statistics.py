"""A lesson's figures: each exercise's difficulty and discrimination, and what went wrong most."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autograder.insight.outcomes import Outcome
from autograder.results import Result
from toolkit.lesson import Exercise, mark

MOST_WRONG = 5


@dataclass(frozen=True)
class Option:
    """A value chosen in a form: by how many, and which share of its points they earned."""

    field: str
    value: str
    count: int
    share: float


@dataclass
class Item:
    """An exercise's figures. `discrimination` is None where all scored alike or too few handed in."""

    title: str
    points: float
    mean_share: float  # of its points; the exercise is the easier, the nearer to 1
    full: float  # the share of students with all points
    none: float
    discrimination: float | None
    wrong: list[tuple[str, int]] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)


FEWEST = 5


def items(found: Mapping[str, Result], told: Sequence[Outcome], lesson: Sequence[Exercise]) -> list[Item]:
    """Each exercise's figures over all students with a result."""
    totals = np.array([result.points for result in found.values()])
    return [_item(exercise, list(found.values()), told, totals) for exercise in lesson if exercise.points]


def _item(exercise: Exercise, found: Sequence[Result], told: Sequence[Outcome], totals: np.ndarray) -> Item:
    names = [
        str(mark(cell)["grade_id"])
        for cell in (*exercise.tests, *exercise.answers)
        if mark(cell).get("grade")
    ]
    scores = np.array([sum(r.marks[n].score or 0.0 for n in names if n in r.marks) for r in found])
    shares = scores / exercise.points
    wrong = Counter(
        outcome.messages[exercise.title] for outcome in told if exercise.title in outcome.messages
    )
    return Item(
        exercise.title.replace("`", ""),
        exercise.points,
        float(shares.mean()),
        float((shares >= 1).mean()),
        float((shares <= 0).mean()),
        discrimination(scores, totals),
        wrong.most_common(MOST_WRONG),
        _options(exercise, told, dict(zip((r.student for r in found), shares.tolist(), strict=True))),
    )


def discrimination(scores: np.ndarray, totals: np.ndarray) -> float | None:
    """Correlation of an exercise's scores with the rest of the lesson's (corrected item-total)."""
    rest = totals - scores
    if len(scores) < FEWEST or scores.std() == 0 or rest.std() == 0:
        return None
    return float(np.corrcoef(scores, rest)[0, 1])


def _options(exercise: Exercise, told: Sequence[Outcome], shares: Mapping[str, float]) -> list[Option]:
    ids = {str(mark(cell)["grade_id"]) for cell in exercise.answers}
    chosen: dict[tuple[str, str], list[float]] = {}
    for outcome in told:
        if outcome.chosen and ids & outcome.answers.keys():
            own = {n: v for n, v in outcome.chosen.items() if any(n in outcome.answers[i] for i in ids)}
            for name, value in own.items():
                chosen.setdefault((name, value), []).append(shares[outcome.student])
    return [Option(*key, len(values), float(np.mean(values))) for key, values in sorted(chosen.items())]
