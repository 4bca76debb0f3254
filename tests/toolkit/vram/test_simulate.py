"""The simulation against tensors that exist, and against torch's own accounts."""

import weakref

import pytest
import torch
import transformers
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from toolkit.methods import Full, LoRA, QLoRA
from toolkit.plan import Plan, PlanError
from toolkit.vram import MeasureError, compare_memory, measure, simulate
from toolkit.vram.kernels import cuda_operators, unpacked
from toolkit.vram.live import build, materialize
from toolkit.vram.loading import IN_ORDER, Schedule, _timetable
from toolkit.vram.simulate import run
from toolkit.vram.trace import Trace, moments

from .plans import GRID, architecture, plan

REAL = {
    "full": plan(Full()),
    "full, tied": plan(Full(), optimizer="sgd").change(model=architecture(tie_word_embeddings=True)),
    "lora": plan(),
    "lora, checkpointed": plan(checkpointing=True),
    "lora, eager": plan(attention="eager"),
    "full, sgd": plan(Full(), optimizer="sgd"),
    "lora, chunked": plan(loss="chunked"),
    "qlora, dora": plan(QLoRA(use_dora=True)),
}


@pytest.mark.parametrize("name", REAL)
def test_fake_tensors_live_and_die_as_real_ones(name):
    """Without CUDA's kernels the simulation is that of a CPU, where it can be held against real tensors."""
    trace = Trace()
    with FakeTensorMode(), unpacked():
        run(REAL[name], build(REAL[name]), trace)
    real = measure(REAL[name], "cpu")
    assert {m: sum(p.values()) for m, p in moments(trace).items()} == pytest.approx(
        {m: real.total(m) for m in real.moments}, rel=1e-3
    )


def test_weights_and_gradients_are_torchs_own_bytes():
    wanted = GRID["full"]
    model = build(wanted)
    with FakeTensorMode():
        materialize(model, "cpu")
        size = sum(p.numel() * p.element_size() for p in model.parameters())
    step = simulate(wanted).moments["step"]
    assert step["weights"] == pytest.approx(size, rel=0.001)
    assert step["gradients"] == pytest.approx(size, rel=0.001)
    assert step["optimizer_states"] == pytest.approx(2 * size, rel=0.001)


def test_a_4_bit_module_has_the_bytes_of_a_quantized_one():
    """bitsandbytes quantizes a real weight; the module made without one must take the same storages."""
    import bitsandbytes as bnb

    real = bnb.nn.Linear4bit(512, 512, bias=False, quant_type="nf4", compress_statistics=True)
    real = real.to("cpu")
    real(torch.zeros(1, 512))
    made = build(plan(QLoRA())).get_submodule("base_model.model.model.layers.0.self_attn.o_proj")
    for owner, other in (
        (real.weight, made.weight),
        (real.weight.quant_state.absmax, made.weight.quant_state.absmax),
    ):
        assert owner.numel() * owner.element_size() == other.numel() * other.element_size()


def test_checkpointing_and_four_bits_save_what_they_promise():
    peak = {name: simulate(GRID[name]).allocated.value for name in ("lora", "lora, checkpointed", "qlora")}
    assert peak["lora, checkpointed"] < peak["lora"]
    assert peak["qlora"] < peak["lora"]


def test_eager_attention_costs_the_square_of_the_sequence():
    def scores(length):
        return simulate(plan(attention="eager", seq_len=length)).total("forward") - simulate(
            plan(seq_len=length)
        ).total("forward")

    assert scores(512) == pytest.approx(4 * scores(256), rel=0.1)


def test_old_bitsandbytes_kept_each_modules_input():
    new, old = (simulate(plan(QLoRA(), bitsandbytes=version)) for version in ("0.50", "0.43.1"))
    assert old.total("loss") > new.total("loss")


def test_measure_without_a_gpu_says_so():
    if torch.cuda.is_available():
        pytest.fail("written for a machine without a GPU")
    with pytest.raises(MeasureError, match="GPU"):
        measure(plan())


def test_compare_puts_errors_beside_the_last():
    rows = compare_memory(plan())
    assert [row["source"] for row in rows][:2] == ["estimate", "simulate"]
    assert rows[-1]["error_percent"] == 0
    assert abs(rows[0]["error_percent"]) < 5


def test_dropout_keeps_a_byte_a_value_in_the_recomputation_too():
    ones = torch.ones(64, 64, requires_grad=True)
    with cuda_operators(), Trace() as trace:
        checkpoint(lambda x: functional.dropout(x * 2, 0.1).sum(), ones, use_reentrant=True).backward()
    assert sorted({block.size for block, _ in trace.events})[-2:] == [64 * 64, 4 * 64 * 64]


def test_four_bit_weights_come_in_the_checkpoints_order_beside_their_16_bit_ones():
    """Two threads: the first two begin at once, the third when one is free, and all end in order."""
    events = sorted(_timetable([4, 2, 2], Schedule(2, 0.0)))
    assert events[:2] == [(0.0, 1, 0), (0.0, 1, 1)]
    assert [index for _, stage, index in events if not stage] == [0, 1, 2]
    begun = next(time for time, stage, index in events if (stage, index) == (1, 2))
    assert begun < next(time for time, stage, index in events if (stage, index) == (0, 0))
    in_order = [(stage, index) for _, stage, index in sorted(_timetable([4, 2, 2], IN_ORDER))]
    assert in_order == [(1, 0), (0, 0), (1, 1), (0, 1), (1, 2), (0, 2)]


def test_the_installed_loader_holds_one_16_bit_weight_at_a_time(tmp_path):
    """transformers' own loading of a checkpoint, followed: what `IN_ORDER` says of it."""
    config = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=4, intermediate_size=160, num_hidden_layers=2, vocab_size=96
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    four_bit = transformers.BitsAndBytesConfig(load_in_4bit=True)
    alive, most = weakref.WeakSet(), []

    class Follow(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            loads = func is torch.ops.aten._to_copy.default and out.dtype == torch.float16
            if loads and out.shape == (64, 64):
                alive.add(out.untyped_storage())
                most.append(len(alive))
            return out

    with Follow():
        transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, dtype=torch.float16, quantization_config=four_bit, device_map={"": "cpu"}
        )
    assert most == [1] * 4 * 2  # q, k, v and o of two layers


def test_cublas_takes_its_workspace_at_the_angles_of_an_older_rotary_embedding():
    """transformers 5.18 multiplies matrices there; from 5.19 on a layer's first product is the first."""

    def taken(version: str) -> int:
        trace, wanted = Trace(workspace=2**20), plan(transformers=version)
        with FakeTensorMode(), unpacked():
            run(wanted, build(wanted), trace)
        return next(i for i, (block, _) in enumerate(trace.events) if block.part == "workspaces")

    assert taken("5.18") < taken("5.19")


def test_reserved_is_an_interval_where_threads_load_four_bit_weights_and_a_point_elsewhere():
    threaded = simulate(GRID["qlora, kbit"].change(transformers="5.0"))
    assert threaded.reserved.low < threaded.reserved.high
    for name in ("qlora, kbit", "lora"):
        assert len(set(simulate(GRID[name]).reserved)) == 1


def test_a_4_bit_mixture_before_transformers_5_is_refused():
    with pytest.raises(PlanError, match=r"transformers deve ser '5.0'"):
        simulate(plan(QLoRA(), "mixtral", transformers="4.48"))


@pytest.mark.slow
def test_seven_billion_parameters_by_the_published_figure():
    """Mistral 7B in full on an A100, 4 x 4096 tokens: fms-acceleration, a100_80gb.csv, bytes."""
    mistral = Plan(
        "Mistral-7B-v0.1",
        Full(),
        batch=4,
        seq_len=4096,
        checkpointing=True,
        reentrant=True,
        attention="flash",
        gpu="A100 80 GB",
        transformers="4.48",
    )
    assert simulate(mistral).allocated.value == pytest.approx(72_434_837_504, rel=0.001)
    assert simulate(
        mistral.change(method=LoRA(16, targets=("q_proj", "k_proj", "v_proj", "o_proj")))
    ).allocated.value == (pytest.approx(26_704_571_904, rel=0.002))
