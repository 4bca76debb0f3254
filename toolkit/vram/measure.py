"""The plan's training step on a real device: the same breakdown, from tensors that exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from toolkit.plan import Plan
from toolkit.vram.memory import Interval, Memory


class MeasureError(RuntimeError):
    """A measurement that this machine cannot make; one sentence says what it lacks."""


def measure(plan: Plan, device: str = "cuda") -> Memory:
    """Run two steps with random weights and measure the second. Bytes; all three intervals are points.

    On "cuda" the peaks are `torch.cuda`'s own counters and `process` is what the driver has given out; the
    parts come from following every storage. 4-bit weights are made packed, so `reserved` lacks what loading
    them from a checkpoint leaves in the allocator (`simulate` has it). On "cpu" the peaks are those of the
    followed storages. Raises MeasureError where there is no such device or not memory enough.
    """
    import torch

    from toolkit.vram.live import build
    from toolkit.vram.simulate import run
    from toolkit.vram.trace import Trace, moments

    if device == "cuda" and not torch.cuda.is_available():
        raise MeasureError("não há GPU CUDA nesta máquina: use estimate(plan) ou simulate(plan), sem GPU.")
    trace = Trace()
    if device == "cuda":
        torch.cuda.empty_cache()
    try:
        run(plan, build(plan), trace, device)
    except torch.OutOfMemoryError:
        raise MeasureError("a memória da GPU acabou: fit(plan, gpu) diz o que faria o plano caber.") from None
    found = moments(trace)
    peak = max(sum(parts.values()) for parts in found.values())
    if device == "cpu":
        return Memory("measure", found, *(Interval(peak, peak, peak) for _ in range(3)))
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    free, total = torch.cuda.mem_get_info()
    process = total - free + reserved - torch.cuda.memory_reserved()
    return Memory("measure", found, *(Interval(x, x, x) for x in (allocated, reserved, process)))


def compare_memory(plan: Plan, *memories: Memory) -> list[dict[str, Any]]:
    """Rows to show side by side: each Memory's tiers in bytes, and its error in percent of the last.

    Without `memories`: the plan's estimate, its simulation and, where there is a GPU, its measurement.
    """
    memories = memories or tuple(_all(plan))
    reference = memories[-1]
    return [
        {
            "source": memory.source,
            "allocated": memory.allocated.value,
            "reserved": memory.reserved.value,
            "process": memory.process.value,
            "peak_moment": memory.peak_moment,
            "error_percent": 100 * (memory.allocated.value / reference.allocated.value - 1),
        }
        for memory in memories
    ]


def _all(plan: Plan) -> Iterable[Memory]:
    import torch

    from toolkit.vram.estimate import estimate
    from toolkit.vram.simulate import simulate

    yield estimate(plan)
    yield simulate(plan)
    if torch.cuda.is_available():
        yield measure(plan)
