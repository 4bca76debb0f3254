"""Commands about what students handed in: look through a download, lay it out for grading."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from autograder import Refusal
from autograder.cli.shared import (
    CourseFolder,
    Json,
    LessonName,
    Yes,
    compiled,
    confirmed,
    console,
    say,
    say_json,
)
from autograder.course import Course
from autograder.intake.attempts import Policy
from autograder.intake.layout import Entry, Intake, lay_out, survey
from autograder.intake.owners import Owners
from autograder.intake.register import read_register
from autograder.intake.roster import Student, enrol, read_roster
from autograder.intake.times import read_times
from autograder.reports.notice import remove_notice, write_notice

app = typer.Typer()

Submissions = Annotated[Path, typer.Option(help="Folder or zip of the notebooks as downloaded.")]
RosterFile = Annotated[Path, typer.Option(help="CSV of the class: id, first_name, last_name, email.")]
Pattern = Annotated[str, typer.Option(help="Regular expression: its group 'student' is the id.")]
Attempts = Annotated[Policy, typer.Option(help="Which of several different notebooks of a student counts.")]
Times = Annotated[Path | None, typer.Option(help="CSV of the platform: who handed in when.")]
Deadline = Annotated[
    str, typer.Option(help="When the lesson was due, such as 2026-08-31T23:59; kept for later.")
]
Assign = Annotated[
    list[str] | None, typer.Option(help="FILE=ID gives a file of the download to a student; kept.")
]


@dataclass
class Download:
    """A download looked through: what would become of it."""

    course: Course
    lesson: str
    students: Sequence[Student]
    intake: Intake
    due: datetime | None
    assigned: dict[str, str] = field(default_factory=dict)


@app.command()
def intake(
    course: CourseFolder,
    lesson: LessonName,
    submissions: Submissions,
    roster: RosterFile,
    pattern: Pattern = "",
    attempts: Attempts = Policy.ask,
    times: Times = None,
    deadline: Deadline = "",
    assign: Assign = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Show what would become of each file of a download; after a yes, lay it out for grading.

    Nothing is written before. Files of nobody are listed with the reason; --assign gives one to a student.
    """
    found = look(course, lesson, submissions, roster, pattern, attempts, times, deadline, assign)
    if as_json:
        say_json(
            [_facts(entry, found.due) for entry in found.intake.entries]
            + [{"stray": s} for s in found.intake.strays]
        )
    else:
        console.print(_preview(found))
        for stray in found.intake.strays:
            say(f"Nobody's: {stray}")
    if confirmed(f"Lay out {len(found.intake.taken)} notebooks?", yes):
        keep(found)
        if not as_json:
            say(f"{len(found.intake.taken)} notebooks laid out under {found.course.root / 'submitted'}.")
    elif not as_json:
        say("Nothing was written; --yes writes it.")
    raise typer.Exit(1 if found.intake.refused or found.intake.strays else 0)


def look(
    course: Path,
    lesson: str,
    submissions: Path,
    roster: Path,
    pattern: str = "",
    attempts: Policy = Policy.ask,
    times: Path | None = None,
    deadline: str = "",
    assign: Sequence[str] | None = None,
) -> Download:
    """Look through a download; nothing is written."""
    here = Course.open(course)
    here.check_lesson(lesson)
    students = read_roster(roster)
    assigned = read_register(here, lesson).assigned | dict(map(_assignment, assign or ()))
    owners = Owners(students, lesson, compiled(pattern), assigned)
    when = read_times(times, students) if times else {}
    intake = survey(here, lesson, submissions, students, owners, attempts, when)
    with here.gradebook() as gradebook:
        due = _time(deadline) if deadline else gradebook.find_assignment(lesson).duedate
    return Download(here, lesson, students, intake, due, assigned)


def keep(found: Download) -> None:
    """Write what was found: the class list, the notebooks, the deadline, and notices for the unreadable."""
    enrol(found.course, found.students)
    with found.course.gradebook() as gradebook:
        gradebook.find_assignment(found.lesson).duedate = found.due
        gradebook.db.commit()
    lay_out(found.course, found.lesson, found.intake, found.assigned)
    for entry in found.intake.entries:
        if entry.attempts:
            remove_notice(found.course, found.lesson, entry.student.id)
        elif entry.to_student:
            write_notice(found.course, found.lesson, entry.student.id, entry.to_student)


def _assignment(text: str) -> tuple[str, str]:
    path, _, student = text.rpartition("=")
    if not (path and student):
        raise Refusal(f"--assign needs FILE=ID, such as 'sem nome.ipynb=20260001'; {text!r} is not that.")
    return path, student


def _time(text: str) -> datetime:
    """The deadline in UTC without a zone, as nbgrader keeps it; the machine's zone where none is given."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    except ValueError:
        raise Refusal(f"--deadline {text!r} is no time: write it like 2026-08-31T23:59.") from None


def _late(entry: Entry, due: datetime | None) -> float:
    """Hours after the deadline, 0 where in time or unknown."""
    if entry.time is None or due is None:
        return 0.0
    return max(0.0, (entry.time.astimezone(UTC).replace(tzinfo=None) - due).total_seconds() / 3600)


def _facts(entry: Entry, due: datetime | None) -> dict[str, object]:
    files = [str(attempt.path) for attempt in entry.attempts]
    time = entry.time.astimezone(UTC).isoformat() if entry.time else None
    return {
        "id": entry.student.id,
        "files": files,
        "time": time,
        "hours_late": _late(entry, due),
        "reason": entry.reason,
    }


def _preview(found: Download) -> Table:
    table = Table(title=f"{found.lesson}: {len(found.students)} students", title_justify="left")
    for heading in ("student", "id", "file", "handed in", "remark"):
        table.add_column(heading, overflow="fold")
    for entry in found.intake.entries:
        file = str(entry.attempts[-1].path) if entry.attempts else ""
        more = f"best of {len(entry.attempts)} attempts" if len(entry.attempts) > 1 else ""
        late = _late(entry, found.due)
        remarks = [entry.reason, more, f"{late:.1f} h late" if late else ""]
        time = f"{entry.time.astimezone():%Y-%m-%d %H:%M}" if entry.time else ""
        table.add_row(
            Text(entry.student.name),
            entry.student.id,
            Text(file),
            time,
            Text("; ".join(filter(None, remarks))),
        )
    return table
