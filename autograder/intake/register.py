"""What intake keeps of a lesson: where each student's file lay, and which files were assigned by hand."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autograder.course import Course


@dataclass
class Register:
    """Of a lesson, over all its intakes."""

    paths: dict[str, str] = field(default_factory=dict)  # student id -> path inside the download
    assigned: dict[str, str] = field(default_factory=dict)  # path -> student id, said by the instructor


def read_register(course: Course, lesson: str) -> Register:
    """The lesson's register; an empty one before its first intake."""
    path = _path(course, lesson)
    return Register(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Register()


def write_register(course: Course, lesson: str, register: Register) -> None:
    """Write it whole or not at all."""
    path = _path(course, lesson)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(register), ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(path)


def _path(course: Course, lesson: str) -> Path:
    return course.root / "intake" / f"{lesson}.json"
