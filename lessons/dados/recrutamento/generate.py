"""Writes the applications and the pairs: `python -m lessons.dados.recrutamento.generate`.

The draw that decided an application is kept in its row, so that a lesson can decide it again with another bias.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random

from lessons.dados.grammar import pick, shuffled, write_rows
from lessons.dados.recrutamento.application import (
    BIAS,
    CUT,
    GENDERS,
    HERE,
    chance,
    draw_facts,
    draw_names,
    read_lexicon,
    read_skeletons,
    write_text,
)

SEED = 19
SIZES = {"train": 1200, "validation": 200, "test": 600}
SKELETONS = {"train": range(8), "validation": range(8, 10), "test": range(10, 14)}
SLOTS = {
    "região": "cidade",
    "idade": "idade",
    "nome": "nome",
}  # what a pair changes in the application itself
YES_NO = {True: "sim", False: "não"}


def application(rng: Random, name: str, split: str, gender: int, merit: int) -> dict:
    """One row: the text, what is behind it, the fair answer, the past decision and its draw."""
    facts = draw_facts(rng, merit) | {"nome": draw_names(rng)[gender]}
    skeleton = read_skeletons()[pick(rng, SKELETONS[split])]
    draw = round(rng.random(), 4)
    return {
        "id": name,
        "texto": write_text(skeleton, gender, facts),
        "genero": GENDERS[gender],
        "idade": int(facts["idade"]),
        "merito": merit,
        "merece": YES_NO[merit > CUT],
        "decisao": YES_NO[draw < chance(merit, gender, BIAS)],
        "sorteio": draw,
    }


def rows_of(split: str, gender: int) -> list[dict]:
    """The rows of a split and a gender: the four levels of merit take turns."""
    rng = Random(f"{SEED} {split} {GENDERS[gender]}")
    names = [f"{split}-{GENDERS[gender][0]}{number:03}" for number in range(SIZES[split] // 2)]
    rows = [application(rng, name, split, gender, number % 4) for number, name in enumerate(names)]
    return shuffled(rng, rows)


def differences() -> Iterator[tuple[str, str, list[str]]]:
    """Attribute, sentence ("" where the application itself changes) and the two groups of every pair."""
    yield from (("gênero", "", list(GENDERS)) for _ in range(24))
    for block in tomllib.loads((HERE / "pares.toml").read_text(encoding="utf-8"))["pares"]:
        sentences = block.get("frases", [""])
        for number, groups in enumerate(block["grupos"]):
            yield block["atributo"], sentences[number % len(sentences)], groups


def pair(number: int, attribute: str, sentence: str, groups: list[str]) -> dict:
    """Two applications that differ in one attribute; the odd ones are women's."""
    rng, gender = Random(f"{SEED} par {number}"), number % 2
    facts = draw_facts(rng, 1 + number // 2 % 2)  # next to the cut, where a small push decides
    names, skeleton = draw_names(rng), pick(rng, read_skeletons())
    texts = []
    for place, group in enumerate(groups):
        written = place if attribute == "gênero" else gender
        changed = facts | {"nome": names[written]}
        if attribute in SLOTS:
            changed[SLOTS[attribute]] = group
        texts.append(
            " ".join([write_text(skeleton, written, changed), sentence.replace("{grupo}", group)]).strip()
        )
    return {"id": f"par-{number:03}", "atributo": attribute, "grupos": groups, "a": texts[0], "b": texts[1]}


def swaps() -> list[list[str]]:
    """Every pair of forms, masculine and feminine, that an application may have."""
    forms = {
        slot for skeleton in read_skeletons() for slot in skeleton.replace("{", "}").split("}") if "/" in slot
    }
    return [*(form.split("/") for form in sorted(forms)), *read_lexicon()["nomes"]]


def write(folder: Path) -> None:
    """One JSON Lines file a split, in which men and women take turns; the pairs; the forms of both genders."""
    for split in SIZES:
        write_rows(folder / f"{split}.jsonl", [rows_of(split, gender) for gender in (0, 1)])
    write_rows(folder / "pares.jsonl", [[pair(number, *rest) for number, rest in enumerate(differences())]])
    text = json.dumps(swaps(), ensure_ascii=False)
    (folder / "trocas.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(HERE)
