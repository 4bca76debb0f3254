"""What lateness costs: a policy that nbgrader applies too, from the time that the course platform gave."""

from datetime import datetime
from math import ceil
from pathlib import Path

from nbgrader.api import Assignment, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc
from sqlalchemy import select, update
from traitlets import Enum, Float
from traitlets.utils.importstring import import_item

from autograder.course import Course
from autograder.results import Result, results

DAY = 24 * 60 * 60


class LatePolicy(LateSubmissionPlugin):  # type: ignore[misc]
    """Set in nbgrader_config.py, as in `c.LatePolicy.penalty_method = "percent"`."""

    penalty_method = Enum(
        ("none", "zero", "percent"),
        default_value="none",
        help="What a late submission loses: nothing, all, or a share of its points for each day begun.",
    ).tag(config=True)
    percent_a_day = Float(10, help="Of the points earned, for each day begun (method percent).").tag(
        config=True
    )
    most_percent = Float(100, help="More than this is never taken (method percent).").tag(config=True)
    grace_minutes = Float(0, help="A submission this late is not late.").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float | None:
        """The points to take away; None for none."""
        late = total_seconds_late - 60 * self.grace_minutes
        if late <= 0 or self.penalty_method == "none":
            return None
        if self.penalty_method == "zero":
            return score
        return score * min(self.percent_a_day * ceil(late / DAY), self.most_percent) / 100


def settle(course: Course, lesson: str, gradebook: Gradebook) -> None:
    """Set every submission's time and penalty anew; a penalty follows its score, points given by hand too."""
    config = course.config()
    policy = import_item(config.AssignLatePenalties.plugin_class)(config=config)
    stamps = [
        {"id": key, "timestamp": _stamp(course, lesson, student)}
        for key, student in _handed_in(gradebook, lesson)
    ]
    if stamps:
        gradebook.db.execute(update(SubmittedAssignment), stamps)
    penalties = [
        {"id": r.notebook, "late_submission_penalty": _penalty(policy, r)}
        for r in results(gradebook, lesson).values()
    ]
    if penalties:
        gradebook.db.execute(update(SubmittedNotebook), penalties)
    gradebook.db.commit()


def _handed_in(gradebook: Gradebook, lesson: str) -> list[tuple[str, str]]:
    query = select(SubmittedAssignment.id, SubmittedAssignment.student_id)
    query = query.join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
    return [(row[0], row[1]) for row in gradebook.db.execute(query.where(Assignment.name == lesson))]


def _stamp(course: Course, lesson: str, student: str) -> datetime | None:
    path = timestamp_file(course, lesson, student)
    time: datetime | None = parse_utc(path.read_text().strip()) if path.is_file() else None
    return time


def _penalty(policy: LateSubmissionPlugin, result: Result) -> float | None:
    if not result.seconds_late:
        return None
    penalty: float | None = policy.late_submission_penalty(result.student, result.points, result.seconds_late)
    return penalty


def timestamp_file(course: Course, lesson: str, student: str) -> Path:
    """Where nbgrader looks for a submission's time; intake alone writes it."""
    return course.notebook("submitted", lesson, student).parent / "timestamp.txt"
