"""The standings: what each adapter scored, kept by its content, shown by pseudonym."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from autograder.course import Course

ANIMALS = [
    "anta",
    "arara",
    "boto",
    "capivara",
    "cutia",
    "gavião",
    "guará",
    "harpia",
    "irara",
    "jaguar",
    "jacu",
    "lobo",
    "mico",
    "muriqui",
    "onça",
    "paca",
    "quati",
]
ANIMALS += ["sabiá", "sagui", "seriema", "tamanduá", "tatu", "tucano", "uirapuru", "veado"]
PAGE = """<!DOCTYPE html>
<html lang="pt-BR"><head><meta charset="utf-8"><title>Classificação: {lesson}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; }}
td, th {{ text-align: left; padding-right: 2rem; }}</style></head><body>
<h1>Classificação: {lesson}</h1>
<table><tr><th></th><th>participante</th><th>macro-F1</th></tr>{rows}</table>
</body></html>
"""


@dataclass(frozen=True)
class Standing:
    """What became of one student's adapter; `score` is None where it was refused, `reason` says why."""

    digest: str
    score: float | None
    points: float
    reason: str = ""


def read_board(course: Course, lesson: str) -> dict[str, Standing]:
    """Student id -> standing."""
    path = _path(course, lesson)
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {student: Standing(**standing) for student, standing in said.items()}


def write_board(course: Course, lesson: str, board: Mapping[str, Standing]) -> Path:
    """Keep the standings, and write the page for the class; give the page's path."""
    path = _path(course, lesson)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({s: asdict(b) for s, b in board.items()}, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    ranked = sorted(
        ((b.score, pseudonym(course, s)) for s, b in board.items() if b.score is not None), reverse=True
    )
    rows = "".join(
        f"<tr><td>{place}</td><td>{escape(name)}</td><td>{score:.3f}</td></tr>"
        for place, (score, name) in enumerate(ranked, 1)
    )
    page = course.root / "reports" / f"{lesson}-classificacao.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(PAGE.format(lesson=escape(lesson), rows=rows), encoding="utf-8")
    return page


def pseudonym(course: Course, student: str) -> str:
    """A name that is always a student's and says nothing of them to who has not the course's secret."""
    path = course.root / "contests" / "secret"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex())
    digest = hmac.digest(path.read_bytes(), student.encode(), hashlib.sha256)
    return f"{ANIMALS[digest[0] % len(ANIMALS)]}-{int.from_bytes(digest[1:3]) % 10_000:04}"


def _path(course: Course, lesson: str) -> Path:
    return course.root / "contests" / lesson / "standings.json"
