"""Results written into the gradebook: one connection for a batch, one transaction for a submission.

nbgrader's own calls would open nine connections and commit four times a notebook, and ask for every total of
the class on the way; here a submission is four statements, however large the class.
"""

from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    GradeCell,
    Notebook,
    SolutionCell,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
)
from sqlalchemy import insert, select, update

from autograder.course import Course, write_notebook
from autograder.grading import Graded

Rows = list[dict[str, Any]]


class Ledger:
    """A lesson's page of the gradebook, open for writing; use it as a context manager."""

    def __init__(self, course: Course, lesson: str) -> None:
        self.course, self.lesson = course, lesson
        self.gradebook = course.gradebook()
        self.db = self.gradebook.db
        self.assignment = self.db.execute(select(Assignment.id).where(Assignment.name == lesson)).scalar_one()
        notebooks = select(Notebook.id).where(Notebook.assignment_id == self.assignment)
        self.notebook = self.db.execute(notebooks.where(Notebook.name == lesson)).scalar_one()
        self.graded = self._cells(GradeCell) | self._cells(TaskCell)
        self.answers = self._cells(SolutionCell) | self._cells(TaskCell)
        self.db.rollback()  # no transaction waits while submissions are graded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gradebook.close()

    def _cells(self, kind: Any) -> dict[str, str]:
        """Cell id -> name."""
        base = BaseCell.__table__
        query = select(base.c.id, base.c.name).join(kind.__table__, kind.__table__.c.id == base.c.id)
        return {row[0]: row[1] for row in self.db.execute(query.where(base.c.notebook_id == self.notebook))}

    def write(self, graded: Graded) -> None:
        """Save a result, and its notebook under `autograded/`; points by hand stay, old automatic ones go."""
        write_notebook(self.course.notebook("autograded", self.lesson, graded.student), graded.notebook)
        try:
            submission = self._submission(graded.student)
            self._grades(submission, graded)
            self._comments(submission, graded)
            self.db.commit()
        except BaseException:
            self.db.rollback()
            raise

    def give(self, student: str, name: str, points: float, comment: str) -> None:
        """Give points and a comment to one answer as a person would; a new grading leaves them."""
        submission = self._submission(student)
        cell = next(cell for cell, known in self.graded.items() if known == name)
        given = {"manual_score": points, "needs_manual_grade": False}
        for table, values in ((Grade, given), (Comment, {"manual_comment": comment})):
            of_cell = (table.notebook_id == submission) & (table.cell_id == cell)
            if self.db.execute(select(table.id).where(of_cell)).scalar():
                self.db.execute(update(table).where(of_cell).values(**values))
            else:
                row = {"id": uuid4().hex, "notebook_id": submission, "cell_id": cell, **values}
                self.db.execute(insert(table).values(**row))
        self.db.commit()

    def _submission(self, student: str) -> str:
        """The id of the student's submitted notebook, made where there is none."""
        query = (
            select(SubmittedNotebook.id)
            .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
            .where(SubmittedAssignment.assignment_id == self.assignment)
            .where(SubmittedAssignment.student_id == student)
        )
        found: str | None = self.db.execute(query).scalar()
        return found or self._new_submission(student)

    def _new_submission(self, student: str) -> str:
        if not self.db.execute(select(Student.id).where(Student.id == student)).scalar():
            self.db.execute(insert(Student).values(id=student))
        submission, notebook = uuid4().hex, uuid4().hex
        self.db.execute(
            insert(SubmittedAssignment).values(
                id=submission, assignment_id=self.assignment, student_id=student
            )
        )
        self.db.execute(
            insert(SubmittedNotebook).values(id=notebook, assignment_id=submission, notebook_id=self.notebook)
        )
        return notebook

    def _grades(self, submission: str, graded: Graded) -> None:
        query = select(Grade.cell_id, Grade.id, Grade.manual_score).where(Grade.notebook_id == submission)
        known = {row[0]: (row[1], row[2]) for row in self.db.execute(query)}
        new: Rows = []
        old: Rows = []
        for cell, name in self.graded.items():
            key, by_hand = known.get(cell, (uuid4().hex, None))
            score = graded.scores.get(name)
            row = {"auto_score": score, "needs_manual_grade": score is None or by_hand is not None}
            (old if cell in known else new).append({"id": key, **row, "cell_id": cell})
        self._store(Grade, submission, new, old)

    def _comments(self, submission: str, graded: Graded) -> None:
        query = select(Comment.cell_id, Comment.id).where(Comment.notebook_id == submission)
        known = {row[0]: row[1] for row in self.db.execute(query)}
        new: Rows = []
        old: Rows = []
        for cell, name in self.answers.items():
            row = {
                "id": known.get(cell, uuid4().hex),
                "auto_comment": graded.comments.get(name),
                "cell_id": cell,
            }
            (old if cell in known else new).append(row)
        self._store(Comment, submission, new, old)

    def _store(self, table: Any, submission: str, new: Rows, old: Rows) -> None:
        if new:
            self.db.execute(insert(table), [{**row, "notebook_id": submission} for row in new])
        if old:
            self.db.execute(update(table), old)


def commit(course: Course, lesson: str, graded: Graded) -> None:
    """Save one result."""
    with Ledger(course, lesson) as ledger:
        ledger.write(graded)
