"""The practice widget, driven by its own fields and buttons."""

import pytest

from tests.toolkit.quiz.test_bank import right_answer
from toolkit.quiz import practice


def fill(widget, answer):
    """Put an answer into the fields as a person would."""
    fields = widget.field.children
    if widget.question.kind == "uma":
        fields[0].value = next(option for option in fields[0].options if option.startswith(answer))
    elif widget.question.kind == "varias":
        for box, name in zip(fields, widget.question.letters, strict=True):
            box.value = name in answer
    else:
        fields[-1].value = answer


@pytest.mark.parametrize("lesson", ["01_custo", "03_lora", "07_outros_metodos"])
def test_every_question_of_a_lesson_can_be_answered(lesson):
    widget = practice(lesson, seed=5)
    for _ in widget.questions:
        widget.check.click()
        assert "respondida" in widget.verdict.value or "letras" in widget.verdict.value
        fill(widget, right_answer(widget.question))
        widget.check.click()
        assert "Certo." in widget.verdict.value
        widget.next.click()
        assert widget.verdict.value == ""


def test_a_wrong_answer_says_why_and_what_is_typed_is_escaped():
    widget = practice("03_lora", seed=1)
    while widget.question.kind != "numero":
        widget.next.click()
    fill(widget, "1")
    widget.check.click()
    assert "Ainda não." in widget.verdict.value
    assert widget.question.reason in widget.verdict.value
    fill(widget, "<img src=x onerror=alert(1)>")
    widget.check.click()
    assert "<img" not in widget.verdict.value
