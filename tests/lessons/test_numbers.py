"""A measured number in a lesson's text is read off a cell's output, worked out, or has its source by it."""

import re

import jupytext
import pytest

from autograder.publish import course_facts

from .scoring import ROOT

LESSONS = [name for name in course_facts(ROOT)["lessons"] if name != "10_autoavaliacao"]  # all premises
MEASURED = re.compile(r"\d[\d.,]*\s*(?:GiB|MiB|KiB|GB|MB|TB|ms\b|segundos?\b|vezes\b|tokens/s|%)")
READING = "Leitura do resultado"
SOURCED = re.compile(r"\]\(https?://")
WORKED_OUT = re.compile(r"[=×≈÷]|\\cdot|\\times|\\approx")
# What is no measurement: headers, rubrics, the premises of a story or of an exercise, claims put to the test.
TOLD = (
    "**Tempo:**",
    "MARK SCHEME",
    "pontos",
    "menos de 1 %",
    "Sem preferência, ela é 50 %",
    "Um treino passa semanas a 12 GiB",
    "Páginas de 2 MiB",
    "até 3 vezes menor que no LoRA",
)


def bare(lesson):
    """Paragraphs with a measured number and nothing that says where it comes from."""
    cells = jupytext.read(ROOT / "lessons" / lesson / f"{lesson}.py").cells
    texts = [c.source for c in cells if c.cell_type == "markdown" and READING not in c.source]
    return [
        paragraph
        for text in texts
        for paragraph in text.split("\n\n")
        if MEASURED.search(paragraph)
        and not SOURCED.search(paragraph)
        and not WORKED_OUT.search(paragraph)
        and not any(mark in paragraph for mark in TOLD)
    ]


@pytest.mark.parametrize("lesson", LESSONS)
def test_numbers_have_a_source(lesson):
    assert bare(lesson) == []
