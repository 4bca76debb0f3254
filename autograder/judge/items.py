"""A graded item as the grader and the judge speak of it: the source of its test, and the verdict."""

import ast
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager

MESSAGE = 4 << 20  # bytes of a request to the judge, and of its answer
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")


@dataclass(frozen=True)
class Verdict:
    """What a test found: the share of its points (0 to 1), and a sentence for the student."""

    share: float
    message: str = ""
    incident: str = ""  # what the student's side did against the rules, for the record
    lost: bool = False  # whether the student's process is of no more use


def is_hidden(source: str, line: int) -> bool:
    """Whether a line (from 1) of a test is one that students do not get."""
    hidden = False
    for text in source.splitlines()[:line]:
        hidden = HIDDEN[0] in text or (hidden and HIDDEN[1] not in text)
    return hidden


def defined_by(source: str) -> set[str]:
    """The names that a cell defines at its top level, imports apart: what tests may ask for."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return set()
    found = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    stored = (node for part in tree.body if not hasattr(part, "name") for node in ast.walk(part))
    return found | {
        node.id for node in stored if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
