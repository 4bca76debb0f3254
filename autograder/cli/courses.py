"""Commands about a course as a whole: make it, hand it out, try it, keep it safe."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from autograder import backup as keeping
from autograder import handout, publish, schema
from autograder.cli.grading import grade
from autograder.cli.shared import CourseFolder, Json, LessonName, console, say, say_json
from autograder.course import CONFIG_FILE, Course
from autograder.generated_class import write_class
from autograder.runtime.doctor import REMEDIES, examine
from autograder.runtime.sandbox import PROTECTIONS
from autograder.sample_class import write_sample_class

app = typer.Typer()


@app.command()
def init(course: CourseFolder) -> None:
    """Make an nbgrader course of the lessons here, or bring it up to date with them."""
    names = publish.course_facts(Path())["lessons"]
    sources = {name: publish.source_notebook(name, Path()) for name in names}
    made = Course.init(course, sources, Path("lessons/dados"))
    say(f"{made.root} teaches {', '.join(made.lessons())}; student versions lie under release/.")


@app.command()
def release(
    course: CourseFolder,
    to: Annotated[Path, typer.Option(help="Where to; its zip lies beside it.")] = Path("build/aula-peft"),
) -> None:
    """Build what students get: notebooks, data, toolkit, and a zip of it for classes without GitHub.

    First every notebook is searched for solutions, keys and hidden tests, and run as handed out: each
    exercise must say that it is not done, and nothing else may fail. A fault stops the release.
    """
    made = handout.release(Course.open(course), Path(), to)
    for lesson, version in made.versions.items():
        say(f"{lesson} {version}{' (new or changed)' if lesson in made.changed else ''}")
    say(f"Student tree: {made.folder}\nZip: {made.archive}")


@app.command()
def backup(
    course: CourseFolder,
    to: Annotated[Path | None, typer.Option(help="The file; COURSE-DATE.tar.gz without it.")] = None,
) -> None:
    """Put the whole course, its gradebook with it, into one file."""
    here = Course.open(course)
    path = to or Path(f"{here.root.name}-{date.today().isoformat()}.tar.gz")
    say(f"{keeping.backup(here, path):,} bytes in {path}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    course: Annotated[Path, typer.Argument(help="A new folder for the course.")],
) -> None:
    """Make a course of a backup."""
    made = keeping.restore(file, course)
    say(f"{made.root} teaches {', '.join(made.lessons())}.")


@app.command()
def upgrade(course: CourseFolder) -> None:
    """Bring a course that an earlier version made up to date, after a backup beside it."""
    here = Course(course.resolve())
    if not (here.root / CONFIG_FILE).is_file():
        Course.open(course)  # says what is wrong
    path = here.root.with_name(f"{here.root.name}-before-{schema.CURRENT}.tar.gz")
    if schema.schema_of(here.root) < schema.CURRENT:
        keeping.backup(here, path)
        say(f"Backup: {path}")
    steps = schema.upgrade(here.root, here.config().CourseDirectory.db_url)
    say(f"{here.root}: {steps} steps done, schema {schema.schema_of(here.root)}.")


@app.command()
def sample(
    course: CourseFolder,
    lesson: LessonName,
    to: Annotated[Path, typer.Option(help="Where to write roster.csv, times.csv and downloads/.")],
    students: Annotated[int, typer.Option(min=1, help="How many.")] = 30,
    seed: Annotated[int, typer.Option(help="Another number, another class.")] = 0,
) -> None:
    """Make up a class of any size, to try a course with: right and wrong, late, twice, unreadable, copied."""
    here = Course.open(course)
    here.check_lesson(lesson)
    made = write_class(here, lesson, to, students, seed)
    say(f"{len(made)} students of {lesson} in {to}: roster.csv, times.csv, downloads/.")


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
def doctor(as_json: Json = False) -> None:
    """Try each protection of the sandbox on this machine, and say what a missing one means."""
    missing = examine()
    if as_json:
        say_json(missing)
    else:
        for name, reason in missing.items():
            lacking = f"MISSING ({PROTECTIONS[name]}). {reason} To have it: {REMEDIES[name]}."
            console.print(f"{name}: {lacking if reason else 'holds'}", markup=False)
    raise typer.Exit(1 if any(missing.values()) else 0)
