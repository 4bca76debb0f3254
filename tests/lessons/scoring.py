"""What an answer scores: a lesson's nbgrader cells, run in order in a fresh namespace, without a kernel."""

import contextlib
import io
import warnings
from pathlib import Path
from types import CodeType

import jupytext
from nbformat import NotebookNode

from autograder.publish import source_notebook, student_notebook

ROOT = Path(__file__).parents[2]


def cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that nbgrader knows: given code, answers and tests."""
    return [c for c in notebook.cells if c.cell_type == "code" and "nbgrader" in c.metadata]


def graded_by(notebook: NotebookNode) -> dict[str, list[str]]:
    """For each answer the grade ids of its tests: the graded cells that follow it, up to the next answer."""
    tests: dict[str, list[str]] = {}
    for cell in cells(notebook):
        marks = cell.metadata["nbgrader"]
        if marks["solution"]:
            tests[marks["grade_id"]] = []
        elif marks["grade"]:
            tests[list(tests)[-1]].append(marks["grade_id"])
    return tests


def run(notebook: NotebookNode, answers: dict[str, str]) -> dict[str, BaseException | str]:
    """What each test cell ends with when `answers` replace the notebook's: its exception, its stderr, or ""."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    outcomes: dict[str, BaseException | str] = {}
    with warnings.catch_warnings(record=True) as shown:  # a kernel would write them to stderr, which costs points
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        for cell in cells(notebook):
            grade_id, before = cell.metadata["nbgrader"]["grade_id"], len(shown)
            code = compile(answers.get(grade_id, cell.source), grade_id, "exec")
            outcomes[grade_id] = _execute(code, namespace) or "".join(str(w.message) for w in shown[before:])
    return {name: outcomes[name] for tests in graded_by(notebook).values() for name in tests}


def _execute(code: CodeType, namespace: dict[str, object]) -> BaseException | str:
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            exec(code, namespace)
        except Exception as error:
            return error
    return errors.getvalue()


def source(lesson: str) -> NotebookNode:
    return source_notebook(lesson, ROOT)


def stub(notebook: NotebookNode, answer: str) -> str:
    """What the student is handed for one answer."""
    return next(c.source for c in cells(student_notebook(notebook)) if c.metadata["nbgrader"]["grade_id"] == answer)


def mutants(lesson: str) -> list[NotebookNode]:
    """The answers that a lesson keeps to test its tests with: metadata title, answer and right."""
    notebook = jupytext.read(ROOT / "lessons" / lesson / "mutantes.py")
    return [c for c in notebook.cells if c.cell_type == "code" and "answer" in c.metadata]
