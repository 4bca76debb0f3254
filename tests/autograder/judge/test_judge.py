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


def test_a_given_cell_that_overran_is_no_tests_verdict(judge):
    judge.give("import time; time.sleep(2)")
    assert verdict(judge, "assert passo == 3").share == 0
    assert verdict(judge, "assert passo == 2").share == 1


NOTHING = {
    "allclose": "torch.allclose(none, full)",
    "its own allclose": "full.allclose(none)",
    "by name": "torch.allclose(input=full, other=none)",
    "every element": "bool((none == full).all())",
    "no element": "not bool((none != full).any())",
    "the sum of differences": "float((none - full).abs().sum()) < 1",
    "a loss": "float(torch.nn.functional.l1_loss(none, full, reduction='sum')) < 1",
    "a distance": "float(torch.dist(none, full)) < 1",
    "a cut of what was full": "torch.allclose(torch.ones(1, 1, 1, 1)[:, 3:], full[:, 3:])",
}


@pytest.mark.parametrize("claim", NOTHING.values(), ids=NOTHING)
def test_no_values_match_no_values_expected(judge, claim):
    found = verdict(
        judge, f"import torch\nnone, full = torch.zeros(0, 1, 1, 1), torch.ones(7, 5)\nassert {claim}"
    )
    assert found.share == 0 and "vazio" in found.incident


def test_an_empty_answer_is_right_where_nothing_is_expected(judge):
    test = "import torch\nnone, full = torch.zeros(0, 5), torch.ones(7, 5)\n"
    test += "assert torch.allclose(none, full[9:])\n"
    test += "assert torch.cat([none, full]).shape == full[full > 0].view(7, 5).shape\n"
    assert verdict(judge, test + "assert full[torch.tensor([], dtype=torch.long)].tolist() == []").share == 1


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
