"""From a lesson's percent source to nbgrader's source notebook and the student notebook, checked for leaks.

A lesson is `lessons/NAME/NAME.py` (jupytext percent). Its cells carry nbgrader's own metadata, of which only
what differs from the defaults in `_complete` is written:

    # %% nbgrader={"grade_id": "apoio"}                        given code that the tests rely on: locked
    # %% nbgrader={"grade_id": "soma", "solution": true}       an answer
    # %% nbgrader={"grade_id": "soma_teste", "points": 2}      its tests: graded and locked
    # %% [markdown] nbgrader={"grade_id": "livre", "solution": true, "points": 3}  graded by hand
    # %% [markdown] nbgrader={"grade_id": "livre_enunciado"}    its question, locked, with the rubric in it
    # %% [markdown] tags=["instrutor"]                         not in the student notebook

Of its header only `hidden_modules` counts (autograder/runtime/hidden.py).

Inside cells, nbgrader's `### BEGIN SOLUTION`, `### BEGIN HIDDEN TESTS`, `### BEGIN MARK SCHEME` and their
ENDs mark what students do not get. An answer with a Colab form field (`# @param`) is its own stub: only the
solution goes.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from string import Template
from typing import Annotated, Any

import jupytext
import nbformat
import typer
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat import NotebookNode
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions, SaveCells
from traitlets.config import Config

from autograder.runtime.hidden import METADATA

INSTRUCTOR_TAG = "instrutor"
MARKERS = ("SOLUTION", "HIDDEN TESTS", "MARK SCHEME")
FORM = "# @param"
COMMON = ("cabecalho.py", "rodape.py")
NOTEBOOK_METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_METADATA = {"nbgrader", "tags", "cellView"}
# A solution's line this long says how it is done.
TELLING = 24


class PublishError(Exception):
    """A lesson that cannot be published; the message says where, why and what to do."""


def nbgrader_config() -> Config:
    """The settings with which `nbgrader generate_assignment` writes what `publish` writes."""
    config = Config()
    config.ClearSolutions.code_stub = {
        "python": '# ESCREVA SEU CÓDIGO AQUI\nraise NotImplementedError("exercício ainda não feito")'
    }
    config.ClearSolutions.text_stub = "*Escreva aqui a sua resposta.*"
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = {INSTRUCTOR_TAG}
    config.ClearMarkScheme.enforce_metadata = False  # rubrics stand in locked cells, not in nbgrader's tasks
    stock = GenerateAssignment.class_traits()["preprocessors"].default()
    steps = [ClearAnswers if step is ClearSolutions else step for step in stock]
    config.GenerateAssignment.preprocessors = [TagRemovePreprocessor, *steps]
    return config


class ClearAnswers(ClearSolutions):  # type: ignore[misc]
    """nbgrader's, but of a form only its solution is taken: Colab writes the answer into its fields."""

    def _replace_solution_region(self, cell: NotebookNode, language: str) -> bool:
        if FORM not in cell.source:
            return bool(super()._replace_solution_region(cell, language))
        stubs = self.code_stub  # type: ignore[has-type]
        self.code_stub = {language: ""}
        replaced = bool(super()._replace_solution_region(cell, language))
        self.code_stub = stubs
        cell.source = cell.source.rstrip()
        return replaced


def course_facts(root: Path) -> dict[str, Any]:
    """The contents of `root`/course.toml: repository, branch and lessons among them."""
    path = root / "course.toml"
    if not path.is_file():
        raise PublishError(f"{path} not found: run this from the course's folder, where course.toml is.")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def source_notebook(lesson: str, root: Path) -> NotebookNode:
    """The instructor's notebook of a lesson: common head, the lesson with its solutions, common foot."""
    path = root / "lessons" / lesson / f"{lesson}.py"
    if not path.is_file():
        raise PublishError(f"{path} not found: write it, or take {lesson!r} off the list in course.toml.")
    notebook: NotebookNode = jupytext.read(path)
    head, foot = (_common_cells(root / "lessons" / name, root, lesson) for name in COMMON)
    notebook.cells = [*head, *notebook.cells, *foot]
    for key in notebook.metadata.keys() - {METADATA}:
        del notebook.metadata[key]
    notebook.metadata.update(deepcopy(NOTEBOOK_METADATA))
    for cell in notebook.cells:
        _complete(cell)
        _check_markers(cell, path)
    _set_ids(notebook)
    # With these `entregar` sees that a cell is gone.
    marks = [cell.metadata["nbgrader"] for cell in notebook.cells if "nbgrader" in cell.metadata]
    names = [mark["grade_id"] for mark in marks if mark["solution"] or mark["grade"]]
    notebook.metadata["aula_peft"] = {"aula": lesson, "celulas": names}
    return notebook


def _common_cells(path: Path, root: Path, lesson: str) -> list[NotebookNode]:
    """The cells of a file of the common head or foot, after its first cell, which says what it is."""
    text = Template(path.read_text(encoding="utf-8")).substitute(course_facts(root), lesson=lesson)
    cells: list[NotebookNode] = jupytext.reads(text, fmt="py:percent").cells[1:]
    return cells


def _complete(cell: NotebookNode) -> None:
    """Fill in nbgrader's defaults; drop what jupytext adds; let a failing test not stop a "run all"."""
    for key in cell.metadata.keys() - KEPT_METADATA:
        del cell.metadata[key]
    if "nbgrader" not in cell.metadata:
        return
    given = cell.metadata["nbgrader"]
    graded, solution = "points" in given, given.get("solution", False)
    defaults = {
        "grade": graded,
        "solution": False,
        "locked": not solution,
        "task": False,
        "schema_version": 3,
    }
    cell.metadata["nbgrader"] = defaults | given
    if graded and not solution:
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]


def _name(cell: NotebookNode) -> str:
    grade_id: str = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return grade_id or cell.source.split("\n", 1)[0][:50]


def _check_markers(cell: NotebookNode, path: Path) -> None:
    """Refuse what nbgrader lets pass or reports without a place: a lone END, a region left open or nested."""
    opened = ""
    for line in cell.source.split("\n"):
        for word, marker in re.findall(rf"(BEGIN|END) ({'|'.join(MARKERS)})", line):
            if (opened and word == "BEGIN") or (word == "END" and opened != marker):
                raise PublishError(
                    f"{path}, cell {_name(cell)!r}: unexpected {line.strip()!r}; pair BEGIN with END."
                )
            opened = marker if word == "BEGIN" else ""
    if opened:
        raise PublishError(
            f"{path}, cell {_name(cell)!r}: BEGIN {opened} is never closed; add ### END {opened}."
        )


def _set_ids(notebook: NotebookNode) -> None:
    """Give each cell an id that follows from its content, so that two runs write the same bytes."""
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        name = cell.metadata.get("nbgrader", {}).get("grade_id") or digest
        seen[name] += 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def student_notebook(source: NotebookNode) -> NotebookNode:
    """What `nbgrader generate_assignment` hands out for `source`: its preprocessors, without a gradebook."""
    config, notebook = nbgrader_config(), deepcopy(source)
    resources: dict[str, Any] = {}
    for preprocessor in config.GenerateAssignment.preprocessors:
        if preprocessor is not SaveCells:
            notebook, resources = preprocessor(config=config)(notebook, resources)
    survivors = leaks(source, notebook)
    if survivors:
        raise PublishError(
            f"{len(survivors)} lines of solutions or hidden tests survive, first {survivors[0]!r}."
        )
    return notebook


def _lines(source: NotebookNode) -> Iterator[tuple[str, str]]:
    """Each stripped line of a source notebook, after why students do not get it: a marker, the tag or ""."""
    for cell in source.cells:
        marks, secret = cell.metadata.get("nbgrader", {}), ""
        if INSTRUCTOR_TAG in cell.metadata.get("tags", []):
            secret = INSTRUCTOR_TAG
        elif marks.get("solution") and "BEGIN SOLUTION" not in cell.source:
            secret = "SOLUTION"
        for line in map(str.strip, cell.source.split("\n")):
            secret = next((m for m in MARKERS if f"BEGIN {m}" in line), secret)
            if line:
                yield secret, line
            secret = "" if any(f"END {m}" in line for m in MARKERS) else secret


def secret_lines(source: NotebookNode) -> list[str]:
    """The lines of a source notebook that students do not get."""
    lines = list(_lines(source))
    public = {line for secret, line in lines if not secret}
    return [line for secret, line in lines if secret and line not in public]


def leaks(source: NotebookNode, student: NotebookNode) -> list[str]:
    """Lines of solutions, hidden tests and instructor cells of `source` that are still in `student`.

    A solution's telling line may not be there at all, be it in a comment of another cell; any other line not
    more often than students may see it in `source`.
    """
    text = "\n".join(cell.source for cell in student.cells)
    lines, found = list(_lines(source)), Counter(map(str.strip, text.split("\n")))
    allowed = Counter(line for secret, line in lines if not secret)
    return [
        line
        for secret, line in lines
        if (secret == "SOLUTION" and len(line) >= TELLING and line in text)
        or (secret and found[line] > allowed[line])
    ]


def _rendered(root: Path) -> Iterator[tuple[Path, str]]:
    for lesson in course_facts(root)["lessons"]:
        notebook = student_notebook(source_notebook(lesson, root))
        text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        yield root / "lessons" / "colab" / f"{lesson}.ipynb", text + "\n"


def publish(root: Path) -> list[Path]:
    """Write every lesson's student notebook under lessons/colab; give the paths."""
    written = []
    for path, text in _rendered(root):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def outdated(root: Path) -> list[Path]:
    """The student notebooks that are not what `publish` would write, missing and left-over ones too."""
    wanted = dict(_rendered(root))
    present = {
        path: path.read_text(encoding="utf-8") for path in (root / "lessons" / "colab").glob("*.ipynb")
    }
    return sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))


def main(
    check: Annotated[
        bool, typer.Option(help="Only say what is out of date, and fail if anything is.")
    ] = False,
) -> None:
    """Write the student notebooks from the percent sources."""
    try:
        paths = outdated(Path()) if check else publish(Path())
    except PublishError as error:
        sys.exit(str(error))
    for path in paths:
        print(f"{path} is out of date: run make lessons" if check else path)
    sys.exit(bool(check and paths))


if __name__ == "__main__":
    typer.run(main)
