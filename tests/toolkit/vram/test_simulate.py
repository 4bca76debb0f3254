"""The simulation against tensors that exist, and against torch's own accounts."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional
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
    """By hand, two threads, sizes 4, 2, 2: the second is there at 2, as the third begins, the first at 4."""
    assert sorted(_timetable([4, 2, 2], Schedule(2, 0.0))) == [
        (0.0, 1, 0),
        (0.0, 1, 1),
        (2.0, 1, 2),
        (4.0, 0, 0),
        (4.0, 0, 1),
        (4.0, 0, 2),
    ]
    in_order = [(stage, index) for _, stage, index in sorted(_timetable([4, 2, 2], IN_ORDER))]
    assert in_order == [(1, 0), (0, 0), (1, 1), (0, 1), (1, 2), (0, 2)]


def test_reserved_of_four_bit_weights_is_an_interval_and_of_others_a_point():
    low, value, high = simulate(GRID["qlora, kbit"]).reserved
    assert low < value < high
    assert len(set(simulate(GRID["lora"]).reserved)) == 1


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
