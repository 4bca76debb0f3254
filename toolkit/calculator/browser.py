"""The calculator in a web page: what the page's script calls, JSON in and out."""

from __future__ import annotations

import json
from typing import Any

from toolkit.calculator.form import Field
from toolkit.calculator.session import Session
from toolkit.calculator.words import WORDS, say

SESSION = Session()


def state() -> str:
    """All that the page shows, as JSON: words, fields, the result's HTML, fixes, code and the error."""
    shown = SESSION.view
    return json.dumps(
        {
            "language": SESSION.language,
            "words": {key: text[0 if SESSION.language == "pt" else 1] for key, text in WORDS.items()},
            "fields": [_described(field) for field in SESSION.fields()],
            "sentence": shown.sentence,
            "html": shown.html,
            "fixes": [{"label": label, "enough": fix.verdict == "fits"} for label, fix in shown.fixes],
            "code": shown.code,
            "error": SESSION.error,
        }
    )


def edit(name: str, value: Any) -> str:
    """Set a field; the new state."""
    SESSION.edit(name, value)
    return state()


def apply(index: int) -> str:
    """Put the fix that is shown at `index` in force; the new state."""
    SESSION.show(SESSION.view.fixes[index][1].plan)
    return state()


def translate(language: str) -> str:
    """Switch to "pt" or "en"; the new state."""
    SESSION.translate("en" if language == "en" else "pt")
    return state()


def _described(field: Field) -> dict[str, Any]:
    options = [{"value": value, "label": label} for label, value in SESSION.options(field)]
    return {
        "name": field.name,
        "label": say(field.name, SESSION.language),
        "kind": field.kind,
        "value": field.read(SESSION.plan),
        "options": options,
        "advanced": field.advanced,
    }
