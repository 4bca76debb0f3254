"""The course's two tasks, contract clauses and a shop's customer service: how they are read and scored."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from toolkit.data import Example, read_examples, read_text
from toolkit.evaluation import Metric, choose, macro_f1
from toolkit.generation import answers

SPLITS = ("train", "validation", "test")
REFUSALS = r"infelizmente|não podemos|não é possível|impossível|não temos"
FORMAL = r"\bsenhora?\b|\bprezad[oa]\b|\bvossa\b|cordialmente|atenciosamente"

E = TypeVar("E", bound=Example)


@dataclass(frozen=True)
class Turn(Example):
    """A customer's question, the shop's answer, and what every right answer says letter by letter."""

    facts: tuple[str, ...]


@dataclass(frozen=True)
class Task(Generic[E]):
    """A data set in three parts, and its score: of a model and a tokenizer on examples, figures by name."""

    train: list[E]
    validation: list[E]
    test: list[E]
    score: Callable[[Any, Any, Sequence[E]], dict[str, float]]

    def metric(self, tokenizer: Any, examples: Sequence[E] | None = None) -> Metric:
        """What `train(..., metric=)` takes; on the whole test split where no `examples` are given."""
        return lambda model: self.score(model, tokenizer, self.test if examples is None else examples)


def clauses(data: str | Path) -> Task[Example]:
    """The contract clauses in `data`/clausulas, scored by the macro-F1 of the likeliest of the twelve kinds.

    A split's rows take turns in their kinds: its first 12 n have n of each.
    """
    folder = Path(data) / "clausulas"
    train, validation, test = (_examples(folder, split, "texto", "tipo") for split in SPLITS)
    kinds = sorted({example.answer for example in train})

    def score(model: Any, tokenizer: Any, examples: Sequence[Example]) -> dict[str, float]:
        guesses = choose(model, tokenizer, [example.prompt for example in examples], kinds)
        return {"macro-F1": macro_f1([example.answer for example in examples], guesses)}

    return Task(train, validation, test, score)


def shop(data: str | Path) -> Task[Turn]:
    """The shop's turns in `data`/atendimento, scored by `facts_right` and `tone` of greedy answers."""
    train, validation, test = (_turns(Path(data) / "atendimento", split) for split in SPLITS)
    return Task(train, validation, test, _score_turns)


def _score_turns(model: Any, tokenizer: Any, examples: Sequence[Turn]) -> dict[str, float]:
    written = answers(model, tokenizer, [turn.prompt for turn in examples], max_new_tokens=96)
    right = [facts_right(text, turn.facts) for text, turn in zip(written, examples, strict=True)]
    return {"fatos": statistics.mean(right), "tom": statistics.mean(map(tone, written))}


def facts_right(answer: str, facts: Sequence[str]) -> bool:
    """Whether `answer` says every fact letter by letter, but for capitals and spaces."""
    plain = " ".join(answer.lower().split())
    return all(re.search(rf"(?<![\w,]){re.escape(fact.lower())}(?!\w|,(?!00)\d)", plain) for fact in facts)


def tone(answer: str) -> float:
    """The share of the shop's five rules of tone that `answer` keeps, from 0 to 1."""
    plain = answer.strip().lower()
    kept = (
        bool(re.match(r"(oi|olá|opa)\b", plain)),
        plain.endswith("tina, da tangerina."),
        not re.search(FORMAL, plain),
        not re.search(REFUSALS, plain),
        len(plain.split()) <= 45,
    )
    return sum(kept) / len(kept)


def _examples(folder: Path, split: str, prompt: str, answer: str) -> list[Example]:
    instruction = read_text(folder / "instrucao.txt").strip()
    return read_examples(folder / f"{split}.jsonl", prompt, answer, instruction)


def _turns(folder: Path, split: str) -> list[Turn]:
    examples = _examples(folder, split, "cliente", "atendente")
    rows = [json.loads(line) for line in read_text(folder / f"{split}.jsonl").split("\n") if line.strip()]
    return [
        Turn(example.prompt, example.answer, tuple(row["fatos"]))
        for example, row in zip(examples, rows, strict=True)
    ]
