"""Grades as tables: plain CSV and Parquet, Moodle's and Canvas's CSV; as plugins of `nbgrader export` too.

A text that a spreadsheet would run as a formula gets an apostrophe in front. Who handed in nothing has an
empty score, not 0.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.plugins import ExportPlugin

from autograder import Refusal
from autograder.results import results
from autograder.tables import plain, read_table, write_csv

# What the platforms call the column of grades in the tables that they give out to be filled in.
GRADE_HEADINGS = {"grade", "nota", "avaliacao"}
STUDENT_HEADINGS = {
    "id number",
    "numero de identificacao",
    "sis user id",
    "email address",
    "endereco de email",
}
STUDENT_HEADINGS |= {"sis login id", "full name", "nome completo", "student", "id", "email"}


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
    late_penalty: float | None = None


def rows(gradebook: Gradebook) -> Iterator[Row]:
    """Every student's result in every assignment of the gradebook."""
    students = gradebook.students
    for assignment in gradebook.assignments:
        found, worth = results(gradebook, assignment.name), assignment.max_score
        for student in students:
            who = (student.id, student.last_name, student.first_name, student.email)
            result = found.get(student.id)
            if result is None:
                yield Row(assignment.name, *who, None, worth, None)
            else:
                yield Row(assignment.name, *who, result.score, worth, result.waiting, result.penalty)


class _Table(ExportPlugin):  # type: ignore[misc]
    """What the plugins share: the rows asked for, and the file's name."""

    suffix = "csv"

    def export(self, gradebook: Gradebook) -> None:
        """Write `self.to` (grades.csv or .parquet) for the assignments and students asked for, or for all."""
        found = [
            r
            for r in rows(gradebook)
            if _wanted(self.assignment, r.assignment) and _wanted(self.student, r.student_id)
        ]
        self.write(Path(self.to or f"grades.{self.suffix}"), found)

    def write(self, path: Path, found: Sequence[Row]) -> None:
        raise NotImplementedError


def _wanted(asked: list[str], name: str) -> bool:
    return not asked or name in map(str, asked)


class SafeCsv(_Table):
    """`nbgrader export` with quoting: a line for each student and assignment."""

    def write(self, path: Path, found: Sequence[Row]) -> None:
        """Write it."""
        write_csv(path, [[field.name for field in fields(Row)], *map(astuple, found)])


class Parquet(_Table):
    """The same table with its types, for pandas, R, DuckDB."""

    suffix = "parquet"

    def write(self, path: Path, found: Sequence[Row]) -> None:
        """Write it."""
        import pyarrow
        import pyarrow.parquet

        kinds = {
            "score": "float64",
            "max_score": "float64",
            "late_penalty": "float64",
            "needs_manual_grade": "bool",
        }
        schema = pyarrow.schema([(f.name, kinds.get(f.name, "string")) for f in fields(Row)])
        columns = {f.name: [getattr(row, f.name) for row in found] for f in fields(Row)}
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), path)


class _ByStudent(_Table):
    """A line a student, a column an assignment, as course platforms import grades."""

    heading: Sequence[str] = ()

    def write(self, path: Path, found: Sequence[Row]) -> None:
        """Write it."""
        names = list(dict.fromkeys(row.assignment for row in found))
        scores = {(row.student_id, row.assignment): row.score for row in found}
        students = {row.student_id: row for row in found}
        lines = [
            [*self.who(row), *(scores.get((key, name)) for name in names)] for key, row in students.items()
        ]
        write_csv(path, [[*self.heading, *names], *lines])

    def who(self, row: Row) -> Sequence[Any]:
        raise NotImplementedError


class MoodleCsv(_ByStudent):
    """For Moodle's Grades > Import > CSV file, mapped by ID number or e-mail address."""

    heading = ("ID number", "First name", "Last name", "Email address")

    def who(self, row: Row) -> Sequence[Any]:
        """Moodle's first columns."""
        return row.student_id, row.first_name, row.last_name, row.email


class CanvasCsv(_ByStudent):
    """For Canvas's Grades > Import, which finds a student without ID by SIS User ID or SIS Login ID."""

    heading = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")

    def who(self, row: Row) -> Sequence[Any]:
        """Canvas's first columns."""
        name = ", ".join(filter(None, (row.last_name, row.first_name))) or row.student_id
        return name, "", row.student_id, row.email, ""


FORMATS = {"csv": SafeCsv, "parquet": Parquet, "moodle": MoodleCsv, "canvas": CanvasCsv}


def fill_in(template: Path, path: Path, lesson: str, found: Iterable[Row]) -> int:
    """Fill a lesson's scores into a platform's own table (Moodle's grading worksheet, Canvas's export).

    Every other cell stays as the platform wrote it. Gives how many students were filled in; raises Refusal
    where the table has no column of grades, or none that says who a student is.
    """
    header, *lines = read_table(template, "table", "--template")
    names = [plain(cell) for cell in header]
    column = next(
        (i for i, n in enumerate(names) if n in GRADE_HEADINGS or n.startswith(plain(lesson))), None
    )
    whose = [i for i, name in enumerate(names) if name in STUDENT_HEADINGS]
    if column is None or not whose:
        raise Refusal(
            f"{template} has no column of students and one called Grade, Nota or {lesson}: export it anew."
        )
    scores: dict[str, float | None] = {}
    for row in found:
        full = [f"{row.first_name} {row.last_name}", f"{row.last_name} {row.first_name}"]
        scores |= {plain(key): row.score for key in (row.student_id, row.email or "", *full) if plain(key)}
    filled = 0
    for line in lines:
        score = next(
            (scores[plain(line[i])] for i in whose if i < len(line) and plain(line[i]) in scores), None
        )
        if score is not None:
            line[column] = f"{score:g}"
            filled += 1
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *lines])
    return filled
