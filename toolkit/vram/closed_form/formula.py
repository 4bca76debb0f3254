"""A route's memory as sums of products: found once by writing its operators down, then computed with numbers.

Two layers are written; more are like the second. What one keeps is what is there after it less what was there
before it, and so with the gradients that its backward leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from toolkit.vram.closed_form.passes import Passes
from toolkit.vram.closed_form.route import Route
from toolkit.vram.closed_form.tape import Key, Tape

Parts = dict[str, int]
MARKS = "forward", "layer 1", "above", "loss", "backward", "backward above", "below 1", "end"


LAST, FIRST = "last layer", "first layer"


class Peak(NamedTuple):
    """A place in the record, and bytes there of the layers that are not in it."""

    total: int
    place: int
    activations: int
    gradients: int


class Formula:
    """The births and deaths of one route's micro-batch, in order, each with the part that it belongs to."""

    def __init__(self, route: Route) -> None:
        passes = Passes(route)
        tape = passes.run()
        self.held = _held(tape)
        if route.held == "next":
            passes = Passes(route, self.held)
            tape = passes.run()
        self.layers, self.keys = route.layers, list(tape.keys)
        found = {label: place for place, label in reversed(tape.marks)}
        self.marks, place = {}, len(tape.events)
        for label in reversed(MARKS):  # what the route does not come to lies where the next one does
            place = self.marks[label] = found.get(label, place)
        self.stream = passes.stream
        self.events = [tape.stores[n] if n >= 0 else ~tape.stores[~n] for n in tape.events]
        self._numbers, self._stores, self._labels = tape.events, tape.stores, self._labelled(tape)
        self._kept, self._stay, self._left = self._lasting(*passes.through)
        self._known: dict[int, dict[str, list[tuple[int, int]]]] = {}

    def _labelled(self, tape: Tape) -> list[str]:
        """The part of each store, by its number."""
        loss, backward = self.marks["loss"], self.marks["backward"]
        gradients = {store.number for store in tape.gradients if store is not None}
        labels = ["recompute"] * len(tape.stores)
        for place, number in enumerate(tape.events):
            if number < 0:
                if place < loss:  # gone before the forward was over
                    labels[~number] = "recompute"
            elif place < loss:
                labels[number] = "activations"
            elif place < backward:
                labels[number] = "logits"
        for number in gradients:
            labels[number] = "gradients"
        return labels

    def _lasting(self, given: int, out: int) -> tuple[list[int], ...]:
        """Of the second layer: what its forward keeps, dying as the record goes on; what of that outlives its
        backward; and its gradients.

        What comes out of a layer goes into the next one, which may keep it; out of the last one it does not.
        """
        m = self.marks
        during = self._numbers[m["layer 1"] : m["above"]]
        born = {n for n in during if n >= 0} | {given}
        born -= {out, *(~n for n in during if n < 0)}
        after = enumerate(self._numbers[m["above"] : m["backward above"]], m["above"])
        self._dying = [(place, ~self._stores[~n]) for place, n in after if n < 0 and ~n in born]
        stay = born - {~n for n in self._numbers[: m["below 1"]] if n < 0}
        back = self._numbers[m["backward above"] : m["below 1"]]
        gradients = [n for n in back if n >= 0 and self._labels[n] == "gradients"]
        return tuple([self._stores[n] for n in numbers] for numbers in (born, stay, gradients))

    def peaks(self, sizes: Sequence[int], layers: int) -> dict[str, Peak]:
        """The peak of the forward, of the loss, and of the backward: in the LAST layer, where it begins, and
        in the FIRST, with all other layers' gradients. `sizes` are the bytes of `keys`."""
        both = [*sizes, *[-size for size in reversed(sizes)]]
        totals = list(accumulate(map(both.__getitem__, self.events)))
        more, m = max(layers - self.layers, 0), self.marks
        gradients = more * sum(map(sizes.__getitem__, self._left))
        stay = more * sum(map(sizes.__getitem__, self._stay))
        stages = self._stages(both, more)

        def top(start: int, end: int, activations: int, gradients: int) -> Peak:
            part = totals[start:end]
            if not part:
                return Peak(0, 0, 0, 0)
            total = max(part)
            return Peak(total + activations + gradients, start + part.index(total), activations, gradients)

        def during(start: str, end: str) -> list[Peak]:
            """While the other layers keep what they do."""
            first, last = m[start], m[end]
            return [
                top(max(begins, first), min(ends, last), kept, 0)
                for begins, ends, kept in stages
                if begins < last and ends > first
            ] or [Peak(0, 0, 0, 0)]

        return {
            "forward": max(top(0, m["layer 1"], 0, 0), *during("layer 1", "loss")),
            "loss": max(during("loss", "backward")),
            LAST: max(during("backward", "below 1")),
            FIRST: max(
                top(m["backward above"], m["below 1"], stay, gradients),
                top(m["below 1"], m["end"], stay, gradients),
            ),
        }

    def _stages(self, both: Sequence[int], more: int) -> list[tuple[int, int, int]]:
        """(from, to, bytes): what the layers that are not in the record keep, from the last forward on."""
        begins, kept, stages = self.marks["layer 1"], sum(map(both.__getitem__, self._kept)), []
        for place, key in self._dying:
            stages.append((begins, place, more * kept))
            begins, kept = place, kept + both[key]
        return [*stages, (begins, self.marks["below 1"], more * kept)]

    def parts(self, peak: Peak, sizes: Sequence[int]) -> Parts:
        """Bytes by part at a peak, weights apart."""
        parts = {
            part: sum([sizes[key] * times for key, times in terms])
            for part, terms in self._terms(peak.place).items()
        }
        for part, extra in (("activations", peak.activations), ("gradients", peak.gradients)):
            if extra:
                parts[part] = parts.get(part, 0) + extra
        return parts

    def _terms(self, place: int) -> dict[str, list[tuple[int, int]]]:
        """What is there at a place: by part, keys and how many of each."""
        if place not in self._known:
            alive: Counter[int] = Counter()
            for number in self._numbers[: place + 1]:
                alive[number if number >= 0 else ~number] += 1 if number >= 0 else -1
            terms: dict[str, Counter[int]] = {}
            for number, there in alive.items():
                if there:
                    terms.setdefault(self._labels[number], Counter())[self._stores[number]] += 1
            self._known[place] = {part: list(found.items()) for part, found in terms.items()}
        return self._known[place]


def _held(tape: Tape) -> list[Key]:
    """What the output holds when all is done: what is of the second layer for all but the first."""
    keys, marks = list(tape.keys), {label: place for place, label in reversed(tape.marks)}
    gradients = {store.number for store in tape.gradients if store is not None}
    alive = {n for n in tape.events if n >= 0} - {~n for n in tape.events if n < 0} - gradients
    second = set(tape.events[marks["layer 1"] : marks["above"]] if "layer 1" in marks else ())
    named = ((keys[tape.stores[n]], n in second) for n in sorted(alive))
    return [(f"rest:{width}" if others else width, dtype) for (width, dtype), others in named]


@lru_cache(maxsize=512)
def formula(route: Route) -> Formula:
    """The formula of a route, found once."""
    return Formula(route)
