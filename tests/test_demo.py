"""The two halves of `make demo`: the training at small size, the class of twelve as it is."""

import csv
import re

import pytest

from autograder.cli.courses import demo as grading_demo
from lessons import demo


def test_the_training_half_says_what_came_of_it(capsys):
    demo.main("tiny", steps=3)
    printed = capsys.readouterr().out
    for words in ("treináveis", "tempo (s)", "pico medido", "adaptador (MiB)", "antes:", "depois:"):
        assert words in printed
    before, after = map(float, re.search(r"perda na validação\s*│\s*([\d.]+) -> ([\d.]+)", printed).groups())
    assert after < before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_grading_half_grades_all_that_can_be_graded(tmp_path, capsys):
    grading_demo(tmp_path)
    printed = capsys.readouterr().out
    [table] = (tmp_path / "course" / "grades").glob("*.csv")
    scores = {row["student_id"]: row["score"] for row in csv.DictReader(table.open(encoding="utf-8"))}
    right, half, wrong, empty = (scores[str(20260001 + i)] for i in range(4))
    assert float(right) > float(half) > float(wrong) >= float(empty) == 0
    assert scores["20260007"] == scores["20260008"] == right  # Colab's renaming, a duplicated cell
    assert scores["20260012"] == ""  # handed in nothing
    for sentence in ("not JSON", "nobody on the roster", "handed in nothing", "different notebooks"):
        assert sentence in re.sub(r"\s+", " ", printed)
    assert len(list((tmp_path / "course" / "feedback").rglob("*.html"))) >= 7
