"""The table of who got what."""

from collections.abc import Mapping, Sequence

from nbgrader.api import Gradebook
from rich.table import Table
from rich.text import Text

from autograder.intake.roster import Student
from autograder.reports.export import Row, rows


def class_table(
    gradebook: Gradebook, lesson: str, roster: Sequence[Student], problems: Mapping[str, str]
) -> Table:
    """One line a student; `problems` says by student id why nothing new was graded."""
    table = Table(title=f"{lesson}: {len(roster)} students", title_justify="left")
    for heading in ("student", "id", "points", "remark"):
        table.add_column(heading, justify="right" if heading == "points" else "left")
    results = {row.student_id: row for row in rows(gradebook) if row.assignment == lesson}
    for student in roster:
        row, problem = results.get(student.id), problems.get(student.id, "")
        table.add_row(Text(student.name), student.id, _points(row), Text(_remark(row, problem)))
    return table


def _points(row: Row | None) -> str:
    return "" if row is None or row.score is None else f"{row.score:g} / {row.max_score:g}"


def _remark(row: Row | None, problem: str) -> str:
    graded = row is not None and row.score is not None
    if problem:
        return f"{problem}; the earlier result stays" if graded else problem
    return "open questions wait for a person" if row and row.needs_manual_grade else ""
