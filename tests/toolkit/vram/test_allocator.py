"""The allocator's arithmetic, worked by hand from the rules of c10/cuda/CUDACachingAllocator.cpp."""

from hypothesis import given
from hypothesis import strategies as st

from toolkit.vram.allocator import Allocator, replay
from toolkit.vram.trace import EMPTY_CACHE, Block

MIB = 2**20


def test_small_requests_share_a_segment_of_two_mib():
    allocator = Allocator()
    for _ in range(4):
        allocator.allocate(1)
    assert (allocator.reserved, allocator.allocated) == (2 * MIB, 4 * 512)


def test_middle_requests_share_twenty_mib_and_large_ones_take_their_own():
    allocator = Allocator()
    allocator.allocate(8 * MIB)
    allocator.allocate(8 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.allocate(11 * MIB)  # 4 MiB are left in the segment: a new one, rounded to 2 MiB
    assert allocator.reserved == 32 * MIB


def test_a_rest_of_one_mib_is_not_split_and_counts_as_allocated():
    allocator = Allocator()
    allocator.allocate(501 * MIB)
    assert (allocator.reserved, allocator.allocated) == (502 * MIB, 502 * MIB)


def test_freed_neighbours_merge_and_are_used_again():
    allocator = Allocator()
    chunks = [allocator.allocate(5 * MIB) for _ in range(4)]
    for chunk in chunks:
        allocator.release(chunk)
    allocator.allocate(20 * MIB)
    assert allocator.reserved == 20 * MIB


def test_the_best_fit_is_taken():
    allocator = Allocator()
    large, small = allocator.allocate(40 * MIB), allocator.allocate(30 * MIB)
    allocator.release(large)
    allocator.release(small)
    assert allocator.allocate(30 * MIB).address == small.address


def test_near_the_cards_limit_free_segments_go_back_first():
    allocator = Allocator(limit=100 * MIB)
    allocator.release(allocator.allocate(60 * MIB))
    allocator.allocate(80 * MIB)
    assert allocator.reserved == 80 * MIB


def test_a_replay_empties_the_cache_where_it_was_emptied_and_looks_at_what_comes_after():
    load, kept = Block(60 * MIB, "load"), Block(30 * MIB, "step")
    events = [(load, True), (load, False), (EMPTY_CACHE, True), (kept, True)]
    assert replay(events, since=3) == (30 * MIB, 30 * MIB)


@given(st.lists(st.integers(1, 64 * MIB), max_size=40), st.randoms())
def test_what_is_allocated_is_reserved_and_all_comes_back(sizes, random):
    allocator, held = Allocator(), []
    for size in sizes:
        held.append(allocator.allocate(size))
        if random.random() < 0.5:
            allocator.release(held.pop(random.randrange(len(held))))
        assert sum(chunk.size for chunk in held) == allocator.allocated <= allocator.reserved
    for chunk in held:
        allocator.release(chunk)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0
