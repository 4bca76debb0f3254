"""Follows every storage from its birth to its death, on real or on fake tensors."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toolkit.vram.memory import MOMENTS

aten = torch.ops.aten
ROUND = 512  # kMinBlockSize of c10/core/AllocatorConfig.h: what a tensor takes is a multiple of it

BORN_IN = {"loss": "logits", "step": "optimizer_temporaries"}  # the part of what nothing labelled
PRODUCTS = {op.default for op in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)}
Temporaries = Callable[[Any, tuple[Any, ...]], tuple[int, int]]


@dataclass(eq=False)
class Block:
    """One storage: its bytes, rounded as the allocator rounds them, the part it belongs to, and its birth."""

    size: int
    moment: str
    part: str = ""

    def __post_init__(self) -> None:
        self.size = -(-self.size // ROUND) * ROUND


Event = tuple[Block, bool]  # born or not
EMPTY_CACHE = Block(0, "load")  # its birth stands for torch.cuda.empty_cache()


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records births and deaths of all storages that operators make while the mode is on.

    `events` holds (block, born) in order, `marks` the index of the event where each moment began.
    `temporaries(function, arguments)` gives the bytes that a kernel takes and frees inside itself: those
    taken before its result, those after. `workspace` is what cuBLAS takes in each thread, in bytes.
    """

    def __init__(self, temporaries: Temporaries | None = None, workspace: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.marks: list[tuple[int, str]] = [(0, "load")]
        self.temporaries = temporaries
        self.workspace = workspace
        self._threads: set[bool] = set()
        self._blocks: dict[int, Block] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (func is aten.add.Tensor and _sums_gradients(args)) or (
            func is aten.index_put.default and _in_backward(args[:1])
        ):
            return args[0]
        before, after = self.temporaries(func, args) if self.temporaries else (0, 0)
        with self.hold(before, "recompute"):
            out = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self.follow(leaf)
        if self.workspace and func in PRODUCTS:
            self._take_workspace()
        with self.hold(after, "recompute"):
            return out

    def _take_workspace(self) -> None:
        """cuBLAS takes its workspace at a thread's first product: autograd runs in a thread of its own."""
        thread = torch._C._current_graph_task_id() >= 0
        if thread not in self._threads:
            self._threads.add(thread)
            self._born(self.workspace, "workspaces")

    @property
    def moment(self) -> str:
        """The moment that is being recorded."""
        return self.marks[-1][1]

    def mark(self, moment: str) -> None:
        """Begin a moment. What the forward leaves alive when the loss begins is its activations."""
        if moment == "loss":
            for block in self._blocks.values():
                block.part = block.part or "activations"
        self.marks.append((len(self.events), moment))

    def follow(self, tensor: torch.Tensor, part: str = "") -> Block | None:
        """Record a tensor's storage, if it is new; `part` says what it is. 0 bytes are no storage."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._blocks:
            size = storage.nbytes()
            if not size:
                return None
            self._blocks[key] = self._born(size, part)
            weakref.finalize(storage, self._died, key)
        block = self._blocks[key]
        block.part = part or block.part
        return block

    def label(self, tensors: Iterable[Any], part: str) -> None:
        """Say what part these tensors' storages are."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                self.follow(tensor, part)

    def hold(self, size: int, part: str) -> AbstractContextManager[None]:
        """Bytes that no operator shows: taken now, freed when the context ends. 0 bytes are no block."""
        if not size:
            return contextlib.nullcontext()
        return _Held(self, self._born(size, part))

    def _born(self, size: int, part: str) -> Block:
        block = Block(size, self.moment, part)
        self.events.append((block, True))
        return block

    def _died(self, key: int) -> None:
        self.events.append((self._blocks.pop(key), False))


def _sums_gradients(args: tuple[Any, ...]) -> bool:
    """Whether autograd's engine is adding up a gradient: in place, but for subclasses, which fake tensors are
    (torch/csrc/autograd/input_buffer.cpp, accumulate). Backward formulas run without grad mode too, and add
    no two tensors of one shape."""
    if not _in_backward(args):
        return False
    first, second = args
    return bool(first.shape == second.shape and first.dtype == second.dtype and first.is_contiguous())


def _in_backward(args: tuple[Any, ...]) -> bool:
    """Whether a backward formula is at work on fake tensors, which it takes for a subclass: an index's fills
    its zeros in place but for those (torch/csrc/autograd/FunctionsManual.cpp, index_backward)."""
    in_backward = torch._C._current_graph_task_id() >= 0 and not torch.is_grad_enabled()
    return in_backward and all(isinstance(arg, FakeTensor) for arg in args)


class _Held:
    def __init__(self, trace: Trace, block: Block) -> None:
        self.trace, self.block = trace, block

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.trace.events.append((self.block, False))


def moments(trace: Trace) -> dict[str, dict[str, int]]:
    """Bytes by part at the peak of each moment: "load", and those of the step after the mark "second"."""
    live: dict[str, int] = {}
    best: dict[str, dict[str, int]] = {}
    tops: dict[str, int] = {}
    total, first, marks = 0, True, iter([*trace.marks, (len(trace.events), "")])
    moment, (start, upcoming) = "load", next(marks)
    for index, (block, born) in enumerate(trace.events):
        while index >= start:
            first = first and upcoming != "second"
            moment, (start, upcoming) = upcoming, next(marks)
            if not first and total > tops.get(moment, -1):
                tops[moment], best[moment] = total, dict(live)
        part = block.part or BORN_IN.get(block.moment, "recompute")
        change = block.size if born else -block.size
        live[part] = live.get(part, 0) + change
        total += change
        if (moment == "load" or not first) and total > tops.get(moment, -1):
            tops[moment], best[moment] = total, dict(live)
    return {moment: best[moment] for moment in MOMENTS if moment in best}
