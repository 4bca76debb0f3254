"""A small lesson, and what students hand in for it."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from autograder.course import write_notebook
from autograder.grading import grade, write_skeleton
from autograder.ledger import commit
from autograder.reports.pages import write_pages

LESSON = "01_soma"


def marks(grade_id, points=None, solution=False):
    """nbgrader's metadata of an answer, a test (with points) or a locked cell."""
    graded = points is not None
    mark = {"grade_id": grade_id, "grade": graded, "solution": solution, "locked": not solution}
    if graded:
        mark["points"] = points
    return {"nbgrader": {**mark, "task": False, "schema_version": 3}}


def source_notebook(lesson=LESSON):
    """Two exercises worth 2 and 3 points, the second with a hidden test, and an open question worth 5."""
    cells = [
        new_markdown_cell(f"# Aula {lesson}", id="intro"),
        new_code_cell(
            "def soma(a, b):\n    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION",
            id=f"{lesson}-soma",
            metadata=marks(f"{lesson}-soma", solution=True),
        ),
        new_code_cell(
            "assert soma(1, 2) == 3, 'soma(1, 2) deve dar 3'",
            id=f"{lesson}-soma-teste",
            metadata=marks(f"{lesson}-soma-teste", 2),
        ),
        new_code_cell(
            "def dobro(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
            id=f"{lesson}-dobro",
            metadata=marks(f"{lesson}-dobro", solution=True),
        ),
        new_code_cell(
            "assert dobro(2) == 4\n### BEGIN HIDDEN TESTS\n"
            "assert dobro(271828) == 543656, 'dobro falha para um valor maior'\n### END HIDDEN TESTS",
            id=f"{lesson}-dobro-teste",
            metadata=marks(f"{lesson}-dobro-teste", 3),
        ),
        new_markdown_cell(
            "A resposta do professor.",
            id=f"{lesson}-aberta",
            metadata=marks(f"{lesson}-aberta", 5, solution=True),
        ),
    ]
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": spec, "language_info": {"name": "python"}})


def handed_in(course, lesson=LESSON, **answers):
    """The released notebook with answers by the end of their grade id (soma="...")."""
    notebook = nbformat.read(course.notebook("release", lesson), as_version=4)
    for cell in notebook.cells:
        name = cell.id.removeprefix(f"{lesson}-")
        if name in answers:
            cell.source = answers[name]
    return notebook


RIGHT = {"soma": "def soma(a, b):\n    return b + a", "dobro": "def dobro(x):\n    return x + x"}


def grade_here(course, student, notebook, lesson=LESSON):
    """Grade a notebook in this process and save the result, as the scheduler does it in others."""
    write_notebook(course.notebook("submitted", lesson, student), notebook)
    skeleton = course.root / ".grading" / "here.db"
    write_skeleton(course, skeleton)
    graded = grade(course.root, lesson, student, skeleton)
    if not graded.failure:
        commit(course, lesson, graded)
        list(write_pages(course, lesson, [student]))
    return graded
