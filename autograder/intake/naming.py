"""What a course platform itself writes into the path of a download: whose it is, in which order, and when.

Moodle (mod/assign/feedback/file/importziplib.php): `Name_NUMBER_assignsubmission_file`, as a folder or before
the file's name. Canvas (app/models/assignment.rb): `lastfirst_[LATE_]USER_ATTACHMENT_file`. Blackboard:
`Assignment_USER_attempt_TIME_file`. Google: Classroom's `Name - file`, Drive's `Cópia de` and ` (1)`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

MOODLE = re.compile(r"(?P<who>[^/]+)_(?P<number>\d+)_assignsubmission_[a-z]+(?:_|/|$)")
CANVAS = re.compile(r"(?P<who>[^/_]+)_(?:LATE_)?(?P<user>\d+)_(?P<attachment>\d+)_[^/]*$")
BLACKBOARD = re.compile(r"_(?P<who>[^/_]+)_attempt_(?P<time>20\d\d(?:-\d\d){5})_[^/]*$")
COPY_NUMBER = re.compile(r"(?:\((\d{1,3})\)|-(\d{1,3}))\.[A-Za-z]+$")  # "x (2).ipynb", Canvas's "x-2.ipynb"


@dataclass(frozen=True)
class Origin:
    """A path as its platform wrote it."""

    who: str  # the part that names the student
    rank: tuple[str, int, int]  # of a student's files, the one handed in later has the greater
    time: datetime | None = None  # where the platform writes it there; local time


def origin(path: PurePosixPath, lesson: str) -> Origin:
    """Read a path. Numbers that are the platform's own, no student's id, are left out of `who`."""
    text = str(path)
    own = _without_lesson(text, lesson)
    number = COPY_NUMBER.search(text)
    copy = int(number[1] or number[2]) if number else 0
    if found := MOODLE.search(text):
        return Origin(_without_lesson(f"{found['who']} {text[found.end() :]}", lesson), ("", 0, copy))
    if found := CANVAS.search(own):  # without the lesson's name, whose number would be an attachment's
        who = f"{own[: found.start()]} {found['who']} {found['user']} {own[found.end('attachment') :]}"
        return Origin(who, ("", int(found["attachment"]), copy))
    if (found := BLACKBOARD.search(text)) and (time := _time(found["time"])):
        return Origin(f"{found['who']} {text[found.end() :]}", (found["time"], 0, copy), time)
    return Origin(own, ("", 0, copy))


def _time(digits: str) -> datetime | None:
    """None where a student has only named a file like that."""
    try:
        return datetime.strptime(digits, "%Y-%m-%d-%H-%M-%S")
    except ValueError:
        return None


def _without_lesson(text: str, lesson: str) -> str:
    """The text without the lesson's file name and its copy's number, which could pass for an id."""
    return re.sub(rf"{re.escape(lesson)}[ _-]*(\(?\d+\)?)?\.(ipynb|zip)\b", "", text)
