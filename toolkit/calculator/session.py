"""The calculator's state: the plan on show, the language, and the last error; the same for every window."""

from __future__ import annotations

from typing import Any

from toolkit.calculator.form import FIELDS, Field, edit
from toolkit.calculator.view import view
from toolkit.calculator.words import WORDS, Language, say
from toolkit.methods import ALL_LINEAR, LoRA
from toolkit.models import Architecture
from toolkit.plan import Plan


def first_plan() -> Plan:
    """What the calculator opens with: LoRA on a 1.5 B model in Colab's free T4."""
    model = Architecture.from_config("Qwen/Qwen2.5-1.5B")
    return Plan(model, LoRA(rank=16, alpha=32, targets=ALL_LINEAR), batch=4, seq_len=512, gpu="T4")


class Session:
    """A plan edited field by field, and its `view`; nonsense changes neither, it sets `error`."""

    def __init__(self, plan: Plan | None = None, language: Language = "pt") -> None:
        plan = plan or first_plan()
        self.language = language
        self.show(plan if plan.gpu else plan.change(gpu="T4"))

    def show(self, plan: Plan) -> None:
        """Put another plan on show, as a fix's button does."""
        self.view = view(plan, self.language)
        self.plan, self.error = plan, ""

    def translate(self, language: Language) -> None:
        """Switch to another language."""
        self.language = language
        self.show(self.plan)

    def edit(self, name: str, value: Any) -> None:
        """Set a field, or say in `error` why not."""
        try:
            self.show(edit(self.plan, name, value))
        except ValueError as error:
            self.error = str(error)
        except (TypeError, ArithmeticError, AttributeError) as error:  # from the depths of a pasted config
            self.error = f"{name} não pode ser calculado com esse valor ({type(error).__name__}); confira-o."

    def fields(self) -> list[Field]:
        """The fields that mean something for the plan."""
        return [field for field in FIELDS if field.shown(self.plan)]

    def options(self, field: Field) -> list[tuple[str, str]]:
        """A select's options as (text, value); without words of its own (a model), the value is the text."""
        keys = [(f"{field.name}.{value}", value) for value in field.options(self.plan)]
        return [
            (next((say(key, self.language) for key in (long, short) if key in WORDS), short), short)
            for long, short in keys
        ]
