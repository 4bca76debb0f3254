"""fit: its limits are the last ones that hold, its fixes do what they say."""

from importlib import import_module
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import catalogue
from toolkit.methods import Full, LoRA, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit
from toolkit.vram.gpus import GPUError, gpu

QWEN_7B = Architecture.from_config("Qwen/Qwen2.5-7B")
SMOL = Architecture.from_config("HuggingFaceTB/SmolLM2-135M")


def holds(plan, card):
    return estimate(plan.change(gpu=card)).process.high <= gpu(card).memory


def test_a_small_lora_fits_a_t4_with_room_to_spare():
    result = fit(Plan(SMOL, LoRA()), "T4")
    assert result.verdict == "fits"
    assert 0 < result.margin.low <= result.margin.value <= result.margin.high < gpu("T4").memory
    assert not result.fixes


def test_seven_billion_in_full_exceeds_a_t4():
    result = fit(Plan(QWEN_7B, Full()), "T4")
    assert result.verdict == "exceeds"
    assert result.margin.high < 0
    assert gpu(result.smallest_gpu).memory > gpu("T4").memory


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["SmolLM2-135M", "Qwen2.5-0.5B", "Tucano-2b4", "Llama-3.2-3B"]),
    card=st.sampled_from(["T4", "RTX 3060 12 GB", "RTX 4090"]),
    batch=st.sampled_from([1, 3, 8]),
)
def test_largest_is_the_last_one_that_fits(name, card, batch):
    plan = Plan(Architecture.from_config(name), LoRA(rank=4), batch=batch)
    largest = fit(plan, card).largest
    for field in ("batch", "seq_len"):
        if largest[field]:
            assert holds(plan.change(**{field: largest[field]}), card)
        beyond = largest[field] + 1
        if field == "batch" or beyond <= plan.model.max_positions:
            assert not holds(plan.change(**{field: beyond}), card)


def test_largest_rank_is_the_last_one_that_fits():
    plan = Plan(QWEN_7B, LoRA(targets="all-linear"), checkpointing=True)
    rank = fit(plan, "RTX 4090").largest["rank"]
    assert holds(plan.change(method=LoRA(rank=rank, targets="all-linear")), "RTX 4090")
    assert not holds(plan.change(method=LoRA(rank=rank + 1, targets="all-linear")), "RTX 4090")


def test_largest_model_fits_and_every_larger_one_does_not():
    plan = Plan(SMOL, QLoRA(targets="all-linear"), checkpointing=True)
    best = fit(plan, "T4").largest_model
    assert holds(plan.change(model=Architecture.from_config(best)), "T4")
    for name in catalogue.names():
        if catalogue.parameters(name) > catalogue.parameters(best):
            assert not holds(plan.change(model=Architecture.from_config(name)), "T4")


@pytest.mark.parametrize("method", [Full(), LoRA(rank=16)])
def test_each_fix_saves_what_it_says_and_those_that_fit_come_first_by_cost(method):
    result = fit(Plan(QWEN_7B, method, batch=4, attention="eager", use_cache=True), "RTX 4090")
    assert result.fixes
    for fix in result.fixes:
        after = estimate(fix.plan)
        assert fix.saves == result.memory.process.value - after.process.value > 0
        assert (fix.verdict == "fits") == (after.process.high <= gpu("RTX 4090").memory)
    fitting = [fix for fix in result.fixes if fix.verdict == "fits"]
    assert list(result.fixes[: len(fitting)]) == fitting
    assert all(a.cost <= b.cost for a, b in pairwise(fitting))


def test_changes_are_combined_where_one_alone_is_not_enough():
    result = fit(Plan(QWEN_7B, LoRA(), batch=8, seq_len=1024), "T4")
    best = result.fixes[0]
    assert best.verdict == "fits" and len(best.changes) > 1
    singles = [fix for fix in result.fixes if len(fix.changes) == 1]
    assert all(fix.verdict != "fits" for fix in singles if set(fix.changes) <= set(best.changes))


@pytest.mark.parametrize("card", ["T4", "RTX 3060 12 GB", "RTX 4090"])
@pytest.mark.parametrize("method", [Full(), LoRA(targets="all-linear"), QLoRA(targets="all-linear")])
@pytest.mark.parametrize("name", ["Qwen2.5-1.5B", "Qwen2.5-7B", "gemma-2-9b"])
def test_no_change_in_a_mix_is_idle(name, method, card):
    plan = Plan(Architecture.from_config(name), method, batch=8, seq_len=1024, attention="eager")
    for fix in fit(plan, card).fixes:
        if fix.verdict == "fits" and len(fix.changes) == 2:
            for change in fix.changes:
                alone = change.apply(plan, gpu(card))
                assert alone is None or not holds(alone, card)


def test_where_small_mixes_are_too_few_as_many_changes_are_offered_as_it_takes(monkeypatch):
    monkeypatch.setattr(import_module("toolkit.vram.fit"), "MOST_CHANGES", 1)
    plan = Plan(QWEN_7B, Full(), batch=16, seq_len=2048, attention="eager")
    best = fit(plan, "T4").fixes[0]
    assert best.verdict == "fits" and holds(best.plan, "T4") and len(best.changes) > 1
    for left_out in best.changes:
        changed = plan
        for change in best.changes:
            changed = changed if change is left_out else change.apply(changed, gpu("T4")) or changed
        assert not holds(changed, "T4")


def test_a_smaller_batch_keeps_the_sequences_of_a_step():
    plan = Plan(QWEN_7B, LoRA(), batch=6, seq_len=2048)
    changed = [fix.plan for fix in fit(plan, "RTX 4090").fixes if "acumulação" in fix.label()]
    assert changed
    assert all(p.batch * p.accumulation == 6 for p in changed)


def test_a_fix_says_what_it_saves_in_portuguese():
    texts = [str(fix) for fix in fit(Plan(QWEN_7B, LoRA(), batch=4), "T4").fixes]
    assert any(text.startswith("QLoRA: -") and text.endswith(" GiB") and "," in text for text in texts)


def test_half_precision_on_a_t4_is_fp16():
    fixes = fit(Plan(QWEN_7B, LoRA(), dtype="fp32"), "T4").fixes
    halved = [fix.plan.dtype for fix in fixes if fix.plan.dtype != "fp32"]
    assert halved and set(halved) == {"fp16"}


def test_unknown_card():
    with pytest.raises(GPUError, match="não está na tabela"):
        fit(Plan(SMOL, LoRA()), "Voodoo 2")
