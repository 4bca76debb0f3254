"""What is kept of a cell's outputs: text and pictures of a bounded size, nothing that a page would run."""

import base64
import binascii
import re
import struct
from collections.abc import Sequence
from typing import Any

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder.answers import visible

MAX_TEXT = 10_000  # characters
MAX_PICTURE = 2_000_000  # characters of base64
MAX_PIXELS = 16_000_000  # a browser unpacks them all, however few characters they were
MAX_OUTPUTS = 100
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")


class PlainOutputs(NbGraderPreprocessor):  # type: ignore[misc]
    """HTML, SVG, JavaScript and widgets reach neither formgrader nor the feedback page."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Drop and cut."""
        if cell.cell_type == "code":
            cell.outputs = plain(cell.outputs)
        return cell, resources


def plain(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Outputs made anew: a kernel chooses every field of its messages, and pages trust some of them.

    Of many the last stay, where an error would be.
    """
    return [made for made in map(_made_anew, outputs[-MAX_OUTPUTS:]) if made]


def _made_anew(output: NotebookNode) -> Any:
    """The output with no more than its text or its pictures; None where it has neither."""
    if output.output_type == "stream":
        name = "stderr" if output.name == "stderr" else "stdout"
        return new_output("stream", name=name, text=_plain(output.text))
    if output.output_type == "error":
        trace = _plain("\n".join(map(str, output.traceback))[-MAX_TEXT:])
        return new_output(
            "error", ename=_plain(output.ename), evalue=_plain(output.evalue), traceback=[trace]
        )
    given = output.get("data")
    given = given if isinstance(given, dict) else {}
    data = {kind: kept for kind in KINDS if kind in given and (kept := KINDS[kind](given[kind]))}
    return new_output("display_data", data=data) if data else None


def _picture(content: Any) -> str:
    """A PNG in base64 and nothing else, for it goes into an attribute; "" where it is too large or none."""
    if not (isinstance(content, str) and len(content) <= MAX_PICTURE and BASE64.fullmatch(content)):
        return ""
    try:
        kind, width, height = struct.unpack(">8s8x2I", base64.b64decode(content[:32]))
    except (binascii.Error, struct.error):
        return ""
    return content if kind == b"\x89PNG\r\n\x1a\n" and width * height <= MAX_PIXELS else ""


def _plain(text: Any) -> str:
    """Without what acts on a terminal, and in characters that can be written to a file."""
    return visible(strip_ansi(str(text)[:MAX_TEXT]))


KINDS = {"image/png": _picture, "text/plain": _plain}
