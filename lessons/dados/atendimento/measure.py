"""What the shop's data holds for a baseline without a language model; the two measures are `toolkit.tasks`'."""

import json
import statistics
from pathlib import Path

from lessons.dados.tf_idf import tf_idf
from toolkit.tasks import facts_right, tone

HERE = Path(__file__).parent


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
