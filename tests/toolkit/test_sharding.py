"""Several cards: DeepSpeed's own formulas, FSDP's real shards, and figures that fall as cards are added."""

import pytest

from toolkit.count import count
from toolkit.methods import Full, LoRA, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan, PlanError
from toolkit.vram.estimate import estimate
from toolkit.vram.sharding import shard

LLAMA_7B = Architecture.from_config("meta-llama/Llama-2-7b-hf")
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 256,
}
STATES = ("weights", "gradients", "optimizer_states", "optimizer_temporaries")


def states(memory):
    return sum(memory.moments["step"].get(part, 0) for part in STATES)


@pytest.mark.parametrize("gpus", [2, 8, 64])
def test_zero2_equals_deepspeeds_estimator(gpus):
    plan = Plan(LLAMA_7B, Full())
    expected = count(plan).total * (2 + 18 / gpus)
    assert states(shard(plan, gpus, "zero2")) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("gpus", [2, 8, 64])
def test_zero3_shares_out_everything_and_holds_one_module_whole(gpus):
    plan = Plan(LLAMA_7B, Full())
    each = count(plan).total / gpus
    assert states(shard(plan, gpus, "zero3")) == pytest.approx(16 * each + 4 * min(each, 1e9), rel=1e-8)
    assert states(shard(plan, gpus, "zero3")) == pytest.approx(
        18 * each, rel=0.12
    )  # DeepSpeed's round figure
    extra = shard(plan, gpus, "zero3").moments["backward"]["workspaces"]
    largest = max(32000 * 4096, 4096 * 11008)
    assert extra - shard(plan, gpus, "zero2").moments["backward"]["workspaces"] == 4 * largest


def test_each_stage_needs_less_and_more_cards_never_need_more():
    plan = Plan(LLAMA_7B, Full(), checkpointing=True)
    peaks = [shard(plan, 8, stage).allocated.value for stage in ("zero1", "zero2", "zero3", "fsdp")]
    assert peaks[0] > peaks[1] > peaks[2]
    for strategy in ("zero1", "zero2", "zero3", "fsdp"):
        sizes = [shard(plan, n, strategy).allocated.value for n in (2, 4, 8, 16)]
        assert sizes == sorted(sizes, reverse=True)


def test_activations_are_each_cards_own():
    plan = Plan(LLAMA_7B, LoRA(), batch=2)
    for strategy in ("zero1", "zero3", "fsdp"):
        moments = shard(plan, 4, strategy).moments
        assert moments["backward"]["activations"] == estimate(plan).moments["backward"]["activations"]


def test_lora_hardly_gains_from_zero2_and_gains_from_zero3():
    plan = Plan(LLAMA_7B, LoRA())
    one = estimate(plan).allocated.value
    assert shard(plan, 8, "zero2").allocated.value > 0.95 * one
    assert shard(plan, 8, "zero3").allocated.value < 0.6 * one


def test_fsdp_shares_out_four_bit_weights_too():
    plan = Plan(LLAMA_7B, QLoRA())
    assert shard(plan, 4, "fsdp").moments["load"]["weights"] == estimate(plan).moments["load"]["weights"] // 4


@pytest.mark.parametrize(("gpus", "strategy"), [(0, "zero1"), (2, "zero4"), (-1, "fsdp")])
def test_bad_input_is_named(gpus, strategy):
    with pytest.raises(PlanError, match=r"gpus deve ser|strategy deve ser um de 'zero1'"):
        shard(Plan(LLAMA_7B, Full()), gpus, strategy)


def _local_bytes(rank, folder):
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoConfig, AutoModelForCausalLM

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    config = AutoConfig.for_model(**TINY)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.zeros(1, 8, dtype=torch.long)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    shards = [p.to_local() for p in model.parameters()]
    moments = [s[key].to_local() for s in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    sizes = [sum(t.numel() * t.element_size() for t in tensors) for tensors in (shards, moments)]
    if rank == 0:
        torch.save(sizes, f"{folder}/sizes.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("switches", "published"), [({}, 36_225_939_968), ({"dtype": "fp32", "autocast": True}, 72_434_853_888)]
)
def test_mistral_in_full_on_two_a100_by_the_published_figure(switches, published):
    """fms-acceleration, scripts/benchmarks/refs: full sharding of two cards, checkpointed, AdamW foreach."""
    plan = Plan("Mistral-7B-v0.1", Full(), batch=4, seq_len=4096, checkpointing=True, attention="flash")
    found = shard(plan.change(**switches, gpu="A100 80 GB"), 2, "fsdp")
    assert found.allocated.value == pytest.approx(published, rel=0.001)


@pytest.mark.slow
def test_fsdp_shards_are_those_of_torch(tmp_path):
    import torch
    import torch.multiprocessing as mp

    mp.spawn(_local_bytes, args=(str(tmp_path),), nprocs=2)
    weights, states_ = torch.load(tmp_path / "sizes.pt")
    moments = shard(Plan(Architecture.from_config(TINY), Full(), dtype="fp32", seq_len=8), 2, "fsdp").moments
    assert weights == pytest.approx(moments["load"]["weights"], rel=0.01)
    assert states_ == pytest.approx(moments["step"]["optimizer_states"], rel=0.01)
