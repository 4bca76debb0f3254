"""Autograd on tensors that are sizes only: what a step's operators keep, take and let go, in order.

Tensors live as torch's do: as long as a variable, a node of the graph or a gradient buffer has them. The
order is that of torch's engine (torch/csrc/autograd/engine.cpp): the youngest node first, a node's saved
tensors freed once it has run, gradients summed in place.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

Key = tuple[str, str]  # a width and a dtype: what a size is computed from, once the numbers are known


class Store:
    """A tensor's bytes, from its birth to its death."""

    __slots__ = ("number", "tape")

    def __init__(self, tape: Tape, key: int) -> None:
        self.tape, self.number = tape, len(tape.stores)
        tape.stores.append(key)
        tape.events.append(self.number)

    def __del__(self) -> None:
        self.tape.events.append(~self.number)


class Node:
    """What made a tensor: the nodes of its inputs, what it saved, and how gradients go back through it."""

    __slots__ = ("back", "dtype", "inputs", "kept", "order", "parts", "saved")

    def __init__(self, order: int, dtype: str, inputs: Sequence[Node | None], saved: Any, back: Any) -> None:
        self.order, self.dtype, self.inputs, self.saved, self.back = order, dtype, inputs, saved, back
        self.parts: list[Value] | None = None  # gradients of a tensor's parts, which wait for each other
        self.kept: Value | None = None  # not a saved tensor: there as long as the node is


class Value:
    """A tensor: its store (none for a weight, which is counted apart), its width's name and its dtype."""

    __slots__ = ("dtype", "node", "store", "width")

    def __init__(self, store: Store | None, width: str, dtype: str, node: Node | None = None) -> None:
        self.store, self.width, self.dtype, self.node = store, width, dtype, node

    @property
    def number(self) -> int:
        """Its store's."""
        assert self.store is not None, "a weight has none"
        return self.store.number


Back = Callable[..., Iterable[Value | None]]


class Leaf(Node):
    """Where gradients end: waits for all `uses` of a tensor, then hands their sum on (accumulate_grad.h)."""

    __slots__ = ("take", "uses")

    def __init__(self, dtype: str, take: Callable[[Value], object], uses: int = 1) -> None:
        super().__init__(0, dtype, (), None, None)
        self.take, self.uses = take, uses

    def give(self, grad: Value) -> None:
        """One use's gradient; what comes later is added to the first."""
        self.uses -= 1
        self.saved = self.saved or grad
        if self.uses <= 0:
            whole, self.saved = self.saved, None
            self.take(whole)


UNKNOWN = 99  # uses of an input: its gradient is read when all is done


class Stopped(Exception):
    """All that the backward needs is there again (torch/utils/checkpoint.py, _StopRecomputationError)."""


class Region:
    """A checkpoint that does not re-enter: what its operators save is packed away, made anew on demand."""

    def __init__(self, again: Callable[[], object]) -> None:
        self.again, self.packed = again, 0
        self.made: list[Sequence[Value]] = []

    def take(self, tape: Tape, index: int) -> Sequence[Value]:
        """What the node packed, recomputed with all the others' where it has not been."""
        if not self.made:
            tape.recompute(self)
        taken = self.made[index]
        self.made[index] = ()
        return taken


class Packed(NamedTuple):
    """Where a node's saved tensors will be."""

    region: Region
    place: int


class Tape:
    """Records all births (a store's number) and deaths (its complement), in order.

    `stores` has the index into `keys` of each store.
    """

    def __init__(self, autocast: str = "", accumulates: bool = False) -> None:
        self.events: list[int] = []
        self.stores: list[int] = []
        self.keys: dict[Key, int] = {}
        self.marks: list[tuple[int, str]] = []
        self.gradients: list[Store | None] = []
        self.autocast, self.accumulates = autocast, accumulates
        self.grad_mode, self.recomputing = True, False
        self.region: Region | None = None
        self.casts: dict[int, tuple[Value, Value]] = {}  # of trained weights, kept until autocast ends
        self._order = 0

    def mark(self, label: str) -> None:
        """Name the place that the record has come to."""
        self.marks.append((len(self.events), label))

    def new(self, width: str, dtype: str) -> Value:
        """A tensor that nothing was recorded about."""
        return Value(Store(self, self.keys.setdefault((width, dtype), len(self.keys))), width, dtype)

    def weight(self, width: str, dtype: str, trained: bool, uses: int = 1) -> Value:
        """A parameter, whose bytes are counted apart."""
        return Value(None, width, dtype, Leaf(dtype, self._accumulate, uses) if trained else None)

    def _accumulate(self, grad: Value) -> None:
        if not self.accumulates:
            self.gradients.append(grad.store)

    def op(
        self,
        out: Value,
        inputs: Sequence[Value],
        saved: Sequence[Value | None] = (),
        back: Back | None = None,
    ) -> Value:
        """`out` as the result of an operator on `inputs`; `back(grad, *saved)` gives their gradients.

        Without `back` each input that needs a gradient gets a new tensor, in order.
        """
        if not self.grad_mode or not any(value.node for value in inputs):
            return out
        kept: Any = tuple(value for value in saved if value is not None)
        if kept and self.region is not None:
            kept = self._pack(self.region, kept)
        self._order += 1
        node = Node(self._order, out.dtype, tuple(value.node for value in inputs), kept, back)
        if back is None:
            wanted = tuple((value.width if value.node else "", value.dtype) for value in inputs)
            node.back = lambda grad, *_: [self.new(w, grad.dtype) if w else None for w, _ in wanted]
        return Value(out.store, out.width, out.dtype, node)

    def foresee(self, inputs: Sequence[Value], saved: Sequence[Value | None]) -> None:
        """What an operator saves of its inputs it saves before it runs: a recomputation may stop there."""
        region = self.region
        if self.recomputing and region is not None and len(region.made) + 1 == region.packed:
            kept = tuple(value for value in saved if value is not None)
            if kept and any(value.node for value in inputs):
                region.made.append(kept)
                raise Stopped

    def _pack(self, region: Region, kept: tuple[Value, ...]) -> Packed:
        if self.recomputing:
            region.made.append(kept)
            if len(region.made) == region.packed:
                raise Stopped
        else:
            region.packed += 1
        return Packed(region, (len(region.made) if self.recomputing else region.packed) - 1)

    def backward(self, root: Node, grad: Value) -> None:
        """Send a gradient back from `root` to the leaves."""
        waiting, ready = {id(root): grad}, [(-root.order, id(root), root)]
        while ready:
            node = heapq.heappop(ready)[2]
            for index, given in enumerate(self._run(node, waiting.pop(id(node)))):
                if given is not None and (target := node.inputs[index]) is not None:
                    self._give(target, given, waiting, ready)
                del given

    def _run(self, node: Node, grad: Value) -> list[Value | None]:
        saved = node.saved
        if isinstance(saved, Packed):
            saved = saved.region.take(self, saved.place)
        grads = list(node.back(grad, *saved))
        node.saved, node.back, node.parts = (), None, None
        return grads

    def _give(self, node: Node, grad: Value, waiting: dict[int, Value], ready: list[Any]) -> None:
        if grad.dtype != node.dtype:
            grad = self.new(grad.width, node.dtype)
        if isinstance(node, Leaf):
            node.give(grad)
        elif id(node) not in waiting:
            waiting[id(node)] = grad
            heapq.heappush(ready, (-node.order, id(node), node))
        elif node.parts is not None:
            node.parts.append(grad)

    def checkpoint(self, layer: Callable[[Value], Value], given: Value, reentrant: bool) -> Value:
        """A layer of which only the input is kept (torch/utils/checkpoint.py)."""
        if reentrant:
            return self._reentrant(layer, given)
        before = self.region
        self.region = Region(lambda: layer(Value(given.store, given.width, given.dtype, given.node)))
        out = layer(given)
        self.region = before
        return out

    def recompute(self, region: Region) -> None:
        """Run a region again, up to the last thing that it saves."""
        before = self.region, self.casts, self.grad_mode
        self.region, self.casts, self.recomputing, self.grad_mode = region, {}, True, True
        with suppress(Stopped):
            region.again()
        self.recomputing = False
        self.region, self.casts, self.grad_mode = before

    def _reentrant(self, layer: Callable[[Value], Value], given: Value) -> Value:
        before, self.grad_mode = self.grad_mode, False
        out = layer(given)
        self.grad_mode = before

        def back(grad: Value, kept: Value) -> Iterable[Value | None]:
            casts, self.casts = self.casts, {}
            leaf = Leaf(kept.dtype, lambda grad: None, uses=UNKNOWN)
            again = layer(Value(kept.store, kept.width, kept.dtype, leaf))
            self.casts = casts
            if again.node is not None:
                self.backward(again.node, grad)
            return (leaf.saved,)

        return self.op(out, (given,), (given,), back)
