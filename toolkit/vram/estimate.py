"""The closed form: what a step needs, by part and by moment, without running anything."""

from __future__ import annotations

from toolkit.plan import BYTES, Plan
from toolkit.vram import static
from toolkit.vram.activations import Activations
from toolkit.vram.attention import attention_kernel
from toolkit.vram.gpus import GPU, UNKNOWN_CONTEXT, gpu
from toolkit.vram.logits import Logits
from toolkit.vram.memory import Interval, Memory
from toolkit.vram.working import Working

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
    return {"activations": active.cache, "logits": Logits(active).held}


def _passes(plan: Plan, running: dict[str, int], gradients: int) -> dict[str, dict[str, int]]:
    """The forward, the loss, and the backward at the largest of its ends."""
    active = Activations(plan)
    logits, working = Logits(active), Working(active)
    in_forward, in_backward, _ = active.casts
    kept = active.kept + in_forward
    # the last output still has its name
    before = logits.held + active.cache if plan.hold_output == "next" else 0
    ends = backward_ends(active, running.get("gradients", 0), gradients)
    return {
        "forward": {**running, "activations": kept, "recompute": working.forward, "logits": before},
        "loss": _larger(
            {**running, "activations": kept, "logits": before + logits.forward},
            {**running, "activations": active.kept + in_backward, "logits": logits.loss},
        ),
        "backward": _larger(*({**running, **end} for end in ends)),
    }


def backward_ends(active: Activations, before: int, gradients: int) -> tuple[dict[str, int], ...]:
    """What activations and gradients take as the backward comes to its first layer, with all that the others
    keep, as it comes to its last, when that one's are all that is left, and in the embedding, when trained.

    `before` are the gradients that are there as it begins, `gradients` those as it ends.
    """
    plan, held = active.plan, Logits(active).held
    _, in_backward, in_layer = active.casts
    layer, model = active.attention_kept + active.mlp_kept, plan.model
    working = Working(active)
    hump = working.backward
    if plan.checkpoints_memory:
        hump = max(hump, working.recomputed)
    kept = active.kept + in_backward - active.norm(model.hidden)
    scores = active.kernel in ("eager", "math")  # where attention is the largest, after the MLP's gradients
    embedding = model.vocab * model.hidden * BYTES[plan.dtype] if active.full else 0
    first = hump + in_layer - active.shared if plan.checkpoints_memory else hump - layer
    return (
        {"gradients": before + embedding, "activations": kept, "recompute": first, "logits": held},
        {
            "gradients": gradients - static.last_gradients(plan, "attention" if scores else ""),
            "activations": 0,
            "recompute": hump + in_layer,
            "logits": held,
        },
        {
            "gradients": gradients + (embedding if model.tied else 0),
            "activations": 0,
            "recompute": active.tokens * model.hidden * active.stream,
            "logits": held,
        },
    )


def _larger(*parts: dict[str, int]) -> dict[str, int]:
    return max(parts, key=lambda those: sum(those.values()))
