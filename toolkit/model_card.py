"""The model card of a Run: what was measured is filled in, what only people can answer is left open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.run import Run, figures

TEMPLATE = Path(__file__).with_suffix(".md")
OPEN = "*a preencher*"
BY_HAND = ("purpose", "misuse", "decides", "data", "evaluation", "limits", "contact", "monitoring")


class CardError(ValueError):
    """A section that the card does not have; one sentence names those that there are."""


def model_card(run: Run, title: str, **sections: str) -> Any:
    """huggingface_hub's ModelCard of `run`; `sections` are the texts of BY_HAND, in Markdown.

    The card's `content` is the Markdown file, its `save(path)` writes it. Sections not given say so.
    """
    from huggingface_hub import ModelCard, ModelCardData

    if unknown := sorted(sections.keys() - set(BY_HAND)):
        raise CardError(f"a ficha não tem a seção {unknown[0]!r}; ela tem {', '.join(BY_HAND)}.")
    method = type(run.plan.method).__name__
    data = ModelCardData(language="pt", base_model=run.plan.model.name, tags=["peft", method.lower()])
    texts: Mapping[str, str] = {name: sections.get(name, OPEN) for name in BY_HAND}
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        title=title,
        base=run.plan.model.name,
        method=method,
        training=figures(run),
        **texts,
    )


def missing(card: Any) -> int:
    """How many places of the card are still open."""
    return int(card.text.count(OPEN)) - 1  # the introduction names the mark
