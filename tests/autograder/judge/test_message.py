"""What a failed test says to the student."""

import pytest
import torch

from autograder.judge.process import _message
from toolkit.quiz import letter


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: letter("", "abcd"), "Exercício ainda não feito."),
        (
            lambda: torch.empty(2, device="meta").cpu(),
            "O teste não pôde usar a resposta (NotImplementedError)",
        ),
    ],
)
def test_only_a_blank_answer_is_not_attempted(attempt, said):
    with pytest.raises(NotImplementedError) as raised:
        attempt()
    assert _message(raised.value, "").startswith(said)
