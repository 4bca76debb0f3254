"""The grammar of the skeletons: `<a|b>` is a choice, `[a|b]` may also be left out, `{...}` is filled from the lexicon."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, TypeVar

from lessons.dados.clausulas.extenso import in_words

T = TypeVar("T")

CHOICE = re.compile(r"<([^<>\[\]]*)>|\[([^<>\[\]]*)\]")
SLOT = re.compile(r"\{([^{}]+)\}")
NUMBER = re.compile(r"([\d/]+)(%| [^%]+|)$")
FEMININE = {"o": "a", "do": "da", "ao": "à", "pelo": "pela", "no": "na"}
FEMININE_UNITS = {"horas", "parcelas", "vezes", "mensalidades"}
SINGULAR = {"anos": "ano", "meses": "mês"}
IN = {"de": "em", "do": "no"}
MONTHS = [
    "janeiro",
    "fevereiro",
    "março",
    "abril",
    "maio",
    "junho",
    "julho",
    "agosto",
    "setembro",
    "outubro",
    "novembro",
    "dezembro",
]


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of `options`. Only `random()` is promised to give the same sequence in every Python."""
    return options[int(rng.random() * len(options))]


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
    """One expansion of a skeleton: the same parties, names and style from its beginning to its end."""

    def __init__(self, rng: Random, lexicon: dict, contract: str) -> None:
        facts = lexicon["contratos"][contract]
        self.rng, self.lexicon, self.prices = rng, lexicon, facts["valores"]
        self.style = Style.draw(rng, lexicon["instrumentos"])
        self.nouns = {
            name: pick(rng, facts[name]).split(" ", 1)
            for name in ("fornecedor", "cliente", "preço", "objeto")
        }
        for party in ("fornecedor", "cliente"):
            self.nouns[party][1] = self.style.case(self.nouns[party][1])

    def write(self, skeleton: str) -> str:
        """The clause's text, with every choice made and every slot filled."""
        while CHOICE.search(skeleton):
            skeleton = CHOICE.sub(self._choose, skeleton)
        return tidy(SLOT.sub(lambda slot: self._fill(slot[1]), skeleton))

    def _choose(self, found: re.Match) -> str:
        if found[2] is not None and self.rng.random() < 0.5:
            return ""
        return pick(self.rng, (found[1] or found[2]).split("|"))

    def _fill(self, slot: str) -> str:
        if slot[0].isupper():
            text = self._fill(slot[0].lower() + slot[1:])
            return text[0].upper() + text[1:]
        if found := NUMBER.match(slot):
            return self._number(int(pick(self.rng, found[1].split("/"))), found[2].strip())
        if ":" in slot:
            noun, forms = slot.split(":")
            return forms.split("/")[self.nouns[noun][0] == "a"]
        if slot in self._simple:
            return self._simple[slot](self)
        *before, noun = slot.split(" ")
        if noun == "contrato":
            return self._contract(" ".join(before))
        if noun == "comarca":
            preposition, place = pick(self.rng, self.lexicon["comarcas"]).split(" ", 1)
            return f"{preposition if before == ['de'] else IN[preposition]} {place}"
        article, name = self.nouns[noun]
        return f"{before[0] if article == 'o' else FEMININE[before[0]]} {name}"

    def _contract(self, before: str) -> str:
        """`este contrato` and its contractions, in this clause's own words."""
        if self.style.demonstrative:
            return f"{before} {self.style.contract}"
        article = {"este": "o", "deste": "do", "neste": "no", "a este": "ao"}[before]
        return f"{article} presente {self.style.contract}"

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
        return f"{'1º' if day == 1 else day} de {pick(self.rng, MONTHS)} de {year}"

    _simple: ClassVar[dict[str, Callable[["Clause"], str]]] = {
        "partes": lambda self: self.style.case("partes"),
        "índice": lambda self: pick(self.rng, self.lexicon["indices"]),
        "mês": lambda self: pick(self.rng, MONTHS),
        "data": lambda self: self._date(2024, 2026),
        "data futura": lambda self: self._date(2028, 2032),
        "valor": lambda self: self._money(*self.prices),
        "valor alto": lambda self: self._money(3 * self.prices[0], min(6 * self.prices[1], 950_000)),
        "valor pequeno": lambda self: self._money(200, 5_000),
    }


def tidy(text: str) -> str:
    """`text` with its spaces and commas set right and a capital at the start of each sentence."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.;:])", r"\1", text)
    return re.sub(r"(^|\. )(\w)", lambda start: start[1] + start[2].upper(), text)
