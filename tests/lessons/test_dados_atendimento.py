"""The shop's data: what its datasheet promises about it, and the two measures."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from lessons.dados.atendimento import generate
from lessons.dados.atendimento.measure import by_nearest_question, facts_right, scores, tone

FOLDER = Path(generate.__file__).parent
SPLITS = ("train", "validation", "test")
FACTS = ("preço", "medidas", "material", "garantia", "cores")
CATALOGUE = tomllib.loads((FOLDER / "loja.toml").read_text(encoding="utf-8"))["produtos"]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    files = {split: (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8") for split in SPLITS}
    return {split: [json.loads(line) for line in text.splitlines()] for split, text in files.items()}


def test_files_are_what_the_generator_writes(tmp_path):
    generate.write(tmp_path)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / f"{split}.jsonl").read_bytes(), split


def test_size_and_fields(rows):
    everything = [row for split in SPLITS for row in rows[split]]
    assert len(everything) >= 800
    assert len({row["id"] for row in everything}) == len(everything)
    assert {tuple(row) for row in everything} == {("id", "assunto", "cliente", "atendente", "fatos")}
    counts = "| turnos | {} | {} | {} |".format(*(len(rows[split]) for split in SPLITS))
    assert counts in (FOLDER / "FICHA.md").read_text(encoding="utf-8")


def test_answers_say_what_the_catalogue_says(rows):
    names = {product[0].split(" ", 1)[1]: product[1:] for product in CATALOGUE}
    for row in (row for split in SPLITS for row in rows[split] if row["assunto"] in FACTS):
        asked = next(name for name in names if name in row["cliente"])
        assert row["fatos"] == [names[asked][FACTS.index(row["assunto"])]], row["id"]
        assert row["fatos"][0] in row["atendente"], row["id"]


def bare(row: dict) -> str:
    """A question without the product, the greetings and the thanks: what is left of its skeleton."""
    text = row["cliente"]
    for product in CATALOGUE:
        text = re.sub(rf"\b\w+ {re.escape(product[0].split(' ', 1)[1])}", "*", text)
    return re.sub(r"^(Oi|Olá|Bom dia|Boa tarde)! | (Obrigad[ao]|Valeu)!$", "", text)


def test_no_question_is_in_two_splits(rows):
    asked = {split: {bare(row) for row in rows[split]} for split in SPLITS}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["validation"]
    assert not asked["validation"] & asked["test"]


def test_every_fact_of_the_catalogue_is_taught_and_asked(rows):
    for split in SPLITS:
        told = {row["id"].rsplit("-", 2)[0] for row in rows[split] if row["assunto"] in FACTS}
        assert len(told) == len(CATALOGUE) * len(FACTS), split


FAULT = re.compile(r"[\[\]{}<>|@]|  | [,.;:?!]|[?!]\w|\.[^\W\d]")


def test_texts_are_whole(rows):
    for row in (row for split in SPLITS for row in rows[split]):
        for text in (row["cliente"], row["atendente"]):
            assert text[0].isupper() and text[-1] in ".!?", row["id"]
            assert not FAULT.search(text), row["id"]


def test_reference_answers_are_right_and_in_tone(rows):
    for split in SPLITS:
        for row in rows[split]:
            assert facts_right(row["atendente"], row["fatos"]), row["id"]
            assert tone(row["atendente"]) == 1, row["id"]


@pytest.mark.parametrize(
    ("answer", "facts", "right"),
    [
        ("Sai por R$ 54,90.", ["R$ 54,90"], True),
        ("sai por  r$ 54,90", ["R$ 54,90"], True),
        ("Sai por R$ 54,99.", ["R$ 54,90"], False),
        ("O embrulho custa R$ 6,00.", ["R$ 6"], True),
        ("O embrulho custa R$ 6,50.", ["R$ 6"], False),
        ("O embrulho custa R$ 60.", ["R$ 6"], False),
        ("Em até 16 vezes.", ["6 vezes"], False),
        ("Em 6 vezes.", ["6 vezes", "5%"], False),
    ],
)
def test_facts_right(answer, facts, right):
    assert facts_right(answer, facts) == right


def test_tone_counts_the_rules_kept():
    assert tone("Prezado senhor, infelizmente acabou. Atenciosamente, a Gerência.") == 1 / 5
    assert tone("Oi! " + "muito " * 50 + "Tina, da Tangerina.") == 4 / 5


def test_datasheet_tells_the_baseline(rows):
    facts, voice = scores(rows["test"], by_nearest_question(rows["train"], rows["test"]))
    row = f"| copiada da pergunta de treino mais parecida (TF-IDF) | {facts:.2f} | {voice:.2f} |"
    assert row.replace(".", ",") in (FOLDER / "FICHA.md").read_text(encoding="utf-8")
