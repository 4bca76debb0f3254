"""The class list: read from the CSV of a spreadsheet or a course platform, and written into the gradebook."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nbgrader.api import Student as EnrolledStudent

from autograder import Refusal
from autograder.course import Course
from autograder.tables import plain, read_table

# nbgrader puts the id into paths and globs, so it may hold nothing that means something there.
STUDENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,63}\Z")
# Headings of Moodle, Canvas and Brazilian class lists; of two for one thing the earlier counts.
HEADINGS = {
    "id": ["id", "student id", "matricula", "ra", "numero de identificacao", "id number", "sis user id"],
    "first_name": ["first name", "nome"],
    "last_name": ["last name", "surname", "sobrenome"],
    "email": ["email", "e mail", "email address", "endereco de email", "sis login id"],
    "name": ["student", "full name", "nome completo", "aluno"],  # Canvas writes "Last, First"
}


@dataclass(frozen=True)
class Student:
    """One line of the class list."""

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""

    @property
    def name(self) -> str:
        """First and last name, or the id where there is none."""
        return f"{self.first_name} {self.last_name}".strip() or self.id


def read_roster(path: Path) -> list[Student]:
    """The students of a CSV whose first line names the columns, `id` at least."""
    header, *rows = read_table(path, "roster", "--roster")
    columns = _columns(header, path)
    students = [
        _student(row, columns, f"{path}, line {number}") for number, row in enumerate(rows, 2) if any(row)
    ]
    twice = [i for i, count in Counter(student.id.casefold() for student in students).items() if count > 1]
    if twice:
        raise Refusal(f"{path} lists the id {min(twice)!r} twice: every student needs an id of their own.")
    return students


def enrol(course: Course, roster: Sequence[Student]) -> None:
    """Write the class list into the gradebook; who is in it already gets the new name and e-mail."""
    with course.gradebook() as gradebook:
        known = {student.id: student for student in gradebook.students}
        for student in roster:
            details = {name: value for name, value in asdict(student).items() if value}
            if student.id in known:
                for name, value in details.items():
                    setattr(known[student.id], name, value)
            else:
                gradebook.db.add(EnrolledStudent(**details))
        gradebook.db.commit()


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    names = [plain(cell) for cell in header]
    columns = {f: names.index(w) for f, words in HEADINGS.items() for w in reversed(words) if w in names}
    if "id" not in columns:
        raise Refusal(
            f"{path} has no column 'id': its first line must be like id,first_name,last_name,email."
        )
    return columns


def _student(row: Sequence[str], columns: dict[str, int], where: str) -> Student:
    value = {name: row[i].strip() for name, i in columns.items() if i < len(row)}
    if not STUDENT_ID.match(value.get("id", "")):
        raise Refusal(
            f"{where}: the id {value.get('id', '')!r} must be 1 to 64 letters, digits or . _ - @; mend it."
        )
    if "name" in value and not value.get("last_name"):
        last, _, first = value["name"].partition(",") if "," in value["name"] else _western(value["name"])
        value |= {"first_name": first.strip(), "last_name": last.strip()}
    return Student(**{f.name: value.get(f.name, "") for f in fields(Student)})


def _western(name: str) -> tuple[str, str, str]:
    first, space, last = name.partition(" ")
    return last, space, first
