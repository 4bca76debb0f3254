"""Which cell of a submission answers what: by grade id, cell id, text, or the answer's own first line."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from nbformat import NotebookNode
from nbgrader.utils import is_locked, is_solution

# Control characters (terminals act on them) and those that reverse the direction of what follows.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# A function or class is known by its name: hints and spaces that a student adds do not hide it.
DEFINES = re.compile(r"(?:async +)?(def|class) +(\w+)\b")


class Lesson:
    """A lesson's cells by name, which is the grade id where there is one, else the cell id."""

    def __init__(self, notebook: NotebookNode) -> None:
        marks = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
        self.cells = {m.get("grade_id") or c.id: c for m, c in zip(marks, notebook.cells, strict=True)}
        self.answers = {name for name, cell in self.cells.items() if is_solution(cell)}
        self.locked = {name for name, cell in self.cells.items() if is_locked(cell)}
        self.by_id = {cell.id: name for name, cell in self.cells.items()}
        given = {name: cell.source.strip() for name, cell in self.cells.items() if name not in self.answers}
        self.by_text = _unique(given)
        lines = Counter(line for cell in notebook.cells for line in _lines(cell.source))
        first = {
            n: _line(self.cells[n].source.split("\n")[0])
            for n in self.answers
            if self.cells[n].cell_type == "code"
        }
        self.markers = {line: name for line, name in _unique(first).items() if lines[line] == 1}

    def named(self, cell: NotebookNode) -> tuple[str | None, bool]:
        """What a submitted cell is called here (None: the student's own); whether its grade id said so."""
        marks = cell.metadata.get("nbgrader")
        grade_id = marks.get("grade_id") if isinstance(marks, dict) else None
        if isinstance(grade_id, str) and grade_id in self.cells:
            return grade_id, True
        return self.by_id.get(cell.get("id", "")) or self.by_text.get(cell.source.strip()), False

    def recognised(self, submitted: NotebookNode) -> tuple[int, int]:
        """How many of this lesson's answers a submission has: cells by name, and first lines."""
        lines = {line for cell in submitted.cells for line in _lines(cell.source)}
        named = self.answers & {self.named(cell)[0] for cell in submitted.cells}
        return len(named), len(self.markers.keys() & lines)


def _line(line: str) -> str:
    """A line as it is compared."""
    defines = DEFINES.match(line)
    return " ".join(defines.groups()) if defines else line.rstrip()


def _lines(text: str) -> set[str]:
    return set(map(_line, text.split("\n")))


def _unique(texts: dict[str, str]) -> dict[str, str]:
    """Text -> name, for the texts that say something and are only one name's."""
    counts = Counter(texts.values())
    return {text: name for name, text in texts.items() if text.strip() and counts[text] == 1}


@dataclass(frozen=True)
class Piece:
    """A stretch of a submission, and the cell of the lesson that it stands for."""

    text: str
    kind: str  # code, markdown or raw
    name: str | None


@dataclass
class Reading:
    """A submission sorted out."""

    texts: dict[str, str] = field(default_factory=dict)  # by the names of the lesson's cells
    extras: dict[str | None, list[Piece]] = field(
        default_factory=lambda: defaultdict(list)
    )  # by what they follow
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # what was mended -> where


def read_answers(lesson: Lesson, submitted: NotebookNode) -> Reading:
    """Sort a submission out by the rules of lessons/ENTREGA.md; only kind, text and ids of cells are read."""
    reading = Reading()
    pieces = _join_indented(_cut(lesson, _claims(lesson, submitted, reading), reading), lesson, reading)
    last = None
    for piece in pieces:
        if piece.name is None:
            reading.extras[last].append(piece)
        last = piece.name or last
    for name in lesson.cells:
        own = [piece.text for piece in pieces if piece.name == name]
        if name in lesson.answers:
            _answer(lesson, name, own, reading)
        elif name in lesson.locked:
            if own != [lesson.cells[name].source.strip("\n")]:
                reading.notes["fixed"].append(name)
        elif own and lesson.cells[name].cell_type == "code":
            reading.texts[name] = own[-1]
    place = {name: number for number, name in enumerate(lesson.cells)}
    order = [place[piece.name] for piece in pieces if piece.name]
    if order != sorted(order):
        reading.notes["order"].append("")
    return reading


def _claims(lesson: Lesson, submitted: NotebookNode, reading: Reading) -> Iterator[Piece]:
    for cell in submitted.cells:
        name, marked = lesson.named(cell)
        if name in lesson.answers and not marked:
            reading.notes["unmarked"].append(str(name))
        yield Piece(_text(cell), cell.cell_type, name)


def _text(cell: NotebookNode) -> str:
    """A cell's text with plain line ends, as a person sees it: without what only a machine would act on.

    Nor blanks in blank lines, on which those who colour code spend the square of their number.
    """
    text = visible(cell.source.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(line if line.strip() else "" for line in text.split("\n"))


def visible(text: str) -> str:
    """Text without control characters; half of a surrogate pair, which no file can hold, becomes "?"."""
    return CONTROLS.sub("", text).encode("utf-8", "replace").decode()


def _cut(lesson: Lesson, claims: Iterator[Piece], reading: Reading) -> list[Piece]:
    """Cut code before the first line of an answer that no cell stands for: merged, or without marks."""
    pieces = list(claims)
    lost = lesson.answers - {piece.name for piece in pieces}
    cut = []
    for piece in pieces:
        owner, lines = piece.name, list[str]()
        for line in piece.text.split("\n") if piece.kind == "code" else [piece.text]:
            name = lesson.markers.get(_line(line))
            if name in lost or (name and name == piece.name != owner):
                cut.append(Piece("\n".join(lines), piece.kind, owner))
                owner, lines = name, []
            if name in lost:
                reading.notes["merged" if piece.name else "unmarked"].append(str(name))
            lines.append(line)
        cut.append(Piece("\n".join(lines), piece.kind, owner))
    return [replace(part, text=part.text.strip("\n")) for part in cut if part.text.strip()]


def _join_indented(pieces: Sequence[Piece], lesson: Lesson, reading: Reading) -> list[Piece]:
    """A cell of the student's own that begins indented is the rest of the answer that it follows."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        rest = piece.kind == "code" and piece.name is None and piece.text.lstrip("\n")[:1] in (" ", "\t")
        if rest and groups and groups[-1][0].name in lesson.answers:
            reading.notes["split"].append(str(groups[-1][0].name))
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [replace(group[0], text="\n".join(piece.text for piece in group)) for group in groups]


def _answer(lesson: Lesson, name: str, own: Sequence[str], reading: Reading) -> None:
    """Choose among an answer's copies: the last changed one, if possible one that is Python."""
    stub = lesson.cells[name].source
    copies = [copy for copy in _copies(lesson, name, own, reading) if copy.strip() not in ("", stub.strip())]
    if len(copies) > 1:
        reading.notes["copies"].append(name)
    if copies:
        reading.texts[name] = next(filter(_is_python, reversed(copies)), copies[-1])
    elif not own or not any(map(str.strip, own)):
        reading.notes["missing"].append(name)


def _copies(lesson: Lesson, name: str, own: Sequence[str], reading: Reading) -> list[str]:
    """An answer's copies, each beginning with its first line where it has one; parts are put together."""
    marker = next((line for line, n in lesson.markers.items() if n == name), None)
    copies: list[list[str]] = []
    for text in dict.fromkeys(own):
        begins = marker is not None and marker in _lines(text)
        if begins or not copies:
            copies.append([])
        copies[-1].append(text)
    if any(len(parts) > 1 for parts in copies):
        reading.notes["split"].append(name)
    return ["\n".join(parts) for parts in copies]


# What ast raises for a text that is no Python or nested too deep; at times CPython 3.11 a SystemError.
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, SystemError)


def without_magics(text: str) -> str:
    """Code without the lines that only IPython knows."""
    return "\n".join(line for line in text.split("\n") if line.lstrip()[:1] not in ("%", "!"))


def _is_python(text: str) -> bool:
    try:
        ast.parse(without_magics(text))
    except NOT_PYTHON:
        return False
    return True
