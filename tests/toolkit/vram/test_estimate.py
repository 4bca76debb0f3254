"""The closed form against the simulation of the real code, and what must hold of any estimate."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.methods import Full, LoRA, QLoRA
from toolkit.plan import Plan
from toolkit.vram import estimate, simulate, static
from toolkit.vram.estimate import SPREAD
from toolkit.vram.memory import MOMENTS, PARTS

from .plans import GRID, architecture, plan


@pytest.mark.parametrize("name", GRID)
def test_peak_within_the_promised_spread_of_the_simulation(name):
    estimated, simulated = estimate(GRID[name]), simulate(GRID[name])
    live = simulated.total(simulated.peak_moment)
    assert estimated.allocated.value == pytest.approx(live, rel=SPREAD)
    assert estimated.reserved.low <= simulated.reserved.value <= estimated.reserved.high


@pytest.mark.parametrize("name", ["full", "lora", "qlora", "qlora, kbit", "full, 8 bits", "full, autocast"])
def test_what_stays_from_step_to_step_equals_the_simulation(name):
    estimated, simulated = estimate(GRID[name]).moments, simulate(GRID[name]).moments
    for part in ("weights", "quant_constants", "adapters", "optimizer_states"):
        assert estimated["backward"][part] == pytest.approx(
            simulated["backward"].get(part, 0), rel=0.02, abs=2**16
        )


def plans_of(families, use_dora):
    methods = st.one_of(
        st.just(Full()),
        st.builds(LoRA, rank=st.integers(1, 64), use_dora=use_dora, targets=st.just("all-linear")),
        st.builds(QLoRA, rank=st.integers(1, 64), double_quant=st.booleans(), targets=st.just("all-linear")),
    )
    return st.builds(
        Plan,
        st.sampled_from([architecture(family) for family in families]),
        methods,
        batch=st.integers(1, 16),
        seq_len=st.integers(1, 1024),
        checkpointing=st.booleans(),
        attention=st.sampled_from(["eager", "sdpa"]),
        loss=st.sampled_from(["fp32", "no_upcast", "chunked", "fused"]),
        optimizer=st.sampled_from(["adamw", "adamw_fused", "adamw_8bit", "sgd"]),
        accumulation=st.integers(1, 3),
    )


DENSE = ("llama", "mistral", "qwen2", "phi", "gpt_neox")
plans = plans_of(DENSE, st.booleans()) | plans_of(["mixtral"], st.just(False))  # peft has no DoRA of experts


@given(plans)
@settings(deadline=None)
def test_parts_add_up_at_each_moment_and_none_is_negative(given_plan):
    memory = estimate(given_plan)
    assert tuple(memory.moments) == MOMENTS
    for moment, parts in memory.moments.items():
        assert set(parts) <= set(PARTS) and min(parts.values()) >= 0
        assert memory.total(moment) == sum(parts.values())
    assert memory.allocated.value == memory.total(memory.peak_moment)
    assert memory.allocated.low <= memory.allocated.value <= memory.reserved.value <= memory.process.high


@given(plans, st.integers(1, 8), st.integers(1, 512))
@settings(deadline=None)
def test_more_tokens_never_cost_less(given_plan, sequences, tokens):
    more = given_plan.change(batch=given_plan.batch + sequences, seq_len=given_plan.seq_len + tokens)
    assert estimate(more).allocated.value >= estimate(given_plan).allocated.value


@given(plans.filter(lambda p: isinstance(p.method, LoRA)), st.integers(1, 64))
@settings(deadline=None)
def test_a_higher_rank_never_costs_less(given_plan, extra):
    more = given_plan.change(method=replace(given_plan.method, rank=given_plan.method.rank + extra))
    assert estimate(more).allocated.value >= estimate(given_plan).allocated.value


@given(plans.filter(lambda p: isinstance(p.method, QLoRA)))
@settings(deadline=None)
def test_double_quantization_never_costs_more(given_plan):
    single = given_plan.change(method=replace(given_plan.method, double_quant=False))
    double = given_plan.change(method=replace(given_plan.method, double_quant=True))
    assert estimate(double).allocated.value <= estimate(single).allocated.value


def test_bits_a_parameter_of_nf4():
    """0.5 + 4/64 bytes, and with double quantization 0.5 + 1/64 + 4/(64 * 256): QLoRA, section 3."""
    for double, bits in ((False, 4.5), (True, 4.127)):
        quantized = plan(QLoRA(double_quant=double)).change(model=architecture(num_hidden_layers=40))
        packed = static.quantized_weights(quantized)
        found = 4 + 8 * static.quant_constants(quantized) / packed
        assert found == pytest.approx(bits, rel=0.01)


def test_llama_2_7b_by_hand():
    """16 bytes a trained parameter, 2 a frozen one: what the course computes on the blackboard."""
    memory = estimate(Plan("Llama-2-7b-hf", Full(), seq_len=512))
    assert memory.peak_moment == "step"
    assert memory.total("step") == pytest.approx(
        10 * 6_738_415_616, rel=0.001
    )  # bf16: w, g, m, v, and a copy
