"""Spelling of what students read, by hunspell's Brazilian dictionary and the course's own list of terms."""

import re
import shutil
import subprocess
import tomllib

import jupytext
import pytest

from autograder.publish import course_facts

from .scoring import ROOT
from .test_words import prose

pytestmark = pytest.mark.debian
TERMS = ROOT / "tests" / "lessons" / "termos.txt"
LESSONS = [ROOT / "lessons" / name / f"{name}.py" for name in course_facts(ROOT)["lessons"]]
PAGES = sorted((ROOT / "lessons").rglob("*.md"))
BANK = sorted((ROOT / "toolkit" / "quiz" / "bank").glob("*.toml"))
# Formulas, addresses, file names, names of code, HTML, the rubrics' stems of words.
NOT_WORDS = "|".join(
    (
        r"\$\$.*?\$\$|\$[^$]*\$",
        r"https?://\S+|\S+\.(?:py|md|jsonl|toml|ipynb)\b|\w*_\w+",
        r"<[^>]*>|\(palavras: [^)]*\)|### \w+ MARK SCHEME",
    )
)


def misspelt(text):
    assert shutil.which("hunspell"), "apt-get install hunspell hunspell-pt-br, then run this again"
    plain = re.sub(NOT_WORDS, " ", text, flags=re.DOTALL)
    command = ["hunspell", "-d", "pt_BR", "-p", str(TERMS), "-l"]
    listed = subprocess.run(command, input=plain, text=True, capture_output=True, check=True).stdout
    return sorted(set(listed.split()))


def strings(value):
    """The texts in a bank's table, ids and formulas apart."""
    if isinstance(value, dict):
        return [
            t for key, v in value.items() if key not in ("tipo", "formula", "unidade") for t in strings(v)
        ]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [re.sub(r"\{\w+\}", "", value)] if isinstance(value, str) else []


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_spelling_of_lessons(path):
    cells = jupytext.read(path).cells
    assert misspelt(prose("\n\n".join(c.source for c in cells if c.cell_type == "markdown"))) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT / "lessons")))
def test_spelling_of_pages(path):
    assert misspelt(prose(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", BANK, ids=lambda p: p.stem)
def test_spelling_of_the_quiz(path):
    assert misspelt("\n".join(strings(tomllib.loads(path.read_text(encoding="utf-8"))))) == []


def test_a_misspelling_is_found():
    assert misspelt("A perda caiu depois do ajuste fino com LoRA, mas a quantisação atrapalhou.") == [
        "quantisação"
    ]
