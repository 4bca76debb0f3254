"""The instructor's report of a lesson: one HTML file that needs nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from autograder import Refusal
from autograder.course import Course
from autograder.insight.outcomes import lesson_exercises, outcomes
from autograder.insight.pictures import item_picture, score_picture, time_picture
from autograder.insight.similarity import Pair, similar_pairs
from autograder.insight.statistics import items
from autograder.judge.execute import IN_KERNEL
from autograder.results import Result, results
from toolkit.lesson import exercises, mark, source

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


def write_report(course: Course, lesson: str, path: Path) -> dict[str, Any]:
    """Write the report of a lesson; gives its figures, as data. Raises Refusal where nothing is graded."""
    with course.gradebook() as gradebook:
        found = results(gradebook, lesson)
        due = gradebook.find_assignment(lesson).duedate
    if not found:
        raise Refusal(f"Nothing of {lesson} is graded yet: run `autograder grade` first.")
    told = list(outcomes(course, lesson, iter(found)))
    lesson_parts = lesson_exercises(course, lesson)
    figures = items(found, told, lesson_parts)
    tests = [cell for exercise in lesson_parts for cell in exercise.tests]
    in_kernel = [mark(cell)["grade_id"] for cell in tests if IN_KERNEL in cell["metadata"].get("tags", [])]
    scores = [result.score for result in found.values()]
    best = max(result.max_score for result in found.values())
    text = PAGES.get_template("report.html.j2").render(
        lesson=lesson,
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        students=len(found),
        mean=sum(scores) / len(scores),
        best=best,
        waiting=sum(result.waiting for result in found.values()),
        late=sum(result.seconds_late > 0 for result in found.values()),
        items=figures,
        in_kernel=in_kernel,
        score_picture=score_picture(scores, best),
        item_picture=item_picture(figures) if figures else "",
        time_picture=_times(found, due),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return {
        "students": len(found),
        "mean": sum(scores) / len(scores),
        "items": [vars(item) for item in figures],
        "in_kernel": in_kernel,
    }


def write_similar(course: Course, lesson: str, path: Path) -> list[Pair]:
    """Write the page of answers that are alike, at most a hundred pairs; gives them all."""
    with course.gradebook() as gradebook:
        students = list(results(gradebook, lesson))
    answers = {outcome.student: outcome.answers for outcome in outcomes(course, lesson, iter(students))}
    released = exercises(course.released(lesson).cells)
    given = {str(mark(cell)["grade_id"]): source(cell) for e in released for cell in e.answers}
    pairs = similar_pairs(answers, given)
    text = PAGES.get_template("similar.html.j2").render(
        lesson=lesson, pairs=pairs[:100], compared=len(answers)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return pairs


def _times(found: dict[str, Result], due: datetime | None) -> str:
    """Empty where the platform's times or the deadline are not known."""
    timed = [(r.time, r.score) for r in found.values() if r.time]
    if not timed or due is None:
        return ""
    return time_picture(
        [(time - due).total_seconds() / 3600 for time, _ in timed], [score for _, score in timed]
    )
