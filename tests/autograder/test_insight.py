"""The report's figures against hand computations; alike answers against copies and honest coincidences."""

import math
import random

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output

from autograder.generated_class import write_class, wrong
from autograder.grading import Graded
from autograder.insight.outcomes import read_outcome
from autograder.insight.report import write_report, write_similar
from autograder.insight.similarity import normalised, similar_pairs
from autograder.insight.statistics import discrimination
from autograder.intake.layout import survey
from autograder.intake.owners import Owners
from autograder.intake.roster import read_roster
from autograder.intake.times import read_times
from autograder.ledger import Ledger
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in, marks

TESTS = (f"{LESSON}-soma-teste", f"{LESSON}-dobro-teste", f"{LESSON}-aberta")
EVIL = "<script>alert(1)</script>"


def test_discrimination_is_the_corrected_item_total_correlation():
    item, rest = np.array([0.0, 0, 1, 1, 1]), np.array([1.0, 2, 2, 4, 6])
    by_hand = np.cov(item, rest, bias=True)[0, 1] / math.sqrt(item.var() * rest.var())
    assert discrimination(item, item + rest) == pytest.approx(by_hand)
    assert discrimination(item[:3], rest[:3]) is None and discrimination(np.ones(9), np.arange(9.0)) is None


def test_fields_of_forms_and_the_judges_message_are_read():
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                'q1 = "b"  # @param ["", "a", "b"]\nq2 = False  # @param {type:"boolean"}\nx = 3',
                metadata={"nbgrader": {"grade_id": "q", "solution": True, "grade": False}},
            ),
            nbformat.v4.new_code_cell(
                "assert q1 == 'a'",
                metadata={"nbgrader": {"grade_id": "qt", "solution": False, "grade": True, "points": 1}},
                outputs=[new_output("error", ename="Teste", evalue="reveja a letra", traceback=[])],
            ),
        ]
    )
    found = read_outcome("1", notebook)
    assert found.chosen == {"q1": "b", "q2": "False"} and found.messages == {"q": "reveja a letra"}


def graded_class(course, size=12):
    """Half with all right; the others failed dobro with one of two messages, one of them not harmless."""
    with Ledger(course, LESSON) as ledger:
        for number in range(size):
            notebook = handed_in(course, **RIGHT)
            if number % 2:
                cell = next(c for c in notebook.cells if c.id == f"{LESSON}-dobro-teste")
                said = EVIL if number == 1 else "dobro(2) devia dar 4"
                cell.outputs = [new_output("error", ename="Teste", evalue=said, traceback=[said])]
            points = (2.0 if number < 9 else 0.0, 0.0 if number % 2 else 3.0, None)
            scores = dict(zip(TESTS, points, strict=True))
            ledger.write(Graded(f"s{number}", nbformat.writes(notebook), scores))


def test_the_report_of_a_lesson(course, tmp_path):
    graded_class(course)
    figures = write_report(course, LESSON, tmp_path / "r.html")
    items = {item["title"]: item for item in figures["items"]}
    assert items[f"{LESSON}-soma"]["mean_share"] == pytest.approx(9 / 12)
    assert items[f"{LESSON}-dobro"]["full"] == 0.5
    assert items[f"{LESSON}-dobro"]["wrong"] == [("dobro(2) devia dar 4", 5), (EVIL, 1)]
    assert figures["mean"] == pytest.approx((9 * 2 + 6 * 3) / 12)
    page = BeautifulSoup((tmp_path / "r.html").read_text(encoding="utf-8"), "html.parser")
    assert not page.find_all("script") and EVIL in page.text
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.find_all("img"))


TEMPLATE = "def media(valores):\n    # ESCREVA SEU CÓDIGO AQUI\n    raise NotImplementedError('x')"
ORIGINAL = '''def media(valores):
    """A média."""
    total = 0.0
    for posicao, valor in enumerate(valores):
        total += valor * (posicao + 1) / len(valores)
    return total if valores else None


def apoio(lista):
    return sorted(set(lista))[: len(lista) // 2]
'''
COPY = """# feito por mim
def apoio(l):
    return sorted(set(l))[:len(l) // 2]

def media(valores):
    soma = 0.0  # começa em zero
    for i, v in enumerate(valores):
        soma += v * (i + 1) / len(valores)
    return soma if valores else None
"""
OTHER = """def media(valores):
    import statistics
    pesos = range(1, 1 + len(valores))
    return sum(a * b for a, b in zip(pesos, valores))
"""


def test_renaming_comments_and_order_do_not_hide_a_copy():
    assert normalised(ORIGINAL, TEMPLATE) == normalised(COPY, TEMPLATE)
    assert normalised(ORIGINAL, TEMPLATE) != normalised(OTHER, TEMPLATE)
    assert normalised(TEMPLATE, TEMPLATE) == ""
    assert normalised("def (", "") == "def"


HOSTILE = {
    "spaces": "x =" + " " * 90_000,
    "a deep sum": "x = " + "1 + " * 2_900 + "1",
    "signs": "x = " + "-" * 90_000 + "1",
    "magics": "%a\n" * 10_000,
    "questions": "a?\n" * 10_000,
    "nul": "x = 1\0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_answer_stops_the_report_of_a_class(text):
    cell = nbformat.v4.new_code_cell(text, metadata=marks("q", solution=True))
    outcome = read_outcome("a", nbformat.v4.new_notebook(cells=[cell]))
    assert outcome.answers["q"] == text
    others = {"b": {"q": ORIGINAL}, "c": {"q": COPY}}
    assert len(similar_pairs({"a": outcome.answers, **others}, {"q": TEMPLATE})) == 1


def test_a_copied_pair_stands_out_and_what_many_wrote_does_not():
    answers = {"a": {"q": ORIGINAL}, "b": {"q": COPY}, "c": {"q": OTHER}, "d": {"q": TEMPLATE}}
    [pair] = similar_pairs(answers, {"q": TEMPLATE})
    assert pair.students == ("a", "b") and pair.evidence[0].ratio == 1 and pair.evidence[0].shared_by == 2
    everybody = {f"s{n}": {"q": ORIGINAL.replace("total", f"t{n}")} for n in range(20)}
    assert similar_pairs(everybody, {"q": TEMPLATE}) == []
    prose = {
        "a": {"q": "O posto baixo basta porque a mudança vive em poucas direções, como medimos na aula."}
    }
    prose["b"] = {
        "q": "o POSTO baixo basta, porque a mudança vive em poucas direções (como medimos na aula)!"
    }
    assert len(similar_pairs(prose, {"q": "*Escreva aqui a sua resposta.*"})) == 1


def test_the_page_of_alike_answers_shows_both_texts_and_runs_nothing(course, tmp_path):
    with Ledger(course, LESSON) as ledger:
        for student, text in (("a", ORIGINAL + f"\nx = '{EVIL}'"), ("b", COPY + f"\nx = '{EVIL}'")):
            ledger.write(Graded(student, nbformat.writes(handed_in(course, soma=text)), {}))
    assert len(write_similar(course, LESSON, tmp_path / "s.html")) == 1
    page = BeautifulSoup((tmp_path / "s.html").read_text(encoding="utf-8"), "html.parser")
    assert not page.find_all("script") and "começa em zero" in page.text and EVIL in page.text


def test_a_made_up_class_is_as_varied_as_it_says_and_the_same_twice(course, tmp_path):
    students = write_class(course, LESSON, tmp_path / "a", 200, seed=3)
    write_class(course, LESSON, tmp_path / "b", 200, seed=3)
    read = [
        sorted((p.relative_to(d), p.read_bytes()) for p in d.rglob("*") if p.is_file())
        for d in (tmp_path / "a", tmp_path / "b")
    ]
    assert read[0] == read[1]
    roster = read_roster(tmp_path / "a" / "roster.csv")
    assert roster == students and len({s.name for s in students}) == 200
    intake = survey(course, LESSON, tmp_path / "a" / "downloads", roster, Owners(roster, LESSON))
    reasons = list(intake.refused.values())
    assert intake.strays == [] and len(intake.taken) > 160
    for kind in ("handed in nothing", "not JSON", "different notebooks"):
        assert any(kind in reason for reason in reasons), kind
    assert len(read_times(tmp_path / "a" / "times.csv", roster)) == 200 - reasons.count("handed in nothing")


@pytest.mark.parametrize("seed", range(20))
def test_a_wrong_answer_is_another_program(seed):
    right = "def f(a, b):\n    'soma'\n    return a + b if a > 1 else 0"
    assert wrong(right, random.Random(seed)).split() != right.split()
