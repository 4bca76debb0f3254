"""What a fine-tune holds from step to step: weights, 4-bit constants, adapters, gradients, optimizer."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod

from toolkit.count import adapter_ends, adapter_parameters, adapts_experts, base_parameters, targeted
from toolkit.methods import IA3, Adapter, Full, LoRA, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import BYTES, Plan

BLOCK = 64  # weights that share one scale (bitsandbytes/functional.py, quantize_4bit)
NESTED_BLOCK = 256  # scales that share one second-level scale (double quantization)
CODEBOOKS = 16 * 4, 256 * 4  # bytes of the 4-bit and of the 8-bit codebook, fp32
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
    buffer = plan.model.max_positions**2 if plan.model.traits.mask_buffer else 0
    return packed // 2 + rest * width + upcast * (4 - width) + buffer


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
    """Bytes of the optimizer's states on the card (torch/optim, bitsandbytes/optim/optimizer.py)."""
    size, optimizer = trainable_bytes(plan), plan.optimizer
    if optimizer == "sgd":
        return 0
    if optimizer == "sgd_momentum":
        return size
    if optimizer == "adafactor":
        return trained_width(plan) * sum(sum(shape) * times for shape, times in trained_tensors(plan))
    if optimizer in ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"):
        return sum(
            times * _bitsandbytes_states(prod(shape), optimizer) for shape, times in trained_tensors(plan)
        )
    return 2 * size


def _bitsandbytes_states(number: int, optimizer: str) -> int:
    """Two states of a tensor: fp32 where it is small, else a byte with a scale a block; what is paged, scales
    apart, does not lie on the card."""
    eight_bits = optimizer != "paged_adamw_32bit" and number >= SMALLEST_8BIT
    paged = optimizer.startswith("paged") and number >= SMALLEST_PAGED
    width = 0 if paged else 1 if eight_bits else 4
    return 2 * number * width + (2 * 4 * -(-number // EIGHT_BIT_BLOCK) if eight_bits else 0)


def trained_width(plan: Plan) -> int:
    """Bytes an element of what is trained."""
    return BYTES[plan.dtype if isinstance(plan.method, Full) else plan.adapter_dtype]


@lru_cache(maxsize=256)
def _trained_tensors(model: Architecture, method: Method) -> tuple[tuple[tuple[int, ...], int], ...]:
    if isinstance(method, Full):
        embedding = (model.vocab, model.embedding or model.hidden)
        experts = (
            (model.experts * 2 * model.intermediate, model.hidden),
            (model.experts * model.hidden, model.intermediate),
        )
        layer = [((linear.outputs, linear.inputs), linear.bias) for linear in model.linears()]
        shapes = [part for shape, bias in layer for part in ([shape, shape[:1]] if bias else [shape])]
        shapes += [*(experts if model.experts else ()), *[(model.hidden,)] * model.traits.block_norms]
        learned = model.traits.positions == "learned"
        places = [((model.max_positions + model.traits.position_offset, model.hidden), 1)] if learned else []
        heads = [] if model.tied else [(embedding, 1)]
        return ((embedding, 1), *places, *((shape, model.layers) for shape in shapes), *heads)
    if isinstance(method, LoRA):
        pairs = [(method.rank, x.inputs, x.outputs) for x in targeted(model, method.targets)]
        if adapts_experts(model, method):  # the gate and what goes up are one matrix, of twice the rank
            rank = method.rank * model.experts
            pairs += [(method.rank, model.hidden, model.experts)]
            pairs += [
                (2 * rank, model.hidden, 2 * model.intermediate),
                (rank, model.intermediate, model.hidden),
            ]
        return tuple(
            (shape, 1 if outputs == model.vocab else model.layers)
            for rank, inputs, outputs in pairs
            for shape in ((rank, inputs), (outputs, rank))
        )
    if isinstance(method, Adapter):
        wide, narrow, ends = model.hidden, method.bottleneck, adapter_ends(model) * model.layers
        return tuple((shape, ends) for shape in ((narrow, wide), (narrow,), (wide, narrow), (wide,)))
    if isinstance(method, IA3):
        return tuple(((linear.outputs,), linear.count) for linear in targeted(model, method.targets))
    rows = max(1, getattr(method, "num_virtual_tokens", 1))
    return (((rows, adapter_parameters(model, method) // rows), 1),)


def trained_tensors(plan: Plan) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Shapes of what is trained, in the model's order, and how many of each (heads' norms apart)."""
    return _trained_tensors(plan.model, plan.method)


def optimizer_temporaries(plan: Plan) -> int:
    """Bytes that the step itself needs: AdamW's foreach kernel makes one more copy of what is trained.

    Loops go tensor by tensor, and a variable keeps the last one's copy until the next one's is there: a
    square root and its quotient (torch/optim/adam.py), or one update (_adafactor.py). The rest work in place.
    """
    if plan.optimizer == "adamw":
        return trainable_bytes(plan)
    copies = {"adamw_loop": 2, "adafactor": 1}.get(plan.optimizer, 0)
    sizes = [prod(shape) for shape, _ in trained_tensors(plan)]
    largest = max((copies * size + last for last, size in pairwise([0, *sizes])), default=0)
    return largest * trained_width(plan) if copies else 0
