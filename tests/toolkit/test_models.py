"""Architectures from config.json: round trips, names, and one sentence for what does not fit."""

import json

import pytest

from toolkit.configs import ModelError
from toolkit.models import Architecture

LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}


def test_reads_dict_file_and_folder_alike(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    models = [Architecture.from_config(source) for source in (LLAMA, path, tmp_path)]
    assert len({(m.hidden, m.kv_heads, m.head_dim, m.tied) for m in models}) == 1
    assert models[0].head_dim == 64 and models[0].tied


def test_gpt2_spells_its_dimensions_otherwise():
    model = Architecture.from_config(
        {
            "model_type": "gpt2",
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "vocab_size": 50257,
            "n_positions": 1024,
        }
    )
    assert (model.hidden, model.layers, model.intermediate, model.tied) == (768, 12, 3072, True)


def test_plain_data_gives_the_model_back():
    model = Architecture.from_config(LLAMA)
    assert Architecture(**json.loads(json.dumps(model.to_dict()))) == model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": None}, ["hidden_size"]),
        ({"hidden_size": 2050}, ["2050", "num_attention_heads"]),
        ({"num_key_value_heads": 5}, ["kv_heads", "5"]),
        ({"num_hidden_layers": 0}, ["layers", "0"]),
        ({"vocab_size": -3}, ["vocab", "-3"]),
        ({"model_type": "mamba"}, ["mamba", "llama"]),
        ({"hidden_size": "2048"}, ["hidden_size", "inteiro"]),
        ({"head_dim": "x"}, ["head_dim", "inteiro"]),
        ({"max_position_embeddings": "x"}, ["max_position_embeddings", "inteiro"]),
        ({"num_key_value_heads": 0}, ["kv_heads", "0"]),
        ({"tie_word_embeddings": "sim"}, ["tie_word_embeddings", "true ou false"]),
        ({"text_config": 5}, ["text_config", "objeto"]),
        ({"model_type": "mixtral", "num_local_experts": 0}, ["especialista", "0"]),
    ],
)
def test_contradictions_are_one_sentence(changes, words):
    with pytest.raises(ModelError) as error:
        Architecture.from_config({**LLAMA, **changes})
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_config(tmp_path):
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match="não é um config"):
        Architecture.from_config(tmp_path)
