"""The closed form: what a step needs, by part and by moment, without running anything."""

from __future__ import annotations

from toolkit.plan import Plan
from toolkit.vram import static
from toolkit.vram.activations import Activations, attention_kernel
from toolkit.vram.gpus import GPU, UNKNOWN_CONTEXT, gpu
from toolkit.vram.memory import Interval, Memory

TYPICAL = GPU("A100", 80 * 2**30, "8.0")  # whose workspaces stand for a card that the plan does not name
SPREAD = (
    0.04  # chosen by hand: about the closed form's largest distance from the simulation on the tests' grid
)
# Reserved over allocated, middle and largest: chosen by hand from the simulation on that grid. Attention that
# keeps all scores takes and frees large blocks of several sizes, which fit badly into each other's places.
FRAGMENTS = {True: (1.15, 1.45), False: (1.08, 1.25)}
SEGMENTS = 4 * 20 * 2**20  # by hand too: segments of 20 MiB that are partly used


def estimate(plan: Plan) -> Memory:
    """Predict a training step's memory in bytes: instant, pure Python.

    The interval of `allocated` is the closed form's distance from the simulation, that of `reserved` adds
    what the allocator cannot reuse, that of `process` the card's CUDA context.
    """
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
    held = {
        "weights": static.weights(plan),
        "quant_constants": static.quant_constants(plan),
        "adapters": static.adapters(plan),
    }
    gradients = static.trainable_bytes(plan)
    running = {
        **held,
        "gradients": 0 if plan.set_to_none and plan.accumulation == 1 else gradients,
        "optimizer_states": static.optimizer_states(plan),
        "workspaces": 2 * (gpu(plan.gpu) if plan.gpu else TYPICAL).blas_workspace,
        "batch": 8 * plan.batch * plan.seq_len,
    }
    step = {
        **running,
        "gradients": gradients,
        "optimizer_temporaries": static.optimizer_temporaries(plan),
    }
    return {"load": held, **_passes(plan, running, gradients), "step": {**step, **_held(plan)}}


def _held(plan: Plan) -> dict[str, int]:
    """What the model's output keeps alive while the optimizer steps."""
    if plan.hold_output not in ("step", "next"):
        return {}
    active = Activations(plan)
    return {"activations": active.cache, "logits": active.held}


def _passes(plan: Plan, running: dict[str, int], gradients: int) -> dict[str, dict[str, int]]:
    """The forward, the loss, and the backward: at its first layer or its last, whichever is larger."""
    active = Activations(plan)
    in_forward, in_backward, _ = active.casts
    kept = active.kept + in_forward
    before = (
        active.held + active.cache if plan.hold_output == "next" else 0
    )  # the last output still has its name
    working = max(active.layer_working) if plan.checkpoints_memory else 0
    first, end = backward_ends(plan)
    there = gradients - (static.last_gradients(plan) if plan.checkpoints_memory else 0)
    return {
        "forward": {**running, "activations": kept, "recompute": working, "logits": before},
        "loss": _larger(
            {**running, "activations": kept, "logits": before + active.forward_logits},
            {**running, "activations": active.kept + in_backward, "logits": active.loss},
        ),
        "backward": _larger({**running, **first}, {**running, "gradients": there, **end}),
    }


def backward_ends(plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """What activations take as the backward is in the layers: in the one that it comes to first, with all
    that the others keep, and in its last, when its own activations are all that is left."""
    active = Activations(plan)
    _, in_backward, in_layer = active.casts
    mlp, attention = active.layer_working
    layer = active.recomputed + in_layer if plan.checkpoints_memory else 0
    hump = max(layer + mlp, layer - active.mlp_kept + attention if layer else attention)
    kept = active.kept + in_backward - active.norm(plan.model.hidden)
    last = active.attention_kept if not plan.checkpoints_memory else hump
    return (
        {"activations": kept, "recompute": hump, "logits": active.held},
        {"activations": 0, "recompute": max(last, attention), "logits": active.held},
    )


def _larger(*parts: dict[str, int]) -> dict[str, int]:
    return max(parts, key=lambda those: sum(those.values()))
