"""What a typed answer says: letters, orders, numbers and quantities, however they are written.

A blank answer raises NotImplementedError (not attempted); one that does not say what was asked, ValueError,
in Portuguese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping

# Letters of other alphabets that a reader takes for Latin ones: Cyrillic, then Greek.
LOOK_ALIKE = str.maketrans("авсԁеһ" + "αβϲ", "abcdeh" + "abc")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
LONGEST = 200  # characters of an answer that are looked at


def letter(answer: object, options: str) -> str:
    """The one option chosen, of the letters `options`: "c", "C)" and "(ｃ)" are the same answer."""
    chosen = letters(answer, options)
    if len(chosen) > 1:
        raise ValueError(f"esta questão pede uma só alternativa; recebi {len(chosen)}.")
    return chosen[0]


def letters(answer: object, options: str) -> tuple[str, ...]:
    """The options chosen, in the order given: a text ("a, c"), or ticks by letter as a form has them."""
    if isinstance(answer, Mapping):
        answer = " ".join(name for name, ticked in answer.items() if ticked is True)
    plain = _plain(answer)
    if "e" not in options:
        plain = re.sub(r"\be\b", " ", plain)  # "a e c"
    chosen = [character for character in plain if character.isalnum()]
    if not chosen or set(chosen) - set(options) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"a resposta deve ter só letras de {options[0]} a {options[-1]}, cada uma no máximo uma vez; "
            f"recebi {answer!r}."
        )
    return tuple(chosen)


def ordering(answer: object, options: str) -> tuple[str, ...]:
    """All the options, each once, in the order given."""
    order = letters(answer, options)
    if len(order) < len(options):
        raise ValueError(
            f"a ordem deve ter todas as letras de {options[0]} a {options[-1]}; recebi {answer!r}."
        )
    return order


def number(answer: object) -> tuple[float, ...]:
    """The numbers that an answer may mean: "8.000" is eight thousand in Brazil and eight elsewhere."""
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return (float(answer),)
    plain = re.sub(r"(?<=\d)[\s_'](?=\d)", "", _plain(answer))
    if not re.fullmatch(r"[+-]?\d[\d.,]*(e[+-]?\d+)?", plain):
        raise ValueError(f"a resposta deve ser um número, como 8000 ou 1,5; recebi {answer!r}.")
    digits, _, power = plain.partition("e")
    return tuple(float(f"{reading}e{power or 0}") for reading in _readings(digits))


def _readings(digits: str) -> list[str]:
    """The ways to read points and commas, each as Python writes numbers."""
    marks = [character for character in digits if character in ".,"]
    if not marks:
        return [digits]
    whole, decimals = digits.replace(",", "").replace(".", ""), len(digits) - 1 - digits.rindex(marks[-1])
    fraction = f"{whole[: len(whole) - decimals]}.{whole[len(whole) - decimals :]}"
    if len(set(marks)) == 2:
        return [fraction]
    if len(marks) > 1:
        return [whole]
    return [fraction, whole] if decimals == 3 and not digits.startswith("0") else [fraction]


def quantity(answer: object, unit: str = "") -> tuple[float, ...]:
    """The bytes that an answer may mean: "1,5" with unit "MiB", or both in one text, "1,5 MiB"."""
    text, by_name = str(answer).strip(), {name.casefold(): size for name, size in UNITS.items()}
    written = re.search(r"[a-z]+$", text.casefold()) if not unit else None
    name = written.group() if written else unit.casefold()
    if text and name not in by_name:
        raise ValueError(f"a unidade deve ser uma de {', '.join(UNITS)}; recebi {unit or answer!r}.")
    readings = number(text[: written.start()] if written else answer)
    return tuple(reading * by_name[name] for reading in readings)


def close(readings: Collection[float], expected: float, tolerance: float) -> bool:
    """Whether one reading is within `tolerance` (a share of `expected`) of it."""
    return any(abs(reading - expected) <= tolerance * abs(expected) for reading in readings)


def credit_for(chosen: Collection[str], right: Collection[str]) -> float:
    """The share of the points for several options: right ones less wrong ones, from 0 to 1."""
    hits, misses = set(chosen) & set(right), set(chosen) - set(right)
    return max(0.0, (len(hits) - len(misses)) / len(set(right)))


def _plain(answer: object) -> str:
    """The answer trimmed, in lower case, with Latin letters and ASCII digits."""
    if not isinstance(answer, str):
        raise ValueError(f"a resposta deve ser um texto entre aspas; recebi {type(answer).__name__}.")
    if len(answer) > LONGEST:
        raise ValueError(f"a resposta deve ter no máximo {LONGEST} caracteres; esta tem {len(answer)}.")
    plain = unicodedata.normalize("NFKC", answer).casefold().translate(LOOK_ALIKE).strip()
    if not plain:
        raise NotImplementedError("questão ainda não respondida")
    return plain
