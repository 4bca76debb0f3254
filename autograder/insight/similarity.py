"""Answers that are alike: pairs with their evidence, for a person to judge. Never a penalty.

Code is compared as its syntax: comments, docstrings, layout, the names of variables and the order of
definitions do not count, nor does what the lesson itself gave. What many wrote alike says nothing, so
RapidFuzz compares only those who share a stretch of text that few have: the work grows as the class does.
"""

import ast
import builtins
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from zlib import crc32

from rapidfuzz.distance import Indel

from autograder.answers import NOT_PYTHON, without_magics
from autograder.tables import plain

ALIKE = 0.9  # 2 x common characters / all characters, of the normalised texts
SHORTEST = 60  # normalised characters; of fewer everybody writes the same
# What more than so much of the class (but from 3 to 30) share is common knowledge.
RARE, FEWEST, MOST = 0.05, 3, 30
STRETCH, WINDOW = 12, 4  # characters, and places: of so many stretches in a row one is remembered


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
    few = min(max(FEWEST, int(RARE * len(answers))), MOST)
    for name, template in given.items():
        texts = {student: own[name] for student, own in answers.items() if name in own}
        forms = {student: normalised(text, template) for student, text in texts.items()}
        kept = [student for student, form in forms.items() if len(form) >= SHORTEST]
        for a, b, ratio, shared in _alike([forms[s] for s in kept], few):
            students = (kept[a], kept[b])
            pair = pairs.setdefault(students, Pair(students))
            pair.evidence.append(Likeness(name, ratio, shared, (texts[kept[a]], texts[kept[b]])))
            pair.strength += ratio * min(len(forms[s]) for s in students)
    return sorted(pairs.values(), key=lambda pair: -pair.strength)


def _alike(forms: Sequence[str], few: int) -> list[tuple[int, int, float, int]]:
    """Index pairs that are alike, each with its ratio and how many are as like; at most `few`."""
    ratios = {
        (a, b): ratio
        for a, b in _candidates(forms, few)
        if (ratio := Indel.normalized_similarity(forms[a], forms[b], score_cutoff=ALIKE))
    }
    sharing = Counter(number for pair in ratios for number in pair)
    shared = {(a, b): 1 + max(sharing[a], sharing[b]) for a, b in ratios}
    return [(*pair, ratio, shared[pair]) for pair, ratio in ratios.items() if shared[pair] <= few]


def _candidates(forms: Sequence[str], few: int) -> set[tuple[int, int]]:
    """Index pairs that have a remembered stretch in common which at most `few` have."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, form in enumerate(forms):
        for stretch in _remembered(form):
            holders[stretch].append(number)
    return {pair for group in holders.values() if len(group) <= few for pair in combinations(group, 2)}


def _remembered(form: str) -> set[int]:
    """Hashes of some of a text's stretches, chosen alike wherever they stand (winnowing, Schleimer 2003)."""
    hashes = [crc32(form[at : at + STRETCH].encode()) for at in range(len(form) - STRETCH + 1)]
    return {min(hashes[at : at + WINDOW]) for at in range(max(1, len(hashes) - WINDOW + 1))}


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
    except NOT_PYTHON:
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
