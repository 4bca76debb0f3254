"""Open models by hub id: dimensions as in their config.json, and the exact number of parameters."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _entries() -> dict[str, dict[str, Any]]:
    text = files(__name__).joinpath("models.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries


@cache
def _by_spelling() -> dict[str, str]:
    spellings = {name.casefold(): name for name in _entries()}
    short = {name.rpartition("/")[2].casefold(): name for name in _entries()}
    return {**short, **spellings}


def names() -> list[str]:
    """Hub ids of the catalogue's models, families together and models in Portuguese first."""
    return list(_entries())


def find(name: str) -> str | None:
    """The hub id that `name` stands for, whatever its case, organisation or not; None if unknown."""
    return _by_spelling().get(name.strip().casefold())


def config(name: str) -> dict[str, Any]:
    """What the model's config.json says about its dimensions, in its own keys. Raises KeyError if unknown."""
    return dict(_entries()[name]["config"])


def parameters(name: str) -> int:
    """The model's number of parameters (tied weights once), as published. Raises KeyError if unknown."""
    return int(_entries()[name]["parameters"])
