"""PyTorch's caching allocator for CUDA, its arithmetic only: what a run's tensors make it reserve."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.vram.trace import EMPTY_CACHE, Event

# c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp (torch 2.13, default settings)
MIN_BLOCK = 512
SMALL = 2**20  # requests up to here live in the small pool
SMALL_SEGMENT = 2 * 2**20
MIDDLE = 10 * 2**20  # requests below take 20 MiB segments, larger ones their own
MIDDLE_SEGMENT = 20 * 2**20
ROUND_LARGE = 2 * 2**20


@dataclass(eq=False)
class Chunk:
    """A piece of a segment; neighbours in the same segment are linked."""

    address: int
    size: int
    small: bool
    free: bool = True
    before: Chunk | None = None
    after: Chunk | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Best fit: the smallest size first, then the lowest address."""
        return self.size, self.address


class Allocator:
    """`allocate` and `release` as `CUDACachingAllocator` does on one stream; sizes in bytes.

    `allocated` counts whole blocks, as torch.cuda.memory_allocated does: a block that is at most 1 MiB larger
    than what was asked is not split. Each new segment lies below the earlier ones, so among equals
    the newest segment is used first. CUDA documents no order: this one is inferred from two published runs
    (the other order missed them by 3 and 6 %), and held on 22 more that had no part in the choice.
    `limit` is what the card can give: a segment beyond it first gives the free ones back, as
    `release_cached_blocks` does; one that even then finds no room is taken all the same.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.reserved = 0
        self.allocated = 0
        self._pools: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._free: dict[int, Chunk] = {}
        self._lowest = 2**47

    def allocate(self, size: int) -> Chunk:
        """Find the best free block, or a new segment, and split off what is left where the rules allow it."""
        size = max(MIN_BLOCK, -(-size // MIN_BLOCK) * MIN_BLOCK)
        small = size <= SMALL
        pool = self._pools[small]
        index = bisect_left(pool, (size, 0))
        chunk = self._take(pool[index]) if index < len(pool) else self._segment(size, small)
        left = chunk.size - size
        if left >= MIN_BLOCK if small else left > SMALL:
            rest = Chunk(chunk.address + size, left, small, before=chunk, after=chunk.after)
            if chunk.after:
                chunk.after.before = rest
            chunk.size, chunk.after = size, rest
            self._give(rest)
        chunk.free = False
        self.allocated += chunk.size
        return chunk

    def release(self, chunk: Chunk) -> None:
        """Free a block and merge it with free neighbours; its segment stays reserved."""
        self.allocated -= chunk.size
        for other in (chunk.before, chunk.after):
            if other and other.free:
                self._take(other.key)
                chunk = self._merge(chunk, other)
        self._give(chunk)

    def empty_cache(self) -> None:
        """Give back the segments that are wholly free (torch.cuda.empty_cache)."""
        for chunk in [c for c in self._free.values() if not c.before and not c.after]:
            self._take(chunk.key)
            self.reserved -= chunk.size

    def _segment(self, size: int, small: bool) -> Chunk:
        if small:
            taken = SMALL_SEGMENT
        else:
            taken = MIDDLE_SEGMENT if size < MIDDLE else -(-size // ROUND_LARGE) * ROUND_LARGE
        if self.limit is not None and self.reserved + taken > self.limit:
            self.empty_cache()
        self._lowest -= 2 * taken  # segments never touch
        chunk = Chunk(self._lowest, taken, small)
        self.reserved += taken
        return chunk

    def _merge(self, chunk: Chunk, other: Chunk) -> Chunk:
        first, second = sorted((chunk, other), key=lambda c: c.address)
        first.size += second.size
        first.after = second.after
        if second.after:
            second.after.before = first
        return first

    def _give(self, chunk: Chunk) -> None:
        chunk.free = True
        insort(self._pools[chunk.small], chunk.key)
        self._free[chunk.address] = chunk

    def _take(self, key: tuple[int, int]) -> Chunk:
        chunk = self._free.pop(key[1])
        pool = self._pools[chunk.small]
        del pool[bisect_left(pool, key)]
        return chunk


def replay(events: Iterable[Event], since: int, limit: int | None = None) -> tuple[int, int]:
    """Peaks in bytes of `allocated` and `reserved` after event `since`, over (block, born) events."""
    allocator, held = Allocator(limit), dict[int, Chunk]()
    allocated = reserved = 0
    for index, (block, born) in enumerate(events):
        if block is EMPTY_CACHE:
            allocator.empty_cache()
        elif born:
            held[id(block)] = allocator.allocate(block.size)
        else:
            allocator.release(held.pop(id(block)))
        if index >= since:
            allocated = max(allocated, allocator.allocated)
            reserved = max(reserved, allocator.reserved)
    return allocated, reserved
