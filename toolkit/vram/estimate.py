"""The closed form: what a step needs, by part and by moment, without running anything."""

from __future__ import annotations

from toolkit.plan import BYTES, Plan
from toolkit.vram import static
from toolkit.vram.memory import Interval, Memory

WORKSPACES = 2 * 8_519_680  # cuBLAS, one for the forward's thread and one for autograd's


def estimate(plan: Plan) -> Memory:
    """Predict a training step's memory in bytes: instant, pure Python."""
    held = {
        "weights": static.weights(plan),
        "quant_constants": static.quant_constants(plan),
        "adapters": static.adapters(plan),
    }
    gradients = static.trainable_bytes(plan)
    running = {
        **held,
        "optimizer_states": static.optimizer_states(plan),
        "workspaces": WORKSPACES,
        "batch": 24 * plan.batch * plan.seq_len,
        "gradients": 0 if plan.set_to_none and plan.accumulation == 1 else gradients,
    }
    kept, hump = _kept(plan), _layer(plan)
    logits = _logits(plan)
    moments = {
        "load": held,
        "forward": {**running, "activations": kept, "recompute": hump},
        "loss": {**running, "activations": kept, "logits": logits},
        "backward": {**running, "gradients": gradients, "activations": kept, "recompute": hump},
        "step": {
            **running,
            "gradients": gradients,
            "optimizer_temporaries": static.optimizer_temporaries(plan),
        },
    }
    peak = max(sum(parts.values()) for parts in moments.values())
    reserved = Interval(peak, int(peak * 1.04), int(peak * 1.12))
    context = (105 * 2**20, 711 * 2**20)
    process = Interval(
        *(r + c for r, c in zip(reserved, (context[0], sum(context) // 2, context[1]), strict=True))
    )
    return Memory("estimate", moments, Interval(int(peak * 0.96), peak, int(peak * 1.04)), reserved, process)


def _layer(plan: Plan) -> int:
    model, tokens = plan.model, plan.batch * (plan.seq_len + plan.virtual_tokens)
    width = 2 if plan.autocast else BYTES[plan.dtype]
    elements = 6 * model.hidden + 4 * model.q_width + 2 * model.kv_width + 4 * model.intermediate
    size = tokens * (width * elements + 8 * model.hidden)
    if plan.attention == "eager":
        size += plan.batch * model.heads * plan.seq_len**2 * (width + 4)
    return size


def _kept(plan: Plan) -> int:
    model, tokens = plan.model, plan.batch * (plan.seq_len + plan.virtual_tokens)
    if plan.checkpoints_memory:
        width = 4 if plan.upcast != "none" else BYTES[plan.dtype]
        return (model.layers + 1) * tokens * model.hidden * width
    return model.layers * _layer(plan)


def _logits(plan: Plan) -> int:
    logits = plan.batch * (plan.seq_len + plan.virtual_tokens) * plan.model.vocab
    each = {"fp32": 14, "no_upcast": 8, "chunked": 0, "fused": 0}[plan.loss]
    return logits * (16 if plan.upcast == "all" and each == 14 else each)
