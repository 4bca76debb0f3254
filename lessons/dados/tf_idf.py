"""Texts as weighted word counts, for the baselines that use no language model."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np


def terms(text: str) -> Counter[str]:
    """Words and pairs of words."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return Counter(words + [f"{a} {b}" for a, b in pairwise(words)])


def tf_idf(train: list[str], other: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as rows of unit length; the vocabulary and the weights come from `train` alone."""
    counted = [terms(text) for text in train]
    documents = Counter(term for counts in counted for term in counts)
    column = {term: i for i, term in enumerate(sorted(t for t, n in documents.items() if n > 1))}
    idf = np.array([np.log((1 + len(train)) / (1 + documents[term])) + 1 for term in column])

    def rows(bags: list[Counter[str]]) -> np.ndarray:
        matrix = np.zeros((len(bags), len(column)))
        for row, bag in enumerate(bags):
            for term in bag.keys() & column.keys():
                matrix[row, column[term]] = bag[term]
        matrix *= idf
        return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)

    return rows(counted), rows([terms(text) for text in other])
