"""Commands about what came of grading: pages, tables for the course platform."""

from pathlib import Path
from typing import Annotated

import typer

from autograder import Refusal
from autograder.cli.grading import finish
from autograder.cli.shared import CourseFolder, Json, LessonName, say, say_json
from autograder.course import Course
from autograder.reports.bundles import PLATFORMS, write_bundle
from autograder.reports.export import FORMATS, fill_in, rows

app = typer.Typer()


@app.command()
def feedback(
    course: CourseFolder,
    lesson: LessonName,
    bundle: Annotated[str, typer.Option("--zip", help=f"Zip the pages for: {', '.join(PLATFORMS)}.")] = "",
    to: Annotated[Path | None, typer.Option(help="The zip; LESSON-PLATFORM.zip without it.")] = None,
) -> None:
    """Write the feedback pages anew, points given by hand in them, and zip them for the course platform."""
    here = Course.open(course)
    here.check_lesson(lesson)
    if bundle and bundle not in PLATFORMS:
        raise Refusal(f"--zip knows {', '.join(PLATFORMS)}, not {bundle!r}.")
    finish(here, lesson)
    say(f"Feedback pages: {here.root / 'feedback'}")
    if bundle:
        path = to or Path(f"{lesson}-{bundle}.zip")
        say(f"{write_bundle(here, lesson, bundle, path)} files in {path}")


@app.command()
def export(
    course: CourseFolder,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "csv",
    lesson: Annotated[list[str] | None, typer.Option(help="A lesson; all without it.")] = None,
    to: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    template: Annotated[
        Path | None,
        typer.Option(help="The platform's own table (Moodle's worksheet, Canvas's export) to fill in."),
    ] = None,
) -> None:
    """Write the grades as CSV, Parquet, Moodle's or Canvas's CSV, or fill in the platform's own table."""
    here = Course.open(course)
    if form not in FORMATS:
        raise Refusal(f"--format knows {', '.join(FORMATS)}, not {form!r}.")
    for name in lesson or []:
        here.check_lesson(name)
    with here.gradebook() as gradebook:
        if template:
            if len(lesson or []) != 1:
                raise Refusal("--template is filled in for one lesson: name it with --lesson.")
            [name] = lesson or []
            path = to or template.with_stem(f"{template.stem}-filled")
            found = [row for row in rows(gradebook) if row.assignment == name]
            say(f"{fill_in(template, path, name, found)} grades filled into {path}")
        else:
            plugin = FORMATS[form]
            path = to or Path(f"grades.{plugin.suffix}")
            plugin(to=str(path), assignment=lesson or []).export(gradebook)
            say(f"Grades: {path}")


@app.command()
def report(course: CourseFolder, lesson: LessonName, as_json: Json = False) -> None:
    """Write one HTML page: the class's points, each exercise's figures, what went wrong most."""
    from autograder.insight.report import write_report  # draws, with what no other command imports

    here = Course.open(course)
    here.check_lesson(lesson)
    path = here.root / "reports" / f"{lesson}.html"
    figures = write_report(here, lesson, path)
    if as_json:
        say_json(figures)
    else:
        say(f"{figures['students']} students, mean {figures['mean']:.2f}. Report: {path}")


@app.command()
def similar(course: CourseFolder, lesson: LessonName, as_json: Json = False) -> None:
    """Write an HTML page of answers that are alike, both texts side by side: evidence, never a penalty."""
    from autograder.insight.report import write_similar

    here = Course.open(course)
    here.check_lesson(lesson)
    path = here.root / "reports" / f"{lesson}-similar.html"
    pairs = write_similar(here, lesson, path)
    if as_json:
        say_json([{"students": p.students, "answers": [e.answer for e in p.evidence]} for p in pairs])
    else:
        say(f"{len(pairs)} pairs stand out. Page: {path}")
