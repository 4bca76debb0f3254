"""What is kept of a cell's outputs: text and pictures of a bounded size, nothing that a page would run."""

from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

KINDS = ("image/png", "image/jpeg", "text/plain")
MAX_TEXT = 10_000  # characters
MAX_PICTURE = 2_000_000  # characters of base64
MAX_OUTPUTS = 100


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
                output.text = output.text[:MAX_TEXT]
            if "traceback" in output:
                output.traceback = ["\n".join(output.traceback)[-MAX_TEXT:]]
        return cell, resources


def _cut(kind: str, content: str) -> str:
    return content[:MAX_TEXT] if kind == "text/plain" else content if len(content) <= MAX_PICTURE else ""
