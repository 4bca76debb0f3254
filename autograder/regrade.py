"""What would change if a lesson were graded again: after a test was mended, before anything is saved."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autograder.grading import Graded
from autograder.results import Result


@dataclass(frozen=True)
class Change:
    """A student whose points would be others: before and after, by grade id where they differ."""

    student: str
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    failure: str = ""

    @property
    def difference(self) -> float:
        """Points gained (or lost, below 0)."""
        return sum(self.after[name] or 0.0 for name in self.after) - sum(
            v or 0.0 for v in self.before.values()
        )


def changes(graded: Iterable[Graded], found: Mapping[str, Result]) -> list[Change]:
    """Those whose automatic points would differ, greatest loss first; a failed one would keep what it has.

    Points given by hand stay, so cells that have such points do not count.
    """
    listed = []
    for new in graded:
        marks = found[new.student].marks if new.student in found else {}
        before = {name: mark.score for name, mark in marks.items() if not mark.by_hand}
        after = {name: new.scores.get(name) for name in before} if marks else dict(new.scores)
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if new.failure:
            listed.append(Change(new.student, {}, {}, new.failure))
        elif names:
            pick = ({n: before.get(n) for n in names}, {n: after.get(n) for n in names})
            listed.append(Change(new.student, *pick))
    return sorted(listed, key=lambda change: change.difference)
