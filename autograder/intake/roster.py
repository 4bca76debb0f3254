"""The class list, and whose file a path is."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath

from autograder import Refusal
from autograder.course import Course

# nbgrader puts the id into paths and globs, so it may hold nothing that means something there.
STUDENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,63}\Z")
HEADINGS = {
    "id": {"id", "student id", "matricula", "ra", "numero de identificacao", "id number"},
    "first_name": {"first name", "nome"},
    "last_name": {"last name", "surname", "sobrenome"},
    "email": {"email", "e mail", "email address", "endereco de email"},
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


def plain(text: str) -> str:
    """Lower case, no accents, every run of anything but letters and digits one space."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", " ", bare.casefold()).strip()


def read_roster(path: Path) -> list[Student]:
    """The students of a CSV (comma, semicolon or tab) whose first line names the columns, `id` at least."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refusal(
            f"The roster {path} cannot be read ({error.strerror}): give --roster the class list."
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")  # what Excel writes on a Brazilian Windows
    first = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    columns = _columns(next(rows, []), path)
    students = [
        _student(row, columns, f"{path}, line {number}") for number, row in enumerate(rows, 2) if any(row)
    ]
    ids = [student.id.casefold() for student in students]
    twice = {i for i in ids if ids.count(i) > 1}
    if twice:
        raise Refusal(f"{path} lists the id {min(twice)!r} twice: every student needs an id of their own.")
    return students


def enrol(course: Course, roster: Sequence[Student]) -> None:
    """Write the class list into the gradebook; who is in it already gets the new name and e-mail."""
    with course.gradebook() as gradebook:
        for student in roster:
            details = {k: v for k, v in asdict(student).items() if k != "id" and v}
            gradebook.update_or_create_student(student.id, **details)


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    names = [plain(cell) for cell in header]
    columns = {f: i for f, words in HEADINGS.items() for i, name in enumerate(names) if name in words}
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
    return Student(**{f.name: value.get(f.name, "") for f in fields(Student)})


def owner(
    path: PurePosixPath, lesson: str, roster: Sequence[Student], pattern: re.Pattern[str] | None = None
) -> Student:
    """The one student whose id, full name or e-mail the path holds as whole words.

    `pattern`, with a group `student`, says where in the path the id stands, and then nothing else counts.
    Raises Refusal, with a predicate, when the path names nobody on the roster, or several.
    """
    if pattern:
        match = pattern.search(str(path))
        found = {s for s in roster if match and plain(s.id) == plain(match["student"])}
    else:
        found = _named(
            plain(re.sub(rf"{re.escape(lesson)}[ _-]*(\(?\d+\)?)?\.ipynb$", "", str(path))), roster
        )
    if len(found) == 1:
        return found.pop()
    if found:
        names = " and ".join(sorted(s.name for s in found))
        raise Refusal(f"names {names}; rename it so that it holds one student's id")
    raise Refusal(
        "belongs to nobody on the roster; put the student's id into its name, or the student on the roster"
    )


def _named(words: str, roster: Sequence[Student]) -> set[Student]:
    """Who is named in `words`; of two names in one place ("Ana Lima", "Ana Lima Sá") the longer counts."""
    spans = [(*m.span(), s) for s in roster for m in _ways_to_write(s).finditer(words)]
    return {s for a, b, s in spans if not any(c <= a and b <= d and (a, b) != (c, d) for c, d, _ in spans)}


@cache
def _ways_to_write(student: Student) -> re.Pattern[str]:
    """The id, the e-mail, and the name in both orders: SilvaAna, ana-silva and "Ana Silva" are the same."""
    first, last = plain(student.first_name), plain(student.last_name)
    whole = [plain(student.id), plain(student.email)]
    names = [first + last, last + first] if first and last else []
    loose = [" ?".join(name.replace(" ", "")) for name in names]
    return re.compile(rf"\b(?:{'|'.join(filter(None, [*whole, *loose]))})\b")
