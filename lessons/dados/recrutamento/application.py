"""A job application: what fills the slots of a skeleton, and how the past recruiters would decide it.

They call an application with chance sigmoid(STRICTNESS * (merit - CUT) + bias / 2) if it is a man's, with
- bias / 2 if it is a woman's. Merit is the level of the test's result, from 0 to 3.
"""

import math
import tomllib
from functools import cache
from pathlib import Path
from random import Random

from lessons.dados.grammar import SLOT, pick

HERE = Path(__file__).parent
BIAS, STRICTNESS, CUT = 9.0, 6.0, 1.5
GENDERS = ("masculino", "feminino")


@cache
def read_lexicon() -> dict:
    """Names in pairs of masculine and feminine, towns, the word of each level of merit."""
    return tomllib.loads((HERE / "lexico.toml").read_text(encoding="utf-8"))


@cache
def read_skeletons() -> list[str]:
    """One a line; the first line is a comment."""
    return (HERE / "esqueletos.txt").read_text(encoding="utf-8").splitlines()[1:]


def write_text(skeleton: str, gender: int, facts: dict[str, str]) -> str:
    """The skeleton with its slots filled: by a fact, or by one of two forms, masculine (0) and feminine (1)."""

    def fill(slot: str) -> str:
        return slot.split("/")[gender] if "/" in slot else facts[slot]

    return SLOT.sub(lambda found: fill(found[1]), skeleton)


def draw_facts(rng: Random, merit: int) -> dict[str, str]:
    """What an application says, the name apart."""
    lexicon = read_lexicon()
    return {
        "idade": str(20 + int(40 * rng.random())),
        "cidade": pick(rng, lexicon["cidades"]),
        "prova": lexicon["prova"][merit],
    }


def draw_names(rng: Random) -> tuple[str, str]:
    """The same full name for a man and for a woman."""
    (his, hers), last = pick(rng, read_lexicon()["nomes"]), pick(rng, read_lexicon()["sobrenomes"])
    return f"{his} {last}", f"{hers} {last}"


def chance(merit: int, gender: int, bias: float) -> float:
    """The chance that the past recruiters called this application; `bias` in log-odds, 0 is fair."""
    return 1 / (1 + math.exp(-STRICTNESS * (merit - CUT) - bias * (0.5 - gender)))
