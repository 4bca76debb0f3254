"""Commands that give points: the machine's, a person's, and those given again after a test was mended."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from autograder import Refusal
from autograder.best_of import grade_best, with_several
from autograder.cli.shared import CourseFolder, Json, LessonName, Yes, confirmed, console, say, say_json
from autograder.cli.submissions import Assign, Attempts, Deadline, Pattern, Times, keep, look
from autograder.course import Course
from autograder.grading import Graded
from autograder.intake.attempts import Policy
from autograder.intake.roster import Student
from autograder.lateness import settle
from autograder.ledger import Ledger
from autograder.records import fingerprint, is_current
from autograder.regrade import Change, changes
from autograder.reports.export import SafeCsv
from autograder.reports.notice import remove_notice, write_notice
from autograder.reports.pages import write_pages
from autograder.reports.summary import class_lines, class_table
from autograder.results import results
from autograder.runtime.client import waive
from autograder.schedule import grade_all, open_client, prepare, save, try_all

app = typer.Typer()

Workers = Annotated[int, typer.Option(min=1, help="Submissions graded at a time.")]
Scheduler = Annotated[str, typer.Option(help="A dask scheduler (tcp://...) to use instead.")]
Weaker = Annotated[
    list[str] | None, typer.Option(help="A protection to do without; `autograder doctor` lists them.")
]
# One more than cores: a submission often waits, for its processes to start and to end.
WORKERS = (os.cpu_count() or 1) + 1


@app.command()
def grade(
    course: CourseFolder,
    lesson: LessonName,
    submissions: Annotated[
        Path | None, typer.Option(help="Download to take in first, as `intake --yes` does.")
    ] = None,
    roster: Annotated[
        Path | None, typer.Option(help="CSV of the class: id, first_name, last_name, email.")
    ] = None,
    pattern: Pattern = "",
    attempts: Attempts = Policy.ask,
    times: Times = None,
    deadline: Deadline = "",
    assign: Assign = None,
    workers: Workers = WORKERS,
    scheduler: Scheduler = "",
    allow_weaker_sandbox: Weaker = None,
    again: Annotated[bool, typer.Option(help="Grade unchanged submissions too.")] = False,
    as_json: Json = False,
) -> None:
    """Grade a class: who got what, a feedback page a student, and the grades as a CSV.

    Every result is saved as it comes: after a Ctrl-C the same command goes on where it stopped.
    """
    for lost in waive(allow_weaker_sandbox or []):
        typer.echo(f"Weaker sandbox: {lost}.", err=True)
    here = Course.open(course)
    here.check_lesson(lesson)
    problems: dict[str, str] = {}
    strays: list[str] = []
    if submissions:
        if not roster:
            raise Refusal(
                "--submissions needs --roster, the class list: its files are given to students by it."
            )
        if not scheduler:
            prepare()
        found = look(course, lesson, submissions, roster, pattern, attempts, times, deadline, assign)
        keep(found)
        problems, strays = {s.id: reason for s, reason in found.intake.refused.items()}, found.intake.strays
    enrolled = [s.id for s in _enrolled(here) if s.id not in problems]
    taken = [student for student in enrolled if here.notebook("submitted", lesson, student).is_file()]
    due = [student for student in taken if again or not is_current(here, lesson, student)]
    problems |= _grade(here, lesson, due, workers, scheduler, quiet=as_json)
    finish(here, lesson, quiet=as_json)
    _tell(here, lesson, problems, strays, len(taken) - len(due), as_json)
    if problems or strays:
        raise typer.Exit(1)


def _tell(
    course: Course, lesson: str, problems: dict[str, str], strays: list[str], unchanged: int, as_json: bool
) -> None:
    """Print who got what, and what is left for a person."""
    students = _enrolled(course)
    with course.gradebook() as gradebook:
        if as_json:
            say_json({"students": class_lines(gradebook, lesson, students, problems), "strays": strays})
            return
        console.print(class_table(gradebook, lesson, students, problems))
    if unchanged:
        say(f"{unchanged} unchanged since they were graded; --again grades them anew.")
    for stray in strays:
        say(f"Not graded: {stray}")
    say(f"Grades: {_grades(course, lesson)}\nFeedback pages: {course.root / 'feedback'}")


def _enrolled(course: Course) -> list[Student]:
    with course.gradebook() as gradebook:
        return [
            Student(s.id, s.first_name or "", s.last_name or "", s.email or "") for s in gradebook.students
        ]


def _grade(
    course: Course, lesson: str, due: Sequence[str], workers: int, scheduler: str, quiet: bool = False
) -> dict[str, str]:
    """Grade with a progress bar; give the reasons of those that failed, who get a notice."""
    if not due:
        return {}
    several = with_several(course, lesson, due)
    once = [student for student in due if student not in several]
    problems = {}
    with open_client(workers, scheduler) as client, _progress(quiet) as progress:
        bar = progress.add_task(f"grading {lesson}", total=len(due))

        def both() -> Iterator[Graded]:
            yield from grade_all(course, lesson, once, client)
            yield from grade_best(
                course, lesson, several, lambda group: grade_all(course, lesson, group, client)
            )

        try:
            for graded in progress.track(both(), task_id=bar):
                if graded.failure:
                    problems[graded.student] = graded.failure
                    write_notice(course, lesson, graded.student, "")
                else:
                    remove_notice(course, lesson, graded.student)
        except KeyboardInterrupt:
            say("Stopped; what was graded is saved. The same command goes on from here.")
            raise typer.Exit(130) from None
    return problems


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=quiet)


@app.command()
def regrade(
    course: CourseFolder,
    lesson: LessonName,
    workers: Workers = WORKERS,
    scheduler: Scheduler = "",
    allow_weaker_sandbox: Weaker = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Grade every submission again, after a test was mended, and list whose points would change.

    Nothing is saved before a yes. Points given by hand stay.
    """
    waive(allow_weaker_sandbox or [])
    here = Course.open(course)
    here.check_lesson(lesson)
    taken = [s.id for s in _enrolled(here) if here.notebook("submitted", lesson, s.id).is_file()]
    before = {student: fingerprint(here, lesson, student) for student in taken}
    with open_client(workers, scheduler) as client, _progress(as_json) as progress:
        found = list(
            progress.track(try_all(here, lesson, taken, client), total=len(taken), description="trying")
        )
    with here.gradebook() as gradebook:
        changed = changes(found, results(gradebook, lesson))
    if as_json:
        say_json([asdict(change) | {"difference": change.difference} for change in changed])
    else:
        console.print(_changes_table(lesson, changed))
    if not confirmed(f"Save the new points of {len(changed)} students?", yes):
        say("Nothing was saved; --yes saves it.") if not as_json else None
        return
    with Ledger(here, lesson) as ledger:
        for graded in found:
            if not graded.failure:
                save(ledger, graded, before[graded.student])
    finish(here, lesson, quiet=as_json)


def _changes_table(lesson: str, changed: Sequence[Change]) -> Table:
    table = Table(title=f"{lesson}: {len(changed)} would change", title_justify="left")
    for heading in ("id", "difference", "items", "remark"):
        table.add_column(heading)
    for change in changed:
        items = (f"{n}: {change.before.get(n)} -> {change.after.get(n)}" for n in change.after)
        remark = f"{change.failure}; keeps what it has" if change.failure else ""
        table.add_row(change.student, f"{change.difference:+g}", "\n".join(items), remark)
    return table


@app.command()
def formgrade(
    course: CourseFolder,
    lesson: LessonName,
    port: Annotated[int, typer.Option(help="Where the server listens, on this machine only.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Open nbgrader's formgrader on the first submission that waits for a person, the rubric in it.

    Afterwards `autograder feedback` writes the pages anew. End it with Ctrl-C.
    """
    here = Course.open(course)
    here.check_lesson(lesson)
    with here.gradebook() as gradebook:
        waiting = [r for r in results(gradebook, lesson).values() if r.waiting]
    if not waiting:
        say(f"Nothing of {lesson} waits for a person.")
        return
    say(f"{len(waiting)} submissions of {lesson} wait for a person; formgrader's Next leads through them.")
    options = {
        "root_dir": here.root,
        "port": port,
        "default_url": f"/formgrader/submissions/{waiting[0].notebook}/",
        "open_browser": browser,
        "jpserver_extensions": "{'nbgrader.server_extensions.formgrader': True}",
    }
    command = [sys.executable, "-m", "jupyter_server", *(f"--ServerApp.{k}={v}" for k, v in options.items())]
    os.chdir(here.root)
    os.execv(sys.executable, [*command, "--allow-root"])


def finish(course: Course, lesson: str, quiet: bool = False) -> None:
    """What follows from new points: penalties, every page (they show the class), the table of grades."""
    with course.gradebook() as gradebook:
        settle(course, lesson, gradebook)
    with _progress(quiet) as progress:
        total = len(list((course.root / "autograded").glob(f"*/{lesson}")))
        for _ in progress.track(write_pages(course, lesson), total=total, description="feedback pages"):
            pass
    _grades(course, lesson).parent.mkdir(exist_ok=True)
    with course.gradebook() as gradebook:
        SafeCsv(to=str(_grades(course, lesson)), assignment=[lesson]).export(gradebook)


def _grades(course: Course, lesson: str) -> Path:
    return course.root / "grades" / f"{lesson}.csv"
