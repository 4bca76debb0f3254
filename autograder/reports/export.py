"""Grades as a CSV that reads back as the same table and starts no formula in a spreadsheet."""

import csv
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, SubmittedAssignment
from nbgrader.plugins import ExportPlugin

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe(value: Any) -> str:
    """A cell's text; one that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


@dataclass(frozen=True)
class Row:
    """A student's result in one assignment; `score` is None where nothing was handed in."""

    assignment: str
    student_id: str
    last_name: str | None
    first_name: str | None
    email: str | None
    score: float | None
    max_score: float
    needs_manual_grade: bool | None


def rows(gradebook: Gradebook) -> Iterator[Row]:
    """Every student's result in every assignment of the gradebook."""
    for assignment in gradebook.assignments:
        submissions = {submission.student.id: submission for submission in assignment.submissions}
        for student in gradebook.students:
            who = (student.id, student.last_name, student.first_name, student.email)
            score, manual = _score(submissions.get(student.id))
            yield Row(assignment.name, *who, score, assignment.max_score, manual)


def _score(submission: SubmittedAssignment | None) -> tuple[float | None, bool | None]:
    if submission is None:
        return None, None
    return max(
        0.0, submission.score - (submission.late_submission_penalty or 0.0)
    ), submission.needs_manual_grade


class SafeCsv(ExportPlugin):  # type: ignore[misc]
    """`nbgrader export` with quoting; who handed in nothing has an empty score, not 0."""

    def export(self, gradebook: Gradebook) -> None:
        """Write `self.to` (grades.csv by default) for the assignments and students asked for, or for all."""
        with Path(self.to or "grades.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Row))
            for row in rows(gradebook):
                if _wanted(self.assignment, row.assignment) and _wanted(self.student, row.student_id):
                    writer.writerow(map(safe, astuple(row)))


def _wanted(asked: list[str], name: str) -> bool:
    return not asked or name in map(str, asked)
