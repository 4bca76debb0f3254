"""The page that a student gets back: points, answers, verdicts; no hidden test, nothing that runs."""

from pathlib import Path
from typing import Any

import nbgrader
from markdown_it import MarkdownIt
from nbconvert.exporters import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from toolkit.lesson import Exercise, exercises

# Ours first, for the feedback page; nbgrader's for formgrader.
TEMPLATES = [
    Path(__file__).parent / "templates",
    Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates",
]


def safe_markdown(text: str) -> str:
    """A student's Markdown as HTML: raw HTML in it is escaped, javascript: links are refused."""
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return html


class FeedbackPage(HTMLExporter):  # type: ignore[misc]
    """The page as the template writes it, without a second pass that reads all of it for pictures' names."""

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **kw: Any) -> Any:
        """As the grandparent's, with the filter that the parent sets for each notebook."""
        self.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self))  # type: ignore[no-untyped-call]
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)


class ByExercise(NbGraderPreprocessor):  # type: ignore[misc]
    """Last of `c.GenerateFeedback.preprocessors`: the table of points by exercise, each with its message."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Set `resources["nbgrader"]["exercises"]`."""
        resources["nbgrader"]["exercises"] = [_line(exercise) for exercise in exercises(nb.cells)]
        return nb, resources


def _line(exercise: Exercise) -> dict[str, Any]:
    graded = [c for c in (*exercise.tests, *exercise.answers) if c["metadata"]["nbgrader"]["grade"]]
    marks = [cell["metadata"]["nbgrader"] for cell in graded]
    errors = [o for cell in exercise.tests for o in cell.get("outputs", []) if o["output_type"] == "error"]
    return {
        "title": exercise.title.replace("`", ""),
        "place": marks[0]["grade_id"] if marks else "",
        "score": sum(mark.get("score") or 0.0 for mark in marks),
        "points": sum(mark["points"] for mark in marks),
        "message": "\n".join(errors[0]["traceback"]).splitlines()[-1] if errors else "",
    }
