"""Whether a fine-tune fits on a card, how far it could grow there, and the cheapest ways to make it fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

from toolkit import catalogue
from toolkit.methods import LoRA
from toolkit.models import Architecture
from toolkit.plan import BYTES, Plan, PlanError
from toolkit.vram.estimate import estimate
from toolkit.vram.fixes import CHANGES, Change
from toolkit.vram.gpus import GPU, Verdict, gpu, gpus
from toolkit.vram.memory import GIB, Interval, Memory

MOST_CHANGES = 3  # tried together
LEAST_SAVED = 2**26  # bytes below which a change is not worth offering
LARGEST_BATCH = 2**16
MIXES = 3  # offered


@dataclass(frozen=True)
class Fix:
    """Changes that lower the memory: the changed plan, bytes saved on the card, and whether it then fits."""

    changes: tuple[Change, ...]
    plan: Plan
    saves: int
    verdict: Verdict

    @property
    def cost(self) -> int:
        """What the changes cost together (see Change)."""
        return sum(change.cost for change in self.changes)

    def label(self, language: str = "pt") -> str:
        """The changes in words, without what they save."""
        return " + ".join(change.label(self.plan, language) for change in self.changes)

    def __str__(self) -> str:
        return f"{self.label()}: -{self.saves / GIB:.1f} GiB".replace(".", ",")


@dataclass(frozen=True)
class Fit:
    """A plan against a card. `margin` is an interval in bytes; negative is what is missing.

    `largest` has the largest "batch", "seq_len" and "rank" (LoRA only) that surely fit, each with the rest of
    the plan unchanged, 0 where none does; `largest_model` is the largest of the catalogue that does, and
    `smallest_gpu` the smallest card of the table that surely holds the plan.
    """

    plan: Plan
    gpu: GPU
    memory: Memory
    verdict: Verdict
    margin: Interval
    largest: dict[str, int]
    largest_model: str | None
    smallest_gpu: str | None
    fixes: tuple[Fix, ...]


def fit(plan: Plan, card: str | GPU) -> Fit:
    """Check a plan against a card; fixes come cheapest first, those that make it fit before the others.

    "fits": even the upper end of what nvidia-smi should show is within the card's memory; "exceeds": even the
    lower end is not; "tight": in between. Raises GPUError for a card that is not in the table.
    """
    card = gpu(card)
    plan = plan.change(gpu=card.name) if card.name in gpus() else plan
    memory = estimate(plan)
    verdict = card.verdict(memory.process)
    return Fit(
        plan=plan,
        gpu=card,
        memory=memory,
        verdict=verdict,
        margin=Interval(*(card.memory - taken for taken in reversed(memory.process))),
        largest=_largest(plan, card),
        largest_model=_largest_model(plan, card),
        smallest_gpu=_smallest_gpu(plan),
        fixes=() if verdict == "fits" else _fixes(plan, card, memory),
    )


def _fits(plan: Plan, card: GPU) -> bool:
    return card.verdict(estimate(plan).process) == "fits"


def _largest(plan: Plan, card: GPU) -> dict[str, int]:
    longest = min(plan.model.max_positions - plan.virtual_tokens, 2**20)
    found = {
        "batch": _last(lambda n: _fits(plan.change(batch=n), card), LARGEST_BATCH),
        "seq_len": _last(lambda n: _fits(plan.change(seq_len=n), card), longest),
    }
    if isinstance(method := plan.method, LoRA):
        found["rank"] = _last(
            lambda n: _fits(plan.change(method=replace(method, rank=n)), card), plan.model.hidden
        )
    return found


def _last(works: Callable[[int], bool], limit: int) -> int:
    """The largest n <= limit that works, 0 if none; what works for n works for less."""
    low, high = 0, 1
    while high <= limit and works(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


@cache
def _by_size() -> list[tuple[str, Architecture]]:
    names = sorted(catalogue.names(), key=catalogue.parameters, reverse=True)
    return [(name, Architecture.from_config(name)) for name in names]


def _largest_model(plan: Plan, card: GPU) -> str | None:
    width = 0.5 if plan.quantized else BYTES[plan.dtype]
    for name, model in _by_size():
        if catalogue.parameters(name) * width > card.memory:  # not even its weights
            continue
        try:
            if _fits(plan.change(model=model), card):
                return name
        except PlanError:  # other module names, or fewer positions than seq_len
            continue
    return None


def _smallest_gpu(plan: Plan) -> str | None:
    cards = sorted(gpus().values(), key=lambda card: card.memory)
    return next((card.name for card in cards if _fits(plan.change(gpu=card.name), card)), None)


def _fixes(plan: Plan, card: GPU, memory: Memory) -> tuple[Fix, ...]:
    singles = [fix for change in CHANGES if (fix := _fix((change,), plan, card, memory))]
    enough = [fix for fix in singles if fix.verdict == "fits"]
    rest = [fix for fix in singles if fix.verdict != "fits"]
    enough += _mixes([fix.changes[0] for fix in rest], plan, card, memory)
    enough.sort(key=lambda fix: (fix.cost, -fix.saves))
    rest.sort(key=lambda fix: -fix.saves)
    return (*enough, *(fix for fix in rest if fix.saves >= LEAST_SAVED))


def _mixes(changes: list[Change], plan: Plan, card: GPU, memory: Memory) -> list[Fix]:
    """The cheapest sets of changes that make the plan fit though none of their parts does."""
    everything = _fix(tuple(changes), plan, card, memory)
    if everything is None or everything.verdict != "fits":
        return []
    mixes = [mix for size in range(2, MOST_CHANGES + 1) for mix in combinations(changes, size)]
    found: list[Fix] = []
    for mix in sorted(mixes, key=lambda mix: sum(change.cost for change in mix)):
        if any(set(fix.changes) <= set(mix) for fix in found):
            continue
        fix = _fix(mix, plan, card, memory)
        if fix and fix.verdict == "fits":
            found.append(fix)
        if len(found) == MIXES:
            break
    return found or [_pruned(everything, plan, card, memory)]


def _pruned(fix: Fix, plan: Plan, card: GPU, memory: Memory) -> Fix:
    """The same without the changes that it does not need, the dearest left out first."""
    for change in sorted(fix.changes, key=lambda change: -change.cost):
        less = _fix(tuple(kept for kept in fix.changes if kept is not change), plan, card, memory)
        fix = less if less and less.verdict == "fits" else fix
    return fix


def _fix(changes: tuple[Change, ...], plan: Plan, card: GPU, memory: Memory) -> Fix | None:
    """The changes one after the other, those left out that mean nothing by then; None if all do."""
    changed, made = plan, []
    for change in changes:
        step = _applied(change, changed, card)
        if step is not None:
            changed = step
            made.append(change)
    after = estimate(changed)
    saves = memory.process.value - after.process.value
    return Fix(tuple(made), changed, saves, card.verdict(after.process)) if made else None


def _applied(change: Change, plan: Plan, card: GPU) -> Plan | None:
    try:
        return change.apply(plan, card)
    except PlanError:
        return None
