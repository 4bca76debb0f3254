"""What a page may show of a graded notebook: nothing that a hidden test has told the student's code.

From the first hidden test on, whatever that code says may be what the test handed to it: prints, pictures,
texts of exceptions, values in a message. The page keeps the kind of an error and the author's own words.
"""

import ast
import builtins
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import escape
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme
from nbgrader.utils import is_grade, is_locked, is_solution

OUT_OF_TIME = "A célula passou do tempo permitido e foi interrompida."
TEST_FAILED = "Um teste deste exercício não passou."
RAISED = "A célula levantou {}."
WITHHELD = "As saídas desta célula ficam de fora da página, porque poderiam mostrar um teste escondido."
ERRORS = {n for n, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}
# The judge's own sentences, without the part that a student chose.
SAID = re.compile(
    r"Exercício ainda não feito|Um teste escondido falhou|Falta um nome na resposta"
    r"|O teste não terminou a tempo|O tempo desta entrega acabou antes desta célula"
    r"|O processo do seu código terminou aqui|O teste usa um nome que a resposta não define"
    r"|O teste parou: (?!um objeto)[^:]*(?=\.$)|O teste parou"
    rf"|(O seu código levantou|O teste não pôde usar a resposta) \(?({'|'.join(ERRORS)})\b\)?"
)


class MaskHiddenTests(ClearHiddenTests):  # type: ignore[misc]
    """Take hidden tests out of the page, and what a submission could make them say."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """As the parent's, for a notebook of which no hidden test has run yet."""
        self.told = False
        masked: tuple[NotebookNode, dict[str, Any]] = super().preprocess(nb, resources)
        return masked

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Mask a hidden test and every cell after it."""
        test = is_grade(cell) and not is_solution(cell)
        hidden = cell.cell_type == "code" and test and self.begin_test_delimeter in cell.source
        self.told = self.told or hidden
        source = cell.source
        if hidden:
            self._remove_hidden_test_region(cell)
        if self.told and cell.cell_type == "code" and cell.outputs:
            errors = [output for output in cell.outputs if output.output_type == "error"]
            texts = [_of_test(e, source, cell.source) if test else _of_answer(e) for e in errors]
            cell.outputs = [new_output("error", ename="", evalue=text, traceback=[text]) for text in texts]
            if not test:
                cell.outputs.append(new_output("stream", text=WITHHELD))
        return cell, resources


class MaskMarkScheme(ClearMarkScheme):  # type: ignore[misc]
    """Take rubrics out of the page; a mark in an answer, which nobody has to close, is text."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """As the parent's, for cells that are not the student's."""
        return super().preprocess_cell(cell, resources, cell_index) if is_locked(cell) else (cell, resources)


def _of_answer(error: NotebookNode) -> str:
    if error.traceback == [OUT_OF_TIME]:
        return OUT_OF_TIME
    return RAISED.format(error.ename if error.ename in ERRORS else "um erro")


def _of_test(error: NotebookNode, source: str, visible: str) -> str:
    """The message as the test's author or the judge wrote it, without the values in it."""
    for said in _author_says(source):
        texts = [part.value if isinstance(part, ast.Constant) else None for part in said]
        pattern = "".join("*" if text is None else escape(str(text)) for text in texts)
        # Not a regular expression of our own: many values would take a power of the message's length.
        if any(texts) and fnmatchcase(error.evalue, pattern):
            return "".join("…" if text is None else str(text) for text in texts)
    if error.evalue.removeprefix("Falhou: ") in map(str.strip, visible.split("\n")):
        return str(error.evalue)
    found = SAID.match(error.evalue)
    return f"{found[0]}." if found else TEST_FAILED


def _author_says(source: str) -> Iterator[Sequence[ast.expr | None]]:
    """The parts of each assertion's message."""
    try:
        messages = [node.msg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    except SyntaxError:  # a magic in the test
        messages = []
    return (message.values if isinstance(message, ast.JoinedStr) else [message] for message in messages)
