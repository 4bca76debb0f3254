"""From downloads to nbgrader's `submitted/` folder: one notebook a student, or the reason why not."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from autograder import Refusal
from autograder.answers import Lesson
from autograder.course import Course, write_notebook
from autograder.intake.archives import Upload, open_uploads
from autograder.intake.notebooks import read_notebook
from autograder.intake.roster import Student, owner


@dataclass
class Intake:
    """What came of a folder: whose notebook is in `submitted/` now, and one sentence for all else."""

    taken: list[Student] = field(default_factory=list)
    refused: dict[Student, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)  # files that are no student's


def take_in(
    course: Course,
    lesson: str,
    place: Path,
    roster: Sequence[Student],
    pattern: re.Pattern[str] | None = None,
) -> Intake:
    """Lay out the notebooks of a folder or zip. What is refused leaves an earlier submission where it is."""
    intake = Intake()
    with open_uploads(place) as uploads:
        files = _by_student(uploads, lesson, roster, pattern, intake)
        for student in roster:
            if student not in files:
                intake.refused[student] = "handed in nothing"
                continue
            try:
                notebook = _one_notebook(course, lesson, files[student])
            except Refusal as reason:
                intake.refused[student] = str(reason)
            else:
                write_notebook(course.notebook("submitted", lesson, student.id), notebook)
                intake.taken.append(student)
    return intake


def _by_student(
    uploads: Iterator[Upload],
    lesson: str,
    roster: Sequence[Student],
    pattern: re.Pattern[str] | None,
    intake: Intake,
) -> dict[Student, list[Upload]]:
    files: dict[Student, list[Upload]] = defaultdict(list)
    for upload in uploads:
        try:
            files[owner(upload.path, lesson, roster, pattern)].append(upload)
        except Refusal as reason:
            if upload.path.suffix.casefold() in (".ipynb", ".zip"):
                intake.strays.append(f"{upload.path} {reason}.")
    return files


def _one_notebook(course: Course, lesson: str, uploads: Sequence[Upload]) -> NotebookNode:
    """The one notebook of the lesson among a student's files; equal copies count once."""
    found: dict[str, tuple[Upload, NotebookNode]] = {}
    reasons = []
    for upload in uploads:
        try:
            notebook = _notebook(course, lesson, upload)
        except Refusal as reason:
            reasons.append(f"{upload.path} {reason}")
        else:
            found.setdefault("\0".join(cell.source for cell in notebook.cells), (upload, notebook))
    if not found:
        raise Refusal(reasons[0])
    if len(found) > 1:
        names = " and ".join(str(upload.path) for upload, _ in found.values())
        raise Refusal(f"handed in different notebooks, {names}; keep the one that counts")
    return next(iter(found.values()))[1]


def _notebook(course: Course, lesson: str, upload: Upload) -> NotebookNode:
    if upload.path.suffix.casefold() != ".ipynb":
        raise Refusal("is not a notebook; ask for the .ipynb file")
    notebook = read_notebook(upload.read())
    shared = {name: Lesson(course.released(name)).recognised(notebook) for name in course.lessons()}
    best = max(shared, key=lambda name: (shared[name], name == lesson))
    if not any(shared[best]):
        raise Refusal(f"is a notebook of something else: no exercise of {lesson} is in it")
    if best != lesson:
        raise Refusal(f"is a notebook of {best}, not of {lesson}")
    return notebook
