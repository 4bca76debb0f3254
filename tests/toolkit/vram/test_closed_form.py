"""The closed form against the simulation, moment by moment: every family, and what once made them differ."""

from dataclasses import fields

import pytest

from benchmarks.vram_agreement import SWITCHES
from toolkit.families import FAMILIES
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.plan import Plan
from toolkit.vram import estimate, simulate
from toolkit.vram.closed_form.operators import Operators

from .plans import ALL, architecture, plan

DORA = LoRA(16, targets="all-linear", use_dora=True)
SMALL = {"hidden_size": 256, "num_hidden_layers": 3, "intermediate_size": 704, "vocab_size": 2000}
MIXTURE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 512,
}


def of(method=None, **switches):
    """A method, and switches, for whatever family."""
    return {"method": method or LoRA(), "batch": 2, "seq_len": 256, **switches}


OF_A_FAMILY = {  # one plan each, of several paths
    "llama": of(ALL),
    "mistral": of(Full(), checkpointing=True),
    "qwen2": of(DORA),
    "qwen3": of(attention="eager"),
    "smollm3": of(QLoRA(16, targets="all-linear", dropout=0.1), checkpointing=True),
    "granite": of(checkpointing=True, reentrant=True),
    "gemma": of(Full(), dtype="fp32", autocast=True),
    "gemma2": of(checkpointing=True),
    "gemma3_text": of(padding=True),
    "olmo2": of(QLoRA(targets="all-linear"), upcast="norms", autocast=True),
    "stablelm": of(QLoRA(), upcast="all", autocast=True),
    "cohere": of(Full(), loss="no_upcast"),
    "phi": of(ALL, checkpointing=True),
    "phi3": of(QLoRA(16, targets="all-linear", dropout=0.1), use_cache=True),
    "starcoder2": of(Full(), dtype="fp32", autocast=True),
    "gpt2": of(Full(), optimizer="adafactor"),
    "gpt_bigcode": of(LoRA(8, targets=("c_attn", "c_fc")), checkpointing=True),
    "gpt_neox": of(ALL, attention="eager", autocast=True),
    "bloom": of(LoRA(8, targets=("query_key_value",)), checkpointing=True),
    "opt": of(ALL, checkpointing=True),
    "mixtral": of(ALL, checkpointing=True),
    "qwen2_moe": of(kernels="liger", checkpointing=True),
    "qwen3_moe": of(attention="eager", autocast=True),
    "olmoe": of(LoRA(64, targets="all-linear"), dtype="fp16", compute_dtype="fp16", autocast=True),
    "granitemoe": of(Full()),
}
MENDED = {
    "math attention in fp32 beside its 16-bit inputs": plan(
        QLoRA(targets=("down_proj",)), dtype="fp16", compute_dtype="fp16", gpu="T4", batch=2
    ),
    "math attention outside of autocast": plan(Full(), autocast=True, gpu="T4", batch=2),
    "queries copied for a batched product": plan(attention="eager", batch=4),
    "rotary angles wider than the queries": plan(Full(), dtype="fp32", autocast=True),
    "the flash package casts fp32 queries": plan(QLoRA(), upcast="all", attention="flash"),
    "the flash package packs what is padded": plan(attention="flash", padding=True),
    "the flash package makes no mask for a prefix": plan(PrefixTuning(20), attention="flash"),
    "fp32 throughout has no flash attention": plan(Full(), upcast="all"),
    "DoRA in a checkpoint": plan(DORA, checkpointing=True, adapter_dtype="bf16", autocast=True),
    "DoRA with dropout keeps a weight": plan(QLoRA(use_dora=True, dropout=0.1)),
    "peft makes checkpointed embeddings leaves": plan(checkpointing=True, hold_output="step"),
    "a recomputation stops where all is saved": plan(Adapter(64), checkpointing=True, kernels="liger"),
    "an output held until the next": plan(hold_output="next", use_cache=True),
    "an output held through the step, accumulating": plan(hold_output="step", accumulation=4),
    "old bitsandbytes and a held output": plan(QLoRA(), bitsandbytes="0.43.1", hold_output="next"),
    "old bitsandbytes, and an output that holds its loss": plan(
        QLoRA(), bitsandbytes="0.43.1", hold_output="next", loss="chunked"
    ),
    "cached keys lie as a product wants them": plan(attention="eager", use_cache=True).change(
        model=architecture(num_key_value_heads=8)
    ),
    "autocast's copies of a fused loss's head": plan(
        Full(), dtype="fp32", autocast=True, loss="fused", optimizer="adamw_fused"
    ),
    "logits shifted, of several sequences": plan(transformers="4.48", loss="no_upcast"),
    "logits shifted, of one": plan(transformers="4.48", batch=1),
    "logits made fp32 by the model": plan(transformers="4.45"),
    "pieces of the fused loss": plan(Full(), loss="fused", optimizer="adamw_fused", batch=4),
    "chunks of the loss, a tied head": plan(Full(), loss="chunked").change(
        model=architecture(tie_word_embeddings=True)
    ),
    "Liger, 4 bits, prepared, autocast": plan(QLoRA(), kernels="liger", upcast="all", autocast=True),
    "a loop over what is trained": plan(Full(), optimizer="adamw_loop"),
    "states too small to page": plan(QLoRA(), optimizer="paged_adamw_32bit"),
    "states too small for 8 bits": plan(IA3(), optimizer="adamw_8bit"),
    "a prompt, re-entrant, accumulating": plan(
        PromptTuning(20), checkpointing=True, reentrant=True, accumulation=2
    ),
}


def moments(given):
    estimated, simulated = estimate(given), simulate(given)
    return {m: (estimated.total(m), simulated.total(m)) for m in ("forward", "loss", "backward", "step")}


def family(name):
    keys = {"gpt_neox": 8, "opt": 8, "bloom": 8, "gpt2": 8, "phi": 8}.get(name, 2)
    sizes = {**SMALL, **(MIXTURE if name in ("qwen2_moe", "qwen3_moe", "olmoe") else {})}
    if name in ("bloom", "gpt2", "gpt_bigcode"):  # four times as wide inside
        sizes = {**sizes, "n_embd": 256, "n_layer": 3, "n_head": 8, "intermediate_size": None}
    return architecture(name, num_key_value_heads=keys, **sizes)


def test_every_family_is_here():
    assert set(OF_A_FAMILY) == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_at_every_moment(name):
    for moment, (estimated, simulated) in moments(Plan(family(name), **OF_A_FAMILY[name])).items():
        assert estimated == pytest.approx(simulated, rel=0.01), moment


@pytest.mark.parametrize("name", MENDED)
def test_what_once_differed_at_every_moment(name):
    for moment, (estimated, simulated) in moments(MENDED[name]).items():
        assert estimated == pytest.approx(simulated, rel=0.01), moment


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_two_layers_stand_for_any_number(layers):
    given = plan(Full(), accumulation=1).change(model=architecture(num_hidden_layers=layers))
    for estimated, simulated in moments(given).values():
        assert estimated == pytest.approx(simulated, rel=0.005)


def test_a_tape_frees_what_nothing_has():
    tape = Operators()
    weight = tape.weight("w", "fp32", True)
    out = tape.linear(tape.new("x", "fp32"), weight, "y")
    assert tape.events == [0, 1]  # the product keeps x for the weight's gradient
    tape.backward(out.node, tape.new("y", "fp32"))
    del out
    alive = {n for n in tape.events if n >= 0} - {~n for n in tape.events if n < 0}
    assert {list(tape.keys)[tape.stores[n]] for n in alive} == {("w", "fp32")}


def test_the_agreement_benchmark_draws_every_switch():
    assert set(SWITCHES) == {field.name for field in fields(Plan)} - {"model", "method"}
