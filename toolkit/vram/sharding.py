"""A fine-tune spread over several cards: what ZeRO and FSDP leave on each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from toolkit.count import base_parameters, count
from toolkit.methods import Full, is_size, not_a_size
from toolkit.plan import BYTES, Plan, PlanError
from toolkit.vram import static
from toolkit.vram.closed_form.formula import FIRST, LAST, formula
from toolkit.vram.closed_form.route import route_of
from toolkit.vram.closed_form.widths import sizes as bytes_of
from toolkit.vram.estimate import estimate
from toolkit.vram.memory import MOMENTS, Interval, Memory

Strategy = Literal["zero1", "zero2", "zero3", "fsdp"]
WEIGHTS = ("weights", "quant_constants", "adapters")
SUB_GROUP = 10**9  # parameters that a step of ZeRO-3 takes at a time
Shares = dict[str, dict[str, int]]  # moment -> part -> bytes on each card


def shard(plan: Plan, gpus: int, strategy: Strategy) -> Memory:
    """Predict the memory of each of `gpus` cards, bytes, when each runs `plan.batch` sequences.

    zero1, zero2, zero3: DeepSpeed's 16-bit engine, whose optimizer works on fp32 copies. Per trained
    parameter, 2 bytes of weight and 2 of gradient, and 16 that are always shared out: fp32 weight, two Adam
    states, fp32 gradient (`estimate_zero2_model_states_mem_needs`, runtime/zero/stage_1_and_2.py). Stage 3
    makes the fp32 gradient for 1e9 parameters at a time (stage3.py, sub_group_size), and holds the largest
    module whole, weight and gradient. Buckets: hidden^2 elements (transformers, integrations/deepspeed.py).
    fsdp: each layer a unit and the rest another, in the plan's own dtypes (fp32 weights with autocast are
    gathered in 16 bits); the constants of 4-bit weights are no parameters, and stay whole on each card.
    NCCL's buffers, outside PyTorch's allocator, are not counted. Raises PlanError for an unknown strategy.
    """
    if strategy not in get_args(Strategy):
        names = ", ".join(map(repr, get_args(Strategy)))
        raise PlanError(f"strategy deve ser um de {names}; recebi {strategy!r}.")
    if not is_size(gpus):
        raise PlanError(not_a_size("gpus", gpus))
    single = estimate(plan)
    cast = plan.change(dtype="bf16", autocast=False) if _casts(plan) else plan
    fsdp = strategy == "fsdp"
    shares = _fsdp(plan, gpus, single, cast) if fsdp else _zero(plan, gpus, int(strategy[-1]), single)
    passes = estimate(cast).moments
    return _with(single, {moment: {**passes[moment], **shares[moment]} for moment in MOMENTS})


def _casts(plan: Plan) -> bool:
    """Whether fp32 weights are computed with in 16 bits: a shard is cast as it is gathered, not kept."""
    return plan.autocast and plan.dtype == "fp32" and not plan.quantized


def _zero(plan: Plan, gpus: int, stage: int, single: Memory) -> Shares:
    trained = count(plan).trainable
    weights = _held(single, gpus if stage == 3 else 1)
    if not isinstance(plan.method, Full):  # the engine casts fp32 adapters to 16 bits
        weights["adapters"] = 2 * trained // (gpus if stage == 3 else 1)
    fp32 = plan.change(dtype="fp32", adapter_dtype="fp32", attention="sdpa")
    held = {**weights, "optimizer_states": (4 * trained + static.optimizer_states(fp32)) // gpus}
    gradients = 2 * trained // (gpus if stage > 1 else 1)
    bucket = 2 * plan.model.hidden**2
    stepping = min(trained // gpus, SUB_GROUP) if stage == 3 else trained // gpus
    gathered = 4 * _largest_module(plan) if stage == 3 else 0
    workspaces = single.moments["forward"]["workspaces"] + gathered + bucket
    running = {**held, "workspaces": workspaces, "gradients": gradients if _accumulates(single) else 0}
    return {
        "load": weights,
        "forward": running,
        "loss": running,
        "backward": {**running, "gradients": gradients},
        "step": {**held, "gradients": gradients, "optimizer_temporaries": 4 * stepping},
    }


def _fsdp(plan: Plan, gpus: int, single: Memory, cast: Plan) -> Shares:
    sizes = base_parameters(plan.model)
    width = BYTES[plan.compute_dtype if plan.autocast else plan.dtype]
    linear = sizes["attention"] + sizes["mlp"] + sizes["norms"]
    layer = (static.quantized_weights(plan) // 2 if plan.quantized else linear * width) // plan.model.layers
    root = (sum(sizes.values()) - linear) * width  # whole from the first forward to the last backward
    gradient = static.trainable_bytes(plan)
    states = {part: single.moments["step"].get(part, 0) // gpus for part in STATES}
    load = {**_held(single, gpus), "quant_constants": single.moments["load"]["quant_constants"]}
    held = {**load, "optimizer_states": states["optimizer_states"]}
    running = {**held, "gradients": gradient // gpus if _accumulates(single) else 0}
    whole = single.moments["forward"]["workspaces"] + root
    found = formula(route_of(cast))
    numbers = bytes_of(cast, found.keys)
    peaks = found.peaks(numbers, plan.model.layers)
    first, last = (found.parts(peaks[end], numbers) for end in (LAST, FIRST))  # as the backward comes to them
    reentrant = plan.checkpoints_memory and plan.reentrant  # where a layer does not know of the next one
    if reentrant and not isinstance(plan.method, Full):
        [stream] = bytes_of(cast, [found.stream])
        last = {**first, "activations": first["activations"] + _inputs_gradients(plan, stream)}
    one = static.trainable_bytes(cast) // plan.model.layers  # before it is shared out
    first |= {"gradients": running["gradients"] + one, "workspaces": whole + (1 if reentrant else 2) * layer}
    last |= {"gradients": gradient // gpus + one, "workspaces": whole + layer}
    ends = ({**held, **end} for end in (first, last))
    return {
        "load": load,
        "forward": {**running, "workspaces": whole + 2 * layer},  # this layer's weights and the next one's
        "loss": {**running, "workspaces": whole},
        "backward": max(ends, key=lambda parts: sum(parts.values())),
        "step": {**held, "gradients": gradient // gpus, **states},
    }


def _inputs_gradients(plan: Plan, stream: int) -> int:
    """Bytes of the gradients of checkpointed layers' inputs, of `stream` bytes each. Where a layer's weights
    are frozen, FSDP finds its end by a hook on its input, which keeps the input and its gradient alive until
    the backward is over (torch/distributed/fsdp/_runtime_utils.py,
    _register_post_backward_reshard_only_hook). Two of them the last layer's backward has anyhow."""
    return max(plan.model.layers - 2, 0) * stream


STATES = ("optimizer_states", "optimizer_temporaries")


def _held(single: Memory, gpus: int) -> dict[str, int]:
    return {part: single.moments["load"].get(part, 0) // gpus for part in WEIGHTS}


def _accumulates(single: Memory) -> bool:
    return single.moments["forward"].get("gradients", 0) > 0


def _largest_module(plan: Plan) -> int:
    model = plan.model
    linears = [linear.inputs * linear.outputs for linear in model.linears()]
    return max(model.vocab * (model.embedding or model.hidden), *linears)


def _with(single: Memory, moments: Mapping[str, Mapping[str, int]]) -> Memory:
    """The same margins on other moments: reserved in proportion, the CUDA context unchanged."""
    ratio = max(sum(parts.values()) for parts in moments.values()) / single.total(single.peak_moment)
    allocated = Interval(*(round(ratio * bytes_) for bytes_ in single.allocated))
    reserved = Interval(*(round(ratio * bytes_) for bytes_ in single.reserved))
    context = (p - r for p, r in zip(single.process, single.reserved, strict=True))
    process = Interval(*(r + c for r, c in zip(reserved, context, strict=True)))
    return Memory("estimate", moments, allocated, reserved, process)
