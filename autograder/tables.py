"""Tables as spreadsheets and course platforms write them, and such as no spreadsheet takes for a program."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autograder import Refusal

FORMULA = (*"=+-@", *"＝＋－＠", "\t", "\r", "\n")  # in the second form for some languages


def plain(text: str) -> str:
    """Lower case, no accents, every run of anything but letters and digits one space."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", " ", bare.casefold()).strip()


def read_table(path: Path, what: str, option: str) -> list[list[str]]:
    """The rows of a CSV (comma, semicolon or tab), UTF-8 or what Excel writes on a Brazilian Windows."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refusal(f"The {what} {path} cannot be read ({error.strerror}): give {option} a CSV.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    first = text.split("\n", 1)[0]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))) or [[]]


def safe(value: Any) -> str:
    """A cell's text."""
    text = "" if value is None else f"{value:g}" if isinstance(value, float) and value % 1 else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def write_csv(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    """Write a table, every cell of it safe."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(map(safe, line) for line in lines)
