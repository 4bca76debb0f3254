"""The practice bank: complete, consistent, and its own right answers are right."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from toolkit.quiz.answers import UNITS
from toolkit.quiz.bank import judge, read_bank

ROOT = Path(__file__).parents[3]
LESSONS = tomllib.loads((ROOT / "course.toml").read_text(encoding="utf-8"))["lessons"]
QUESTIONS = read_bank()
NAMES = [question.id for question in QUESTIONS]


def right_answer(question):
    if question.kind == "numero":
        return f"{question.value / UNITS.get(question.unit, 1):.6f} {question.unit}".strip()
    if question.kind == "ordem":
        return question.order
    return "".join(n for n, o in zip(question.letters, question.options, strict=True) if o.right)


def test_the_bank_covers_the_course():
    assert len(QUESTIONS) >= 40
    lessons = Counter(question.lesson for question in QUESTIONS)
    assert set(LESSONS) <= set(lessons)
    assert min(lessons.values()) >= 3
    assert set(Counter(question.kind for question in QUESTIONS)) == {"uma", "varias", "ordem", "numero"}


@pytest.mark.parametrize("question", QUESTIONS, ids=NAMES)
def test_a_question_is_whole(question):
    assert question.objective
    rights = [option.right for option in question.options]
    if question.kind == "uma":
        assert sum(rights) == 1
    if question.kind == "varias":
        assert 1 < sum(rights) < len(rights)
    if question.kind in ("uma", "varias"):
        assert len(rights) >= 4
        assert all(option.reason for option in question.options)
    else:
        assert question.reason
    assert len({option.text for option in question.options}) == len(rights)


@pytest.mark.parametrize("question", QUESTIONS, ids=NAMES)
def test_the_right_answer_is_right_and_another_is_not(question):
    for seed in range(5):
        put = question.shown(seed)
        answer = right_answer(put)
        assert judge(put, answer).share == 1
        assert "{" not in put.text + put.reason
        if put.kind == "numero":
            assert judge(put, f"{put.value / UNITS.get(put.unit, 1) * 1.2 + 1:.4f} {put.unit}").share == 0
        elif put.kind == "ordem":
            assert judge(put, answer[::-1]).share == 0
            assert ", ".join(answer) in judge(put, answer[::-1]).remarks[0]
        else:
            wrong = next(n for n in put.letters if n not in answer)
            assert judge(put, wrong).share == 0
            said = [remark.split(".")[0] for remark in judge(put, wrong).remarks]
            assert said == sorted([f"{wrong}) Errada", *(f"{name}) Certa" for name in answer)])


def test_length_does_not_give_the_right_option_away():
    single = [question.options for question in QUESTIONS if question.kind == "uma"]
    longest = sum(max(options, key=lambda o: len(o.text)).right for options in single)
    assert longest <= len(single) / 3, "a guess by length would beat chance (a quarter)"


def test_questions_come_in_another_order_each_time():
    orders = {tuple(o.text for o in QUESTIONS[0].shown(seed).options) for seed in range(20)}
    assert len(orders) > 5
    assert QUESTIONS[0].shown(3) == QUESTIONS[0].shown(3)


def test_an_unknown_lesson_is_one_sentence():
    with pytest.raises(ValueError, match="03_lora"):
        read_bank("33_lora")
