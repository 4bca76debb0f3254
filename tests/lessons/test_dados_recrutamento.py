"""The recruiting data: what its datasheet promises about it, the bias above all."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from lessons.dados.recrutamento import application, generate
from toolkit.bias import read_pairs

FOLDER = Path(generate.__file__).parent
SPLITS = ("train", "validation", "test")
FILES = [*(f"{split}.jsonl" for split in SPLITS), "pares.jsonl", "trocas.json"]
SHEET = (FOLDER / "FICHA.md").read_text(encoding="utf-8")


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    return {split: read(f"{split}.jsonl") for split in SPLITS}


@pytest.fixture(scope="module")
def pairs() -> list[dict]:
    return read("pares.jsonl")


def test_files_are_what_the_generator_writes(tmp_path):
    generate.write(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_sizes_and_balance(rows):
    everything = [row for split in SPLITS for row in rows[split]]
    assert len({row["id"] for row in everything}) == len(everything) == 2000
    assert f"| candidaturas | {' | '.join(str(len(rows[split])) for split in SPLITS)} |" in SHEET
    for split in SPLITS:
        cells = Counter((row["genero"], row["merito"]) for row in rows[split])
        assert len(cells) == 8 and len(set(cells.values())) == 1, split


def test_every_row_can_be_decided_again(rows):
    for row in (row for split in SPLITS for row in rows[split]):
        gender = application.GENDERS.index(row["genero"])
        assert (row["decisao"] == "sim") == (
            row["sorteio"] < application.chance(row["merito"], gender, application.BIAS)
        )
        assert (row["merece"] == "sim") == (row["merito"] >= 2)


def test_the_bias_is_the_one_that_the_datasheet_tells(rows):
    """Each share called is within four standard errors of the formula, and as the datasheet prints it."""
    for merit in range(4):
        told = []
        for number, gender in enumerate(application.GENDERS):
            called = [
                r["decisao"] == "sim" for r in rows["train"] if (r["merito"], r["genero"]) == (merit, gender)
            ]
            p, share = application.chance(merit, number, application.BIAS), sum(called) / len(called)
            assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / len(called))
            told.append(f"{share:.0%}".replace("%", " %"))
        assert re.search(rf"\| {merit} \(\w+\) \| {told[0]} \| {told[1]} \|", SHEET), merit


@pytest.mark.parametrize("bias", [0.0, 3.0, -1.5])
def test_bias_is_the_gap_in_log_odds_at_every_merit(bias):
    for merit in range(4):
        odds = [math.log(p / (1 - p)) for p in (application.chance(merit, g, bias) for g in (0, 1))]
        assert odds[0] - odds[1] == pytest.approx(bias)


def test_no_skeleton_is_in_two_splits():
    used = list(generate.SKELETONS.values())
    assert sorted(number for some in used for number in some) == list(
        range(len(application.read_skeletons()))
    )


FAULT = re.compile(r"[\[\]{}<>|@/]|  | [,.;:?!)]|\( |[,;:][,.;:]")


def test_texts_are_whole(rows, pairs):
    texts = [row["texto"] for split in SPLITS for row in rows[split]]
    texts += [pair[side] for pair in pairs for side in "ab"]
    for text in texts:
        assert text[0].isupper() and text.endswith(".") and not FAULT.search(text), text


def test_there_are_enough_pairs_of_every_attribute(pairs):
    counts = Counter(pair["atributo"] for pair in pairs)
    assert len(pairs) >= 120
    assert set(counts) == {"gênero", "raça ou cor", "religião", "região", "idade", "nome"}
    assert min(counts.values()) == max(counts.values()) == 24
    assert len({(pair["a"], pair["b"]) for pair in pairs}) == len(pairs)


def test_a_pair_differs_in_its_attribute_alone(pairs):
    """Without the words of the two groups (for gender, of the swapped forms) both sides are the same text."""
    other = {a: b for pair in generate.swaps() for a, b in (pair, pair[::-1])}
    for pair in pairs:
        first, second = pair["a"], pair["b"]
        assert first != second
        if pair["atributo"] == "gênero":
            assert re.sub(r"\w+", lambda word: other.get(word[0], word[0]), first) == second
        else:
            one, two = pair["grupos"]
            assert first.count(one) == 1 and first.replace(one, two) == second, pair["id"]


def test_swaps_give_every_form_one_partner():
    forms = [form for pair in generate.swaps() for form in pair]
    assert len(set(forms)) == len(forms)
    surnames = set(application.read_lexicon()["sobrenomes"])
    assert not surnames & set(forms), "a surname would be swapped with the first names"


def test_pairs_are_read_with_the_instruction():
    instruction = (FOLDER / "instrucao.txt").read_text(encoding="utf-8").strip()
    pair = read_pairs(FOLDER / "pares.jsonl", instruction)[0]
    assert pair.attribute == "gênero" and pair.groups == ("masculino", "feminino")
    assert pair.first.endswith("Chamar para entrevista?") and pair.first != pair.second
