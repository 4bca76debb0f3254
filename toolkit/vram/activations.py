"""What autograd keeps of a forward: bytes in closed form.

Sources: transformers' modeling files (what each operation saves), peft's `tuners/lora/layer.py` and
`tuners/lora/bnb.py` (casts of the input), torch's kernels (see `toolkit.vram.kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.count import adapts_experts, targeted
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning
from toolkit.models import Linear
from toolkit.plan import BYTES, Plan
from toolkit.vram.attention import attention_kernel, masked, repeats_keys

SAVED_BY_ACTIVATION = {
    "gpt2": 4,
    "phi": 4,
}  # gelu_new is written out in four products; fused kernels keep one


@dataclass(frozen=True)
class Activations:
    """Sizes in bytes of one micro-batch of `plan`; a "token" is a position of it."""

    plan: Plan

    @cached_property
    def tokens(self) -> int:
        """Positions that go through the layers; a soft prompt adds its own."""
        extra = self.plan.virtual_tokens if isinstance(self.plan.method, PromptTuning) else 0
        return self.plan.batch * (self.plan.seq_len + extra)

    @cached_property
    def upcast4(self) -> bool:
        """fp32 norms in front of 4-bit modules, which give back the dtype that they get: all turns fp32."""
        norms = self.plan.upcast == "norms" and self.plan.kernels == "torch"
        return self.plan.quantized and (norms or self.plan.upcast == "all" or self.upcast_norm)

    @cached_property
    def upcast_norm(self) -> bool:
        """Whether a norm makes fp32 of what it is given: autocast does that with LayerNorm."""
        return self.plan.autocast and self.plan.model.traits.norm == "layer"

    @cached_property
    def normed(self) -> int:
        """Bytes an element of what norms give out."""
        return 4 if self.upcast_norm else self.stream

    @cached_property
    def stream(self) -> int:
        """Bytes an element of the residual stream."""
        return 4 if self.upcast4 or self.plan.upcast == "all" else BYTES[self.plan.dtype]

    @cached_property
    def linear(self) -> int:
        """Bytes an element of what linear modules give out."""
        return BYTES[self.plan.compute_dtype] if self.plan.autocast and not self.upcast4 else self.stream

    @cached_property
    def attention(self) -> int:
        """Bytes an element inside the attention kernel; autocast makes it the compute dtype."""
        return BYTES[self.plan.compute_dtype] if self.plan.autocast else self.linear

    @cached_property
    def full(self) -> bool:
        """Whether the base weights are trained, so that linear modules and norms keep their inputs."""
        return isinstance(self.plan.method, Full)

    @cached_property
    def kernel(self) -> str:
        """What computes attention."""
        return attention_kernel(self.plan)

    @cached_property
    def targets(self) -> set[str]:
        """Names of the modules that the method adapts."""
        method = self.plan.method
        adapted = targeted(self.plan.model, method.targets) if isinstance(method, (LoRA, IA3)) else []
        return {linear.name for linear in adapted}

    @cached_property
    def grouped(self) -> bool:
        """Whether what is kept of keys and values is repeated for grouped queries."""
        fewer = self.plan.model.kv_heads < self.plan.model.heads
        return fewer and (self.kernel != "flash" or repeats_keys(self.plan))

    @cached_property
    def scores(self) -> int:
        """Elements of all attention scores of a layer."""
        return self.tokens * self.plan.model.heads * self.keys // self.plan.batch

    @cached_property
    def keys(self) -> int:
        """Positions that have a key: a prefix adds its own."""
        extra = self.plan.virtual_tokens if isinstance(self.plan.method, PrefixTuning) else 0
        return self.tokens + self.plan.batch * extra

    def norm(self, width: int) -> int:
        """Kept by one norm: RMSNorm's fp32 copy and, where trained, the product; by Triton's, its input."""
        if self.plan.kernels != "torch":
            return self.tokens * (width * self.stream + 4)
        if self.plan.model.traits.norm == "layer":
            return self.tokens * (width * self.normed + 8)
        trained = 4 if self.plan.model.family.startswith("gemma") else self.stream
        return self.tokens * (4 * width + 4 + (width * trained if self.full else 0))

    @cached_property
    def shared(self) -> int:
        """What the first norm of a layer keeps that is there anyway: the very input of the layer."""
        layer = self.plan.model.traits.norm == "layer"
        itself = self.stream == 4 or self.plan.kernels != "torch" or (layer and not self.upcast_norm)
        return self.tokens * self.plan.model.hidden * self.stream if itself else 0

    def inputs(self, linears: list[Linear]) -> int:
        """Kept of the input that these modules share, once or a copy each."""
        method, width = self.plan.method, linears[0].inputs
        given = self.normed if width == self.plan.model.hidden else self.linear
        if self.full:
            return self.tokens * width * self.linear * (len(linears) if given != self.linear else 1)
        kept = 0
        if self.plan.quantized and self.plan.bitsandbytes_version < (0, 43, 2):
            kept += self.tokens * width * BYTES[self.plan.compute_dtype] * len(linears)
        if not isinstance(method, (LoRA, IA3)):
            return kept
        hit = [linear for linear in linears if linear.name in self.targets]
        if isinstance(method, LoRA) and self.fuses(
            linears[-1]
        ):  # one copy of a block's input; its end's is kept before it, or made anew
            end = linears[-1].name in (self.plan.model.traits.out, self.plan.model.traits.mlp_out)
            copies = (not end) + (len(hit) if method.dropout else 0)
            return kept + self.tokens * copies * width * self.linear
        if isinstance(method, LoRA):
            return kept + sum(self.adapted(method, linear, linear is hit[0]) for linear in hit)
        scaled = sum(
            x.inputs * self.adapter if x.name.endswith(method.feedforward) else x.outputs * self.linear
            for x in hit
        )
        return kept + self.tokens * scaled

    def fuses(self, linear: Linear) -> bool:
        """Whether Unsloth's kernel computes this module and its LoRA: all of a block must be adapted."""
        if self.plan.kernels != "lora" or not isinstance(self.plan.method, LoRA):
            return False
        traits = self.plan.model.traits
        blocks = (traits.qkv, (traits.out,), (*traits.mlp_in, traits.mlp_out))
        block = next((names for names in blocks if linear.name in names), ())
        return bool(block) and set(block) <= self.targets

    @cached_property
    def adapter(self) -> int:
        """Bytes an element of what is trained beside the base."""
        return BYTES[self.plan.adapter_dtype]

    @cached_property
    def product(self) -> int:
        """Bytes an element of what LoRA's products are computed in."""
        return BYTES[self.plan.compute_dtype] if self.plan.autocast else self.adapter

    def adapted(self, method: LoRA, linear: Linear, first: bool) -> int:
        """Kept by LoRA on one module: its input cast, A's output, dropout's mask, DoRA's result."""
        width = self.product
        given = self.normed if linear.inputs == self.plan.model.hidden else self.linear
        copies = linear.inputs * width if first or width != given or method.dropout else 0
        dropped = linear.inputs if method.dropout else 0
        dora = linear.outputs * (self.linear + width) if method.use_dora else 0
        return self.tokens * (copies + dropped + method.rank * width + dora)

    @cached_property
    def attention_kept(self) -> int:
        """Kept by a layer's attention block."""
        model, width = self.plan.model, self.attention
        linears = [linear for linear in model.linears() if linear.part == "attention"]
        repeated = model.q_width if self.grouped else model.kv_width
        kept = self.norm(model.hidden) + self.inputs(linears[:-1]) + self.inputs(linears[-1:])
        kept += width * (self.tokens * model.q_width + 2 * self.keys * repeated)
        if model.traits.qk_norm:
            kept += self.norm(model.q_width) + self.norm(model.kv_width)
        if self.kernel == "math":  # in fp32 throughout
            kept += self.scores * 4 + self.tokens * 3 * model.q_width * (4 - width)
        elif self.kernel == "eager":
            kept += self.scores * (4 + (width if width < 4 else 0) + (width if model.traits.softcap else 0))
        else:
            kept += self.tokens * (model.q_width * (0 if self.full else width) + 4 * model.heads)
            kept += self.tokens * self.keys // self.plan.batch * width if masked(self.plan) else 0
        return kept

    @cached_property
    def inner_kept(self) -> int:
        """Kept by the activation in a layer's MLP (in a mixture: of the experts that a token meets)."""
        model = self.plan.model
        copies = 3 if model.traits.gated else SAVED_BY_ACTIVATION.get(model.family, 1)
        last = model.linears()[-1]  # of the MLP, where there is one apart from experts
        copies -= self.plan.kernels == "liger" or (last.part == "mlp" and self.fuses(last))
        width = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        return self.tokens * copies * width * self.linear

    @cached_property
    def mlp_kept(self) -> int:
        """Kept by a layer's MLP."""
        model = self.plan.model
        linears = [linear for linear in model.linears() if linear.part == "mlp"]
        width = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        kept = self.inner_kept
        norms = model.traits.block_norms - 1
        kept += self.norm(model.hidden) * norms - (self.shared if norms and model.traits.parallel else 0)
        if model.experts:
            moved, adapted = model.experts_per_token * model.hidden, adapts_experts(model, self.plan.method)
            kept += self.tokens * self.linear * (2 * moved + (width if self.full or adapted else 0))
            if adapted:  # a copy of all of them, with what LoRA adds
                kept += model.expert_weights // model.layers * BYTES[self.plan.dtype]
        else:
            kept += self.inputs(linears[:-1]) + self.inputs(linears[-1:])
        if isinstance(self.plan.method, Adapter):
            kept += 2 * self.tokens * (model.hidden + 2 * self.plan.method.bottleneck) * self.stream
        return kept

    @cached_property
    def kept(self) -> int:
        """Kept by layers and final norm until the backward: with checkpointing the layers' inputs."""
        model = self.plan.model
        layer = self.attention_kept + self.mlp_kept
        if self.plan.checkpoints_memory:
            layer = self.tokens * model.hidden * self.stream
        cache = self.cache if self.grouped else 0  # else attention keeps the very tensors that are cached
        return model.layers * layer + cache + self.norm(model.hidden)

    @cached_property
    def cache(self) -> int:
        """Keys and values of all layers, when the model caches them; a prefix is given as a cache."""
        cached = self.plan.use_cache or isinstance(self.plan.method, PrefixTuning)
        if not cached or self.plan.checkpoints_memory:
            return 0
        return 2 * self.plan.model.layers * self.keys * self.plan.model.kv_width * self.linear

    @cached_property
    def casts(self) -> tuple[int, int, int]:
        """Copies in the compute dtype that autocast makes of the layers' fp32 weights: those there in the
        forward, in the backward, and in a layer that is recomputed. Autograd keeps what it needs; with
        checkpointing that is nothing, but autocast itself keeps all that are trained until the forward is
        over (ATen's autocast_mode.cpp, cached_cast)."""
        if not self.plan.autocast or self.plan.dtype != "fp32" or self.plan.quantized:
            return 0, 0, 0
        model, width = self.plan.model, BYTES[self.plan.compute_dtype]
        linears = width * sum(linear.weights for linear in model.linears())
        if not self.plan.checkpoints_memory:
            return linears, linears, 0
        return linears if self.full else 0, 0, linears // model.layers

    @cached_property
    def head_cast(self) -> int:
        """The same of the head's weight, which lives from the logits to the end of their backward."""
        upcast = self.plan.dtype == "fp32" or (self.plan.quantized and self.plan.upcast == "all")
        if not self.plan.autocast or not upcast:
            return 0
        return BYTES[self.plan.compute_dtype] * self.plan.model.vocab * self.plan.model.hidden
