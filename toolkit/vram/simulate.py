"""Two optimizer steps of the plan's real code on fake tensors: no weights, no GPU, every storage followed."""

from __future__ import annotations

import contextlib
from typing import Any

from toolkit.methods import Full
from toolkit.plan import BYTES, Plan
from toolkit.vram.gpus import GPU, UNKNOWN_CONTEXT, gpu
from toolkit.vram.memory import Interval, Memory
from toolkit.vram.static import SMALLEST_PAGED

A100 = GPU("A100", 80 * 2**30, "8.0")  # whose workspaces stand for a card that the plan does not name


def simulate(plan: Plan) -> Memory:
    """Trace the plan's training step. Needs torch, transformers and peft; takes seconds, whatever the size.

    `allocated` is the peak of the live tensors as PyTorch's allocator counts them, `reserved` what that
    allocator took from the card, both from a replay of the trace.
    """
    from torch._subclasses import FakeTensorMode

    from toolkit.vram.allocator import replay
    from toolkit.vram.kernels import cuda_kernels, temporaries
    from toolkit.vram.live import build
    from toolkit.vram.trace import Trace, moments

    workspace = (gpu(plan.gpu) if plan.gpu else A100).blas_workspace
    trace, model = Trace(temporaries, workspace), build(plan)
    with FakeTensorMode(), cuda_kernels(plan):
        run(plan, model, trace)
    allocated, reserved = replay(trace.events, next(i for i, moment in trace.marks if moment == "second"))
    low, high = gpu(plan.gpu).context if plan.gpu else UNKNOWN_CONTEXT
    return Memory(
        "simulate",
        moments(trace),
        Interval(allocated, allocated, allocated),
        Interval(allocated, reserved, reserved),
        Interval(reserved + low, reserved + (low + high) // 2, reserved + high),
    )


def run(plan: Plan, model: Any, trace: Any, device: str = "cpu") -> None:
    """Train two steps under `trace`."""
    import torch

    from toolkit.vram.live import materialize
    from toolkit.vram.step import optimizer_of, run_step

    materialize(model, device)
    optimizer = optimizer_of(model, plan)
    held: list[Any] = []
    with trace:
        _load(model, plan, trace)
        ids = torch.zeros(plan.batch, plan.seq_len, dtype=torch.long, device=device)
        trace.label([ids], "batch")
        run_step(model, optimizer, ids, plan, trace.mark, device, held)
        _states(optimizer, plan, trace)
        trace.mark("second")
        run_step(model, optimizer, ids, plan, trace.mark, device, held)


def _states(optimizer: Any, plan: Plan, trace: Any) -> None:
    """Label the optimizer's states; large ones of a paged optimizer lie outside the card's allocator."""
    states = [t for state in optimizer.state.values() for t in state.values()]
    trace.label(states, "optimizer_states")
    if plan.optimizer.startswith("paged"):
        for state in states:
            if hasattr(state, "numel") and state.numel() >= SMALLEST_PAGED:
                trace.follow(state).size = 0


def _load(model: Any, plan: Plan, trace: Any) -> None:
    """Let the model's tensors be born as loading does it: 4-bit ones after the weights that they come from,
    then fp32 copies of what is upcast, then what is trained."""
    parameters = [parameter for _, parameter in model.named_parameters()]
    upcast = [p for p in parameters if _upcast(p, plan)]
    if plan.quantized and plan.transformers_version >= (4, 50):
        with trace.hold(sum(_loaded_bytes(p, plan) for p in parameters), "weights"):
            pass  # transformers' caching_allocator_warmup takes the model's size at once, and lets it go
    originals = []
    for parameter in parameters:
        if _upcast(parameter, plan):
            originals.append(trace.hold(parameter.numel() * BYTES[plan.dtype], "weights"))
        elif not parameter.requires_grad or isinstance(plan.method, Full):
            _born(parameter, trace)
    trace.label(model.buffers(), "weights")
    for parameter, original in zip(upcast, originals, strict=True):
        with original:
            trace.label([parameter], "weights")
    for parameter in parameters:
        if parameter.requires_grad:
            trace.label([parameter], "weights" if isinstance(plan.method, Full) else "adapters")
            parameter.register_post_accumulate_grad_hook(lambda p: trace.label([p.grad], "gradients"))


def _loaded_bytes(parameter: Any, plan: Plan) -> int:
    """What a parameter of the checkpoint takes when it is loaded, packed but without its constants."""
    if parameter.requires_grad:
        return 0
    size = parameter.element_size() if hasattr(parameter, "quant_state") else BYTES[plan.dtype]
    return int(parameter.numel() * size)


def _upcast(parameter: Any, plan: Plan) -> bool:
    return not parameter.requires_grad and parameter.element_size() == 4 > BYTES[plan.dtype]


def _born(parameter: Any, trace: Any) -> None:
    from toolkit.vram.live import constants

    state = getattr(parameter, "quant_state", None)
    with trace.hold(state.shape.numel() * 2, "recompute") if state else contextlib.nullcontext():
        trace.label([parameter], "weights")
        if state:
            trace.label([getattr(owner, name) for owner, name in constants(state)], "quant_constants")
