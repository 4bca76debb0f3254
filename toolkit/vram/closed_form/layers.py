"""A decoder layer on sizes: norms, residuals, attention and MLP, one after the other or side by side."""

from __future__ import annotations

from toolkit.vram.closed_form.feed_forward import FeedForward
from toolkit.vram.closed_form.heads import Heads
from toolkit.vram.closed_form.tape import Value

ATTENDED = ("gpt2", "gpt_bigcode", "stablelm")  # what attention gave stays a variable to the end


class Layer(Heads, FeedForward):
    """A decoder layer of the route's family."""

    def forward(self, hidden: Value) -> Value:
        """The stream after the layer."""
        if self.traits.parallel:
            return self._parallel(hidden)
        post_only, both = self.route.family == "olmo2", self.traits.block_norms == 4
        residual = hidden
        if not post_only:
            hidden = self.norm(hidden)
        _normed = hidden if self.route.family == "stablelm" else None
        hidden, weights = self.attention(hidden)
        _attended = hidden if self.route.family in ATTENDED else None
        if post_only or both:
            hidden = self.norm(hidden)
        hidden = self._joined(residual, hidden)
        residual = hidden
        if not post_only:
            hidden = self.norm(hidden)
        hidden = self.feed_forward(hidden)
        if post_only or both:
            hidden = self.norm(hidden)
        if self.route.family == "bloom":  # its layers give them back
            self.given = weights
        return self._joined(residual, hidden)

    def _joined(self, residual: Value, hidden: Value) -> Value:
        if self.traits.dropout:
            hidden = self.tape.dropout(hidden)
        if self.route.family.startswith("granite"):
            return self.tape.add(residual, self.tape.scaled(hidden))
        return self.tape.add(residual, hidden)

    def _parallel(self, hidden: Value) -> Value:
        """GPT-NeoX, Phi and Cohere: attention and MLP both read the layer's input."""
        t, residual = self.tape, hidden
        if self.traits.block_norms == 2:
            attended, _ = self.attention(self.norm(hidden))
            fed = self.feed_forward(self.norm(hidden))
            return t.add(t.add(fed, attended), hidden)
        hidden = self.norm(hidden)
        attended, _ = self.attention(hidden)
        fed = self.feed_forward(hidden)
        if self.route.family == "cohere":
            return t.add(t.add(residual, attended), fed)
        return t.add(t.add(attended, fed), residual)
