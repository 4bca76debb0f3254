"""What the logits and the loss take, by the code that computes them: bytes in closed form.

Sources: transformers' `loss_utils.py` (and the models' own code before 4.46), trl's chunked loss,
Liger-Kernel's `fused_linear_cross_entropy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.plan import BYTES, Plan
from toolkit.vram.activations import Activations

CHUNK = 256  # tokens whose logits exist at a time with the chunked loss (trl's chunked_nll)


@dataclass(frozen=True)
class Logits:
    """Sizes in bytes of a micro-batch's logits: in the forward, at the loss's largest, held after it."""

    active: Activations

    @cached_property
    def plan(self) -> Plan:
        """The plan that it is about."""
        return self.active.plan

    @cached_property
    def number(self) -> int:
        """How many logits there are."""
        return self.active.tokens * self.plan.model.vocab

    @cached_property
    def width(self) -> int:
        """Bytes of one logit as the head gives it."""
        if self.plan.autocast:
            return BYTES[self.plan.compute_dtype]
        return 4 if self.plan.upcast == "all" else BYTES[self.plan.dtype]

    @cached_property
    def upcast(self) -> bool:
        """Whether the loss is computed on fp32 copies; autocast makes them where the code does not."""
        return self.plan.loss in ("fp32", "in_place") or (
            self.plan.loss == "no_upcast" and self.plan.autocast
        )

    @cached_property
    def loss(self) -> int:
        """Logits, the loss and their gradients at their largest."""
        plan, model, tokens = self.plan, self.plan.model, self.active.tokens
        head = model.vocab * model.hidden * self.width
        trained = head if self.active.full else 0
        states = tokens * model.hidden * self.width  # the gradient that the head gives back
        if plan.loss == "chunked":
            chunk = min(CHUNK, tokens) * model.vocab
            summed = trained if tokens > CHUNK else 0  # the earlier chunks' gradient of the head
            taken = max(chunk * (self.width + 12), chunk * self.width + trained)
            return taken + summed + self.active.head_cast
        if plan.loss == "fused":
            chunks = -(-model.vocab // model.hidden)
            size = 1 << (-(-tokens // chunks) - 1).bit_length()
            return min(size, tokens) * model.vocab * self.width + states + 2 * trained
        held = self.width if plan.hold_output != "never" else 0
        held += self.width if model.traits.softcap else 0  # tanh keeps its output
        if not self.upcast:
            return self.number * (3 * self.width + held) + self.active.head_cast
        forward, held = self._forward(held)
        backward = 4 + self.width if plan.loss == "in_place" else 12
        return self.number * max(forward, backward + held) + states + self.active.head_cast

    @cached_property
    def held(self) -> int:
        """Logits that the output keeps after the loss."""
        kept = self.plan.hold_output != "never" and self.plan.loss not in ("chunked", "fused")
        return self.number * self.width if kept else 0

    @cached_property
    def forward(self) -> int:
        """Logits and the loss as the forward ends."""
        return self.number * self._forward(0)[0] + self.active.head_cast if self.upcast else self.loss

    def _forward(self, held: int) -> tuple[int, int]:
        """Bytes a logit in the forward of transformers' fp32 loss, and of those that are held."""
        version = self.plan.transformers_version
        softmax = 0 if self.plan.loss == "in_place" else 4
        if version < (4, 46):
            return 8 + softmax, 4 if held else 0
        copies = self.width + (4 if self.width < 4 else 0) + softmax
        return copies + (4 if version < (4, 50) else 0), held
