"""The closed form: what a step needs, by part and by moment, without running anything."""

from __future__ import annotations

from functools import reduce

from toolkit.plan import Plan
from toolkit.vram import static
from toolkit.vram.attention import attention_kernel
from toolkit.vram.closed_form.formula import FIRST, LAST, Formula, formula
from toolkit.vram.closed_form.route import route_of
from toolkit.vram.closed_form.widths import sizes
from toolkit.vram.gpus import GPU, UNKNOWN_CONTEXT, gpu
from toolkit.vram.memory import Interval, Memory

TYPICAL = GPU("A100", 80 * 2**30, "8.0")  # whose workspaces stand for a card that the plan does not name
SPREAD = 0.02  # by hand: about the largest distance from published measurements (benchmarks/vram_accuracy.py)
# Reserved over allocated, middle and largest: by hand from the simulation on the tests' grid. Attention that
# keeps all scores takes and frees large blocks of several sizes, which fit badly into each other's places.
FRAGMENTS = {True: (1.15, 1.45), False: (1.08, 1.25)}
SEGMENTS = 4 * 20 * 2**20  # by hand too: segments of 20 MiB that are partly used


def estimate(plan: Plan) -> Memory:
    """Predict a training step's memory in bytes: instant, pure Python.

    The interval of `allocated` is the closed form's distance from what was measured, that of `reserved` adds
    what the allocator cannot reuse, that of `process` the card's CUDA context.
    """
    if plan.upcast == "all" and not plan.quantized:  # peft's preparation makes the whole model fp32
        plan = plan.change(dtype="fp32", upcast="none")
    moments = _moments(plan)
    peak = max(sum(parts.values()) for parts in moments.values())
    context = gpu(plan.gpu).context if plan.gpu else UNKNOWN_CONTEXT
    allocated = Interval(int(peak * (1 - SPREAD)), peak, int(peak * (1 + SPREAD)))
    middle, largest = FRAGMENTS[attention_kernel(plan) in ("eager", "math")]
    reserved = Interval(allocated.low, int(peak * middle), int(peak * largest) + SEGMENTS)
    process = Interval(
        reserved.low + context[0], reserved.value + sum(context) // 2, reserved.high + context[1]
    )
    return Memory("estimate", moments, allocated, reserved, process)


def _moments(plan: Plan) -> dict[str, dict[str, int]]:
    loaded = {
        "weights": static.weights(plan),
        "quant_constants": static.quant_constants(plan),
        "adapters": static.adapters(plan),
    }
    gradients = static.trainable_bytes(plan)
    running = {
        **loaded,
        "gradients": 0 if plan.set_to_none and plan.accumulation == 1 else gradients,
        "optimizer_states": static.optimizer_states(plan),
        "workspaces": 2 * (gpu(plan.gpu) if plan.gpu else TYPICAL).blas_workspace,
        "batch": 8 * plan.batch * plan.seq_len,
    }
    found = formula(route_of(plan))
    numbers = sizes(plan, found.keys)
    peaks = found.peaks(numbers, plan.model.layers)
    peaks["backward"] = max(peaks[FIRST], peaks[LAST])
    step = {
        **running,
        "gradients": gradients,
        "optimizer_temporaries": static.optimizer_temporaries(plan),
    }
    passes = {
        moment: _sum(running, found.parts(peaks[moment], numbers))
        for moment in ("forward", "loss", "backward")
    }
    return {"load": loaded, **passes, "step": _sum(step, _output(plan, found))}


def _output(plan: Plan, found: Formula) -> dict[str, int]:
    """What the model's output keeps alive while the optimizer steps: its logits, all layers' cache."""
    if plan.hold_output not in ("step", "next"):
        return {}
    parts = ("logits" if width == "logits" else "activations" for width, _ in found.held)
    output = zip(parts, sizes(plan, found.held), strict=True)
    return reduce(_sum, ({part: size} for part, size in output), {})


def _sum(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {part: first.get(part, 0) + second.get(part, 0) for part in {**first, **second}}
