"""What autograd keeps of a forward, and what a layer needs while it works: bytes in closed form.

Sources: transformers' modeling files (what each operation saves), peft's `tuners/lora/layer.py` and
`tuners/lora/bnb.py` (casts of the input), torch's kernels (see `toolkit.vram.kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.count import targeted
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning
from toolkit.models import Linear
from toolkit.plan import BYTES, Plan
from toolkit.vram.gpus import gpu

CHUNK = 256  # tokens whose logits exist at a time with the chunked loss (trl's chunked_nll)
SAVED_BY_ACTIVATION = {
    "gpt2": 4,
    "phi": 4,
}  # gelu_new is written out in four products; fused kernels keep one
FLASH_REPEATED = ("mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "starcoder2")


def attention_kernel(plan: Plan) -> str:
    """What computes attention: "eager" code, or the kernel that torch picks for "sdpa".

    Flash needs 16 bits, compute capability 8.0 and no mask; the memory-efficient kernel needs as many keys as
    queries; what is left is "math", which keeps all scores
    (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).
    """
    traits = plan.model.traits
    if plan.attention == "eager" or traits.softcap or traits.positions == "alibi":  # sdpa has neither
        return "eager"
    half = plan.autocast or (plan.dtype != "fp32" and not (plan.quantized and plan.upcast != "none"))
    ampere = not plan.gpu or gpu(plan.gpu).bf16
    if plan.attention == "flash" or (plan.attention == "sdpa" and half and ampere and not masked(plan)):
        return "flash"
    return "efficient" if repeats_keys(plan) else "math"


def repeats_keys(plan: Plan) -> bool:
    """Whether keys and values are as many as queries when the kernel sees them, repeated or from the start.

    transformers repeats them for sdpa: always before 4.54, later only beside a mask (sdpa_attention.py,
    use_gqa_in_sdpa); for flash attention 2 before 4.48, in some families (MistralFlashAttention2 and others).
    """
    if plan.model.kv_heads == plan.model.heads or plan.attention == "efficient":
        return True
    if plan.attention == "flash":
        return plan.transformers_version < (4, 48) and plan.model.family in FLASH_REPEATED
    return plan.transformers_version < (4, 54) or masked(plan)


def masked(plan: Plan) -> bool:
    """Whether sdpa is given a mask: for padding, for keys that are more than the queries, or for a window
    that is not longer than the sequence (transformers' masking_utils.py, _ignore_causal_mask_sdpa)."""
    window = plan.model.sliding_window if plan.attention != "flash" else 0
    return plan.padding or isinstance(plan.method, PrefixTuning) or 0 < window <= plan.seq_len


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
        return self.plan.quantized and (norms or self.plan.upcast == "all")

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
            return self.tokens * (width * (4 if self.plan.autocast else self.stream) + 8)
        trained = 4 if self.plan.model.family.startswith("gemma") else self.stream
        return self.tokens * (4 * width + 4 + (width * trained if self.full else 0))

    @cached_property
    def recomputed(self) -> int:
        """Kept by one recomputed layer; where its first norm keeps its very input, that is there already."""
        autocast = self.plan.autocast and self.plan.model.traits.norm == "layer"
        itself = self.stream == 4 or self.plan.kernels != "torch"
        itself |= self.plan.model.traits.norm == "layer" and not autocast
        return self.attention_kept + self.mlp_kept - itself * self.tokens * self.plan.model.hidden * self.stream

    def inputs(self, linears: list[Linear]) -> int:
        """Kept of the input that these modules share, once or a copy each."""
        method, width = self.plan.method, linears[0].inputs
        if self.full:
            casts = self.stream != self.linear
            return self.tokens * width * self.linear * (len(linears) if casts else 1)
        kept = 0
        if self.plan.quantized and self.plan.bitsandbytes_version < (0, 43, 2):
            kept += self.tokens * width * BYTES[self.plan.compute_dtype] * len(linears)
        if not isinstance(method, (LoRA, IA3)):
            return kept
        hit = [linear for linear in linears if linear.name in self.targets]
        if isinstance(method, LoRA):
            return kept + sum(self.adapted(method, linear, linear is hit[0]) for linear in hit)
        scaled = sum(x.inputs if x.name.endswith(method.feedforward) else x.outputs for x in hit)
        return kept + self.tokens * self.linear * scaled

    def adapted(self, method: LoRA, linear: Linear, first: bool) -> int:
        """Kept by LoRA on one module: its input cast, A's output, dropout's mask, DoRA's result."""
        width = BYTES[self.plan.compute_dtype] if self.plan.autocast else BYTES[self.plan.adapter_dtype]
        given = self.stream if linear.inputs == self.plan.model.hidden else self.linear
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
    def mlp_kept(self) -> int:
        """Kept by a layer's MLP (of a mixture: by the experts that a token goes through)."""
        model = self.plan.model
        linears = [linear for linear in model.linears() if linear.part == "mlp"]
        copies = 3 if model.traits.gated else SAVED_BY_ACTIVATION.get(model.family, 1)
        copies -= self.plan.kernels == "liger"
        width = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        kept = self.tokens * copies * width * self.linear
        kept += self.norm(model.hidden) * (model.traits.block_norms - 1)
        if model.experts:
            moved = model.experts_per_token * model.hidden
            kept += self.tokens * self.linear * (2 * moved + (width if self.full else 0))
        else:
            kept += self.inputs(linears[:-1]) + self.inputs(linears[-1:])
        if isinstance(self.plan.method, Adapter):
            kept += 2 * self.tokens * (model.hidden + 2 * self.plan.method.bottleneck) * self.stream
        return kept

    @cached_property
    def layer_working(self) -> tuple[int, int]:
        """What a layer's backward takes beside what it kept: in its MLP; then in its attention."""
        model, width = self.plan.model, self.attention
        inner = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        if model.experts and self.plan.transformers_version < (5, 0):  # one expert after the other
            inner //= model.experts
        weight = 0
        if self.plan.quantized:
            weight = 2 * max(linear.inputs * linear.outputs for linear in model.linears())
        copies = (
            2 if self.full else 3
        )  # of the inner width; in full fine-tuning one kept product is freed first
        mlp = self.tokens * (copies * inner * self.linear + 2 * model.hidden * self.stream) + weight
        gradients = self.tokens * (2 * model.hidden * self.stream)
        if self.kernel in ("eager", "math"):
            result = 2 if self.plan.dtype == "fp16" and width == 2 else 4
            gradients += self.scores * (8 + result - (width if width < 4 else 0))
        else:
            gradients += self.tokens * (model.q_width * (4 + width) + 2 * width * model.kv_width)
        return mlp, gradients

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
        """Copies in the compute dtype that autocast makes of fp32 weights: those there in the forward, in the
        backward, and in a layer that is recomputed. Autograd keeps what it needs; with checkpointing that is
        the head's, but autocast itself keeps all that are trained until the forward is over (ATen's
        autocast_mode.cpp, cached_cast)."""
        if not self.plan.autocast or self.plan.dtype != "fp32" or self.plan.quantized:
            return 0, 0, 0
        model, width = self.plan.model, BYTES[self.plan.compute_dtype]
        linears = width * sum(linear.weights for linear in model.linears())
        head = width * model.vocab * model.hidden
        if not self.plan.checkpoints_memory:
            return linears + head, linears + head, 0
        return (linears if self.full else 0) + head, head, linears // model.layers

    @cached_property
    def logit_width(self) -> int:
        """Bytes of one logit as the head gives it."""
        if self.plan.autocast:
            return BYTES[self.plan.compute_dtype]
        return 4 if self.plan.upcast == "all" else BYTES[self.plan.dtype]

    @cached_property
    def loss(self) -> int:
        """Logits, the loss and their gradients at their largest."""
        plan, width, vocab = self.plan, self.logit_width, self.plan.model.vocab
        head = vocab * plan.model.hidden * BYTES[plan.dtype] if self.full else 0
        if plan.loss == "chunked":
            return CHUNK * vocab * (width + 12) + 2 * head
        if plan.loss == "fused":
            chunks = -(-vocab // plan.model.hidden)
            size = 1 << (-(-self.tokens // chunks) - 1).bit_length()
            return min(size, self.tokens) * vocab * width + self.tokens * plan.model.hidden * width + 2 * head
        held = width if plan.hold_output != "never" else 0
        held += width if plan.model.traits.softcap else 0  # tanh keeps its output
        if plan.loss == "no_upcast":
            return self.tokens * vocab * (3 * width + held)
        forward, held = self._upcast_forward(held)
        backward = 4 + width if plan.loss == "in_place" else 12
        return (
            self.tokens * vocab * max(forward, backward + held)
            + self.tokens * plan.model.hidden * self.linear
        )

    @cached_property
    def held(self) -> int:
        """Logits that the output keeps after the loss."""
        kept = self.plan.hold_output != "never" and self.plan.loss not in ("chunked", "fused")
        return self.tokens * self.plan.model.vocab * self.logit_width if kept else 0

    @cached_property
    def forward_logits(self) -> int:
        """Logits and the loss as the forward ends."""
        if self.plan.loss not in ("fp32", "in_place"):
            return self.loss
        return self.tokens * self.plan.model.vocab * self._upcast_forward(0)[0]

    def _upcast_forward(self, held: int) -> tuple[int, int]:
        """Bytes a logit in the forward of transformers' fp32 loss, and of those that are held."""
        width, version = self.logit_width, self.plan.transformers_version
        softmax = 0 if self.plan.loss == "in_place" else 4
        if version < (4, 46):
            return 8 + softmax, 4 if held else 0
        copies = width + (4 if width < 4 else 0) + softmax
        return copies + (4 if version < (4, 50) else 0), held
