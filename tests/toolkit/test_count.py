"""Counts against transformers' and peft's own, family by family, and against peft's published tables."""

import csv
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from toolkit import catalogue
from toolkit.count import count
from toolkit.families import FAMILIES
from toolkit.methods import IA3, Full, LoRA, PrefixTuning, PromptTuning
from toolkit.models import Architecture
from toolkit.plan import Plan

SMALL = {"num_hidden_layers": 2, "vocab_size": 512, "max_position_embeddings": 64}


def small_config(family):
    config = AutoConfig.for_model(family)
    for key, value in {**SMALL, "n_layer": 2, "n_positions": 64}.items():
        if hasattr(config, key):
            setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    config.pad_token_id = 0
    return config


def build(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_base_count_equals_transformers(family):
    config = small_config(family)
    model = build(config)
    predicted = count(Plan(Architecture.from_config(config), Full(), seq_len=8))
    live = count(model)
    assert predicted.total == live.total == sum(p.numel() for p in model.parameters())
    assert dict(predicted.parts) == live.parts


PEFT_FAMILIES = [
    "llama",
    "gpt2",
    "gpt_neox",
    "gemma",
    "phi",
    "phi3",
    "qwen2",
    "mistral",
    "mixtral",
    "bloom",
    "opt",
]


MIXTURES = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe"]


@pytest.mark.parametrize("family", MIXTURES)
def test_lora_count_of_a_mixture_equals_peft(family):
    test_lora_count_equals_peft(family, LoRA(targets="all-linear"))


@pytest.mark.parametrize("family", [family for family in PEFT_FAMILIES if family != "mixtral"])
@pytest.mark.parametrize("method", [LoRA(targets="all-linear"), LoRA(4, use_dora=True, targets="all-linear")])
def test_lora_count_equals_peft(family, method):
    config = small_config(family)
    model = build(config)
    lora = LoraConfig(
        r=method.rank, target_modules="all-linear", use_dora=method.use_dora, task_type=TaskType.CAUSAL_LM
    )
    wrapped = get_peft_model(model, lora, autocast_adapter_dtype=False, low_cpu_mem_usage=True)
    trainable, total = wrapped.get_nb_trainable_parameters()
    counted = count(Plan(Architecture.from_config(config), method, seq_len=8))
    assert (counted.trainable, counted.total) == (trainable, total)
    assert count(wrapped).parts["adapters"] == trainable


@pytest.mark.parametrize("family", PEFT_FAMILIES)
def test_prompt_and_prefix_counts_equal_peft(family):
    config = small_config(family)
    for method, peft_class in ((PrefixTuning(7), PrefixTuningConfig), (PromptTuning(7), PromptTuningConfig)):
        model = AutoModelForCausalLM.from_config(_narrow(config))
        wrapped = get_peft_model(model, peft_class(num_virtual_tokens=7, task_type=TaskType.CAUSAL_LM))
        counted = count(Plan(Architecture.from_config(config), method, seq_len=8))
        assert (counted.trainable, counted.total) == wrapped.get_nb_trainable_parameters()
        assert count(wrapped).parts["adapters"] == counted.trainable


def _narrow(config):
    """Small enough to hold real weights: peft builds its prompt encoders on a real device."""
    heads = ("num_attention_heads", "n_head")
    for key in ("hidden_size", "n_embd", "word_embed_proj_dim"):
        if hasattr(config, key):
            setattr(config, key, 64)
    for key in heads:
        if hasattr(config, key):
            setattr(config, key, 4)
    for key, value in {
        "intermediate_size": 96,
        "ffn_dim": 96,
        "num_local_experts": 2,
        "head_dim": 16,
    }.items():
        if getattr(config, key, None) is not None:
            setattr(config, key, value)
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = 2 if config.model_type == "mistral" else 4
    return config


def test_ia3_count_equals_peft():
    config = small_config("llama")
    wrapped = get_peft_model(build(config), IA3Config(task_type=TaskType.CAUSAL_LM), low_cpu_mem_usage=True)
    counted = count(Plan(Architecture.from_config(config), IA3(), seq_len=8))
    assert (counted.trainable, counted.total) == wrapped.get_nb_trainable_parameters()


PUBLISHED = Path(__file__).parent / "data" / "param_counts.csv"
TARGETS = {
    "q_proj+v_proj (default)": ("q_proj", "v_proj"),
    "q+v": ("q_proj", "v_proj"),
}


def published():
    """The rows of peft's and others' tables whose method the toolkit has, with the plan they mean."""
    with PUBLISHED.open() as file:
        for row in csv.DictReader(file):
            if (method := published_method(row)) and (name := catalogue.find(row["model"])):
                yield pytest.param(
                    row, Plan(Architecture.from_config(name), method, seq_len=8), id=row["source"][-60:]
                )


def published_method(row):
    targets = TARGETS.get(row["targets"], tuple(row["targets"].split("+")))
    if not row["rank_or_tokens"].isdigit() and row["method"] not in ("full", "ia3"):
        return None
    number = int(row["rank_or_tokens"] or 0)
    variants = {"mica": None, "bdlora": None}  # train other parameters than LoRA's
    if any(name in row["source"] for name in variants):
        return None
    if row["method"] in ("lora", "lora/qlora"):
        return LoRA(number, targets=targets, use_dora="dora" in row["source"])
    methods = {"full": Full(), "ia3": IA3(("k_proj", "v_proj", "down_proj"))}
    if row["method"] == "prefix_tuning":
        return PrefixTuning(number)
    return PromptTuning(number) if row["method"] == "prompt_tuning" else methods.get(row["method"])


@pytest.mark.parametrize(("row", "plan"), list(published()))
def test_counts_equal_the_published_ones(row, plan):
    counted = count(plan)
    assert counted.trainable == int(row["trainable_params"])
    assert counted.total == int(row["total_params"])


def test_the_published_table_is_covered():
    assert len({row.values[0]["method"] for row in published()}) >= 6
