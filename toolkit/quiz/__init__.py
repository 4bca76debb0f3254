"""The self-assessment quiz: what an answer says, numbers drawn for each student, and the practice bank."""

from toolkit.quiz.answers import close, credit_for, letter, letters, number, ordering, quantity
from toolkit.quiz.bank import Question, read_bank
from toolkit.quiz.draws import drawn
from toolkit.quiz.practice import practice

__all__ = [
    "Question",
    "close",
    "credit_for",
    "drawn",
    "letter",
    "letters",
    "number",
    "ordering",
    "practice",
    "quantity",
    "read_bank",
]
