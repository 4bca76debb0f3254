"""Prints the tables of the datasheet: sizes, lengths, repetition and two baselines without a language model."""

import json
import re
from pathlib import Path

import numpy as np

from lessons.dados.tf_idf import tf_idf
from toolkit.evaluation import macro_f1

HERE = Path(__file__).parent
KEYWORDS = {
    "cessão": r"ced[ei]|cess[ãi]|transfer|subcontrat|subloca",
    "confidencialidade": r"confiden|sigil|segredo|reserva",
    "dados pessoais": r"dados pessoais|lgpd|13\.709|titular|privacidade",
    "foro": r"\bforo\b|comarca|juízo|judici",
    "força maior": r"força maior|caso fortuito|inevitáve|calamidade",
    "multa": r"multa|penal|sanção",
    "pagamento": r"\bpag|parcela|boleto|fatura|vencimento",
    "propriedade intelectual": r"propriedade intelectual|direitos autorais|licença|marca|patente|autor",
    "reajuste": r"reajust|corrig|ipca|igp|inpc|índice|atualiz",
    "rescisão": r"rescis|rescind|denúncia|denunci|distrato|resilição|encerra",
    "responsabilidade": r"respons|respond|danos|indeniz",
    "vigência": r"vig[eê]|vigor|prazo|prorrog|renov",
}


def read(split: str) -> list[dict]:
    """The rows of one split."""
    return [json.loads(line) for line in (HERE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def by_keyword(text: str) -> str:
    """The kind whose words occur most often in `text`; the first in the alphabet when several do."""
    return max(KEYWORDS, key=lambda kind: len(re.findall(KEYWORDS[kind], text.lower())))


def by_linear(train: list[dict], other: list[dict], steps: int = 300, rate: float = 20.0) -> list[str]:
    """Multinomial logistic regression over TF-IDF, by plain gradient descent from zero."""
    kinds = sorted({row["tipo"] for row in train})
    x, new = tf_idf([row["texto"] for row in train], [row["texto"] for row in other])
    y = np.array([[row["tipo"] == kind for kind in kinds] for row in train], dtype=float)
    weights = np.zeros((x.shape[1], len(kinds)))
    for _ in range(steps):
        scores = x @ weights
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        weights += rate * x.T @ (y - chances) / len(x)
    return [kinds[i] for i in (new @ weights).argmax(axis=1)]


def baselines() -> dict[str, float]:
    """Macro-F1 on the test split."""
    train, test = read("train"), read("test")
    truth = [row["tipo"] for row in test]
    return {
        "palavras-chave": macro_f1(truth, [by_keyword(row["texto"]) for row in test]),
        "TF-IDF + regressão logística": macro_f1(truth, by_linear(train, test)),
    }


if __name__ == "__main__":
    for name, value in baselines().items():
        print(f"{name}: {value:.2f}")
