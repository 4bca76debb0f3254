"""What was graded, when, by whom, with what: a line a grading; the last says whether to grade again."""

import getpass
import hashlib
import json
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autograder.course import CONFIG_FILE, Course
from autograder.grading import Graded

PACKAGES = ("aula-peft", "nbgrader", "torch", "transformers", "peft")


def is_current(course: Course, lesson: str, student: str) -> bool:
    """Whether the last grading succeeded on the same submission, lesson and configuration, byte for byte."""
    last = _last(_path(course, lesson, student))
    return not last.get("failure", True) and last.get("fingerprint") == fingerprint(course, lesson, student)


def fingerprint(course: Course, lesson: str, student: str) -> str:
    """A hash of all that a grade follows from."""
    steps = (course.notebook("submitted", lesson, student), course.notebook("source", lesson))
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in (*steps, course.root / CONFIG_FILE)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def write_record(course: Course, lesson: str, graded: Graded, fingerprint: str) -> None:
    """Add a grading, failed or not, to the student's records; the fingerprint is the one before it began."""
    metadata = json.loads(graded.notebook)["metadata"].get("autograder", {}) if graded.notebook else {}
    record = {
        "student": graded.student,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": getpass.getuser(),
        "fingerprint": fingerprint,
        "failure": graded.failure,
        "log": graded.log if graded.failure else "",
        "scores": graded.scores,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        **metadata,  # what was mended; the judge's seed and incidents
    }
    path = _path(course, lesson, graded.student)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(
            "\n" + json.dumps(record, ensure_ascii=False)
        )  # first, to end a line that a kill cut short


def _path(course: Course, lesson: str, student: str) -> Path:
    return course.root / "records" / lesson / f"{student}.jsonl"


def _last(path: Path) -> dict[str, Any]:
    """The last whole record; none where there is none yet, or where a kill left half a line."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, IndexError, ValueError):
        return {}
    return record


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
