"""Attention on sizes: projections, rotary embedding, caches, and the kernels of `toolkit.vram.kernels`."""

from __future__ import annotations

from toolkit.vram.closed_form.modules import Modules
from toolkit.vram.closed_form.operators import promoted
from toolkit.vram.closed_form.tape import Value

ROTATE_PART = ("phi", "stablelm", "gpt_neox", "phi3")  # rotate a part of each head and join it with the rest


class Heads(Modules):
    """A layer's attention, family by family."""

    def attention(self, x: Value) -> tuple[Value, Value | None]:
        """Projections, rotation, the kernel, the way out; with the weights that eager code gives back."""
        query, key, value = self._projected(x)
        if self.traits.positions == "rotary" and self.route.kernels == "torch":
            (query, _query), (key, _key) = self._rotated(query), self._rotated(key)
        if self.route.method == "PrefixTuning":
            key, value = self._prefixed(key), self._prefixed(value)
        elif self.route.cached:
            key, value = self._cached(key, key.dtype), self._cached(value, key.dtype)
        out, weights = self._kernel(query, key, value)
        return self.linear(out, self.traits.out, "hidden"), weights

    def _projected(self, x: Value) -> tuple[Value, Value, Value]:
        t, names = self.tape, self.traits.qkv
        if len(names) == 1:
            query, key, value = t.split(self.linear(x, names[0], "qkv"), ("q", "kv", "kv"))
            return query, key, value
        query = self.linear(x, names[0], "q")
        if self.route.family == "opt":
            query = t.scaled(query)
        key, value = self.linear(x, names[1], "kv"), self.linear(x, names[2], "kv")
        if self.traits.qk_norm:
            query, key = self.norm(query), self.norm(key)
        return query, key, value

    def _rotated(self, x: Value) -> tuple[Value, tuple[Value, ...]]:
        """The rotary embedding, in the angles' dtype where that is wider; with what stays variables: Phi and
        StableLM rotate in the attention's own code."""
        t, part = self.tape, self.route.family in ROTATE_PART
        before = x.dtype
        if self.route.family == "cohere":
            x = t.cast(x, "fp32")
        rotary = t.view(x, f"rotary:{x.width}") if part else x
        out = turned = t.add(t.scaled(rotary, self.angles), t.scaled(t.rotate_half(rotary), self.angles))
        if part:
            out = t.join(turned, x)
        if self.route.family == "cohere":
            out = t.cast(out, before)
        return out, (turned, rotary) if self.route.family in ("phi", "stablelm") else ()

    def _cached(self, x: Value, dtype: str) -> Value:
        """DynamicCache: the first call lays what it is given behind an empty tensor of the keys' dtype."""
        out = self.tape.copy(x) if x.dtype == promoted(x.dtype, dtype) else self.tape.cast(x, "fp32")
        self.cache.append(out)
        return out

    def _prefixed(self, x: Value) -> Value:
        """Behind the prefix's; all gradients flow, those of the prefix in a copy of their own."""
        t = self.tape
        joined = t.new("keys", promoted(x.dtype, self.prefix.dtype))
        parts = "kv", "prefix"
        out = t.op(joined, (x, self.prefix), (), lambda grad: [t.new(part, grad.dtype) for part in parts])
        self.cache.append(out)
        return out

    def _kernel(self, query: Value, key: Value, value: Value) -> tuple[Value, Value | None]:
        kernel = self.route.kernel
        if kernel == "eager":
            eager = self._alibi if self.route.family == "bloom" else self._eager
            return eager(query, key, value)
        if kernel == "math":
            return self._math(query, key, value), None
        return self._fused(query, key, value, kernel), None

    def _fused(self, query: Value, key: Value, value: Value, kernel: str) -> Value:
        """Flash or memory-efficient attention: q, k, v, out and the log-sum-exp are kept."""
        t, route = self.tape, self.route
        if route.autocast or (route.flash_package and query.dtype == "fp32"):
            lower = route.autocast or route.dtype
            query, key, value = t.cast(query, lower), t.cast(key, lower), t.cast(value, lower)
        if route.repeats:
            key, value = self._repeated(key), self._repeated(value)
        packs = route.flash_package and route.padded  # padding is taken out before the kernel, and put back
        if packs:
            query, key, value = t.copy(query), t.copy(key), t.copy(value)
        bias = t.new("bias", query.dtype) if route.masked and kernel == "efficient" else None
        out, sums = t.new("q", query.dtype), t.new("heads", "fp32")
        dtype, widths = query.dtype, (query.width, key.width, value.width)
        expands = kernel == "flash" and route.grouped and not route.repeats

        def back(*_: Value) -> tuple[Value, ...]:
            held = [t.new("heads", "fp32")]
            if kernel == "flash":
                held.append(t.new("flash", "fp32"))
            grads = tuple(t.new(width, dtype) for width in widths)
            if expands:
                held += [t.new("q", dtype), t.new("q", dtype)]
            if kernel == "efficient" and dtype != "fp32":
                held.append(t.new("efficient", "fp32"))
            del held
            return grads

        out = t.op(out, (query, key, value), (query, key, value, out, sums, bias), back)
        return t.copy(out) if packs else out

    def _math(self, query: Value, key: Value, value: Value) -> Value:
        """sdpa's composite of products, in fp32 (attention.cpp, _scaled_dot_product_attention_math)."""
        t, before = self.tape, query.dtype
        if self.route.autocast:
            lower = before = self.route.autocast
            query, key, value = t.cast(query, lower), t.cast(key, lower), t.cast(value, lower)
        query32, key32, value32 = t.cast(query, "fp32"), t.cast(key, "fp32"), t.cast(value, "fp32")
        query, _mask = t.scaled(query32), t.new("square", "fp32")
        keys, values = self._repeated(key32), self._repeated(value32)
        scaled = t.scaled(keys)
        weights = t.bmm(self._folded(query), self._folded(scaled, keys=True), "scores")
        weights = t.copy(weights)  # the mask is added
        weights = t.softmax(weights, "fp32")
        if before != "fp32":
            t.new("scores", before)  # the weights are cast too, to be given back to no one
        return t.copy(t.cast(t.bmm(weights, self._folded(values, keys=True), "q"), before))

    def _repeated(self, x: Value) -> Value:
        """Keys or values, as many as the queries."""
        return self.tape.repeat(x, "qkeys") if self.route.grouped else x

    def _folded(self, x: Value, keys: bool = False) -> Value:
        """Heads and sequences as one dimension, for a batched product: a copy where heads lie inside rows, as
        they do but in keys and values that were repeated or cached."""
        route = self.route
        laid_out = keys and (route.grouped or route.cached or route.method == "PrefixTuning")
        return self.tape.copy(x) if route.several and not laid_out else x

    def _eager(self, query: Value, key: Value, value: Value) -> tuple[Value, Value]:
        t, route = self.tape, self.route
        keys, values = t.lower(self._repeated(key)), t.lower(self._repeated(value))
        query = t.lower(query)
        weights = t.scaled(t.bmm(self._folded(query), self._folded(keys, keys=True), "scores"))
        if route.traits.softcap:
            weights = t.scaled(weights)
            weights = t.unary(weights, "out")
            weights = t.scaled(weights)
        weights = t.copy(weights)  # the mask is added
        wide = "fp32" if route.family != "gpt2" or route.autocast else weights.dtype
        weights = t.cast(t.softmax(weights, wide), query.dtype)
        if self.traits.dropout and route.family != "opt":
            weights = t.dropout(weights)
        return t.copy(t.bmm(weights, self._folded(values, keys=True), "q")), weights

    def _alibi(self, query: Value, key: Value, value: Value) -> tuple[Value, Value]:
        """BLOOM's: baddbmm scales and adds the positions; scores stay a variable throughout."""
        t = self.tape
        queries, keys, values = self._folded(query), self._folded(key), self._folded(value)
        queries, keys, values = t.lower(queries), t.lower(keys), t.lower(values)
        scores = t.bmm(queries, keys, "scores")
        masked = t.copy(scores)
        weights = t.cast(t.softmax(masked, "fp32"), query.dtype)
        return t.copy(t.bmm(weights, values, "q")), weights
