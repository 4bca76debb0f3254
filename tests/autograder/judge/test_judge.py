"""The judge as the grader holds it: a verdict is the answer to its own test, whatever became of the last."""

import socket

import pytest

from autograder.judge.judge import LATE, Judge


@pytest.fixture(scope="module")
def judge():
    judge = Judge(["soma"], {"seed": 1, "seconds": 1, "student": "ana"}, seconds=1.5)
    judge.give("passo = 2")
    yield judge
    judge.close()


def verdict(judge, source):
    """What it finds where nobody is at the other end of the line."""
    here, there = socket.socketpair()
    there.close()
    with here:
        return judge.verdict(source, here)


@pytest.mark.parametrize(
    "overrun",
    ["import time; time.sleep(3)", "import os; os._exit(0)"],
    ids=["a late verdict", "gone"],
)
def test_a_judge_that_gave_no_verdict_is_replaced_and_its_late_one_is_nobodys(judge, overrun):
    assert verdict(judge, overrun) == LATE
    wrong = verdict(judge, "assert passo == 3, 'o passo é dois'")
    assert (wrong.share, wrong.message) == (0, "o passo é dois")
    assert verdict(judge, "assert passo == 2").share == 1


def test_a_sentence_with_a_large_value_of_the_students_is_cut(judge):
    assert len(verdict(judge, "assert False, 'x' * 10**7").message) == 2_000


@pytest.mark.parametrize(
    ("claimed", "share"),
    [("1e9", 1), ("float('nan')", 0), ("-1", 0), ("0.5", 0.5), ("float('inf')", 1)],
)
def test_partial_credit_stays_between_none_and_all(judge, claimed, share):
    assert verdict(judge, f"credit({claimed})\nassert False").share == share


def test_an_unanswered_question_is_no_pass_even_where_a_test_swallows_everything(judge):
    found = verdict(judge, "try:\n    soma(1)\nexcept BaseException:\n    pass")
    assert found.share == 0 and found.lost and found.incident
