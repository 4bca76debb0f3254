"""The VRAM calculator: one picture of a plan against a card, in a notebook, a terminal or a web page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.plan import Plan

if TYPE_CHECKING:
    from toolkit.calculator.widget import Calculator
    from toolkit.calculator.words import Language


def calculator(plan: Plan | None = None, language: Language = "pt") -> Calculator:
    """The calculator as a notebook widget, opened on `plan`; its `plan` is the one that is shown."""
    from toolkit.calculator.widget import Calculator

    return Calculator(plan, language)
