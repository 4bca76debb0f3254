"""A clause: what fills the slots of a skeleton, the same parties and style from beginning to end."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from lessons.dados.extenso import in_words
from lessons.dados.grammar import expand, inflect, pick

NUMBER = re.compile(r"([\d/]+)(%| [^%]+|)$")
FEMININE_UNITS = {"horas", "parcelas", "vezes", "mensalidades"}
SINGULAR = {"anos": "ano", "meses": "mês"}
IN = {"de": "em", "do": "no"}


@dataclass(frozen=True)
class Style:
    """How one clause writes: its name for the contract, its letter case for the parties, its numbers."""

    contract: str
    demonstrative: bool
    case: Callable[[str], str]
    numbers: str

    @classmethod
    def draw(cls, rng: Random, contracts: Sequence[str]) -> "Style":
        """A style at random; the most usual spellings are the most frequent."""
        case = pick(rng, (str.upper, str.upper, str.capitalize, str.lower))
        numbers = pick(rng, ("both", "both", "digits", "words"))
        return cls(pick(rng, contracts), rng.random() < 0.6, case, numbers)


class Clause:
    """One expansion of a skeleton, under the kind of contract named `contract` in the lexicon."""

    def __init__(self, rng: Random, lexicon: dict, contract: str) -> None:
        facts = lexicon["contratos"][contract]
        self.rng, self.lexicon, self.prices = rng, lexicon, facts["valores"]
        self.style = Style.draw(rng, lexicon["instrumentos"])
        self.nouns = {
            noun: self._noun(noun, facts[noun]) for noun in ("fornecedor", "cliente", "preço", "objeto")
        }

    def _noun(self, noun: str, names: list[str]) -> tuple[str, str]:
        article, name = pick(self.rng, names).split(" ", 1)
        return article, self.style.case(name) if noun in ("fornecedor", "cliente") else name

    def write(self, skeleton: str) -> str:
        """The clause's text."""
        return expand(skeleton, self.rng, self._fill)

    def _fill(self, slot: str) -> str:
        if found := NUMBER.match(slot):
            return self._number(int(pick(self.rng, found[1].split("/"))), found[2].strip())
        if slot in self._simple:
            return self._simple[slot](self)
        if slot.endswith(" contrato"):
            return self._contract(slot.removesuffix(" contrato"))
        return inflect(slot, self.nouns)

    def _contract(self, before: str) -> str:
        """`este contrato` and its contractions, in this clause's own words."""
        if self.style.demonstrative:
            return f"{before} {self.style.contract}"
        article = {"este": "o", "deste": "do", "neste": "no", "a este": "ao"}[before]
        return f"{article} presente {self.style.contract}"

    def _place(self, before: str) -> str:
        """A judicial district after "de" or "em": some towns have an article."""
        preposition, place = pick(self.rng, self.lexicon["comarcas"]).split(" ", 1)
        return f"{preposition if before == 'de' else IN[preposition]} {place}"

    def _number(self, number: int, unit: str) -> str:
        words = in_words(number, feminine=unit in FEMININE_UNITS)
        if number == 1:
            unit = SINGULAR.get(unit, unit)
        if unit == "%":
            digits, words, gap = f"{number}%", f"{words} por cento", ""
        else:
            digits, gap = str(number), f" {unit}" if unit else ""
        return {"both": f"{digits} ({words})", "digits": digits, "words": words}[self.style.numbers] + gap

    def _money(self, low: float, high: float) -> str:
        """An amount between `low` and `high` reais, rounded as people round: two significant digits."""
        amount = int(float(f"{low * (high / low) ** self.rng.random():.1e}"))
        digits = f"R$ {amount:,}".replace(",", ".") + ",00"
        return f"{digits} ({in_words(amount)} reais)" if self.style.numbers == "both" else digits

    def _date(self, first_year: int, last_year: int) -> str:
        day = 1 + int(28 * self.rng.random())
        year = first_year + int((last_year - first_year + 1) * self.rng.random())
        month = pick(self.rng, self.lexicon["meses"])
        return f"{'1º' if day == 1 else day} de {month} de {year}"

    _simple: ClassVar[dict[str, Callable[["Clause"], str]]] = {
        "partes": lambda self: self.style.case("partes"),
        "índice": lambda self: pick(self.rng, self.lexicon["indices"]),
        "mês": lambda self: pick(self.rng, self.lexicon["meses"]),
        "data": lambda self: self._date(2024, 2026),
        "data futura": lambda self: self._date(2028, 2032),
        "de comarca": lambda self: self._place("de"),
        "em comarca": lambda self: self._place("em"),
        "valor": lambda self: self._money(*self.prices),
        "valor alto": lambda self: self._money(3 * self.prices[0], min(6 * self.prices[1], 950_000)),
        "valor pequeno": lambda self: self._money(200, 5_000),
    }
