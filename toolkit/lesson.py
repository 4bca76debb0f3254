"""A lesson's exercises as the notebook marks them: which cells answer, which test, for how many points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADING = re.compile(r"^#{2,6} +((?:Exercício|Questão) .*)$", re.MULTILINE)
STUBS = ("exercício ainda não feito", "*Escreva aqui a sua resposta.*")

Cell = Mapping[str, Any]  # of a notebook's JSON


@dataclass
class Exercise:
    """One exercise: its heading (without one, its first cell's grade id), its answers and its tests."""

    title: str
    answers: list[Cell] = field(default_factory=list)
    tests: list[Cell] = field(default_factory=list)

    @property
    def points(self) -> float:
        """What it is worth, a part graded by hand included."""
        return sum(float(mark(cell).get("points", 0)) for cell in (*self.tests, *self.answers))

    @property
    def by_hand(self) -> bool:
        """Whether a person grades it."""
        return any(mark(cell).get("grade") for cell in self.answers)


def exercises(cells: Sequence[Cell]) -> list[Exercise]:
    """The exercises of a notebook's cells, in order; one begins at its heading, or where tests end."""
    found: list[Exercise] = []
    heading = ""
    for cell in cells:
        known = mark(cell)
        if cell["cell_type"] == "markdown" and not known.get("solution"):
            heading = (HEADING.findall(source(cell)) or [heading])[-1]
        elif known.get("solution"):
            if heading or not found or found[-1].tests or found[-1].by_hand:
                found.append(Exercise(heading or str(known.get("grade_id", ""))))
            heading = ""
            found[-1].answers.append(cell)
        elif known.get("grade") and found:
            found[-1].tests.append(cell)
    return found


def mark(cell: Cell) -> Mapping[str, Any]:
    """nbgrader's metadata of a cell; empty where there is none."""
    marks = cell.get("metadata", {}).get("nbgrader")
    return marks if isinstance(marks, Mapping) else {}


def source(cell: Cell) -> str:
    """A cell's text, which notebook files hold as one string or as lines."""
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)


def is_stub(cell: Cell) -> bool:
    """Whether an answer still has what stood there when it was handed out, or nothing."""
    text = source(cell)
    return not text.strip() or any(stub in text for stub in STUBS)
