"""What one layer takes while it computes, beside what other layers keep: bytes in closed form.

A layer is followed through its largest moments: each is a sum of what its parts still keep and of what the
operation at hand takes. Sources as in `toolkit.vram.activations`; autograd frees what a node kept once its
backward is done, and a function's local variables live until it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.methods import IA3, LoRA
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
        """The MLP's inner width, all tokens together (of the experts that work at a time)."""
        model = self.plan.model
        width = model.intermediate * max(1, model.experts_per_token) + model.shared_intermediate
        if model.experts and self.plan.transformers_version < (5, 0):  # one expert after the other
            width //= model.experts
        return self.active.tokens * width * self.active.linear

    @cached_property
    def gated(self) -> bool:
        """Whether the MLP multiplies an activated gate with what goes up."""
        return self.plan.model.traits.gated

    @cached_property
    def everything(self) -> int:
        """All that the layer keeps."""
        return self.active.attention_kept + self.active.mlp_kept

    @cached_property
    def rest(self) -> int:
        """What it keeps apart from the MLP's activation and the input of its last module."""
        down = [self.mlp[1]] if self.mlp else []
        return self.everything - self.active.inner_kept - (self.active.inputs(down) if down else 0)

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
        """What the method takes beside a module's own output: two products as wide, before they are added."""
        method, active = self.plan.method, self.active
        if linear.name not in active.targets:
            return 0
        inputs = active.tokens * linear.inputs * active.adapter
        if isinstance(method, IA3):
            return 2 * active.tokens * linear.outputs * active.adapter
        if active.fuses(linear):  # the update, before it is added in place
            return active.tokens * linear.outputs * active.linear
        assert isinstance(method, LoRA)
        taken = 2 * active.tokens * linear.outputs * active.product
        # plain LoRA casts its input to its own dtype, autocast casts it back
        casts = active.adapter > active.product and not self.plan.quantized
        if casts or (method.dropout and not self.plan.autocast):
            taken += inputs  # lives until the function returns
        if method.use_dora:  # an identity, the update and the weight in full, their product and sum
            taken += active.adapter * linear.inputs * (linear.inputs + 4 * linear.outputs)
        return max(taken, 2 * inputs if casts and method.dropout else 0)

    @cached_property
    def forward(self) -> int:
        """Taken at the largest in the forward beside what is kept: in the MLP, or by the scores."""
        active = self.active
        scores = active.scores * (4 + 2 * active.attention) if active.kernel in ("eager", "math") else 0
        if self.mlp is None:
            return max(self.inner, scores)
        up, down = self.mlp
        return max(self._output(up), self.inner + max(self.products(down), self.weight(down)), scores)

    @cached_property
    def recomputed(self) -> int:
        """At its largest as it is recomputed, with what it keeps by then: in a module of the MLP."""
        if self.mlp is None:
            return self.everything + self.inner
        up, down = self.mlp
        before = 2 * self.inner if up.outputs == down.inputs and self.gated else 0  # the gate, and activated
        product = 0 if self.active.full else self.inner
        out = self.everything + product + max(self.products(down), self.weight(down))
        return self.residual + max(self.rest + before + self._output(up), out)

    @cached_property
    def backward(self) -> int:
        """At its largest in the backward, with what it still keeps: in its MLP or its attention."""
        return self.residual + max(self._mlp_backward, self.active.attention_kept + self.attention)

    @cached_property
    def _mlp_backward(self) -> int:
        active, inner = self.active, self.inner
        if self.mlp is None:
            return self.everything + (2 if active.full else 3) * inner
        up, down = self.mlp
        given = self.rest + active.inner_kept
        into = self.everything + self._input_gradients(down)
        product = given + (3 if self.gated else 2) * inner
        base = given + (2 if down.name in active.targets else 1) * inner + self.weight(down)
        return max(into, base, product, self.rest + 2 * inner * self.gated + self._output(up))

    def _output(self, linear: Linear) -> int:
        """A module's output, and what it takes beside it; as much again in the backward."""
        output = self.active.tokens * linear.outputs * self.active.linear
        return output + max(self.products(linear), self.weight(linear))

    def _input_gradients(self, linear: Linear) -> int:
        """What the method's own backward makes of a module's input, while it is still kept."""
        inputs = self.active.tokens * linear.inputs
        if linear.name not in self.active.targets or self.active.fuses(linear):
            return inputs * self.active.linear if self.active.full else 0
        return inputs * (
            3 * self.active.adapter if isinstance(self.plan.method, IA3) else self.active.product
        )

    @cached_property
    def attention(self) -> int:
        """What the attention kernel's backward takes."""
        model, active, width = self.plan.model, self.active, self.active.attention
        if active.kernel in ("eager", "math"):
            result = 2 if self.plan.dtype == "fp16" and width == 2 else 4
            return active.scores * (8 + result - (width if width < 4 else 0))
        return active.tokens * (model.q_width * (4 + width) + 2 * width * model.kv_width)
