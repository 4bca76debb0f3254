"""The catalogue: every model's dimensions give the number of parameters that was published for it."""

import pytest

from toolkit import catalogue
from toolkit.configs import ModelError
from toolkit.count import count
from toolkit.methods import Full
from toolkit.models import Architecture
from toolkit.plan import Plan


def test_at_least_40_models_the_portuguese_ones_among_them():
    assert len(catalogue.names()) >= 40
    assert {f"TucanoBR/Tucano-{size}" for size in ("160m", "630m", "1b1", "2b4")} <= set(catalogue.names())


@pytest.mark.parametrize("name", catalogue.names())
def test_dimensions_give_the_published_total(name):
    model = Architecture.from_config(name)
    assert count(Plan(model, Full())).total == catalogue.parameters(name)


@pytest.mark.parametrize(
    ("name", "total"),  # safetensors metadata on the models' pages
    [
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("google/gemma-2-9b", 9_241_705_984),
        ("microsoft/phi-4", 14_659_507_200),
    ],
)
def test_known_totals(name, total):
    assert catalogue.parameters(name) == total


@pytest.mark.parametrize("spelling", ["qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", " QWEN2.5-0.5B "])
def test_a_name_in_any_spelling_is_the_same_model(spelling):
    assert Architecture.from_config(spelling) == Architecture.from_config("Qwen/Qwen2.5-0.5B")


def test_transformers_builds_the_same_model_from_the_same_dimensions():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for name in ("TucanoBR/Tucano-630m", "google/gemma-3-270m", "EleutherAI/pythia-70m", "facebook/opt-125m"):
        dimensions = catalogue.config(name)
        config = AutoConfig.for_model(dimensions.pop("model_type"), **dimensions)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert sum(p.numel() for p in model.parameters()) == catalogue.parameters(name)


def test_unknown_model_says_what_to_do_offline():
    with pytest.raises(
        ModelError, match=r"confira o nome e a conexão, ou passe o caminho de um config\.json"
    ):
        Architecture.from_config("nobody/no-such-model")
