"""A submission rebuilt: the instructor's notebook with the student's answers in it, nothing else trusted."""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, NbGraderPreprocessor, SaveCells

from autograder.answers import Lesson, Reading, read_answers

# Statements for Colab alone: in grading they would kill the kernel, wait for a network that is not there, or
# stop the cell at an import; so they do nothing.
# A longer line is none of these; without the limit, one could be made to take hours to match.
COLAB = re.compile(
    r"""^(?=.{0,300}$)(?P<indent>[ \t]*)(?:
        os\.kill\([ ]*os\.getpid\(\)[ ]*,.*\) | os\._exit\(.*\) | (?:sys\.)?exit\(.*\) | quit\(.*\)
        | .*\.do_shutdown\(.*\) | runtime\.unassign\(\)
        | [!%](?:pip|conda|apt|apt-get)\b(?:.*\\\n){0,20}.* | !git[ ]clone\b.*
        | (?:from|import)[ ]google\.colab\b.* | drive\.(?:mount|flush_and_unmount)\(.*\)
        | (?:\w+[ ]*=[ ]*)?files\.(?:upload|download)\(.*\) | .*\buserdata\.get\(.*\)
        | output\.enable_custom_widget_manager\(\) | os\.chdir\(.*/content/drive.*\)
    )[ \t;]*(?:\#.*)?$""",
    re.VERBOSE | re.MULTILINE,
)
NOTES = {
    "copies": "Havia mais de uma cópia destas respostas; vale a última que você alterou: {}.",
    "split": "Estas respostas estavam divididas em várias células; foram juntadas na ordem: {}.",
    "merged": "Estas respostas estavam dentro de outra célula; foram separadas: {}.",
    "unmarked": "As células destas respostas perderam a marcação e foram reconhecidas pelo conteúdo: {}.",
    "missing": "Estas respostas não foram encontradas ou estão vazias, e contam como não feitas: {}.",
    "fixed": "Estas células são fixas e foram mudadas ou apagadas; vale a versão da aula: {}.",
    "order": "As células voltaram à ordem da aula.",
    "colab": "Linhas de reinício, de instalação e do Colab não foram executadas.",
}


class Rebuild(NbGraderPreprocessor):  # type: ignore[misc]
    """`c.Autograde.sanitize_preprocessors`, alone: nothing is left for nbgrader's own to mend."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Replace the submission by its rebuilt form."""
        names, course = resources["nbgrader"], CourseDirectory(parent=self)
        folder = course.format_path(course.source_directory, ".", names["assignment"])
        text = Path(f"{folder}/{names['notebook']}.ipynb").read_text(encoding="utf-8")
        return rebuild(*_versions(_Source(text, self.config)), nb), resources


@dataclass(frozen=True)
class _Source:
    """A lesson's source; two are the same where their versions are, wherever the courses lie."""

    text: str
    config: Any = field(compare=False)
    settings: str = field(init=False)

    def __post_init__(self) -> None:
        elsewhere = {"CourseDirectory", "KernelManager"}
        settings = {name: value for name, value in self.config.items() if name not in elsewhere}
        object.__setattr__(self, "settings", repr(settings))


@lru_cache(maxsize=4)  # a worker grades many of the same lesson
def _versions(source: _Source) -> tuple[NotebookNode, NotebookNode]:
    return versions(nbformat.reads(source.text, as_version=4), source.config)


def versions(source: NotebookNode, config: Any) -> tuple[NotebookNode, NotebookNode]:
    """The lesson as it is graded (stubs for solutions, hidden tests still in), and as students get it."""
    steps = GenerateAssignment(config=config).preprocessors
    hiding = (ClearHiddenTests, ClearMarkScheme)
    graded = _through([step for step in steps if step not in (SaveCells, *hiding)], source, config)
    return graded, _through([step for step in steps if step in hiding], graded, config)


def _through(steps: Sequence[Any], notebook: NotebookNode, config: Any) -> NotebookNode:
    notebook, resources = deepcopy(notebook), dict[str, Any]()
    for step in steps:
        notebook, resources = step(config=config)(notebook, resources)
    return notebook


def rebuild(graded: NotebookNode, released: NotebookNode, submitted: NotebookNode) -> NotebookNode:
    """`graded` with the answers of `submitted`; what had to be mended is said in a first cell."""
    lesson = Lesson(released)
    reading = read_answers(lesson, submitted)
    cells = list(_extra_cells(reading, None))
    for original, (name, given) in zip(graded.cells, lesson.cells.items(), strict=True):
        cell, text = deepcopy(original), reading.texts.get(name, given.source)
        if text != given.source:
            cell.source = _without_colab(text, reading) if cell.cell_type == "code" else _inert(text)
        cells += [cell, *_extra_cells(reading, name)]
    if reading.notes:
        cells.insert(0, _note(reading))
    rebuilt: NotebookNode = nbformat.from_dict({**graded, "cells": cells})
    if reading.notes:
        rebuilt.metadata["autograder"] = {"mended": reading.notes}
    return rebuilt


def _extra_cells(reading: Reading, name: str | None) -> Iterator[NotebookNode]:
    """The student's own cells after the lesson's cell `name`; they run, or are read, where they stood."""
    for number, piece in enumerate(reading.extras.get(name, [])):
        cell_id = f"{name or 'topo'}-{number}"[-64:]
        if piece.kind == "code":
            yield new_code_cell(_without_colab(piece.text, reading), id=cell_id)
        elif piece.kind == "markdown":
            yield new_markdown_cell(_inert(piece.text), id=cell_id)


def _without_colab(text: str, reading: Reading) -> str:
    plain, count = COLAB.subn(r"\g<indent>pass", text)
    if count:
        reading.notes["colab"].append("")
    return plain


def _inert(markdown: str) -> str:
    """Raw HTML and links shown as text: formgrader would put them into the instructor's page as they are."""
    return re.sub(r"\](?=[(:])", "] ", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown))


def _note(reading: Reading) -> NotebookNode:
    sentences = [NOTES[kind].format(", ".join(dict.fromkeys(names))) for kind, names in reading.notes.items()]
    text = "\n".join(f"- {sentence}" for sentence in sentences)
    cell: NotebookNode = new_markdown_cell(text, id="autograder", metadata={"autograder": "mended"})
    return cell
