"""The clause data: what its datasheet promises about it."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from lessons.dados.clausulas import generate, measure
from lessons.dados.extenso import in_words

FOLDER = Path(generate.__file__).parent
SPLITS = ("train", "validation", "test")


def read(split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    return {split: read(split) for split in SPLITS}


def skeleton(row: dict) -> str:
    return row["id"].rsplit("-", 1)[0]


def test_files_are_what_the_generator_writes(tmp_path):
    generate.write(tmp_path)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / f"{split}.jsonl").read_bytes(), split


def test_size_fields_and_balance(rows):
    everything = [row for split in SPLITS for row in rows[split]]
    assert len(everything) >= 1200
    assert (
        len({row["id"] for row in everything}) == len({row["texto"] for row in everything}) == len(everything)
    )
    assert {tuple(row) for row in everything} == {("id", "texto", "tipo")}
    for split in SPLITS:
        by_kind = Counter(row["tipo"] for row in rows[split])
        assert len(by_kind) == 12 and len(set(by_kind.values())) == 1, split


def test_any_prefix_is_balanced(rows):
    for split in SPLITS:
        for length in (12, 60, 100):
            counts = Counter(row["tipo"] for row in rows[split][:length]).values()
            assert max(counts) - min(counts) <= 1


def test_no_skeleton_is_in_two_splits(rows):
    used = {split: {skeleton(row) for row in rows[split]} for split in SPLITS}
    assert not used["train"] & used["test"]
    assert not used["train"] & used["validation"]
    assert not used["validation"] & used["test"]
    assert all(
        len({s for s in used["train"] if s.startswith(kind.slug)}) >= 12 for kind in generate.read_kinds()
    )


def ngrams(text: str, n: int = 5) -> set[str]:
    plain = re.sub(r"[\W\d_]+", " ", text.lower())
    return {plain[i : i + n] for i in range(len(plain) - n + 1)}


def test_no_near_duplicate_across_splits(rows):
    """Five characters at a time, without digits: a copy is 1, a template with new nouns above 0.7."""
    train = [ngrams(row["texto"]) for row in rows["train"] + rows["validation"]]
    for row in rows["test"]:
        one = ngrams(row["texto"])
        nearest = max(len(one & other) / len(one | other) for other in train)
        assert nearest < 0.45, row["id"]


def test_texts_are_whole_sentences(rows):
    for row in (row for split in SPLITS for row in rows[split]):
        text = row["texto"]
        assert 20 <= len(text.split()) <= 80, row["id"]
        assert text[0].isupper() and text.endswith("."), row["id"]
        assert not re.search(r"[\[\]{}<>|@]|  | [,.;:)]|[,;:][,.;:]", text), row["id"]


PARTY = (
    r"((loca|vende|compra|embarca|prove|organiza|patrocina|fornece|presta|transporta|franquea|desenvolve)dor"
    r"|locatári|contratad|franquead|licenciad|alun|consultor)"
)
FAULTS = (
    re.compile(rf"\b(a|da|à|na|pela) {PARTY}o?\b", re.I),
    re.compile(rf"\b(o|do|ao|no|pelo) {PARTY}a\b", re.I),
    re.compile(r"\bpor [oa]s? |\bem [oa]s? |\ba as? |\bde el[ea]s?\b|\b1 (dias|meses|anos)\b"),
)


def test_articles_agree(rows):
    for row in (row for split in SPLITS for row in rows[split]):
        for fault in FAULTS:
            assert not (found := fault.search(row["texto"])), (row["id"], found[0])


def test_datasheet_tells_the_kinds_and_sizes(rows):
    sheet = (FOLDER / "FICHA.md").read_text(encoding="utf-8")
    for kind in generate.read_kinds():
        assert f"| {kind.label} | {kind.question} |" in sheet
    counts = [len(rows[split]) for split in SPLITS]
    assert "| cláusulas | {} | {} | {} |".format(*counts) in sheet
    assert "| por tipo | {} | {} | {} |".format(*(count // 12 for count in counts)) in sheet


@pytest.mark.slow
def test_datasheet_tells_the_baselines():
    """Counting words, plainly or weighted, finds about half: words alone do not tell the kinds apart."""
    sheet = (FOLDER / "FICHA.md").read_text(encoding="utf-8")
    for method, measured in measure.baselines().items():
        told = re.search(rf"\| {re.escape(method)} \| (0,\d\d) \|", sheet)[1]
        assert measured == pytest.approx(float(told.replace(",", ".")), abs=0.02), method


def test_prompt_has_one_place_for_the_clause():
    prompt = (FOLDER / "instrucao.txt").read_text(encoding="utf-8")
    assert prompt.count("{texto}") == 1 and prompt.format(texto="x").count("{") == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (16, "dezesseis"),
        (21, "vinte e um"),
        (100, "cem"),
        (101, "cento e um"),
        (1000, "mil"),
        (1100, "mil e cem"),
        (1250, "mil duzentos e cinquenta"),
        (2005, "dois mil e cinco"),
        (100_000, "cem mil"),
        (345_678, "trezentos e quarenta e cinco mil seiscentos e setenta e oito"),
    ],
)
def test_numbers_in_words(number, words):
    assert in_words(number) == words


def test_numbers_in_words_agree_with_feminine_nouns():
    assert in_words(42, feminine=True) == "quarenta e duas"
    assert in_words(501, feminine=True) == "quinhentas e uma"


def test_numbers_in_words_refuse_a_million():
    with pytest.raises(ValueError, match="999,999"):
        in_words(1_000_000)
