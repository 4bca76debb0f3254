"""The table of who got what."""

from collections.abc import Mapping, Sequence
from typing import Any

from nbgrader.api import Gradebook
from rich.table import Table
from rich.text import Text

from autograder.intake.roster import Student
from autograder.reports.export import Row, rows


def class_lines(
    gradebook: Gradebook, lesson: str, roster: Sequence[Student], problems: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One line a student, as data; `problems` says by student id why nothing new was graded."""
    results = {row.student_id: row for row in rows(gradebook) if row.assignment == lesson}
    return [
        {
            "name": student.name,
            "id": student.id,
            "score": row.score if (row := results.get(student.id)) else None,
            "max_score": row.max_score if row else None,
            "remark": _remark(row, problems.get(student.id, "")),
        }
        for student in roster
    ]


def class_table(
    gradebook: Gradebook, lesson: str, roster: Sequence[Student], problems: Mapping[str, str]
) -> Table:
    """The same as a table to look at."""
    table = Table(title=f"{lesson}: {len(roster)} students", title_justify="left")
    for heading in ("student", "id", "points", "remark"):
        table.add_column(heading, justify="right" if heading == "points" else "left")
    for line in class_lines(gradebook, lesson, roster, problems):
        points = "" if line["score"] is None else f"{line['score']:g} / {line['max_score']:g}"
        table.add_row(Text(line["name"]), line["id"], points, Text(line["remark"]))
    return table


def _remark(row: Row | None, problem: str) -> str:
    graded = row is not None and row.score is not None
    if problem:
        return f"{problem}; the earlier result stays" if graded else problem
    if not graded:
        return "nothing handed in"
    late = f"{row.late_penalty:g} off for lateness" if row and row.late_penalty else ""
    by_hand = "open questions wait for a person" if row and row.needs_manual_grade else ""
    return "; ".join(filter(None, (late, by_hand)))
