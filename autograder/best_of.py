"""Several attempts of a student, each graded, so that the best can count."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence

from autograder.course import Course
from autograder.grading import Graded
from autograder.intake.layout import attempts_folder

Grader = Callable[[Sequence[str]], Iterable[Graded]]


def with_several(course: Course, lesson: str, students: Iterable[str]) -> dict[str, int]:
    """The students of whom several attempts are kept, and how many."""
    counts = {s: len(list(attempts_folder(course, lesson, s).glob("*.ipynb"))) for s in students}
    return {student: count for student, count in counts.items() if count > 1}


def grade_best(course: Course, lesson: str, several: dict[str, int], grade: Grader) -> Iterator[Graded]:
    """Grade every attempt in turn and end with the best, which is what stays; of equal ones the earliest.

    A last result is given for each student. The best is graded once more unless it was the last: the same
    bytes give the same score.
    """
    last: dict[str, Graded] = {}
    points: dict[str, list[float]] = {student: [] for student in several}
    for number in range(1, max(several.values(), default=0) + 1):
        for student in (group := [s for s, count in several.items() if count >= number]):
            _put(course, lesson, student, number)
        for graded in grade(group):
            last[graded.student] = graded
            points[graded.student].append(
                sum(s or 0.0 for s in graded.scores.values()) if not graded.failure else -1
            )
    best = {student: 1 + earned.index(max(earned)) for student, earned in points.items() if earned}
    again = [student for student, number in best.items() if number < several[student]]
    for student in again:
        _put(course, lesson, student, best[student])
    last |= {graded.student: graded for graded in (grade(again) if again else ())}
    yield from last.values()


def _put(course: Course, lesson: str, student: str, number: int) -> None:
    source = attempts_folder(course, lesson, student) / f"{number}.ipynb"
    shutil.copyfile(source, course.notebook("submitted", lesson, student))
