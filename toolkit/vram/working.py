"""What one layer takes while it computes, beside what other layers keep: bytes in closed form.

A layer is followed through its largest moments: each is a sum of what its parts still keep and of what the
operation at hand takes. Sources as in `toolkit.vram.activations`; autograd frees what a node kept once its backward
is done, and a function's local variables live until it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.methods import IA3, Full, LoRA
from toolkit.models import Linear
from toolkit.plan import BYTES, Plan
from toolkit.vram.activations import Activations


@dataclass(frozen=True)
class Working:
    """A layer's largest moments in the forward and in the backward of `active.plan`."""

    active: Activations

    @cached_property
    def plan(self) -> Plan:
        """The plan that it is about."""
        return self.active.plan

    @cached_property
    def inner(self) -> int:
        """Elements of the MLP's inner width, all tokens together (of the experts that work at a time)."""
        model = self.plan.model
        width = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        if model.experts and self.plan.transformers_version < (5, 0):  # one expert after the other
            width //= model.experts
        return self.active.tokens * width

    @cached_property
    def mlp(self) -> tuple[Linear, Linear] | None:
        """The last module into the inner width and the one out of it; a mixture has none."""
        linears = [linear for linear in self.plan.model.linears() if linear.part == "mlp"]
        return None if self.plan.model.experts else (linears[-2], linears[-1])

    @cached_property
    def residual(self) -> int:
        """The residual stream's gradient and its sum."""
        return 2 * self.active.tokens * self.plan.model.hidden * self.active.stream

    def weight(self, linear: Linear) -> int:
        """A 4-bit module's weight, dequantized for one product."""
        return linear.inputs * linear.outputs * BYTES[self.plan.compute_dtype] if self.plan.quantized else 0

    def products(self, linear: Linear) -> int:
        """What the method computes beside a module's own output: two products as wide, before they are added."""
        method, active = self.plan.method, self.active
        if linear.name not in active.targets:
            return 0
        inputs = active.tokens * linear.inputs * active.adapter
        if isinstance(method, IA3):
            return 2 * active.tokens * linear.outputs * active.adapter
        assert isinstance(method, LoRA)
        taken = 2 * active.tokens * linear.outputs * active.product
        casts = active.adapter > active.product and not self.plan.quantized  # by autocast, what peft cast before
        if casts or (method.dropout and not self.plan.autocast):
            taken += inputs  # lives until the function returns
        if method.use_dora:  # an identity, the update and the weight in full, their product and sum
            taken += active.adapter * linear.inputs * (linear.inputs + 4 * linear.outputs)
        return max(taken, 2 * inputs if casts and method.dropout else 0)

    @cached_property
    def forward(self) -> int:
        """Taken at the largest in the forward beside what is kept: in a module of the MLP, or by the scores."""
        active, inner = self.active, self.inner * self.active.linear
        scores = active.scores * (4 + 2 * active.attention) if active.kernel in ("eager", "math") else 0
        if self.mlp is None:
            return max(inner, scores)
        up, down = self.mlp
        output = active.tokens * up.outputs * active.linear
        into = output + max(self.products(up), self.weight(up))
        return max(into, inner + max(self.products(down), self.weight(down)), scores)

    @cached_property
    def recomputed(self) -> int:
        """At its largest as it is recomputed, with what it keeps by then."""
        active, inner = self.active, self.inner * self.active.linear
        everything = active.attention_kept + active.mlp_kept
        if self.mlp is None:
            return everything + inner
        up, down = self.mlp
        gated = self.plan.model.traits.gated and up.outputs == down.inputs  # the gate and its activation
        rest = everything - self._act - self._into(down) + (2 * inner if gated else 0)
        into = rest + active.tokens * up.outputs * active.linear + max(self.products(up), self.weight(up))
        product = 0 if active.full else inner
        return self.residual + max(into, everything + product + max(self.products(down), self.weight(down)))

    @cached_property
    def backward(self) -> int:
        """At its largest in the backward, with what it still keeps of itself: in its MLP or its attention."""
        return self.residual + max(self._mlp_backward, self.active.attention_kept + self.attention)

    @cached_property
    def _act(self) -> int:
        return self.active.inner_kept

    def _into(self, down: Linear) -> int:
        return self.active.inputs([down])

    @cached_property
    def _mlp_backward(self) -> int:
        active, inner = self.active, self.inner * self.active.linear
        everything = active.attention_kept + active.mlp_kept
        if self.mlp is None:
            return everything + (2 if active.full else 3) * inner
        up, down = self.mlp
        rest = everything - self._act - self._into(down)
        widest = active.tokens * down.inputs * active.product if down.name in active.targets else 0
        if isinstance(self.plan.method, IA3):
            widest = 3 * active.tokens * down.inputs * active.adapter if down.name in active.targets else 0
        gated = self.plan.model.traits.gated
        first = everything + max(widest, inner + (inner if widest else 0) + self.weight(down) - self._into(down))
        product = rest + self._act + (3 if gated else 2) * inner
        output = active.tokens * up.outputs * active.linear
        last = rest + 2 * inner * gated + max(self.products(up), output + self.weight(up))
        return max(first, product, last)

    @cached_property
    def attention(self) -> int:
        """What the attention kernel's backward takes."""
        model, active, width = self.plan.model, self.active, self.active.attention
        if active.kernel in ("eager", "math"):
            result = 2 if self.plan.dtype == "fp16" and width == 2 else 4
            return active.scores * (8 + result - (width if width < 4 else 0))
        return active.tokens * (model.q_width * (4 + width) + 2 * width * model.kv_width)
