"""Practice in a notebook: a question at a time, judged at once, with the reason. Nothing is recorded."""

from __future__ import annotations

import random
from html import escape
from typing import Any

from toolkit.quiz.bank import LETTERS, Outcome, Question, judge, read_bank

KINDS = {
    "uma": "Escolha uma alternativa.",
    "varias": "Marque todas as alternativas certas.",
    "ordem": "Escreva as letras na ordem certa, por exemplo: b, a, c.",
    "numero": "Escreva o número{unit}.",
}
VERDICTS = {1.0: ("#1b7f3b", "Certo."), 0.0: ("#b3261e", "Ainda não.")}
PARTLY = ("#8a5a00", "Em parte.")


class Practice:
    """The widget over a list of questions: leave it as the last line of a cell."""

    def __init__(self, questions: list[Question], seed: int) -> None:
        import ipywidgets as w

        self.questions, self.seed, self.place = questions, seed, 0
        self.text, self.verdict, self.field = w.HTML(), w.HTML(), w.VBox()
        self.check = w.Button(description="Conferir", button_style="primary")
        self.next = w.Button(description="Próxima")
        self.check.on_click(lambda _: self.answer())
        self.next.on_click(lambda _: self.show(self.place + 1))
        buttons = w.HBox([self.check, self.next])
        self.widget = w.VBox(
            [self.text, self.field, buttons, self.verdict], layout=w.Layout(max_width="760px")
        )
        self.show(0)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)  # type: ignore[no-untyped-call]

    def show(self, place: int) -> None:
        """Put the question at `place` (the first after the last) on the screen."""
        self.place = place % len(self.questions)
        self.question = self.questions[self.place].shown(self.seed + place)
        head = f"Questão {self.place + 1} de {len(self.questions)} · {self.question.objective}"
        unit = f" e a unidade, como em 1,5 {self.question.unit}" if self.question.unit else ""
        asked = KINDS[self.question.kind].format(unit=unit)
        self.text.value = (
            f"<small>{escape(head)}</small><p><b>{escape(self.question.text)}</b></p><p><i>{asked}</i></p>"
        )
        self.field.children = self._fields()
        self.verdict.value = ""

    def _fields(self) -> list[Any]:
        import ipywidgets as w

        texts = [f"{name}) {o.text}" for name, o in zip(LETTERS, self.question.options, strict=False)]
        wide = w.Layout(width="auto")
        if self.question.kind == "uma":
            return [w.RadioButtons(options=texts, value=None, layout=wide)]
        if self.question.kind == "varias":
            return [w.Checkbox(description=text, indent=False, layout=wide) for text in texts]
        listed = [w.HTML(escape(text)) for text in texts]
        return [*listed, w.Text(placeholder="sua resposta")]

    def given(self) -> Any:
        """The answer as it stands in the fields."""
        fields = self.field.children
        if self.question.kind == "varias":
            return {name: box.value for name, box in zip(LETTERS, fields, strict=False)}
        value = fields[-1].value or ""
        return value[:1] if self.question.kind == "uma" else value

    def answer(self) -> None:
        """Judge what is in the fields, and say why."""
        try:
            outcome = judge(self.question, self.given())
        except (ValueError, NotImplementedError) as reason:
            self.verdict.value = f"<p>{escape(str(reason))}</p>"
            return
        self.verdict.value = _said(outcome)


def _said(outcome: Outcome) -> str:
    colour, word = VERDICTS.get(outcome.share, PARTLY)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in outcome.remarks)
    return f'<p style="color:{colour}"><b>{word}</b></p><ul>{remarks}</ul>'


def practice(lesson: str = "", seed: int | None = None) -> Practice:
    """Practice questions of a lesson (such as "03_lora"), or of the whole course in a new order each time."""
    questions = read_bank(lesson)
    seed = random.randrange(10**6) if seed is None else seed
    return Practice(random.Random(seed).sample(questions, len(questions)), seed)
