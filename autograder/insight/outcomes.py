"""What became of each answer: read from the graded notebooks, for counting."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import nbformat

from autograder.answers import NOT_PYTHON
from autograder.course import Course
from toolkit.lesson import Exercise, exercises, mark, source

# Nothing in it can match in two ways: no answer makes it take longer than its length.
FORM = re.compile(r"^(\w+)[ \t]*=([^#\n]*)#[ \t]*@param", re.MULTILINE)


@dataclass
class Outcome:
    """Of one student: the message of each failed exercise, the fields of forms, the answers' text."""

    student: str
    messages: dict[str, str] = field(default_factory=dict)  # by exercise
    chosen: dict[str, str] = field(default_factory=dict)  # by field
    answers: dict[str, str] = field(default_factory=dict)  # by grade id


def lesson_exercises(course: Course, lesson: str) -> list[Exercise]:
    """The exercises of the instructor's notebook."""
    notebook = nbformat.read(course.notebook("source", lesson), as_version=4)
    return exercises(notebook.cells)


def outcomes(course: Course, lesson: str, students: Iterator[str]) -> Iterator[Outcome]:
    """The outcome of each of the students who have a graded notebook."""
    for student in students:
        path = course.notebook("autograded", lesson, student)
        if path.is_file():
            yield read_outcome(student, json.loads(path.read_text(encoding="utf-8")))


def read_outcome(student: str, notebook: Mapping[str, Any]) -> Outcome:
    """Read one graded notebook's JSON."""
    found = Outcome(student)
    for exercise in exercises(notebook["cells"]):
        errors = [
            o for cell in exercise.tests for o in cell.get("outputs", []) if o["output_type"] == "error"
        ]
        if errors:
            found.messages[exercise.title] = str(errors[0].get("evalue", ""))[:300]
        for cell in exercise.answers:
            text = source(cell)
            found.answers[str(mark(cell)["grade_id"])] = text
            found.chosen |= {name: _shown(value.strip()) for name, value in FORM.findall(text)}
    return found


def _shown(value: str) -> str:
    """A field's value as a person reads it."""
    try:
        return str(ast.literal_eval(value))[:80]
    except NOT_PYTHON:
        return value[:80]
