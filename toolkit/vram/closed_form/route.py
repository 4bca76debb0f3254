"""All of a plan but its numbers: what decides which operators run, and so what is kept and what is freed."""

from __future__ import annotations

from typing import NamedTuple

from toolkit.count import adapts_experts, targeted
from toolkit.families import FAMILIES, Family
from toolkit.methods import IA3, LoRA, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram.attention import attention_kernel, lacks_grouped_products, masked, repeats_keys


class Route(NamedTuple):
    """What a step's operators depend on; plans that share it differ in sizes only."""

    family: str
    layers: int  # 1 or 2: more are like the second
    grouped: bool
    projected: bool
    tied: bool
    experts: bool
    shared_expert: bool
    method: str
    targets: tuple[str, ...]
    feedforward: tuple[str, ...]
    biased: tuple[str, ...]
    dropout: bool
    dora: bool
    lora_experts: bool
    loops_experts: bool
    quantized: bool
    nested: bool
    keeps_inputs: bool
    dtype: str
    compute: str
    autocast: str
    adapter: str
    upcast: str
    checkpointing: bool
    reentrant: bool
    flash_package: bool
    kernel: str
    repeats: bool
    masked: bool
    loss: str
    kernels: str
    cached: bool
    held: str
    accumulates: bool
    era: int
    several: bool  # sequences
    padded: bool
    several_chunks: bool

    @property
    def traits(self) -> Family:
        """What the family's layers are made of."""
        return FAMILIES[self.family]

    @property
    def full(self) -> bool:
        """Whether the base weights are trained."""
        return self.method == "Full"

    @property
    def inputs_require_grad(self) -> bool:
        """Whether embeddings are made leaves, so that gradients reach all of a checkpointed model: by
        transformers 5 itself (modeling_utils.py), by peft and trl before."""
        return self.checkpointing and not self.full

    def fuses(self, name: str) -> bool:
        """Whether Unsloth's kernel computes this module and its LoRA: all of a block must be adapted."""
        if self.kernels != "lora" or self.method != "LoRA":
            return False
        traits = self.traits
        blocks = (traits.qkv, (traits.out,), (*traits.mlp_in, traits.mlp_out))
        return any(name in block and set(block) <= set(self.targets) for block in blocks)

    @property
    def norms(self) -> str:
        """The dtype of the norms' weights."""
        return "fp32" if self.upcast != "none" else self.dtype

    @property
    def rest(self) -> str:
        """The dtype of what is neither a norm nor a 4-bit matrix."""
        return "fp32" if self.upcast == "all" else self.dtype


# Versions of transformers, and what each began with: the loss makes logits fp32, not the model; the labels
# move, not the logits; a mixture's experts are one parameter.
ERAS = (4, 46), (4, 50), (5, 0)
UPCAST_IN_LOSS, MOVES_LABELS, ONE_PARAMETER = 1, 2, 3
EXPERTS = 8  # modules that are written down one by one: as many as Mixtral has; groups, where there are more
CHUNK = 256  # tokens whose logits exist at a time with the chunked loss (trl's chunked_nll)


def route_of(plan: Plan) -> Route:
    """The route of a plan."""
    model, method = plan.model, plan.method
    checkpointing = plan.checkpoints_memory
    adapted = _adapted(model, method.targets) if isinstance(method, (LoRA, IA3)) else ()
    lora = isinstance(method, LoRA)
    version = plan.transformers_version
    return Route(
        model.family,
        min(model.layers, 2),
        model.kv_heads < model.heads,
        bool(model.embedding) and model.embedding != model.hidden,
        model.tied,
        bool(model.experts),
        bool(model.shared_intermediate),
        "LoRA" if lora else type(method).__name__,
        adapted,
        _adapted(model, method.feedforward) if isinstance(method, IA3) else (),
        tuple(linear.name for linear in model.linears() if linear.bias) if lora and method.use_dora else (),  # type: ignore[union-attr]
        lora and method.dropout > 0,  # type: ignore[union-attr]
        lora and method.use_dora,  # type: ignore[union-attr]
        adapts_experts(model, method),
        bool(model.experts) and lacks_grouped_products(plan),
        plan.quantized,
        isinstance(method, QLoRA) and method.double_quant,
        plan.quantized and plan.bitsandbytes_version < (0, 43, 2),
        plan.dtype,
        plan.compute_dtype,
        plan.compute_dtype if plan.autocast else "",
        plan.adapter_dtype,
        plan.upcast,
        checkpointing,
        plan.reentrant and checkpointing,
        plan.attention == "flash",
        attention_kernel(plan),
        repeats_keys(plan),
        masked(plan),
        plan.loss,
        plan.kernels,
        plan.use_cache and not checkpointing,
        "next" if plan.hold_output == "step" and plan.accumulation > 1 else plan.hold_output,
        not plan.set_to_none or plan.accumulation > 1,
        sum(version >= era for era in ERAS),
        plan.batch > 1,
        plan.padding,
        plan.batch * plan.seq_len > CHUNK,
    )


def _adapted(model: Architecture, targets: tuple[str, ...] | str) -> tuple[str, ...]:
    return tuple(linear.name for linear in targeted(model, targets))
