"""What a fine-tune holds from step to step: weights, 4-bit constants, adapters, gradients, optimizer."""

from __future__ import annotations

from toolkit.count import adapter_parameters, base_parameters
from toolkit.methods import Full, QLoRA
from toolkit.plan import BYTES, Plan

BLOCK = 64  # weights that share one scale (bitsandbytes/functional.py, quantize_4bit)
NESTED_BLOCK = 256  # scales that share one second-level scale (double quantization)
CODEBOOKS = 16 * 4, 256 * 4  # bytes of the 4-bit and of the 8-bit codebook, fp32
STATE_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 0, "paged_adamw_32bit": 0, "sgd": 0, "adafactor": 0}
EIGHT_BIT_BLOCK = 256  # bitsandbytes/optim/optimizer.py: states share a scale a 256 values, two scales
SMALLEST_8BIT = 4096  # tensors below keep 32-bit states
SMALLEST_PAGED = 100_000  # tensors below are not paged


def quantized_weights(plan: Plan) -> int:
    """Weights that 4-bit loading packs: the layers' linear modules, a mixture's experts among them before
    transformers 5 made them one parameter, which bitsandbytes leaves as it is."""
    experts = plan.model.expert_weights if plan.transformers_version < (5, 0) else 0
    return sum(linear.weights for linear in plan.model.linears()) + experts


def weights(plan: Plan) -> int:
    """Bytes of the base weights: 4-bit ones two a byte, the rest in `dtype` or, where upcast, in fp32."""
    sizes = base_parameters(plan.model)
    packed = quantized_weights(plan) if plan.quantized else 0
    rest = sum(sizes.values()) - packed
    width = BYTES[plan.dtype]
    upcast = {"none": 0, "norms": sizes["norms"], "all": rest}[plan.upcast if width < 4 else "none"]
    return packed // 2 + rest * width + upcast * (4 - width)


def quant_constants(plan: Plan) -> int:
    """Bytes of the blocks' scales: 4 each, or 1 each and 4 a 256 of them with double quantization."""
    if not isinstance(plan.method, QLoRA):
        return 0
    blocks = quantized_weights(plan) // BLOCK
    modules = sum(linear.count for linear in plan.model.linears())
    if plan.method.double_quant:
        return blocks + blocks // NESTED_BLOCK * 4 + modules * sum(CODEBOOKS)
    return blocks * 4 + modules * CODEBOOKS[0]


def trainable_bytes(plan: Plan) -> int:
    """Bytes of what is trained (and of its gradient)."""
    if isinstance(plan.method, Full):
        return sum(base_parameters(plan.model).values()) * BYTES[plan.dtype]
    return adapters(plan)


def last_gradients(plan: Plan, part: str = "") -> int:
    """Bytes of the gradients that come last in full fine-tuning: the first layer's, or one part's of it, and
    the embedding's."""
    if not isinstance(plan.method, Full):
        return 0
    model = plan.model
    layer = sum(x.inputs * x.outputs for x in model.linears() if not part or x.part == part)
    layer += 0 if part == "attention" else model.expert_weights // model.layers
    return (layer + (0 if model.tied else model.vocab * model.hidden)) * BYTES[plan.dtype]


def adapters(plan: Plan) -> int:
    """Bytes of the method's own parameters."""
    return adapter_parameters(plan.model, plan.method) * BYTES[plan.adapter_dtype]


def optimizer_states(plan: Plan) -> int:
    """Bytes of the optimizer's states on the card, in the dtype of what they belong to (torch/optim)."""
    size = trainable_bytes(plan)
    if plan.optimizer == "sgd_momentum":
        return size
    if plan.optimizer in STATE_BYTES:
        width = BYTES[plan.dtype if isinstance(plan.method, Full) else plan.adapter_dtype]
        return size // width * STATE_BYTES[plan.optimizer]
    return 2 * size


def optimizer_temporaries(plan: Plan) -> int:
    """Bytes that the step itself needs: AdamW's foreach kernel makes one more copy of what is trained,
    loops two or three of the largest tensor (torch/optim/adam.py, _adafactor.py); the rest work in place."""
    copies = {"adamw_loop": 2, "adafactor": 3}.get(plan.optimizer, 0)
    if copies and isinstance(plan.method, Full):
        model = plan.model
        matrices = [linear.inputs * linear.outputs for linear in model.linears()]
        return copies * BYTES[plan.dtype] * max(model.vocab * model.hidden, *matrices, 0)
    return trainable_bytes(plan) if plan.optimizer == "adamw" else 0
