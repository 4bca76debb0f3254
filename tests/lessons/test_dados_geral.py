"""The general texts with which lessons measure forgetting: what their datasheet promises."""

import re

from .scoring import ROOT

FOLDER = ROOT / "lessons" / "dados" / "geral"
TEXTS = (FOLDER / "textos.txt").read_text(encoding="utf-8").strip().split("\n\n")


def test_datasheet_tells_number_and_lengths():
    sheet = (FOLDER / "FICHA.md").read_text(encoding="utf-8")
    lengths = [len(text.split()) for text in TEXTS]
    assert len(TEXTS) == 24 and "Vinte e quatro parágrafos" in sheet
    assert f"de {min(lengths)} a {max(lengths)} palavras" in sheet
    assert f"cerca de {round(sum(lengths), -2):,} ao todo".replace(",", ".") in sheet


def test_nothing_of_the_two_tasks_is_in_them():
    about = re.compile(r"contrat[oa]|cláusula|multa|foro\b|LGPD|Tangerina|frete|cupom", re.IGNORECASE)
    assert [about.findall(text) for text in TEXTS] == [[]] * len(TEXTS)


def test_paragraphs_are_whole():
    for text in TEXTS:
        assert "\n" not in text and text[-1] == "." and not re.search(r"  | [,.;:?!]", text), text[:40]
