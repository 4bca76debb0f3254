"""Two optimizer steps of the plan's real code on fake tensors: no weights, no GPU, every storage followed."""

from __future__ import annotations

from typing import Any

from toolkit.methods import Full
from toolkit.plan import Plan
from toolkit.vram.memory import Interval, Memory


def simulate(plan: Plan) -> Memory:
    """Trace the plan's training step. Needs torch, transformers and peft; takes seconds, whatever the size."""
    from torch._subclasses import FakeTensorMode

    from toolkit.vram.kernels import cuda_kernels, temporaries
    from toolkit.vram.trace import Trace, moments

    trace = Trace(temporaries(plan))
    with FakeTensorMode(), cuda_kernels(plan):
        run(plan, trace)
    found = moments(trace)
    peak = max(sum(parts.values()) for parts in found.values())
    return Memory("simulate", found, Interval(peak, peak, peak), Interval(peak, peak, peak), Interval(peak, peak, peak))


def run(plan: Plan, trace: Any, device: str = "cpu", workspace: int = 8_519_680) -> None:
    """Train two steps under `trace`."""
    import torch

    from toolkit.vram.live import build
    from toolkit.vram.step import optimizer_of, run_step

    model = build(plan, device)
    optimizer = optimizer_of(model, plan)
    held: list[Any] = []
    with trace, trace.hold(2 * workspace, "workspaces"):
        _label(model, plan, trace)
        ids = torch.zeros(plan.batch, plan.seq_len, dtype=torch.long, device=device)
        trace.label([ids], "batch")
        run_step(model, optimizer, ids, plan, trace.mark, device, held)
        trace.label([t for state in optimizer.state.values() for t in state.values()], "optimizer_states")
        trace.mark("second")
        run_step(model, optimizer, ids, plan, trace.mark, device, held)


def _label(model: Any, plan: Plan, trace: Any) -> None:
    adapters = not isinstance(plan.method, Full)
    for parameter in model.parameters():
        trained = parameter.requires_grad
        trace.label([parameter], "adapters" if trained and adapters else "weights")
        if trained:
            parameter.register_post_accumulate_grad_hook(lambda p: trace.label([p.grad], "gradients"))
    trace.label(model.buffers(), "weights")
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            nested = [state.state2.absmax, state.state2.code, state.offset] if state.nested else []
            trace.label([state.absmax, state.code, *nested], "quant_constants")
