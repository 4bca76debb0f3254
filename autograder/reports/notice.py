"""The page of a student whose file could not be graded: why, and what to do, in Portuguese."""

from html import escape
from pathlib import Path

from autograder.course import Course

PAGE = """<!DOCTYPE html>
<html lang="pt-BR"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Entrega não corrigida: {lesson}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; }}</style>
</head><body>
<h1>Entrega não corrigida: {lesson}</h1>
<p>A sua última entrega não pôde ser corrigida: <strong>{reason}</strong>.</p>
<p>Se você já tinha entregado antes, a nota anterior continua valendo. Para entregar de novo, abra o caderno,
rode <code>entregar()</code> na última célula, baixe o <code>.ipynb</code> e envie-o pela página da
disciplina. Se o recado não fizer sentido, fale com quem ensina.</p>
</body></html>
"""
BY_MACHINE = "a execução do seu código falhou na correção automática; quem ensina foi avisado"


def write_notice(course: Course, lesson: str, student: str, reason: str) -> Path:
    """Write the notice beside the feedback page, which stays; give its path."""
    path = _path(course, lesson, student)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE.format(lesson=escape(lesson), reason=escape(reason or BY_MACHINE)), encoding="utf-8")
    return path


def remove_notice(course: Course, lesson: str, student: str) -> None:
    """Take an earlier notice back."""
    _path(course, lesson, student).unlink(missing_ok=True)


def _path(course: Course, lesson: str, student: str) -> Path:
    return course.root / "feedback" / student / lesson / "aviso.html"
