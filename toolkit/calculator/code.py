"""A plan as the Python that makes it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from toolkit import catalogue
from toolkit.methods import Method
from toolkit.models import Architecture
from toolkit.plan import Plan


def code(plan: Plan) -> str:
    """Python that builds an equal Plan and asks whether it fits; what is a default is not spelled out."""
    kind = type(plan.method).__name__
    head = [f"from toolkit import {', '.join(sorted(['Architecture', 'Plan', kind]))}"]
    head += ["from toolkit.vram import fit"] if plan.gpu else []
    arguments = [
        f"model={_model(plan.model)}",
        f"method={_method(plan.method)}",
        *_changed(plan, ("model", "method")),
    ]
    body = "".join(f"    {argument},\n" for argument in arguments)
    tail = f"fit(plan, {plan.gpu!r})\n" if plan.gpu else ""
    return "\n".join(head) + f"\n\nplan = Plan(\n{body})\n{tail}"


def _model(model: Architecture) -> str:
    known = catalogue.find(model.name)
    if known and Architecture.from_config(known) == model:
        return f"Architecture.from_config({known!r})"
    return f"Architecture({', '.join(_changed(model))})"


def _method(method: Method) -> str:
    return f"{type(method).__name__}({', '.join(_changed(method))})"


def _changed(thing: Any, without: tuple[str, ...] = ()) -> list[str]:
    pairs = [(field, getattr(thing, field.name)) for field in fields(thing) if field.name not in without]
    return [
        f"{field.name}={value!r}"
        for field, value in pairs
        if field.default is MISSING or field.default != value
    ]
