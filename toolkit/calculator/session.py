"""The calculator's state: the plan on show, the language, and the last error; the same for every window."""

from __future__ import annotations

from typing import Any

from toolkit.calculator.form import FIELDS, Field, edit
from toolkit.calculator.view import View, view
from toolkit.calculator.words import WORDS, Language, say
from toolkit.methods import ALL_LINEAR, LoRA
from toolkit.models import Architecture
from toolkit.plan import Plan


def first_plan() -> Plan:
    """What the calculator opens with: LoRA on a 1.5 B model in Colab's free T4."""
    model = Architecture.from_config("Qwen/Qwen2.5-1.5B")
    return Plan(model, LoRA(rank=16, alpha=32, targets=ALL_LINEAR), batch=4, seq_len=512, gpu="T4")


class Session:
    """A plan edited field by field; a value that makes no sense leaves it as it was and sets `error`."""

    def __init__(self, plan: Plan | None = None, language: Language = "pt") -> None:
        plan = plan or first_plan()
        self.plan = plan if plan.gpu else plan.change(gpu="T4")
        self.language = language
        self.error = ""

    def edit(self, name: str, value: Any) -> None:
        """Set a field, or say in `error` why not."""
        try:
            self.plan, self.error = edit(self.plan, name, value), ""
        except ValueError as error:
            self.error = str(error)

    def view(self) -> View:
        """What to show now."""
        return view(self.plan, self.language)

    def fields(self) -> list[Field]:
        """The fields that mean something for the plan."""
        return [field for field in FIELDS if field.shown(self.plan)]

    def label(self, key: str) -> str:
        """A field's or an option's text; what has none (a model, a dtype) is its own."""
        return say(key, self.language) if key in WORDS else key
