"""An adapter rebuilt on a trusted base does what the student's does, and a false one is refused."""

import copy

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autograder.judge.adapter import AdapterRefused, adapter_on
from autograder.judge.remote import Remote
from tests.autograder.judge.beside import served

SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
IDS = torch.tensor([[1, 2, 3, 4]])
LORA = peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"])
CONFIGS = {
    "lora": LORA,
    "rslora and dora": peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, use_rslora=True, use_dora=True, target_modules=["o_proj"]
    ),
    "ia3": peft.IA3Config(task_type="CAUSAL_LM", target_modules=["v_proj"], feedforward_modules=[]),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=2, num_key_value_heads=2)).eval()


def trained(config, name="default"):
    """A peft model whose adapter is not at its start, as after training."""
    model = peft.get_peft_model(base(), copy.deepcopy(config), adapter_name=name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 4)
    return model


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def saved(model):
    return model.peft_config["default"].to_dict(), peft.get_peft_model_state_dict(model)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_does_what_the_students_does(config):
    model = trained(config)
    assert not torch.allclose(logits(model)[0, -1], logits(base())[0, -1], atol=1e-3)
    with served(model=model) as wall:
        remote = wall.ask("get", "", "model")
        assert type(remote) is Remote
        assert torch.equal(logits(adapter_on(base(), remote)), logits(model))
    assert torch.equal(logits(adapter_on(base(), saved(model))), logits(model))


def test_the_base_and_what_the_model_claims_do_not_come_along():
    model = trained(LORA, "aula")
    expected = logits(model)
    with torch.no_grad():
        model.get_base_model().lm_head.weight.zero_()
    model.forward = lambda **_: "learned"
    with served(model=model) as wall:
        rebuilt = adapter_on(base(), wall.ask("get", "", "model"), "aula")
    assert torch.equal(logits(rebuilt), expected)
    assert torch.allclose(logits(rebuilt.merge_and_unload()), expected, atol=1e-5)


KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({"peft_type": "VERA"}, {}),
        ({"peft_type": ["LORA"]}, {}),
        ({"r": 10**9}, {}),
        ({"r": True}, {}),
        ({"r": float("nan")}, {}),
        ({"lora_alpha": float("inf")}, {}),
        ({"target_modules": "(a+)+$"}, {}),
        ({"target_modules": ["nowhere"]}, {}),
        ({"target_modules": ["q_proj"] * 2000}, {}),
        ({"rank_pattern": {"(a+)+$": 2}}, {}),
        ({}, {KEY: torch.full((3, 16), float("nan"))}),
        ({}, {KEY: torch.zeros(16, 3)}),
        ({}, {KEY: torch.zeros(3, 16, dtype=torch.int64)}),
        ({}, {KEY: None}),
        ({}, {"base_model.model.lm_head.weight": torch.zeros(32, 16)}),
    ],
    ids=str,
)
def test_what_is_no_adapter_for_this_base_is_refused(config, tensors):
    right, weights = saved(trained(LORA))
    with pytest.raises(AdapterRefused):
        adapter_on(base(), (right | config, weights | tensors))


def test_nothing_is_imported_or_loaded_by_a_configuration():
    config, weights = saved(trained(LORA))
    named = {"megatron_config": {}, "megatron_core": "this", "init_lora_weights": "pissa", "auto_mapping": {}}
    assert torch.equal(
        logits(adapter_on(base(), (config | named, weights))), logits(adapter_on(base(), (config, weights)))
    )
