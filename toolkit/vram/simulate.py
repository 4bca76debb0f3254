"""Two optimizer steps of the plan's real code on fake tensors: no weights, no GPU, every storage followed."""

from __future__ import annotations

from statistics import median_low
from typing import Any

from toolkit.plan import Plan, PlanError
from toolkit.vram.gpus import GPU, UNKNOWN_CONTEXT, gpu
from toolkit.vram.memory import Interval, Memory
from toolkit.vram.static import SMALLEST_PAGED

A100 = GPU("A100", 80 * 2**30, "8.0")  # whose workspaces stand for a card that the plan does not name


def simulate(plan: Plan) -> Memory:
    """Trace the plan's training step. Needs torch, transformers and peft; takes seconds, whatever the size.

    `allocated` is the peak of the live tensors as PyTorch's allocator counts them, `reserved` what that
    allocator took from the card, both from a replay of the trace. Where threads load 4-bit weights (see
    `loading`) both depend on timing: they are median and ends over the sampled orders. Raises PlanError for
    what the installed transformers cannot show.
    """
    from torch._subclasses import FakeTensorMode

    from toolkit.vram.kernels import cuda_kernels, temporaries
    from toolkit.vram.live import build
    from toolkit.vram.trace import Trace, moments

    _check(plan)
    card = gpu(plan.gpu) if plan.gpu else A100
    trace, model = Trace(temporaries, card.blas_workspace), build(plan)
    with FakeTensorMode(), cuda_kernels(plan):
        loading = run(plan, model, trace)
    allocated, reserved = _replayed(plan, trace, loading)
    low, high = gpu(plan.gpu).context if plan.gpu else UNKNOWN_CONTEXT
    process = Interval(reserved.low + low, reserved.value + (low + high) // 2, reserved.high + high)
    return Memory("simulate", moments(trace), allocated, reserved, process)


def _check(plan: Plan) -> None:
    if plan.model.experts and plan.transformers_version < (5, 0):
        raise PlanError(
            "transformers deve ser '5.0' ou mais nova para simular uma mistura de especialistas: o código "
            "instalado guarda os especialistas num só parâmetro; estimate(plan) conhece os dois casos."
        )


def _replayed(plan: Plan, trace: Any, loading: Any) -> tuple[Interval, Interval]:
    """Peaks of allocated and reserved, over the orders in which the model may have been loaded."""
    from toolkit.vram.allocator import replay
    from toolkit.vram.loading import schedules

    card, steps = gpu(plan.gpu) if plan.gpu else None, trace.events[loading.size :]
    limit = card.memory - card.context[0] if card else None
    second = next(i for i, moment in trace.marks if moment == "second") - loading.size
    peaks: list[tuple[int, int]] = []
    for schedule in schedules(plan):
        events = loading.events(schedule)
        peaks.append(replay([*events, *steps], len(events) + second, limit))
    allocated, reserved = (Interval(min(p), median_low(p), max(p)) for p in zip(*peaks, strict=True))
    return allocated, reserved


def run(plan: Plan, model: Any, trace: Any, device: str = "cpu") -> Any:
    """Train two steps under `trace`; gives back how the model was loaded. CUDA's peaks are the second's."""
    from unittest.mock import patch  # brings asyncio along

    import torch
    from peft.tuners.lora import dora

    from toolkit.vram.fused import fused
    from toolkit.vram.live import dequantized, materialize
    from toolkit.vram.loading import Loading
    from toolkit.vram.step import optimizer_of, run_step

    materialize(model, device)
    optimizer = optimizer_of(model, plan)
    held: list[Any] = []
    by_dora = patch.object(dora, "dequantize_module_weight", dequantized)
    with trace, fused(plan, model), by_dora:
        loading = Loading(model, plan, trace)
        ids = torch.zeros(plan.batch, plan.seq_len, dtype=torch.long, device=device)
        trace.label([ids], "batch")
        run_step(model, optimizer, ids, plan, trace.mark, device, held)
        _states(optimizer, plan, trace)
        trace.mark("second")
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run_step(model, optimizer, ids, plan, trace.mark, device, held)
    return loading


def _states(optimizer: Any, plan: Plan, trace: Any) -> None:
    """Label the optimizer's states; large ones of a paged optimizer lie outside the card's allocator."""
    states = [t for state in optimizer.state.values() for t in state.values()]
    trace.label(states, "optimizer_states")
    if plan.optimizer.startswith("paged"):
        paged = [state[name] for state in optimizer.state.values() for name in ("state1", "state2")]
        for state in paged:  # scales are not
            if state.numel() >= SMALLEST_PAGED:
                trace.follow(state).size = 0
