"""What a class of a given size costs, stage by stage: time, memory, gradebook; whether it grows linearly.

    python -m benchmarks.term_scale 30 300        every submission graded, behind the walls
    python -m benchmarks.term_scale --saved 3000  results made up and saved: all but the running of code

The lesson is the small one of the tests, which imports nothing: what is left is the cost of the machinery.
"""

import contextlib
import io
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from autograder.backup import backup
from autograder.cli.submissions import keep, look
from autograder.course import Course
from autograder.generated_class import write_class
from autograder.grading import Graded
from autograder.insight.report import write_report, write_similar
from autograder.intake.attempts import Policy
from autograder.lateness import settle
from autograder.ledger import Ledger
from autograder.records import fingerprint
from autograder.reports.export import Parquet
from autograder.reports.pages import write_pages
from autograder.schedule import grade_all, open_client, save
from tests.autograder.small_lesson import LESSON, source_notebook


def main(
    sizes: list[int],
    saved: Annotated[bool, typer.Option(help="Do not run code; save made-up results.")] = False,
    workers: int = 1,
) -> None:
    """Print a line for each stage and size."""
    print(f"{'stage':<10}{'students':>9}{'seconds':>9}{'CPU s':>9}{'CPU ms':>9}")  # each, of this process
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), size, saved, workers)


def _measure(folder: Path, size: int, saved: bool, workers: int) -> None:
    course = Course.init(folder / "course", {LESSON: source_notebook()})
    with _stage("generate", size):
        write_class(course, LESSON, folder, size)
    with _stage("intake", size):
        found = look(
            course.root, LESSON, folder / "downloads", folder / "roster.csv",
            attempts=Policy.last, times=folder / "times.csv", deadline="2026-08-31T23:59Z",
        )  # fmt: skip
        keep(found)
    students = [student.id for student in found.intake.taken]
    with _stage("save" if saved else "grade", size):
        _save(course, students) if saved else _grade(course, students, workers)
    with _stage("lateness", size), course.gradebook() as gradebook:
        settle(course, LESSON, gradebook)
    with _stage("pages", size):
        pages = sum(1 for _ in write_pages(course, LESSON))
    with _stage("export", size), course.gradebook() as gradebook:
        Parquet(to=str(folder / "grades.parquet"), assignment=[LESSON]).export(gradebook)
    with _stage("report", size):
        write_report(course, LESSON, folder / "report.html")
    with _stage("similar", size):
        write_similar(course, LESSON, folder / "similar.html")
    with _stage("backup", size):
        bytes_kept = backup(course, folder / "course.tar.gz")
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose) / 1024
    gradebook_size = (course.root / "gradebook.db").stat().st_size
    total = sum(path.stat().st_size for path in course.root.rglob("*") if path.is_file())
    kept = [f"{name} {n / 2**20:.1f} MiB" for name, n in (("gradebook", gradebook_size), ("course", total))]
    print(f"{size} students: {pages} pages, {', '.join(kept)}, backup {bytes_kept / 2**20:.1f} MiB,")
    print(f"largest process {peak:.0f} MiB")


@contextlib.contextmanager
def _stage(name: str, size: int) -> Iterator[None]:
    started, used = time.perf_counter(), time.process_time()
    yield
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(f"{name:<10}{size:>9}{seconds:>9.1f}{used:>9.1f}{1000 * used / size:>9.1f}", flush=True)


def _grade(course: Course, students: list[str], workers: int) -> None:
    with open_client(workers) as client, contextlib.redirect_stderr(io.StringIO()):
        failed = [graded.student for graded in grade_all(course, LESSON, students, client) if graded.failure]
    if failed:
        print(f"{len(failed)} failed")


def _save(course: Course, students: list[str]) -> None:
    chance = random.Random(0)
    with Ledger(course, LESSON) as ledger:
        _save_all(course, students, chance, ledger)


def _save_all(course: Course, students: list[str], chance: random.Random, ledger: Ledger) -> None:
    for student in students:
        text = course.notebook("submitted", LESSON, student).read_text(encoding="utf-8")
        worth = {"soma-teste": 2.0, "dobro-teste": 3.0}
        scores = {f"{LESSON}-{name}": points * chance.randrange(2) for name, points in worth.items()}
        graded = Graded(student, text, {**scores, f"{LESSON}-aberta": None})
        save(ledger, graded, fingerprint(course, LESSON, student))


if __name__ == "__main__":
    typer.run(main)
