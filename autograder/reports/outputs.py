"""What is kept of a cell's outputs: text and pictures of a bounded size, nothing that a page would run."""

import re
from typing import Any

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

KINDS = ("image/png", "image/jpeg", "text/plain")
MAX_TEXT = 10_000  # characters
MAX_PICTURE = 2_000_000  # characters of base64
MAX_OUTPUTS = 100
# Control characters (terminals act on them) and those that reverse the direction of what follows.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class PlainOutputs(NbGraderPreprocessor):  # type: ignore[misc]
    """HTML, SVG, JavaScript and widgets reach neither formgrader nor the feedback page."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Drop and cut; of many outputs the last stay, where an error would be."""
        if cell.cell_type != "code":
            return cell, resources
        cell.outputs = cell.outputs[-MAX_OUTPUTS:]
        for output in cell.outputs:
            if "data" in output:
                output.data = {kind: _cut(kind, output.data[kind]) for kind in KINDS if kind in output.data}
            if "text" in output:
                output.text = _plain(output.text[:MAX_TEXT])
            if "traceback" in output:
                output.traceback = [_plain("\n".join(output.traceback)[-MAX_TEXT:])]
        return cell, resources


def _cut(kind: str, content: str) -> str:
    if kind == "text/plain":
        return _plain(content[:MAX_TEXT])
    return content if len(content) <= MAX_PICTURE else ""


def _plain(text: str) -> str:
    return CONTROLS.sub("", strip_ansi(text))
