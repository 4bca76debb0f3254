"""From downloads to nbgrader's `submitted/`: first what would become of each file, then the writing."""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nbformat

from autograder import Refusal
from autograder.answers import Lesson
from autograder.course import Course, write_notebook
from autograder.intake.archives import Upload, open_uploads
from autograder.intake.attempts import Attempt, Policy, in_order
from autograder.intake.naming import origin
from autograder.intake.notebooks import read_notebook
from autograder.intake.owners import Owners
from autograder.intake.register import read_register, write_register
from autograder.intake.roster import Student
from autograder.lateness import timestamp_file

MAX_FILES = 20  # of one student


@dataclass(frozen=True)
class Entry:
    """What a student handed in: the attempts that may count, or the reason why there is none."""

    student: Student
    attempts: Sequence[Attempt] = ()
    time: datetime | None = None
    reason: str = ""
    to_student: str = ""  # the reason in Portuguese, where it is about their file


@dataclass
class Intake:
    """What came of a folder: an entry a student of the class, and one sentence for each file of nobody."""

    entries: list[Entry] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def taken(self) -> list[Student]:
        """Who has a notebook that can be graded."""
        return [entry.student for entry in self.entries if entry.attempts]

    @property
    def refused(self) -> dict[Student, str]:
        """Why the others have none."""
        return {entry.student: entry.reason for entry in self.entries if not entry.attempts}


def survey(
    course: Course,
    lesson: str,
    place: Path,
    roster: Sequence[Student],
    owners: Owners,
    policy: Policy = Policy.ask,
    times: Mapping[str, datetime] | None = None,
) -> Intake:
    """Look through a folder or zip; nothing is written. `times`: by student id, from the course platform."""
    lessons = {name: Lesson(course.released(name)) for name in course.lessons()}
    intake = Intake()
    with open_uploads(place) as uploads:
        files = _by_student(uploads, owners, intake)
        for student in roster:
            entry = _entry(student, files.get(student, []), lesson, lessons, policy)
            time = (times or {}).get(student.id) or (entry.attempts[-1].time if entry.attempts else None)
            intake.entries.append(Entry(student, entry.attempts, time, entry.reason, entry.to_student))
    return intake


def _by_student(uploads: Iterator[Upload], owners: Owners, intake: Intake) -> dict[Student, list[Upload]]:
    files: dict[Student, list[Upload]] = defaultdict(list)
    for upload in uploads:
        try:
            files[owners.of(upload.path)].append(upload)
        except Refusal as reason:
            if upload.path.suffix.casefold() in (".ipynb", ".zip"):
                intake.strays.append(f"{upload.path} {reason}.")
    return files


def _entry(
    student: Student, uploads: Sequence[Upload], lesson: str, lessons: Mapping[str, Lesson], policy: Policy
) -> Entry:
    if not uploads:
        return Entry(student, reason="handed in nothing")
    if len(uploads) > MAX_FILES:
        return Entry(student, reason=f"handed in {len(uploads)} files; ask for the notebook alone")
    attempts, refusals = [], []
    for upload in uploads:
        try:
            attempts.append(_attempt(upload, lesson, lessons))
        except Refusal as reason:
            refusals.append(Entry(student, reason=f"{upload.path} {reason}", to_student=reason.to_student))
    if not attempts:
        return refusals[0]
    try:
        return Entry(student, in_order(attempts, policy))
    except Refusal as reason:
        return Entry(student, reason=str(reason), to_student=reason.to_student)


def _attempt(upload: Upload, lesson: str, lessons: Mapping[str, Lesson]) -> Attempt:
    """Read a file. Raises Refusal, with a predicate, where it is no notebook of the lesson."""
    if ".ipynb" not in upload.path.name.casefold():  # some browsers add .txt or .json
        upload.read()  # what is wrong with a zip says more
        raise Refusal("is not a notebook; ask for the .ipynb file", "o arquivo não é um caderno (.ipynb)")
    notebook = read_notebook(upload.read())
    shared = {name: known.recognised(notebook) for name, known in lessons.items()}
    best = max(shared, key=lambda name: (shared[name], name == lesson))
    if not any(shared[best]):
        raise Refusal(
            f"is a notebook of something else: no exercise of {lesson} is in it",
            "o caderno não tem nenhum exercício desta aula",
        )
    if best != lesson:
        raise Refusal(f"is a notebook of {best}, not of {lesson}", f"o caderno é da aula {best}")
    known = origin(upload.path, lesson)
    return Attempt(upload.path, nbformat.writes(notebook) + "\n", known.rank, known.time)


def lay_out(course: Course, lesson: str, intake: Intake, assigned: Mapping[str, str] | None = None) -> None:
    """Write what was taken into `submitted/`. What was refused leaves an earlier submission where it is."""
    register = read_register(course, lesson)
    register.assigned.update(assigned or {})
    for entry in intake.entries:
        if not entry.attempts:
            continue
        write_notebook(course.notebook("submitted", lesson, entry.student.id), entry.attempts[-1].text)
        _write_time(timestamp_file(course, lesson, entry.student.id), entry.time)
        _keep_attempts(attempts_folder(course, lesson, entry.student.id), entry.attempts)
        register.paths[entry.student.id] = str(entry.attempts[-1].path)
    write_register(course, lesson, register)


def attempts_folder(course: Course, lesson: str, student: str) -> Path:
    """Where several attempts wait until it is known which is the best; absent where there is one."""
    return course.root / "attempts" / student / lesson


def _write_time(path: Path, time: datetime | None) -> None:
    if time is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC\n", encoding="utf-8")


def _keep_attempts(folder: Path, attempts: Sequence[Attempt]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for number, attempt in enumerate(attempts if len(attempts) > 1 else (), 1):
        write_notebook(folder / f"{number}.ipynb", attempt.text)
