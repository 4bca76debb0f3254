"""MLPs and experts on sizes, family by family (transformers' modeling files and integrations/moe.py)."""

from __future__ import annotations

from toolkit.vram.closed_form.modules import Modules
from toolkit.vram.closed_form.route import EXPERTS, ONE_PARAMETER
from toolkit.vram.closed_form.tape import Value


class FeedForward(Modules):
    """A layer's MLP, or its router and experts."""

    def feed_forward(self, x: Value) -> Value:
        """The MLP, or the experts."""
        if self.route.experts:
            return self._mixture(x)
        t, traits = self.tape, self.traits
        if not traits.gated:
            return self._plain(x)
        first, *second = traits.mlp_in
        if second:
            return self.linear(self._gated(x, first, second[0], "inner"), traits.mlp_out, "hidden")
        gate, up = t.split(self.linear(x, first, "twice"), ("inner", "inner"))  # one matrix for both
        up = t.mul(up, t.unary(gate))
        return self.linear(up, traits.mlp_out, "hidden")

    def _gated(self, x: Value, gate: str, up: str, width: str) -> Value:
        """act(gate) up; Triton's kernel keeps no more than both, and writes their gradients over them."""
        t = self.tape
        if self.route.kernels != "liger" and not self.route.fuses(self.traits.mlp_out):
            return t.mul(t.unary(self.linear(x, gate, width)), self.linear(x, up, width))
        pair = self.linear(x, gate, width), self.linear(x, up, width)
        return t.op(t.new(width, pair[0].dtype), pair, pair, lambda _, *kept: kept)

    def _plain(self, x: Value) -> Value:
        traits, family = self.traits, self.route.family
        hidden = self.linear(x, traits.mlp_in[0], "inner")
        if family in ("gpt2", "phi"):
            hidden = self._gelu_new(hidden)
        elif family == "bloom":
            hidden = self._bloom_gelu(hidden)
        else:
            hidden = self.tape.unary(hidden, "out" if family == "opt" else "x")
        return self.linear(hidden, traits.mlp_out, "hidden")

    def _gelu_new(self, x: Value) -> Value:
        """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), written out."""
        t = self.tape
        half = t.scaled(x)
        inner = t.scaled(t.add(x, t.scaled(t.power(x))))
        return t.mul(half, t.scaled(t.unary(inner, "out")))

    def _bloom_gelu(self, x: Value) -> Value:
        """A function of its own, which keeps its input and works with up to five copies."""
        t, width, dtype = self.tape, x.width, x.dtype
        work = [t.new(width, dtype) for _ in range(3)]
        out = t.new(width, dtype)
        del work

        def back(*_: Value) -> tuple[Value]:
            work = [t.new(width, dtype) for _ in range(4)]
            made = t.new(width, dtype)
            del work
            return (made,)

        return t.op(out, (x,), (x,), back)

    def _mixture(self, x: Value) -> Value:
        t, experts = self.tape, "mlp.shared_expert"
        if not self.route.shared_expert:
            return self._routed(x)
        shared = self._gated(x, f"{experts}.gate_proj", f"{experts}.up_proj", "shared")
        shared = self.linear(shared, f"{experts}.down_proj", "hidden")
        out = self._routed(x)
        shared = t.broadcast(shared, t.unary(self.linear(x, f"{experts}_gate", "row"), "out"))
        return t.add(out, shared)

    def _routed(self, x: Value) -> Value:
        scores, modules = self._router(x), self.route.era < ONE_PARAMETER
        return self._expert_modules(x, scores) if modules else self._experts(x, scores)

    def _router(self, x: Value) -> Value:
        t, route = self.tape, self.route
        weight = t.weight("W:router", route.rest, route.full or route.lora_experts)
        logits = t.linear(x, weight, "routes")
        chosen = t.view(t.softmax(t.cast(logits, "fp32"), "fp32"), "choices")
        if route.era < ONE_PARAMETER or route.family == "granitemoe":
            return t.cast(chosen, x.dtype)
        return chosen if route.family == "mixtral" else t.cast(chosen, logits.dtype)

    def _experts(self, x: Value, scores: Value) -> Value:
        """Tokens sorted by expert, two grouped products (integrations/moe.py, grouped_mm_experts_forward)."""
        t, route = self.tape, self.route
        down_pair, up_pair = self._expert_pair("down"), self._expert_pair("up")
        chosen = t.op(t.new("moved", x.dtype), (x,))
        up = self._expert_weight("up", up_pair)
        out = t.grouped(chosen, up, "twice", route.loops_experts)
        out = self._expert_gate(out)
        down = self._expert_weight("down", down_pair)
        out = t.grouped(out, down, "moved", route.loops_experts)
        weighted = t.broadcast(out, scores)
        weighted = t.op(t.new("moved", weighted.dtype), (weighted,))  # back in the tokens' order
        total = t.op(t.new("hidden", weighted.dtype), (weighted,), (), lambda grad: (grad,))
        return t.cast(total, x.dtype)

    def _expert_modules(self, x: Value, scores: Value) -> Value:
        """transformers 4: one expert after the other, each of three linear modules, of as many tokens."""
        t = self.tape
        out = t.new(x.width, x.dtype)
        for _ in range(EXPERTS):
            chosen = t.op(t.new("each:moved", x.dtype), (x,))
            inner = self.base(chosen, "expert.in", "each:inner")
            inner = t.mul(t.unary(inner), self.base(chosen, "expert.in", "each:inner"))
            made = t.broadcast(self.base(inner, "expert.out", "each:moved"), t.view(scores, "each:choices"))
            made = t.cast(made, x.dtype)
            out = t.op(Value(out.store, out.width, out.dtype), (out, made), (), self._added)
        return out

    def _added(self, grad: Value) -> tuple[Value, Value]:
        """index_add_ writes over its sum: its rows' gradients are a copy."""
        return grad, self.tape.new("each:moved", grad.dtype)

    def _expert_gate(self, both: Value) -> Value:
        gate, up = self.tape.split(both, ("inner", "inner"))
        return self.tape.mul(self.tape.unary(gate), up)

    def _expert_pair(self, part: str) -> Value | None:
        """LoRA of a parameter: B and A of all experts; their product is made once, to see that it fits."""
        t, route = self.tape, self.route
        if not route.lora_experts:
            return None
        pair = t.weight(f"L:{part}", route.adapter, True)
        pair = t.copy(pair) if route.rest == route.adapter else t.cast(pair, route.rest)
        t.new(f"W:{part}", route.rest)
        return pair

    def _expert_weight(self, part: str, pair: Value | None) -> Value:
        """The experts' weight: with LoRA W + scaling B A, where it is used, and kept to the end."""
        t, route = self.tape, self.route
        if pair is None:
            return t.weight(f"W:{part}", route.rest, route.full)
        return t.op(t.new(f"W:{part}", route.rest), (pair,), (pair,))
