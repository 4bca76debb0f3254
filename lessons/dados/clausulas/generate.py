"""Writes train, validation and test from the skeletons: `python -m lessons.dados.clausulas.generate`."""

import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lessons.dados.clausulas.clause import Clause
from lessons.dados.grammar import pick, shuffled, write_rows

HERE = Path(__file__).parent
SEED = 19
SPLITS = {"test": 5, "validation": 3}  # skeletons of each kind; all others train
PER_SKELETON = 6
DRAWS = 20
WORDS = (25, 80)


@dataclass(frozen=True)
class Kind:
    """A kind of clause: its label, the question that it answers, its skeletons with their contracts."""

    label: str
    question: str
    skeletons: list[tuple[list[str], str]]

    @property
    def slug(self) -> str:
        """The label in plain letters, for ids."""
        plain = unicodedata.normalize("NFD", self.label).encode("ascii", "ignore").decode()
        return plain.replace(" ", "-")


def read_lexicon() -> dict:
    """Contract types, places and indices."""
    return tomllib.loads((HERE / "lexico.toml").read_text(encoding="utf-8"))


def read_kinds() -> list[Kind]:
    """Every kind under `esqueletos/`: a line `# label`, a line `> question`, then one skeleton a paragraph."""
    everywhere = list(read_lexicon()["contratos"])
    return [_read_kind(path, everywhere) for path in sorted((HERE / "esqueletos").glob("*.txt"))]


def _read_kind(path: Path, everywhere: list[str]) -> Kind:
    head, *paragraphs = path.read_text(encoding="utf-8").strip().split("\n\n")
    label, question = (line[2:] for line in head.splitlines())
    return Kind(label, question, [_read_skeleton(paragraph, everywhere) for paragraph in paragraphs])


def _read_skeleton(paragraph: str, everywhere: list[str]) -> tuple[list[str], str]:
    """A skeleton may begin with the contracts that it fits: `@locação, obra: text`."""
    if not paragraph.startswith("@"):
        return everywhere, paragraph
    names, text = paragraph[1:].split(": ", 1)
    return names.split(", "), text


def trigrams(text: str) -> set[tuple[str, ...]]:
    """The word triples of a text, in lower case and without digits: what near-duplicates share."""
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    return set(zip(words, words[1:], words[2:], strict=False))


def similarity(one: set, other: set) -> float:
    """Jaccard: shared triples over all triples."""
    return len(one & other) / len(one | other)


def copies(skeleton: str, contracts: list[str], rng: Random, lexicon: dict) -> list[str]:
    """`PER_SKELETON` clauses, each the least like those before it among several draws."""
    clauses: list[str] = []
    while len(clauses) < PER_SKELETON:
        draws = [Clause(rng, lexicon, pick(rng, contracts)).write(skeleton) for _ in range(DRAWS)]
        draws = [draw for draw in draws if WORDS[0] <= len(draw.split()) <= WORDS[1]]
        written = [trigrams(clause) for clause in clauses]
        clauses.append(
            min(draws, key=lambda draw: max((similarity(trigrams(draw), w) for w in written), default=0))
        )
    return clauses


def split_of(kind: Kind) -> list[str]:
    """The split of each skeleton: whole skeletons are held out, so that the test asks for new sentences."""
    names = [name for name, count in SPLITS.items() for _ in range(count)]
    names += ["train"] * (len(kind.skeletons) - len(names))
    return shuffled(Random(f"{SEED} {kind.slug}"), names)


def rows_of(kind: Kind, lexicon: dict) -> dict[str, list[dict]]:
    """The rows of one kind by split, in random order."""
    rows: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for number, ((contracts, skeleton), split) in enumerate(
        zip(kind.skeletons, split_of(kind), strict=True), 1
    ):
        name = f"{kind.slug}-{number:02}"
        for copy, text in enumerate(copies(skeleton, contracts, Random(f"{SEED} {name}"), lexicon), 1):
            rows[split].append({"id": f"{name}-{copy}", "texto": text, "tipo": kind.label})
    return {split: shuffled(Random(f"{SEED} {kind.slug} {split}"), some) for split, some in rows.items()}


def write(folder: Path) -> None:
    """One JSON Lines file a split."""
    lexicon = read_lexicon()
    by_kind = [rows_of(kind, lexicon) for kind in read_kinds()]
    for split in ("train", "validation", "test"):
        write_rows(folder / f"{split}.jsonl", [rows[split] for rows in by_kind])


if __name__ == "__main__":
    write(HERE)
