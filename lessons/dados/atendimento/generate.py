"""Writes train, validation and test of the shop: `python -m lessons.dados.atendimento.generate`."""

import tomllib
from pathlib import Path
from random import Random

from lessons.dados.grammar import expand, inflect, pick, shuffled, write_rows

HERE = Path(__file__).parent
SEED = 19
FACTS = ("preço", "medidas", "material", "garantia", "cores")
# Of the ten questions of a subject, how many each split has, and how many of them it asks.
QUESTIONS = {"test": 2, "validation": 1, "train": 7}
ASKED_OF_A_PRODUCT = {"test": 1, "validation": 1, "train": 5}
GREETINGS = "[<Oi!|Olá!|Bom dia!|Boa tarde!>] "
THANKS = " [<Obrigada!|Obrigado!|Valeu!>]"


def read(name: str) -> dict:
    """One of the two sources, `loja` and `falas`."""
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


def split_questions(subject: str, questions: list[str]) -> dict[str, list[str]]:
    """Whole questions are held out: the test asks in words that training never saw."""
    order = shuffled(Random(f"{SEED} {subject}"), questions)
    splits = {}
    for split, count in QUESTIONS.items():
        splits[split], order = order[:count], order[count:]
    return splits


class Turn:
    """A question and its answer, about one product or, with none, about the shop."""

    def __init__(self, rng: Random, lines: dict, subject: dict, product: list[str] | None) -> None:
        self.rng, self.lines, self.subject = rng, lines, subject
        self.facts = dict(zip(FACTS, product[1:], strict=True)) if product else {}
        self.nouns = {"produto": tuple(product[0].split(" ", 1))} if product else {}

    def _write(self, skeleton: str) -> str:
        return expand(skeleton, self.rng, lambda slot: self.facts.get(slot) or inflect(slot, self.nouns))

    def row(self, name: str, topic: str, question: str) -> dict:
        """The turn as it stands in the files; `fatos` is what a right answer says letter by letter."""
        opening, answer = pick(self.rng, self.lines["abertura"]), pick(self.rng, self.subject["respostas"])
        return {
            "id": name,
            "assunto": topic,
            "cliente": self._write(GREETINGS + question + (THANKS if self.facts else "")),
            "atendente": self._write(f"{opening} {answer} {self.lines['fecho']}"),
            "fatos": [fact.format(**self.facts) for fact in self.subject["fatos"]],
        }


def product_rows(lines: dict, products: list[list[str]]) -> dict[str, list[list[dict]]]:
    """For each split, a column of rows for each fact of the catalogue."""
    columns: dict[str, list[list[dict]]] = {split: [] for split in QUESTIONS}
    for topic, subject in lines["produto"].items():
        splits = split_questions(topic, subject["perguntas"])
        for number, product in enumerate(products, 1):
            rng = Random(f"{SEED} {topic} {number}")
            for split, count in ASKED_OF_A_PRODUCT.items():
                asked = shuffled(rng, splits[split])[:count]
                turn = Turn(rng, lines, subject, product)
                columns[split].append(
                    [turn.row(f"{topic}-{number:02}-{split}-{i}", topic, q) for i, q in enumerate(asked, 1)]
                )
    return columns


def shop_rows(lines: dict) -> dict[str, list[list[dict]]]:
    """For each split, a column of rows for each subject of the shop; every question is asked twice."""
    columns: dict[str, list[list[dict]]] = {split: [] for split in QUESTIONS}
    for topic, subject in lines["geral"].items():
        turn = Turn(Random(f"{SEED} {topic}"), lines, subject, None)
        for split, questions in split_questions(topic, subject["perguntas"]).items():
            rows = [turn.row(f"{topic}-{split}-{i}", topic, q) for i, q in enumerate(questions * 2, 1)]
            seen: set[str] = set()
            columns[split].append([r for r in rows if not (r["cliente"] in seen or seen.add(r["cliente"]))])
    return columns


def write(folder: Path) -> None:
    """One JSON Lines file a split, subjects taking turns."""
    lines, products = read("falas"), read("loja")["produtos"]
    about_products, about_shop = product_rows(lines, products), shop_rows(lines)
    for split in ("train", "validation", "test"):
        columns = shuffled(Random(f"{SEED} {split}"), about_products[split] + about_shop[split])
        write_rows(folder / f"{split}.jsonl", columns)


if __name__ == "__main__":
    write(HERE)
