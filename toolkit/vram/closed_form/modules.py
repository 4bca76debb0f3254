"""A decoder layer's modules on sizes, written as transformers', peft's and bitsandbytes' own forwards are.

Names and the order of lines follow theirs, because a variable's life is a tensor's: modeling_llama.py and its
kin, peft's tuners/lora/layer.py, bnb.py and dora.py, tuners/ia3/layer.py, bitsandbytes' nn/modules.py, and
for Triton's kernels those that `toolkit.vram.fused` names.
"""

from __future__ import annotations

from toolkit.vram.closed_form.operators import Operators
from toolkit.vram.closed_form.route import Route
from toolkit.vram.closed_form.tape import Value


class Modules:
    """Norms and linear modules, with what the method puts on them."""

    def __init__(self, route: Route, tape: Operators) -> None:
        self.route, self.tape, self.traits = route, tape, route.traits
        self.angles = route.dtype  # the rotary embedding's
        self.given: Value | None = None  # what a layer gives back beside the stream
        self.cache: list[Value] = []  # keys and values, of all layers
        self.prefix = Value(None, "prefix", route.rest)

    def norm(self, x: Value) -> Value:
        """RMSNorm or LayerNorm of a row, or of each head."""
        t, route = self.tape, self.route
        weight = t.weight("norm", route.norms, route.full)
        if self.traits.norm == "layer" and route.family != "cohere":
            return t.layer_norm(x, weight)
        if route.kernels != "torch":  # the gradient is written over the one that is given
            saved = (x, t.new("row", "fp32"))
            return t.op(t.new(x.width, x.dtype), (x,), saved, lambda grad, *_: (grad,))
        if route.family.startswith("gemma"):
            return self._gemma_norm(x, weight)
        if route.family in ("olmo2", "cohere"):
            return self._late_norm(x, weight)
        before = x.dtype
        x = t.cast(x, "fp32")
        variance = t.mean(t.power(x))
        x = t.broadcast(x, t.unary(variance, "out"))
        return t.broadcast(t.cast(x, before), weight)

    def _gemma_norm(self, x: Value, weight: Value) -> Value:
        """(x / rms(x)) (1 + w), all in fp32."""
        t = self.tape
        wide = t.cast(x, "fp32")
        output = t.broadcast(wide, t.unary(t.mean(t.power(wide)), "out"))
        del wide
        output = t.broadcast(output, t.cast(weight, "fp32"))
        return t.cast(output, x.dtype)

    def _late_norm(self, x: Value, weight: Value) -> Value:
        """OLMo 2's and Cohere's, cast back after the weight; Cohere's takes the mean away, twice."""
        t, before = self.tape, x.dtype
        x = t.cast(x, "fp32")
        if self.route.family == "cohere":
            mean = t.mean(x)
            variance = t.mean(t.power(t.centred(x, mean)))
            x = t.broadcast(t.centred(x, mean), t.unary(variance, "out"))
            weight = t.cast(weight, "fp32")
        else:
            variance = t.mean(t.power(x))
            x = t.broadcast(x, t.unary(variance, "out"))
        x = t.broadcast(x, weight)
        return t.cast(x, before)

    def linear(self, x: Value, name: str, width: str) -> Value:
        """A linear module of the layer, with what the method puts on it."""
        route = self.route
        if name in route.targets:
            if route.method == "IA3":
                return self._ia3(x, name, width)
            if self.route.fuses(name):
                return self._update(x, name, width)
            return self._lora_4bit(x, name, width) if route.quantized else self._lora(x, name, width)
        out = self.base(x, name, width)
        if route.method == "Adapter" and name in (self.traits.out, self.traits.mlp_out):
            return self._bottleneck(out)
        return out

    def base(self, x: Value, name: str, width: str) -> Value:
        """The module alone."""
        route = self.route
        if route.quantized and name != "lm_head":
            return self._four_bits(x, name, width)
        return self.tape.linear(x, self.tape.weight(f"W:{name}", route.rest, route.full), width)

    def _four_bits(self, x: Value, name: str, width: str) -> Value:
        """Linear4bit and MatMul4Bit: the weight is made whole for a product, and again for the backward."""
        t, route, before = self.tape, self.route, x.dtype
        x = t.cast(x, route.compute)
        given = x.width
        whole = t.new(f"dequantized:{name}", x.dtype)
        scales = t.new(f"scales:{name}", "fp32"), t.new(f"scales:{name}", "fp32")
        out = t.new(width, route.compute)
        del whole, scales

        def back(grad: Value) -> tuple[Value]:
            whole, scales = t.new(f"W:{name}", route.dtype), t.new(f"blocks:{name}", "fp32")
            if route.dtype != grad.dtype:
                whole = t.new(f"W:{name}", grad.dtype)
            made = t.new(given, grad.dtype)
            del whole, scales
            return (made,)

        out = t.op(out, (x,), (), back)
        if route.keeps_inputs and out.node is not None:
            out.node.kept = x
        return t.cast(out, before)

    def pair(self, name: str) -> tuple[Value, Value]:
        """LoRA's two matrices."""
        adapter = self.route.adapter
        return self.tape.weight(f"A:{name}", adapter, True), self.tape.weight(f"B:{name}", adapter, True)

    def _lora(self, x: Value, name: str, width: str) -> Value:
        t, route = self.tape, self.route
        result = self.base(x, name, width)
        before = result.dtype
        x = t.cast(x, route.adapter)
        if route.dora:
            result = self._dora(x, result, name, width)
        else:
            a, b = self.pair(name)
            result = t.add(result, t.scaled(t.linear(t.linear(self.drop(x), a, f"rank:{name}"), b, width)))
        return t.cast(result, before)

    def _lora_4bit(self, x: Value, name: str, width: str) -> Value:
        t, route = self.tape, self.route
        result = self.base(x, name, width)
        result = t.copy(result)
        before = result.dtype
        if not route.autocast:
            x = t.cast(x, route.adapter)
        if route.dora:
            result = self._dora(x, result, name, width)
            return result if route.autocast else t.cast(result, before)
        a, b = self.pair(name)
        output = t.scaled(t.linear(t.linear(self.drop(x), a, f"rank:{name}"), b, width))
        if not route.autocast:
            output = t.cast(output, before)
        result = t.add(result, output)
        return result

    def drop(self, x: Value) -> Value:
        """LoRA's dropout."""
        return self.tape.dropout(x) if self.route.dropout else x

    def _dora(self, x: Value, result: Value, name: str, width: str) -> Value:
        """DoRA's layer: the update and the weight in full, for the norm of their sum's columns."""
        t, route, (a, b) = self.tape, self.route, self.pair(name)
        frozen_a, frozen_b = Value(None, a.width, a.dtype), Value(None, b.width, b.dtype)
        base = None if route.dropout else result
        x = self.drop(x)
        wide = t.new(f"eye:{name}", route.adapter)
        eye = t.lower(wide)  # its products are detached, but kept by a graph
        first = t.linear(eye, frozen_a, f"eyerank:{name}")
        update = t.linear(first, frozen_b, f"W:{name}")
        del wide
        if not t.grad_mode or (t.region and not t.recomputing):  # no graph keeps them
            del eye, first
        update = t.cast(update, x.dtype)
        weight = t.weight(f"W:{name}", route.dtype, False)
        if route.quantized or route.rest != x.dtype:
            if route.quantized:
                weight = t.new(f"W:{name}", route.dtype)
            weight = t.cast(weight, x.dtype)
        scaled = t.new(f"W:{name}", x.dtype)
        summed = t.new(f"W:{name}", x.dtype)
        del scaled
        del summed
        scale = t.weight(f"magnitude:{name}", route.adapter, True)
        lora = t.linear(t.linear(x, a, f"rank:{name}"), b, width)
        if base is None:
            base = t.linear(x, weight, width)
        elif name in route.biased:
            base = t.copy(base)  # less the bias
        out = t.add(t.broadcast(base, scale), t.scaled(t.broadcast(lora, scale)))
        return t.add(result, out)

    def _ia3(self, x: Value, name: str, width: str) -> Value:
        t, before = self.tape, x.dtype
        scale = t.weight("scale", self.route.adapter, True)
        if name in self.route.feedforward:
            x = t.cast(x, self.route.adapter)
            inner = t.cast(t.broadcast(x, scale), before)
            return self.base(inner, name, width)
        result = self.base(x, name, width)
        before = result.dtype
        return t.cast(t.broadcast(result, scale), before)

    def _bottleneck(self, h: Value) -> Value:
        t, adapter = self.tape, self.route.adapter
        down, up = t.weight("down", adapter, True), t.weight("up", adapter, True)
        change = t.linear(t.unary(t.linear(t.cast(h, adapter), down, "bottleneck")), up, h.width)
        return t.add(h, t.cast(change, h.dtype))

    def _update(self, x: Value, name: str, width: str) -> Value:
        """W x + B A x as one (fms-acceleration, fast_lora.py)."""
        t, route, (a, b) = self.tape, self.route, self.pair(name)
        given, ends = x.width, (self.traits.out, self.traits.mlp_out)
        dropped = t.new(x.width, x.dtype) if route.dropout else None
        if route.quantized:
            t.new(f"W:{name}", x.dtype)
        out = t.new(width, x.dtype)
        t.new(width, x.dtype)

        def back(grad: Value, *_: Value) -> tuple[Value | None, ...]:
            if route.quantized:
                t.new(f"W:{name}", grad.dtype)
            return t.new(given, grad.dtype), t.new(a.width, a.dtype), t.new(b.width, b.dtype)

        return t.op(out, (x, a, b), (None if name in ends else x, dropped, a, b), back)
