"""The claims' table: its figures against the papers' own arithmetic, and a verdict that follows from them."""

import pytest

from toolkit.count import count
from toolkit.methods import LoRA
from toolkit.plan import Plan
from toolkit.vram.claims import GPT3, claims, show_claims

TABLE = {claim.claim: claim for claim in claims()}


def row(words):
    (found,) = [claim for text, claim in TABLE.items() if words in text]
    return found


@pytest.mark.parametrize(("rank", "published"), [(1, 4_718_592), (4, 18_874_368), (8, 37_748_736)])
def test_gpt3_lora_counts_are_those_of_the_lora_paper(rank, published):
    assert count(Plan(GPT3, LoRA(rank, targets=("q_proj", "v_proj")))).trainable == published


def test_gpt3_has_about_175_billion_parameters():
    assert count(Plan(GPT3, LoRA())).total == pytest.approx(175e9, rel=0.01)


def test_every_claim_of_the_lesson_is_there_with_its_condition():
    for words in (
        "780 GB",
        "menos de 48 GB",
        "70B",
        "10.000",
        "3 vezes",
        "16 vezes",
        "meio byte",
        "12 GB",
        "24 GB",
    ):
        assert any(words in text for text in TABLE), words
    assert all(claim.computed and claim.condition for claim in TABLE.values())


def test_full_65b_is_twelve_bytes_a_parameter():
    assert f"{12 * 65_285_660_672 / 1e9:.0f} GB" in row("780 GB").computed
    assert row("780 GB").verdict == "vale com condição"


def test_four_bits_cost_what_the_qlora_paper_says():
    double, single = 4 + 8 / 64 + 32 / (64 * 256), 4 + 32 / 64
    computed = row("meio byte").computed
    assert f"{double:.3f}".replace(".", ",") in computed and f"{single:.3f}".replace(".", ",") in computed
    assert row("meio byte").verdict != "vale"


def test_claims_with_a_condition_say_which():
    assert row("10.000").verdict == "vale com condição" and "posto 4" in row("10.000").condition
    assert row("16 vezes").verdict != "vale"


def test_the_table_is_printed_for_a_lesson(capsys):
    show_claims()
    printed = capsys.readouterr().out
    assert "Afirmação" in printed and "Veredito" in printed and "783" in printed
