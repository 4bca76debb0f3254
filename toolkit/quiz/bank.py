"""The practice bank: questions by lesson, with what is right and why, and the judging of an answer."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from toolkit.quiz import answers

Kind = Literal["uma", "varias", "ordem", "numero"]
BANK = Path(__file__).parent / "bank"
LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Option:
    """One alternative: its text, whether it is right, and the reason."""

    text: str
    right: bool
    reason: str


@dataclass(frozen=True)
class Question:
    """A practice question.

    `kind`: "uma" has one right option, "varias" several, "ordem" has its options in the right order (shown
    shuffled), "numero" has a `formula` over drawn `values`, a `unit` ("" for a plain number) and a relative
    `tolerance`. `reason` explains a number or an order; options have their own. `order` has the letters of a
    `shown` question's options in the right order.
    """

    id: str
    lesson: str
    objective: str
    kind: Kind
    text: str
    options: tuple[Option, ...] = ()
    reason: str = ""
    formula: str = ""
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unit: str = ""
    tolerance: float = 0.0
    order: str = ""

    def shown(self, seed: int) -> Question:
        """The question as it is put: options shuffled, numbers drawn and written into its texts."""
        generator = random.Random(f"{self.id}:{seed}")
        options = tuple(generator.sample(self.options, len(self.options)))
        order = "".join(self.letters[options.index(option)] for option in self.options)
        values = {name: (generator.choice(numbers),) for name, numbers in self.values.items()}
        put = replace(self, options=options, order=order, values=values)
        if self.kind != "numero":
            return put
        texts = {name: _written(number) for name, (number,) in values.items()}
        result = _written(put.value / answers.UNITS.get(self.unit, 1), self.unit)
        return replace(
            put, text=self.text.format(**texts), reason=self.reason.format(**texts, resultado=result)
        )

    @property
    def letters(self) -> str:
        """The letters of the options as they stand."""
        return LETTERS[: len(self.options)]

    @property
    def value(self) -> float:
        """The right number; of a question as `shown`."""
        numbers = {name: values[0] for name, values in self.values.items()}
        return float(eval(self.formula, {"__builtins__": {}}, numbers))  # our own file, no student's text


@dataclass(frozen=True)
class Outcome:
    """What an answer is worth (0 to 1), and what there is to say about it."""

    share: float
    remarks: tuple[str, ...]


def judge(question: Question, answer: Any) -> Outcome:
    """Judge an answer to a question as it was `shown`; raises as `toolkit.quiz.answers` does."""
    if question.kind == "numero":
        readings = answers.quantity(answer) if question.unit else answers.number(answer)
        right = answers.close(readings, question.value, question.tolerance)
        return Outcome(float(right), (question.reason,))
    if question.kind == "ordem":
        right = "".join(answers.ordering(answer, question.letters)) == question.order
        return Outcome(float(right), (f"A ordem é {', '.join(question.order)}. {question.reason}",))
    chosen = answers.letters(answer, question.letters)
    if question.kind == "uma":
        chosen = (answers.letter(answer, question.letters),)
    by_letter = dict(zip(question.letters, question.options, strict=True))
    rights = [name for name, option in by_letter.items() if option.right]
    remarks = tuple(_remark(name, by_letter[name]) for name in sorted({*chosen, *rights}))
    return Outcome(answers.credit_for(chosen, rights), remarks)


def _remark(name: str, option: Option) -> str:
    return f"{name}) {'Certa' if option.right else 'Errada'}. {option.reason}"


def _written(number: float, unit: str = "") -> str:
    """A number as Brazilians write it, to four digits where it is not whole."""
    whole = number == int(number)
    text = f"{number:,.0f}" if whole or number >= 1000 else f"{number:.4g}"
    return f"{text} {unit}".strip().translate(str.maketrans(",.", ".,"))


def read_bank(lesson: str = "") -> list[Question]:
    """The questions of a lesson (such as "03_lora"), or of all. Raises ValueError for an unknown one."""
    paths = {path.stem: path for path in sorted(BANK.glob("*.toml"))}
    if lesson and lesson not in paths:
        raise ValueError(f"não há questões da aula {lesson!r}; há de {', '.join(paths)}.")
    return [q for name, path in paths.items() if lesson in ("", name) for q in _read(path)]


def _read(path: Path) -> list[Question]:
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["questao"]
    return [_question(path.stem, number, row) for number, row in enumerate(rows, start=1)]


def _question(lesson: str, number: int, row: Mapping[str, Any]) -> Question:
    options = (Option(o["texto"], o.get("certa", False), o.get("razao", "")) for o in row.get("opcoes", ()))
    return Question(
        id=f"{lesson}-{number}",
        lesson=lesson,
        objective=row["objetivo"],
        kind=row["tipo"],
        text=row["texto"].strip(),
        options=tuple(options),
        reason=row.get("razao", "").strip(),
        formula=row.get("formula", ""),
        values={name: tuple(values) for name, values in row.get("sorteio", {}).items()},
        unit=row.get("unidade", ""),
        tolerance=row.get("tolerancia", 0.0),
    )
