"""A class of any size, made up: who can do what, how they hand it in, when, and what goes wrong on the way.

Whether a student solves an exercise follows the Rasch model: logistic(ability - difficulty). Wrong answers
are the solution with one thing changed. Some hand in late, twice, nothing, or what is unreadable; some copy.
"""

import ast
import csv
import math
import random
import re
from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import is_solution

from autograder.course import Course
from autograder.intake.roster import Student

FIRST = [
    "Ana",
    "Bruno",
    "Carla",
    "Diego",
    "Elisa",
    "Fábio",
    "Gabriela",
    "Heitor",
    "Íris",
    "João",
    "Luíza",
    "Maria",
    "Nara",
    "Otávio",
    "Paula",
    "Rui",
    "Sônia",
    "Téo",
]
LAST = [
    "Silva",
    "Costa",
    "Souza",
    "Ramos",
    "Prado",
    "Nunes",
    "Rocha",
    "Lima",
    "Melo",
    "Araújo",
    "Campos",
    "Dias",
    "Freitas",
    "Góes",
    "Paz",
    "Sá",
    "Telles",
    "Vale",
]
NOTHING, UNREADABLE, TWICE, LATE, COPY = 0.03, 0.01, 0.05, 0.1, 0.02  # shares of the class
DUE = datetime(2026, 8, 31, 23, 59, tzinfo=UTC)


def write_class(course: Course, lesson: str, folder: Path, size: int, seed: int = 0) -> list[Student]:
    """Write `folder`/roster.csv, times.csv and downloads/ as Moodle gives them; gives the class list."""
    chance = random.Random(seed)
    students = [_student(number) for number in range(size)]
    text = _Texts(course, lesson, chance)
    (folder / "downloads").mkdir(parents=True, exist_ok=True)
    times, earlier = [], ""
    for number, student in enumerate(students):
        place = folder / "downloads" / f"{student.name}_{number + 1}_assignsubmission_file"
        fate = chance.random()
        if fate < NOTHING:
            continue
        place.mkdir()
        notebook = earlier if earlier and chance.random() < COPY else text.of_a_student()
        if fate < NOTHING + UNREADABLE:
            notebook = notebook[: len(notebook) // 2]
        elif fate < NOTHING + UNREADABLE + TWICE:
            (place / f"{lesson}.ipynb").write_text(text.of_a_student(), encoding="utf-8")
        name = f"Cópia de {lesson} (1).ipynb" if (place / f"{lesson}.ipynb").exists() else f"{lesson}.ipynb"
        (place / name).write_text(notebook, encoding="utf-8")
        hours = chance.expovariate(1 / 12) * (1 if chance.random() < LATE else -1)
        times.append((student.id, (DUE + timedelta(hours=hours)).isoformat(timespec="minutes")))
        earlier = notebook
    _table(folder / "roster.csv", [[f.name for f in fields(Student)], *map(astuple, students)])
    _table(folder / "times.csv", [["id", "submitted at"], *times])
    return students


def _student(number: int) -> Student:
    first, last = FIRST[number % len(FIRST)], LAST[number // len(FIRST) % len(LAST)]
    more = number // (len(FIRST) * len(LAST))
    second = f" {LAST[more % len(LAST)]}{more // len(LAST) or ''}" if more else ""
    student_id = str(20260001 + number)
    return Student(student_id, first, f"{last}{second}", f"a{student_id}@example.org")


def _table(path: Path, lines: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


class _Texts:
    """Notebooks of a lesson, one student after the other."""

    def __init__(self, course: Course, lesson: str, chance: random.Random) -> None:
        source = nbformat.read(course.notebook("source", lesson), as_version=4)
        self.released: NotebookNode = course.released(lesson)
        self.right = [_plain(cell.source) for cell in source.cells if is_solution(cell)]
        self.places = [place for place, cell in enumerate(self.released.cells) if is_solution(cell)]
        self.hard = [chance.gauss(0, 1) for _ in self.places]
        self.chance = chance

    def of_a_student(self) -> str:
        """What one student hands in."""
        ability = self.chance.gauss(0.8, 1.2)
        notebook: NotebookNode = nbformat.from_dict(self.released)
        cells = [NotebookNode(cell) for cell in notebook.cells]
        for place, hard, right in zip(self.places, self.hard, self.right, strict=True):
            if self.chance.random() < 1 / (1 + math.exp(hard - ability)):
                cells[place].source = self._own_way(right)
            elif self.chance.random() < 0.8:  # else it is left as it was
                cells[place].source = wrong(right, self.chance)
        text: str = nbformat.writes(nbformat.from_dict({**notebook, "cells": cells}))
        return text

    def _own_way(self, right: str) -> str:
        remark = self.chance.choice(["", "# minha resposta\n", "# conferi com o colega de lado\n"])
        return f"{right}\n{remark}".rstrip() + "\n" * self.chance.randrange(3)


def _plain(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if not re.search("(BEGIN|END) SOLUTION", line))


def wrong(right: str, chance: random.Random) -> str:
    """An answer with one thing changed: a number, an operator, a comparison or what it returns."""
    try:
        tree = ast.parse(right)
    except SyntaxError:
        return right[: len(right) // 2]  # prose, broken off
    kinds = (ast.BinOp, ast.Constant, ast.Compare, ast.Return)
    words = (str, bytes)  # docstrings, messages
    found = (node for node in ast.walk(tree) if isinstance(node, kinds))
    places = [node for node in found if not isinstance(getattr(node, "value", None), words)]
    if places:
        _change(chance.choice(places), chance)
    return ast.unparse(tree)


def _change(node: ast.AST, chance: random.Random) -> None:
    if isinstance(node, ast.BinOp):
        others = [kind for kind in (ast.Add, ast.Sub, ast.Mult, ast.Div) if not isinstance(node.op, kind)]
        node.op = chance.choice(others)()
    elif isinstance(node, ast.Constant):
        node.value = node.value + 1 if isinstance(node.value, int | float) else None
    elif isinstance(node, ast.Compare):
        node.ops[0] = ast.Lt() if isinstance(node.ops[0], ast.NotEq) else ast.NotEq()
    elif isinstance(node, ast.Return):
        node.value = None
