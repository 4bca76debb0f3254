"""Two measures of an answer, the facts in it and its tone of voice, and a baseline without a language model."""

import json
import re
import statistics
from pathlib import Path

from lessons.dados.tf_idf import tf_idf

HERE = Path(__file__).parent
REFUSALS = r"infelizmente|não podemos|não é possível|impossível|não temos"
FORMAL = r"\bsenhora?\b|\bprezad[oa]\b|\bvossa\b|cordialmente|atenciosamente"


def facts_right(answer: str, facts: list[str]) -> bool:
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


def read(split: str) -> list[dict]:
    """The rows of one split."""
    return [json.loads(line) for line in (HERE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def by_nearest_question(train: list[dict], other: list[dict]) -> list[str]:
    """The answer of the training question whose words are nearest."""
    known, asked = tf_idf([row["cliente"] for row in train], [row["cliente"] for row in other])
    return [train[i]["atendente"] for i in (asked @ known.T).argmax(axis=1)]


def scores(rows: list[dict], answers: list[str]) -> tuple[float, float]:
    """The share of answers with every fact right, and the mean tone."""
    right = [facts_right(answer, row["fatos"]) for row, answer in zip(rows, answers, strict=True)]
    return statistics.mean(right), statistics.mean(map(tone, answers))


if __name__ == "__main__":
    test = read("test")
    facts, voice = scores(test, by_nearest_question(read("train"), test))
    print(f"pergunta mais próxima: fatos {facts:.2f}, tom {voice:.2f}")
