"""A submitted notebook, read within limits and reduced to what grading looks at: cells' sources and ids."""

import json
import re
from collections.abc import Callable
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder import Refusal

MAX_CELLS = 2_000
# Characters in one cell, beyond which it is cut (a picture in a text has more), and in all of them: some who
# read a cell later, pages above all, take the square of its length.
MAX_SOURCE, MAX_TEXT = 50_000, 2_000_000
CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")  # nbformat 4.5's own rule


def read_notebook(data: bytes) -> NotebookNode:
    """The notebook in `data`, without outputs, attachments and metadata other than nbgrader's.

    Raises Refusal, with a predicate ("is not JSON"), where `data` is no notebook of nbformat 4.
    """
    try:
        raw = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Refusal(
            "is not a notebook: its content is not JSON; ask for the .ipynb file itself",
            "o arquivo não é um caderno (.ipynb) inteiro; baixe-o de novo pelo menu do Colab",
        ) from None
    cells = raw.get("cells") if isinstance(raw, dict) else None
    if not isinstance(cells, list) or raw.get("nbformat") != 4:
        raise Refusal(
            "is not a notebook of format 4; open it in Jupyter or Colab, save it, and take it in again",
            "o caderno está num formato antigo ou desconhecido; abra-o no Colab e baixe-o de novo",
        )
    if len(cells) > MAX_CELLS:
        raise Refusal(
            f"has {len(cells)} cells, more than {MAX_CELLS}; ask for the lesson's own notebook",
            "o caderno tem células demais; entregue o caderno da aula",
        )
    kept = [_cell(cell, index) for index, cell in enumerate(cells) if isinstance(cell, dict)]
    if sum(len(cell.source) for cell in kept) > MAX_TEXT:
        raise Refusal(
            f"has more than {MAX_TEXT} characters of text; ask for the lesson's own notebook",
            "o caderno tem texto demais; entregue o caderno da aula",
        )
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=kept)
    return notebook


def _cell(raw: dict[str, Any], index: int) -> NotebookNode:
    kinds = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    new: Callable[..., NotebookNode] = kinds.get(str(raw.get("cell_type")), nbformat.v4.new_raw_cell)
    metadata = raw["metadata"] if isinstance(raw.get("metadata"), dict) else {}
    cell_id = raw.get("id", metadata.get("id"))  # Colab keeps it in the metadata
    if not (isinstance(cell_id, str) and CELL_ID.match(cell_id)):
        cell_id = f"cell-{index}"
    cell: NotebookNode = new(_text(raw.get("source")), id=cell_id)
    cell.metadata.update(_marks(metadata))
    return cell


def _text(source: Any) -> str:
    """A cell's source as one string that can be written as UTF-8; too long a one is cut."""
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    text = source if isinstance(source, str) else ""
    return text[:MAX_SOURCE].encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")


def _marks(metadata: dict[str, Any]) -> dict[str, Any]:
    """nbgrader's metadata of a cell, its plain values only."""
    marks = metadata.get("nbgrader")
    if not isinstance(marks, dict):
        return {}
    return {"nbgrader": {str(k): v for k, v in marks.items() if isinstance(v, str | int | float | bool)}}
