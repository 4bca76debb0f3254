"""One submission graded by nbgrader in a scratch course, and the result committed to the real one."""

import re
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Base, Gradebook
from sqlalchemy import create_engine, insert, select

from autograder.course import Course

warnings.filterwarnings("ignore", module="nbgrader|nbformat")  # remarks on their own insides

STUDENT_TABLES = {"student", "submitted_assignment", "submitted_notebook", "comment", "grade"}
EXPLANATIONS = {
    "DeadKernelError": "its code killed the kernel (os._exit, or out of memory)",
    "CellTimeoutError": "a cell ran on after its time was over and could not be interrupted",
    "SchemaTooOldError|SchemaTooNewError|ValidationError": "its nbgrader cells are damaged",
}


@dataclass(frozen=True)
class Graded:
    """What grading one submission gave; `failure` is one sentence, and then nothing else counts."""

    student: str
    notebook: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    comments: dict[str, str | None] = field(default_factory=dict)
    failure: str = ""
    log: str = ""


def write_skeleton(course: Course, path: Path) -> None:
    """A gradebook that knows the lessons but no student, for scratch courses to start from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    skeleton = create_engine(f"sqlite:///{part}")
    Base.metadata.create_all(skeleton)
    with course.gradebook() as gradebook, skeleton.begin() as connection:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row._mapping) for row in gradebook.db.execute(select(table))]
            if table.name not in STUDENT_TABLES and rows:
                connection.execute(insert(table), rows)
    skeleton.dispose()
    part.replace(path)


def grade(root: Path, lesson: str, student: str, skeleton: Path) -> Graded:
    """Grade one submission; never raises for what a submission does.

    One at a time in a process: nbgrader changes the working directory.
    """
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as scratch:
        return _grade_in(Path(scratch), Course(root), lesson, student, skeleton)


def _grade_in(scratch: Path, course: Course, lesson: str, student: str, skeleton: Path) -> Graded:
    (scratch / "source").symlink_to(course.root / "source")
    submitted = Course(scratch).notebook("submitted", lesson, student)
    submitted.parent.mkdir(parents=True)
    shutil.copyfile(course.notebook("submitted", lesson, student), submitted, follow_symlinks=False)
    shutil.copyfile(skeleton, scratch / "gradebook.db")
    db_url = f"sqlite:///{scratch}/gradebook.db"
    api = course.api(root=str(scratch), db_url=db_url)
    # Kernels that start at the same time race for TCP ports; this path is no other kernel's.
    api.config.KernelManager.update({"transport": "ipc", "ip": str(scratch / "kernel")})
    result = api.autograde(lesson, student)
    log = result.get("log", "") + result.get("error", "")
    if not result["success"]:
        return Graded(student, failure=_explain(log), log=log)
    text = Course(scratch).notebook("autograded", lesson, student).read_text(encoding="utf-8")
    with Gradebook(db_url) as gradebook:
        saved = gradebook.find_submission_notebook(lesson, lesson, student)
        scores = {grade.name: grade.auto_score for grade in saved.grades}
        comments = {comment.name: comment.auto_comment for comment in saved.comments}
    return Graded(student, text, scores, comments, log=log)


def _explain(log: str) -> str:
    for pattern, sentence in EXPLANATIONS.items():
        if re.search(pattern, log):
            return sentence
    return f"nbgrader failed: {log.strip().splitlines()[-1][:200] if log.strip() else 'no reason given'}"
