"""What an answer scores: a lesson's nbgrader cells, run in order in a fresh namespace, without a kernel."""

import contextlib
import io
import warnings
from pathlib import Path
from types import CodeType

import jupytext
from nbformat import NotebookNode

from autograder.judge.adapter import adapter_on

ROOT = Path(__file__).parents[2]
STUDENT = "2023001"  # the instructor's cell of the quiz has the same


def cells(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """The code cells that nbgrader knows, by grade id: given code, answers and tests."""
    known = [c for c in notebook.cells if c.cell_type == "code" and "nbgrader" in c.metadata]
    return {c.metadata["nbgrader"]["grade_id"]: c for c in known}


def graded_by(notebook: NotebookNode) -> dict[str, list[str]]:
    """For each answer the grade ids of its tests: the graded cells that follow it, up to the next answer."""
    tests: dict[str, list[str]] = {}
    for grade_id, cell in cells(notebook).items():
        if cell.metadata["nbgrader"]["solution"]:
            tests[grade_id] = []
        elif cell.metadata["nbgrader"]["grade"]:
            tests[list(tests)[-1]].append(grade_id)
    return tests


def run(notebook: NotebookNode, replaced: dict[str, str]) -> dict[str, BaseException | str]:
    """What each test cell ends with when some cells are `replaced`: its exception, its stderr, or ""."""
    judge = {"adapter_on": adapter_on, "student_id": STUDENT, "credit": float}  # what it gives to every test
    namespace: dict[str, object] = {"__name__": "__main__", "matricula": STUDENT, **judge}
    outcomes: dict[str, BaseException | str] = {}
    with warnings.catch_warnings(record=True) as shown:  # a kernel writes them to stderr, which costs points
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        for grade_id, cell in cells(notebook).items():
            before = len(shown)
            code = compile(replaced.get(grade_id, cell.source), grade_id, "exec")
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


def mutants(lesson: str) -> list[NotebookNode]:
    """The cells of a lesson's mutantes.py; their metadata has title, answer and right."""
    notebook = jupytext.read(ROOT / "lessons" / lesson / "mutantes.py")
    return [cell for cell in notebook.cells if "answer" in cell.metadata]


def mutated(notebook: NotebookNode, mutant: NotebookNode) -> dict[str, str]:
    """The answer cell that a mutant stands for: the solution, then what it redefines."""
    answer = mutant.metadata["answer"]
    return {answer: f"{cells(notebook)[answer].source}\n\n{mutant.source}"}
