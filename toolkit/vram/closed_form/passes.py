"""A micro-batch's forward, loss and backward on sizes: the model around its layers, and the code of the loss.

Sources: transformers' modeling files and `loss_utils.py`, trl's chunked loss, Liger-Kernel's
`fused_linear_cross_entropy.py`; `toolkit.vram.step` is the same on tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.vram.closed_form.layers import Layer
from toolkit.vram.closed_form.operators import Operators
from toolkit.vram.closed_form.route import MOVES_LABELS, UPCAST_IN_LOSS, Route
from toolkit.vram.closed_form.tape import Key, Leaf, Value

TWO_MASKS = ("gemma2", "gemma3_text")  # layers with a window and layers without
SCALED_EMBEDDING = ("gemma", "gemma2", "gemma3_text", "granite", "granitemoe")


class Passes(Layer):
    """One micro-batch of a route, written on a tape with marks where layers and moments begin."""

    def __init__(self, route: Route, before: Sequence[Key] = ()) -> None:
        """`before` is what the last micro-batch's output keeps until this one's takes its name."""
        self.before = before
        super().__init__(route, Operators(route.autocast, route.accumulates))
        tied = route.tied and route.full
        self.embedding = self.tape.weight("W:embedding", route.rest, route.full, 2 if tied else 1)
        self.head = self.embedding if tied else self.tape.weight("W:embedding", route.rest, route.full)
        self.held: list[Value] = []
        self.shared: list[Value] = []

    def run(self) -> Operators:
        """The whole micro-batch."""
        t = self.tape
        t.mark("forward")
        _last_output = [t.new(*key) for key in self.before]
        loss = self._forward()
        t.casts = {}
        del _last_output
        node, dtype = loss.node, loss.dtype
        if self.route.held == "never":
            self.held, self.cache = [], []
        else:  # the output has the loss too, and with it the graph
            self.held.append(loss)
        del loss
        if node is not None:
            t.backward(node, t.new("none", dtype))
        if self.route.held == "backward":
            self.held, self.cache = [], []
        self.shared = []
        t.mark("end")
        return t

    def _forward(self) -> Value:
        hidden = self._stack()
        return self._loss(hidden)

    def _stack(self) -> Value:
        t, route = self.tape, self.route
        hidden, _embeddings = self._embedded()
        self.angles = hidden.dtype
        shared = self._shared(hidden.dtype)
        for index in range(route.layers):
            hidden = self._marked(hidden, f"below {index}")
            t.mark(f"layer {index}")
            given = hidden.number
            if route.checkpointing:
                hidden = t.checkpoint(self.forward, hidden, route.reentrant)
            else:
                hidden = self.forward(hidden)
        self.given = None
        self.through = given, hidden.number  # the last layer's input and output
        self.stream = hidden.width, hidden.dtype
        t.mark("above")
        hidden = self._marked(hidden, "backward above")
        if not route.projected:
            hidden = self.norm(hidden)
        else:
            hidden = t.linear(hidden, t.weight("W:project", route.rest, route.full), "words")
        rotary = 2 if self.traits.positions == "rotary" else 0
        self.shared = shared if route.checkpointing else shared[len(shared) - rotary :]
        return hidden

    def _marked(self, x: Value, label: str) -> Value:
        """The same tensor, with a mark where its gradient is there."""
        tape = self.tape

        def back(grad: Value) -> tuple[Value]:
            tape.mark(label)
            return (grad,)

        return tape.op(Value(x.store, x.width, x.dtype), (x,), (), back)

    def _embedded(self) -> tuple[Value, list[Value]]:
        """What goes into the first layer, and the model's variables for the length of its forward."""
        t, route, family = self.tape, self.route, self.route.family
        if route.method == "PrefixTuning":
            table = t.weight("prefixtable", route.adapter, True)
            taken = t.op(t.new("prefixes", route.adapter), (table,))
            self.prefix = t.copy(t.cast(taken, route.rest))
        hidden = t.op(t.new("words", route.rest), (self.embedding,))
        if route.inputs_require_grad:
            kept: list[Any] = [hidden.store]  # it and its gradient live as long as the graph
            hidden.node = Leaf(hidden.dtype, kept.append)
        if route.method == "PromptTuning":
            tokens = t.op(t.new("prompt", route.adapter), (t.weight("prompttable", route.adapter, True),))
            tokens = t.cast(tokens, hidden.dtype)
            hidden = t.op(t.new("hidden", hidden.dtype), (hidden, tokens))
        if route.projected:
            hidden = t.linear(hidden, t.weight("W:project", route.rest, route.full), "hidden")
        variables: list[Value] = []
        if family in SCALED_EMBEDDING:
            hidden = t.scaled(hidden)
        if self.traits.positions == "learned":
            places = t.op(t.new("places", route.rest), (t.weight("W:places", route.rest, route.full),))
            variables = [hidden, places]
            hidden = t.add(hidden, places)
        if self.traits.embedding_norm:
            hidden = self.norm(hidden)
        if self.traits.dropout and family != "opt":
            hidden = t.dropout(hidden)
        return hidden, variables or [hidden]

    def _shared(self, dtype: str) -> list[Value]:
        """What all layers read: angles of the rotary embedding, a mask."""
        t, route = self.tape, self.route
        made: list[Value] = []
        for _ in range(2 if route.family in TWO_MASKS else 1):
            if route.kernel == "eager":
                mask = t.new("mask", "byte")
                made.append(t.new("bias", route.rest))
                del mask
            elif route.masked:
                made.append(t.new("mask", "byte"))
        if self.traits.positions == "rotary":
            made += [t.new("angles", dtype), t.new("angles", dtype)]
        return made

    # The loss

    def _loss(self, hidden: Value) -> Value:
        t, route = self.tape, self.route
        t.mark("loss")
        hidden = self._marked(hidden, "backward")
        if route.loss == "fused":
            return self._fused_loss(hidden)
        if route.loss == "chunked":
            return self._chunked_loss(hidden)
        adapted = "lm_head" in route.targets
        logits = (
            self.linear(hidden, "lm_head", "logits") if adapted else t.linear(hidden, self.head, "logits")
        )
        if route.family == "gemma2":
            logits = t.scaled(t.unary(t.scaled(logits), "out"))
        elif route.family in ("cohere", "granite", "granitemoe"):
            logits = t.scaled(logits)
        if route.era < UPCAST_IN_LOSS:  # the model itself made its logits fp32
            logits = t.cast(logits, "fp32")
        self.held = [logits]
        return self._cross_entropy(logits)

    def _cross_entropy(self, logits: Value) -> Value:
        t, route = self.tape, self.route
        if route.loss != "no_upcast":
            logits = t.cast(logits, "fp32")
        if route.era >= MOVES_LABELS:
            return self._entropy(logits)
        out = t.new(logits.width, logits.dtype) if route.several else logits  # of one sequence a view
        shifted = t.op(Value(out.store, out.width, out.dtype), (logits,))  # all but the last position
        return self._entropy(shifted)

    def _entropy(self, logits: Value) -> Value:
        t = self.tape
        if self.route.loss == "in_place":
            return t.op(t.new("none", logits.dtype), (logits,), (logits,), lambda _, logits: (logits,))
        logits = t.upper(logits)
        kept = t.new(logits.width, logits.dtype)
        shares = t.op(kept, (logits,), (kept,))  # log_softmax keeps what it gives, nll_loss what it is given
        return t.op(t.new("none", logits.dtype), (shares,), (kept,))

    def _flat(self, hidden: Value) -> Value:
        """All positions but each sequence's last, in rows: of one sequence a view, of several a copy."""
        t = self.tape
        out = t.new(hidden.width, hidden.dtype) if self.route.several else hidden
        return t.op(Value(out.store, out.width, out.dtype), (hidden,))

    def _chunked_loss(self, hidden: Value) -> Value:
        """Each chunk's logits are made in the forward, and again in the backward."""
        t, route = self.tape, self.route
        rows = t.split(self._flat(hidden), ("rows", "others") if route.several_chunks else ("rows",))
        head = self.head
        if isinstance(head.node, Leaf) and route.autocast in ("", head.dtype):
            head.node.uses += len(rows) - 1

        def chunk(states: Value) -> Value:
            return self._entropy(t.cast(t.linear(states, head, "chunk"), "fp32"))

        losses = [t.checkpoint(chunk, part, False) for part in rows]
        return t.op(t.new("none", "fp32"), losses, (), lambda grad: [grad] * len(rows))

    def _fused_loss(self, hidden: Value) -> Value:
        """Logits and gradients by chunks, in the forward already."""
        t, route = self.tape, self.route
        hidden = self._flat(hidden)
        weight = t.cast(self.head, hidden.dtype) if self.head.dtype != hidden.dtype else self.head
        gradient = t.new("words" if route.projected else "hidden", hidden.dtype)
        summed = t.new("W:embedding", hidden.dtype) if weight.node else None
        product = route.autocast or hidden.dtype
        before = t.new("pieces", product)  # a variable, until the next one has its name
        turned = t.new("W:embedding", product) if product != weight.dtype else None  # no leaf: cast anew
        logits = t.new("piece", product)
        del before, turned
        lowered = t.cast_weight(weight)
        t.new("piecerows", product)
        del lowered
        if summed is not None:
            t.new("W:embedding", product)
        del logits

        def back(_: Value, gradient: Value, summed: Value | None = None) -> tuple[Value | None, ...]:
            return gradient, summed

        return t.op(t.new("none", "fp32"), (hidden, weight), (gradient, summed), back)
