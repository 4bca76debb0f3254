"""The grammar of the skeletons: `<a|b>` is a choice, `[a|b]` may also be left out, `{...}` is filled."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

T = TypeVar("T")

CHOICE = re.compile(r"<([^<>\[\]]*)>|\[([^<>\[\]]*)\]")
SLOT = re.compile(r"\{([^{}]+)\}")
FEMININE = {"o": "a", "do": "da", "ao": "à", "pelo": "pela", "no": "na", "esse": "essa", "um": "uma"}


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of `options`. Only `random()` is promised to give the same sequence in every Python."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """A copy of `items` in random order."""
    order = sorted((rng.random(), place) for place in range(len(items)))
    return [items[place] for _, place in order]


def expand(skeleton: str, rng: Random, fill: Callable[[str], str]) -> str:
    """`skeleton` with every choice made and every slot filled; a slot in capitals begins with one."""

    def choose(found: re.Match) -> str:
        if found[2] is not None and rng.random() < 0.5:
            return ""
        return pick(rng, (found[1] or found[2]).split("|"))

    def put(found: re.Match) -> str:
        text = fill(found[1][0].lower() + found[1][1:])
        return text[0].upper() + text[1:] if found[1][0].isupper() else text

    while CHOICE.search(skeleton):
        skeleton = CHOICE.sub(choose, skeleton)
    return tidy(SLOT.sub(put, skeleton))


def inflect(slot: str, nouns: dict[str, tuple[str, str]]) -> str:
    """`{do preço}` or `{preço:pago/paga}`, as the noun's article ("o" or "a") asks."""
    if ":" in slot:
        noun, forms = slot.split(":")
        return forms.split("/")[nouns[noun][0] == "a"]
    before, noun = slot.split(" ")
    article, name = nouns[noun]
    return f"{before if article == 'o' else FEMININE[before]} {name}"


def tidy(text: str) -> str:
    """`text` with its spaces and commas set right and a capital at the start of each sentence."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.;:?!])", r"\1", text)
    return re.sub(r"(^|[.?!] )(\w)", lambda start: start[1] + start[2].upper(), text)


def write_rows(path: Path, columns: list[list[dict]]) -> None:
    """A JSON Lines file in which the columns take turns, so that its first n rows are balanced too."""
    turns = range(max(map(len, columns)))
    rows = [column[turn] for turn in turns for column in columns if turn < len(column)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
