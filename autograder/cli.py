"""The `autograder` command: each subcommand calls the rooms in turn and says what came of it."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autograder import Refusal, publish
from autograder.course import Course
from autograder.intake.layout import take_in
from autograder.intake.roster import enrol, read_roster
from autograder.records import is_current
from autograder.reports.export import SafeCsv
from autograder.reports.summary import class_table
from autograder.runtime.client import waive
from autograder.runtime.doctor import examine
from autograder.runtime.sandbox import PROTECTIONS
from autograder.sample_class import write_sample_class
from autograder.schedule import grade_all, open_client

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False)

CourseFolder = Annotated[Path, typer.Argument(help="The course's folder.")]


@app.command()
def init(course: CourseFolder) -> None:
    """Make an nbgrader course of the lessons here, or bring it up to date with them."""
    names = publish.course_facts(Path())["lessons"]
    sources = {name: publish.source_notebook(name, Path()) for name in names}
    made = Course.init(course, sources, Path("lessons/dados"))
    console.print(f"{made.root} teaches {', '.join(made.lessons())}; student versions lie under release/.")


@app.command()
def grade(
    course: CourseFolder,
    lesson: Annotated[str, typer.Option(help="The lesson's name, such as 03_lora.")],
    submissions: Annotated[Path, typer.Option(help="Folder or zip of the notebooks as downloaded.")],
    roster: Annotated[Path, typer.Option(help="CSV of the class: id, first_name, last_name, email.")],
    pattern: Annotated[str, typer.Option(help="Regular expression: its group 'student' is the id.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Submissions graded at a time.")] = os.cpu_count() or 1,
    scheduler: Annotated[str, typer.Option(help="A dask scheduler (tcp://...) to use instead.")] = "",
    allow_weaker_sandbox: Annotated[
        list[str] | None, typer.Option(help="A protection to do without; `autograder doctor` lists them.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Grade unchanged submissions too.")] = False,
) -> None:
    """Grade a class: who got what, a feedback page a student, and the grades as a CSV.

    Every result is saved as it comes: after a Ctrl-C the same command goes on where it stopped.
    """
    for lost in waive(allow_weaker_sandbox or []):
        console.print(f"Weaker sandbox: {lost}.")
    here = Course.open(course)
    here.check_lesson(lesson)
    students = read_roster(roster)
    enrol(here, students)
    intake = take_in(here, lesson, submissions, students, _compiled(pattern))
    problems = {student.id: reason for student, reason in intake.refused.items()}
    taken = [student.id for student in intake.taken]
    due = [student for student in taken if again or not is_current(here, lesson, student)]
    problems |= _grade(here, lesson, due, workers, scheduler)
    with here.gradebook() as gradebook:
        console.print(class_table(gradebook, lesson, students, problems))
    if len(due) < len(taken):
        console.print(f"{len(taken) - len(due)} unchanged since they were graded; --again grades them anew.")
    for stray in intake.strays:
        console.print(f"Not graded: {stray}", markup=False)
    _export(here, lesson)
    if problems or intake.strays:
        raise typer.Exit(1)


def _grade(course: Course, lesson: str, due: list[str], workers: int, scheduler: str) -> dict[str, str]:
    """Grade with a progress bar; give the reasons of those that failed."""
    if not due:
        return {}
    with open_client(workers, scheduler) as client, _progress() as progress:
        bar = progress.add_task(f"grading {lesson}", total=len(due))
        results = progress.track(grade_all(course, lesson, due, client), task_id=bar)
        try:
            return {graded.student: graded.failure for graded in results if graded.failure}
        except KeyboardInterrupt:
            console.print("Stopped; what was graded is saved. The same command goes on from here.")
            raise typer.Exit(130) from None


def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise Refusal(f"--pattern is no regular expression ({error}): mend {pattern!r}.") from None
    if pattern and "student" not in compiled.groupindex:
        raise Refusal(f"--pattern needs a group (?P<student>...) around the id, {pattern!r} has none.")
    return compiled if pattern else None


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)


def _export(course: Course, lesson: str) -> None:
    path = course.root / "grades" / f"{lesson}.csv"
    path.parent.mkdir(exist_ok=True)
    with course.gradebook() as gradebook:
        SafeCsv(to=str(path), assignment=[lesson]).export(gradebook)
    console.print(f"Grades: {path}\nFeedback pages: {course.root / 'feedback'}", markup=False, soft_wrap=True)


@app.command()
def demo(folder: Annotated[Path, typer.Argument(help="Where to make it.")] = Path("demo/class")) -> None:
    """Make a course and a sample class of twelve, and grade it."""
    init(folder / "course")
    lesson = Course.open(folder / "course").lessons()[0]
    write_sample_class(Course.open(folder / "course"), lesson, folder)
    try:
        grade(folder / "course", lesson, folder / "downloads", folder / "roster.csv")
    except typer.Exit:
        console.print(
            "Some could not be graded, as is meant: the sample class has every kind of bad submission."
        )


@app.command()
def doctor() -> None:
    """Try each protection of the sandbox on this machine, and say what a missing one means."""
    missing = examine()
    for name, reason in missing.items():
        console.print(f"{name}: {'holds' if not reason else f'MISSING ({PROTECTIONS[name]}). {reason}'}")
    raise typer.Exit(1 if any(missing.values()) else 0)


def main() -> None:
    """Run the command line; what a user got wrong is one sentence on stderr and exit status 2."""
    try:
        app()
    except (Refusal, publish.PublishError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
