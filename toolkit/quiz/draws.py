"""Numbers drawn from a student's id: the same student always gets the same, two students rarely."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Mapping, Sequence


def drawn(student: str, question: str, choices: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """One of the `choices` for each name. Raises NotImplementedError where the id is blank."""
    name = _plain(student)
    if not name:
        raise NotImplementedError("preencha primeiro a sua matrícula")
    generator = random.Random(hashlib.sha256(f"{name}:{question}".encode()).digest())
    return {key: generator.choice(values) for key, values in choices.items()}


def same_student(one: str, other: str) -> bool:
    """Whether two spellings are of one id: case, accents, spaces and punctuation apart."""
    return _plain(one) == _plain(other)


def _plain(student: str) -> str:
    letters = unicodedata.normalize("NFKD", str(student)[:200]).casefold()
    return "".join(character for character in letters if character.isalnum())
