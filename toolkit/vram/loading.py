"""How a model's tensors come onto the card before training: in which order, and beside which temporaries.

In order (transformers, core_model_loading.py): `caching_allocator_warmup` takes the model's packed size at
once and lets it go; the checkpoint's tensors come sorted by name, each 4-bit one beside the 16-bit weight
that it is made of; peft's `prepare_model_for_kbit_training` makes fp32 copies one by one, and from 0.20 on
empties the cache; adapters come last. transformers 5.0 to 5.3 load with four threads (GLOBAL_WORKERS) while
the main one quantizes, so that the number of 16-bit weights on the card at a time is a matter of timing:
`SCHEDULES` samples it. From 5.4 on a tensor to quantize is loaded after the one before it is done.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from toolkit.methods import Full
from toolkit.plan import BYTES, Plan
from toolkit.vram.live import constants
from toolkit.vram.trace import EMPTY_CACHE, Block, Event, Trace

WARMUP_SINCE, EMPTIES_SINCE = (4, 50), (0, 20)  # transformers, peft
THREADED_SINCE, THREADED_UNTIL = (5, 0), (5, 4)  # transformers
JITTER = 0.2  # how far a tensor's time to load is from its bytes: sigma of its logarithm


class Schedule(NamedTuple):
    """Threads that load, how long quantizing a tensor takes in units of its loading by one of them, and the
    seed of what chance adds to both."""

    threads: int
    quantizing: float
    seed: int = 0


IN_ORDER = Schedule(1, 0.0)  # each tensor after the one before it
SCHEDULES = tuple(Schedule(4, quantizing, seed) for quantizing in (0.0, 0.1, 0.3) for seed in range(8))


def schedules(plan: Plan) -> tuple[Schedule, ...]:
    """The orders in which this plan's libraries may load it."""
    threaded = THREADED_SINCE <= plan.transformers_version < THREADED_UNTIL
    return SCHEDULES if plan.quantized and threaded else (IN_ORDER,)


class Arrival(NamedTuple):
    """A tensor of the checkpoint: what it is loaded as, what stays of it, and its later fp32 copy."""

    name: str
    loaded: Block
    kept: tuple[Block, ...]
    copy: Block | None

    @property
    def quantized(self) -> bool:
        """Whether what stays is made of what was loaded."""
        return self.loaded not in self.kept


class Loading:
    """The births of a model's tensors in `trace`, put into the order of loading; other orders on demand."""

    def __init__(self, model: Any, plan: Plan, trace: Trace) -> None:
        self.plan, start = plan, len(trace.events)
        parameters = list(model.named_parameters())
        frozen = [(n, p) for n, p in parameters if not p.requires_grad or isinstance(plan.method, Full)]
        self.arrivals = [_arrival(name, parameter, plan, trace) for name, parameter in frozen]
        rest = len(trace.events)
        trace.label(model.buffers(), "weights")
        for _, parameter in parameters:
            if parameter.requires_grad:
                trace.label([parameter], "weights" if isinstance(plan.method, Full) else "adapters")
                parameter.register_post_accumulate_grad_hook(lambda p: trace.label([p.grad], "gradients"))
        self.rest: list[Event] = trace.events[rest:]
        trace.events[start:] = self.events(IN_ORDER)
        self.size = len(trace.events)

    def events(self, schedule: Schedule) -> list[Event]:
        """All births and deaths of loading, on `schedule`."""
        events: list[Event] = []
        if self.plan.quantized and self.plan.transformers_version >= WARMUP_SINCE:
            warmup = Block(sum(arrival.kept[-1].size for arrival in self.arrivals), "load")
            events += [(warmup, True), (warmup, False)]
        events += self._arrive(schedule) if self.plan.quantized else [(a.loaded, True) for a in self.arrivals]
        for arrival in self.arrivals:
            if arrival.copy:
                events += [(arrival.copy, True), (arrival.loaded, False)]
        if self.plan.upcast == "all" and self.plan.peft_version >= EMPTIES_SINCE:
            events.append((EMPTY_CACHE, True))
        return events + self.rest

    def _arrive(self, schedule: Schedule) -> Iterator[Event]:
        ordered = sorted(self.arrivals, key=lambda arrival: _natural(arrival.name))
        for _, stage, index in sorted(_timetable([a.loaded.size for a in ordered], schedule)):
            arrival = ordered[index]
            if stage:
                yield arrival.loaded, True
            elif arrival.quantized:
                yield from ((block, True) for block in arrival.kept)
                yield arrival.loaded, False


def _timetable(sizes: list[int], schedule: Schedule) -> Iterator[tuple[float, int, int]]:
    """(time, 1, index) where a tensor begins to load, (time, 0, index) where it has been dealt with."""
    chance = random.Random(schedule.seed)
    threads, main = [0.0] * schedule.threads, 0.0
    for index, size in enumerate(sizes):
        begun, takes = heapq.heappop(threads), size * chance.lognormvariate(0, JITTER)
        yield begun, 1, index
        main = max(main, begun + takes) + schedule.quantizing * size * chance.lognormvariate(0, JITTER)
        yield main, 0, index
        heapq.heappush(threads, begun + takes)


def _arrival(name: str, parameter: Any, plan: Plan, trace: Trace) -> Arrival:
    name = name.replace("base_model.model.", "", 1).replace(".base_layer", "")
    state = getattr(parameter, "quant_state", None)
    if state:
        loaded = Block(state.shape.numel() * BYTES[plan.dtype], "load")
        made = [trace.follow(getattr(owner, part), "quant_constants") for owner, part in constants(state)]
        return Arrival(name, loaded, (*filter(None, made), _followed(trace, parameter)), None)
    block = _followed(trace, parameter)
    if not parameter.requires_grad and parameter.element_size() == 4 > BYTES[plan.dtype]:
        loaded = Block(parameter.numel() * BYTES[plan.dtype], "load", "weights")
        return Arrival(name, loaded, (loaded,), block)
    return Arrival(name, block, (block,), None)


def _followed(trace: Trace, parameter: Any) -> Block:
    block = trace.follow(parameter, "weights")
    assert block is not None, "a parameter of no bytes"
    return block


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts "layers.2" before "layers.10" (core_model_loading.py, dot_natural_key)."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in name.split(".")]
