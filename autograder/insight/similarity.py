"""Answers that are alike: pairs with their evidence, for a person to judge. Never a penalty.

Code is compared as its syntax: comments, docstrings, layout, the names of variables and the order of
definitions do not count, nor does what the lesson itself gave. RapidFuzz compares. What many wrote alike says
nothing, so a likeness counts only where few share it.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from autograder.answers import without_magics
from autograder.tables import plain

ALIKE = 0.9  # 2 x common characters / all characters, of the normalised texts
SHORTEST = 60  # normalised characters; of fewer everybody writes the same
RARE = 0.05  # of the class, at least 3: what more share is common knowledge
BLOCK = 500  # rows compared at a time, which bounds the memory


@dataclass(frozen=True)
class Likeness:
    """One answer of two students."""

    answer: str
    ratio: float
    shared_by: int  # students whose answers are as like
    texts: tuple[str, str]


@dataclass
class Pair:
    """Two students and all that is alike; `strength` is the normalised characters that they share."""

    students: tuple[str, str]
    strength: float = 0.0
    evidence: list[Likeness] = field(default_factory=list)


def similar_pairs(answers: Mapping[str, Mapping[str, str]], given: Mapping[str, str]) -> list[Pair]:
    """The pairs, strongest first. `answers`: by student and answer; `given`: the lesson's own text."""
    pairs: dict[tuple[str, str], Pair] = {}
    for name, template in given.items():
        texts = {student: own[name] for student, own in answers.items() if name in own}
        forms = {student: normalised(text, template) for student, text in texts.items()}
        kept = [student for student, form in forms.items() if len(form) >= SHORTEST]
        for a, b, ratio, shared in _alike([forms[s] for s in kept], max(3, int(RARE * len(answers)))):
            students = (kept[a], kept[b])
            pair = pairs.setdefault(students, Pair(students))
            pair.evidence.append(Likeness(name, ratio, shared, (texts[kept[a]], texts[kept[b]])))
            pair.strength += ratio * min(len(forms[s]) for s in students)
    return sorted(pairs.values(), key=lambda pair: -pair.strength)


def _alike(forms: Sequence[str], most: int) -> list[tuple[int, int, float, int]]:
    """Index pairs that are alike and shared by at most `most` students."""
    found, sharing = [], np.ones(len(forms), dtype=int)
    for start in range(0, len(forms), BLOCK):
        rows = forms[start : start + BLOCK]
        ratios = cdist(rows, forms, scorer=Indel.normalized_similarity, score_cutoff=ALIKE, dtype=np.float32)
        sharing[start : start + len(rows)] = (ratios >= ALIKE).sum(axis=1)
        found += [
            (start + int(a), int(b), float(ratios[a, b]))
            for a, b in zip(*np.nonzero(ratios), strict=True)
            if start + a < b
        ]
    counts = sharing.tolist()
    return [
        (a, b, ratio, max(counts[a], counts[b])) for a, b, ratio in found if max(counts[a], counts[b]) <= most
    ]


def normalised(text: str, template: str) -> str:
    """An answer's own part in a form in which copies look alike; of text that is no Python its bare words."""
    own, given = _statements(text), _statements(template)
    if own is None:
        return plain(text)
    left = Counter(line for statement in given or () for line in statement.split("\n"))
    lines = []
    for statement in sorted(own):
        for line in statement.split("\n"):
            if left[line]:
                left[line] -= 1
            else:
                lines.append(line.strip())
    return "\n".join(lines)


def _statements(text: str) -> list[str] | None:
    """The top-level statements, each with its names numbered; None where it does not parse, or too deep."""
    try:
        body = ast.parse(without_magics(text)).body
        return [ast.unparse(_Rename(statement).visit(_without_docstrings(statement))) for statement in body]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _without_docstrings(tree: ast.stmt) -> ast.stmt:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


class _Rename(ast.NodeTransformer):
    """Number the names that a statement binds itself, in order; others (imports, the lesson's own) stay."""

    def __init__(self, statement: ast.stmt) -> None:
        bound = {
            n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        bound |= {n.arg for n in ast.walk(statement) if isinstance(n, ast.arg)}
        self.bound = bound - set(dir(builtins)) - {"self"}
        self.names: dict[str, str] = {}

    def _new(self, name: str) -> str:
        if name not in self.bound:
            return name
        return self.names.setdefault(name, f"v{len(self.names)}")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """A variable."""
        node.id = self._new(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """A parameter; its annotation does not count."""
        return ast.arg(self._new(node.arg))
