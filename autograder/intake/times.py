"""When each student handed in: by the course platform's own table, never by what a submission says."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from dateutil import parser

from autograder import Refusal
from autograder.intake.roster import HEADINGS, Student
from autograder.tables import plain, read_table

# Moodle's grading worksheet (in English and Portuguese), and plain words for other tables.
TIME_HEADINGS = {
    *("last modified submission", "ultima modificacao envio", "ultima modificacao submissao"),
    *("submitted at", "submission time", "time", "timestamp", "enviado em", "data de envio", "horario"),
}


class Portuguese(parser.parserinfo):  # type: ignore[misc]
    """Months and days as a platform set to Portuguese writes them, beside the English ones."""

    MONTHS: ClassVar = [
        (*english, *portuguese)
        for english, portuguese in zip(
            parser.parserinfo.MONTHS,
            [
                *(
                    ("janeiro",),
                    ("fev", "fevereiro"),
                    ("março",),
                    ("abr", "abril"),
                    ("mai", "maio"),
                    ("junho",),
                ),
                *(("julho",), ("ago", "agosto"), ("set", "setembro"), ("out", "outubro"), ("novembro",)),
                ("dez", "dezembro"),
            ],
            strict=True,
        )
    ]
    JUMP: ClassVar = [*parser.parserinfo.JUMP, "de", "às"]


def read_times(path: Path, roster: Sequence[Student]) -> dict[str, datetime]:
    """Student id -> time of submission (UTC) of a CSV; times without a zone are this machine's.

    A line's student is found by id, e-mail or full name. Raises Refusal for a table that has none of these.
    """
    header, *rows = read_table(path, "table of times", "--times")
    names = [plain(cell) for cell in header]
    when = next((i for i, name in enumerate(names) if name in TIME_HEADINGS), None)
    whose = [i for i, name in enumerate(names) if name in {w for words in HEADINGS.values() for w in words}]
    if when is None or not whose:
        raise Refusal(
            f"{path} has no column of students and one of times: its first line must be like id,submitted at."
        )
    known = {key: s.id for s in roster for key in (plain(s.id), plain(s.email), plain(s.name)) if key}
    times = {}
    for number, row in enumerate(rows, 2):
        student = next((known[plain(row[i])] for i in whose if i < len(row) and plain(row[i]) in known), None)
        if student and when < len(row) and re.search(r"\d", row[when]):
            times[student] = _time(row[when], f"{path}, line {number}")
    return times


def _time(text: str, where: str) -> datetime:
    words = re.sub(
        r"\w+-feira|segunda|terça|quarta|quinta|sexta|sábado|domingo", "", text, flags=re.IGNORECASE
    )
    try:
        found = datetime.fromisoformat(text) if re.match(r"\d{4}-", text) else _parsed(words)
    except (parser.ParserError, ValueError, OverflowError):
        raise Refusal(f"{where}: {text!r} is no time; write it like 2026-08-31 23:59.") from None
    return found.astimezone(UTC)


def _parsed(words: str) -> datetime:
    found: datetime = parser.parse(words, parserinfo=Portuguese(dayfirst=True))
    return found
