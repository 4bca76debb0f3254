"""Whose file a path is: by the class list, by a pattern, or as the instructor says."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from autograder import Refusal
from autograder.intake.naming import origin
from autograder.intake.roster import Student
from autograder.tables import plain

LONGEST = 12  # words of a name


class Owners:
    """Finds the one student whose id, full name or e-mail a path holds as whole words.

    `pattern`, with a group `student`, says where in the path the id stands, and then nothing else counts.
    `assigned`: paths that the instructor gave to a student's id by hand.
    """

    def __init__(
        self,
        roster: Sequence[Student],
        lesson: str,
        pattern: re.Pattern[str] | None = None,
        assigned: Mapping[str, str] | None = None,
    ) -> None:
        self.lesson, self.pattern, self.assigned = lesson, pattern, assigned or {}
        self.by_id = {plain(student.id): student for student in roster}
        self.known: dict[str, set[Student]] = {}
        for student in roster:
            for way in _ways_to_write(student):
                self.known.setdefault(way, set()).add(student)

    def of(self, path: PurePosixPath) -> Student:
        """The owner. Raises Refusal, with a predicate, where the path names nobody of the class, or two."""
        if str(path) in self.assigned:
            return self._listed(self.assigned[str(path)])
        if self.pattern:
            match = self.pattern.search(str(path))
            found = (
                {self.by_id[plain(match["student"])]}
                if match and plain(match["student"]) in self.by_id
                else set()
            )
        else:
            found = self._named(plain(origin(path, self.lesson).who).split())
        if len(found) == 1:
            return found.pop()
        if found:
            names = " and ".join(sorted(student.name for student in found))
            raise Refusal(f"names {names}; say whose it is with --assign 'FILE=ID'")
        raise Refusal(
            "belongs to nobody on the roster; say whose it is with --assign 'FILE=ID', or mend the roster"
        )

    def _listed(self, student_id: str) -> Student:
        if plain(student_id) not in self.by_id:
            raise Refusal(f"was given to {student_id!r}, who is not on the roster")
        return self.by_id[plain(student_id)]

    def _named(self, words: Sequence[str]) -> set[Student]:
        """Who is named; of two names in one place ("Ana Lima", "Ana Lima Sá") the longer counts."""
        spans = [
            (a, b, s) for a, b in _stretches(len(words)) for s in self.known.get("".join(words[a:b]), ())
        ]
        return {
            s for a, b, s in spans if not any(c <= a and b <= d and (a, b) != (c, d) for c, d, _ in spans)
        }


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(count) for b in range(a + 1, min(a + LONGEST, count) + 1))


def _ways_to_write(student: Student) -> set[str]:
    """Id, e-mail and name in both orders, no spaces: SilvaAna, ana-silva and "Ana Silva" are the same."""
    first, last = plain(student.first_name), plain(student.last_name)
    names = [first + last, last + first] if first and last else []
    return {way.replace(" ", "") for way in (plain(student.id), plain(student.email), *names)} - {""}
