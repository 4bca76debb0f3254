"""The open question's rubric: hinted at for the instructor, never scored, never seen by students."""

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell

from autograder.course import Course
from autograder.rubric import suggested
from tests.autograder.small_lesson import LESSON, RIGHT, grade_here, handed_in, marks, source_notebook

RUBRIC = """### Questão aberta
Por que cabe?
### BEGIN MARK SCHEME
1. O modelo base em 4 bits. (palavras: nf4, 4 bits; base, congelad)
2. Só o adaptador tem gradiente. (palavras: gradiente, otimizador)
3. Um exemplo bem escolhido.
### END MARK SCHEME
"""


@pytest.mark.parametrize(
    ("answer", "met"),
    [
        ("", []),
        ("A base CONGELADA fica em  4\nBITS.", ["1"]),
        ("4 bits e mais nada", []),
        ("Quantização em NF4 dos pesos congelados; o otimizador só guarda o adaptador.", ["1", "2"]),
    ],
)
def test_criteria_are_suggested_by_one_word_of_each_group(answer, met):
    found = suggested(RUBRIC, answer)
    assert set(found) == {"1", "2"}, "a criterion without words is for a reader alone"
    assert [number for number, meets in found.items() if meets] == met


def test_the_instructor_alone_sees_rubric_and_hint_and_nothing_is_scored(tmp_path):
    source = source_notebook()
    source.cells.insert(-1, new_markdown_cell(RUBRIC, id="enunciado", metadata=marks("enunciado")))
    course = Course.init(tmp_path / "course", {LESSON: source})
    released = course.notebook("release", LESSON).read_text()
    assert "Por que cabe?" in released
    assert "palavras" not in released

    notebook = handed_in(course, aberta="Os pesos congelados em 4 bits.", **RIGHT)
    graded = grade_here(course, "ana", notebook)
    cells = {cell.id: cell.source for cell in nbformat.reads(graded.notebook, 4).cells}
    assert "may meet 1 of 2 of the criteria with words (1)" in cells["enunciado"]
    assert "3. Um exemplo bem escolhido." in cells["enunciado"]
    assert graded.scores[f"{LESSON}-aberta"] is None
    page = (course.root / "feedback" / "ana" / LESSON / f"{LESSON}.html").read_text()
    assert "Os pesos congelados em 4 bits." in page
    assert "palavras" not in page and "criteria" not in page
