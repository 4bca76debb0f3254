"""What the gradebook says of a lesson: every student's marks, in three queries however large the class."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    SubmittedAssignment,
    SubmittedNotebook,
)
from sqlalchemy import Select, select


@dataclass(frozen=True)
class Mark:
    """One graded cell; `score` is None until a machine or a person has given one."""

    score: float | None
    max_score: float
    waiting: bool  # for a person
    by_hand: bool = False  # a person has given it


@dataclass
class Result:
    """One student's submission. Times are UTC without a zone, as nbgrader keeps them."""

    student: str
    notebook: str  # its id in the gradebook
    time: datetime | None
    seconds_late: float
    penalty: float
    marks: dict[str, Mark] = field(default_factory=dict)  # by grade id
    comments: dict[str, str] = field(default_factory=dict)  # by the answer's grade id

    @property
    def points(self) -> float:
        """Before the penalty for lateness."""
        return sum(mark.score or 0.0 for mark in self.marks.values())

    @property
    def score(self) -> float:
        """After it."""
        return max(0.0, self.points - self.penalty)

    @property
    def max_score(self) -> float:
        """What the lesson is worth."""
        return sum(mark.max_score for mark in self.marks.values())

    @property
    def waiting(self) -> bool:
        """Whether a person has still something to grade."""
        return any(mark.waiting for mark in self.marks.values())


def results(gradebook: Gradebook, lesson: str) -> dict[str, Result]:
    """Student id -> result, for all that have been graded."""
    found = {result.notebook: result for result in _submissions(gradebook, lesson)}
    cells = GradeCell.__table__
    columns = (Grade.auto_score, Grade.manual_score, Grade.extra_credit, Grade.needs_manual_grade)
    query = select(Grade.notebook_id, BaseCell.__table__.c.name, cells.c.max_score, *columns)
    query = query.join(BaseCell.__table__, BaseCell.__table__.c.id == Grade.cell_id).join(
        cells, cells.c.id == Grade.cell_id
    )
    for row in gradebook.db.execute(_of(query, Grade, lesson)):
        notebook, name, max_score, auto, manual, extra, waiting = row
        given = auto if manual is None else manual
        score = None if given is None and not extra else (given or 0.0) + (extra or 0.0)
        found[notebook].marks[name] = Mark(score, max_score, waiting, manual is not None)
    said = select(
        Comment.notebook_id, BaseCell.__table__.c.name, Comment.auto_comment, Comment.manual_comment
    )
    said = said.join(BaseCell.__table__, BaseCell.__table__.c.id == Comment.cell_id)
    for notebook, name, auto, manual in gradebook.db.execute(_of(said, Comment, lesson)):
        found[notebook].comments[name] = manual or auto or ""
    return {result.student: result for result in found.values()}


def _submissions(gradebook: Gradebook, lesson: str) -> Iterator[Result]:
    query = (
        select(
            SubmittedAssignment.student_id,
            SubmittedNotebook.id,
            SubmittedAssignment.timestamp,
            SubmittedAssignment.extension,
            Assignment.duedate,
            SubmittedNotebook.late_submission_penalty,
        )
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .where(Assignment.name == lesson)
    )
    for student, notebook, time, extension, due, penalty in gradebook.db.execute(query):
        due = due and due + (extension or timedelta())
        late = max(0.0, (time - due).total_seconds()) if time and due else 0.0
        yield Result(student, notebook, time, late, penalty or 0.0)


def _of(query: Select[Any], table: Any, lesson: str) -> Select[Any]:
    """The rows of `table` (Grade or Comment) that belong to a lesson."""
    return (
        query.join(SubmittedNotebook, SubmittedNotebook.id == table.notebook_id)
        .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .where(Assignment.name == lesson)
    )
