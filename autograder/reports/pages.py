"""Every student's feedback page of a lesson in one go: gradebook read once, template loaded once."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.converters import GenerateFeedback
from nbgrader.preprocessors import GetGrades
from nbgrader.utils import is_grade, is_solution

from autograder.course import Course
from autograder.results import Result, results

BINS = 10
FEWEST = 5  # of fewer the distribution would say who has what
WIDEST = 20  # rem


def feedback_page(course: Course, lesson: str, student: str) -> Path:
    """Where a student's page lies, nbgrader's own too."""
    return course.root / "feedback" / student / lesson / f"{lesson}.html"


def write_pages(course: Course, lesson: str, students: Collection[str] | None = None) -> Iterator[Path]:
    """Write the pages of all graded students, or of some; give each as it is written."""
    config = course.config()
    converter = GenerateFeedback(config=config)
    steps = [step(config=config) for step in converter.preprocessors if step is not GetGrades]
    exporter = converter.exporter_class(config=converter.config)
    with course.gradebook() as gradebook:
        found = results(gradebook, lesson)
    bins = Bins(
        [result.score for result in found.values()], max((r.max_score for r in found.values()), default=0)
    )
    for student, result in found.items():
        source = course.notebook("autograded", lesson, student)
        if not source.is_file() or (students is not None and student not in students):
            continue
        told = _told(result, lesson, bins)
        notebook = _with_marks(nbformat.read(source, as_version=4), result)
        resources: dict[str, Any] = {"nbgrader": told}
        for step in steps:
            notebook, resources = step.preprocess(notebook, resources)
        html, _ = exporter.from_notebook_node(notebook, resources)
        path = feedback_page(course, lesson, student)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
        yield path


def _with_marks(notebook: NotebookNode, result: Result) -> NotebookNode:
    """As nbgrader's GetGrades, without a query for each cell."""
    for cell in notebook.cells:
        if is_grade(cell):
            mark = result.marks[cell.metadata.nbgrader["grade_id"]]
            cell.metadata.nbgrader.update(score=mark.score or 0.0, points=mark.max_score)
        if is_solution(cell):
            cell.metadata.nbgrader["comment"] = result.comments.get(cell.metadata.nbgrader["grade_id"], "")
    return notebook


def _told(result: Result, lesson: str, bins: "Bins") -> dict[str, Any]:
    return {
        "assignment": lesson,
        "notebook": lesson,
        "student": result.student,
        "score": result.score,
        "max_score": result.max_score,
        "late_penalty": result.penalty,
        "classmates": bins.around(result.score),
    }


class Bins:
    """The class's scores in ten bins; none of a class so small that they would say who has what."""

    def __init__(self, scores: Sequence[float], best: float) -> None:
        self.best = best
        self.counts = (
            Counter(map(self.place, scores)) if len(scores) >= FEWEST and best > 0 else Counter[int]()
        )

    def place(self, score: float) -> int:
        """The bin of a score; full marks are in the last."""
        return min(int(score / self.best * BINS), BINS - 1)

    def around(self, own: float) -> list[Mapping[str, Any]]:
        """What the page shows, one's own bin marked."""
        most = max(self.counts.values(), default=0)
        step = self.best / BINS
        return [
            {
                "label": f"{number * step:g} a {(number + 1) * step:g}",
                "count": self.counts[number],
                "width": round(WIDEST * self.counts[number] / most, 1),
                "own": number == self.place(own),
            }
            for number in range(BINS if most else 0)
        ]
