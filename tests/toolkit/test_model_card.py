"""The model card of a run: read back by the library it is for; what is open says so."""

import pytest
from huggingface_hub import ModelCard

from toolkit import Example, LoRA, train
from toolkit.model_card import BY_HAND, CardError, missing, model_card


@pytest.fixture(scope="module")
def run(tiny):
    return train(tiny.plan(LoRA(), batch=1, seq_len=128), [Example("Oi?", "Oi.")], tiny, steps=1)


def test_card_is_one_that_the_hub_reads(run, tmp_path):
    card = model_card(run, "Triagem", purpose="Ajudar a triar.", limits="Só 144 pares.")
    card.save(tmp_path / "README.md")
    read = ModelCard.load(tmp_path / "README.md")
    assert read.data.base_model == "tiny" and read.data.language == "pt" and "lora" in read.data.tags
    for text in ("# Triagem", "Ajudar a triar.", "Só 144 pares.", "| passos | 1 |", "(RSS)"):
        assert text in read.text


def test_what_is_not_given_is_counted_as_open(run):
    assert missing(model_card(run, "x")) == len(BY_HAND)
    assert missing(model_card(run, "x", purpose="a", contact="b")) == len(BY_HAND) - 2
    assert missing(model_card(run, "x", **dict.fromkeys(BY_HAND, "dito"))) == 0


def test_unknown_sections_are_named(run):
    with pytest.raises(CardError, match=r"'porpose'.*purpose"):
        model_card(run, "x", porpose="Ajudar.")
