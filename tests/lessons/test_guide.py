"""The students' guide: its links lead somewhere, and its map of the original lesson names what there is."""

import re
from pathlib import Path

import jupytext
import pytest

from autograder.publish import course_facts

from .scoring import ROOT

LESSONS = course_facts(ROOT)["lessons"]
QUIZ = "10_autoavaliacao"
GUIDE = (ROOT / "lessons" / "README.md").read_text(encoding="utf-8")
PAGES = sorted(p for p in ROOT.rglob("*.md") if not {".venv", ".pytest_cache"} & {q.name for q in p.parents})
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GUIDE.split("## Da Aula 19 a este curso")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| seção")
]


def grade_ids(lesson):
    cells = jupytext.read(ROOT / "lessons" / lesson / f"{lesson}.py").cells
    return {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells}


def links(text):
    return [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def test_every_lesson_is_on_the_path():
    assert re.findall(r"^\| \[[^]]*\]\(colab/(\w+)\.ipynb\)", GUIDE, re.MULTILINE) == LESSONS


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_repository(page):
    missing = [link for link in links(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("lesson", LESSONS)
def test_links_inside_a_lesson(lesson):
    text = (ROOT / "lessons" / lesson / f"{lesson}.py").read_text(encoding="utf-8")
    missing = [link for link in links(text) if not (ROOT / "lessons" / "colab" / link).exists()]
    assert missing == [], "a link in a notebook starts from lessons/colab"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_section_of_the_original_is_taught_exercised_and_assessed(row):
    _, taught, exercised, assessed = row
    lessons = [Path(link).stem for link in links(taught)]
    assert lessons
    known = set().union(*(grade_ids(lesson) for lesson in lessons))
    assert set(re.findall(r"`(\w+)`", exercised)) <= known
    asked = set(re.findall(r"`(\w+)`", assessed))
    assert asked <= grade_ids(QUIZ)
    assert asked or "questões de treino" in assessed


def test_the_map_is_whole():
    assert len(ROWS) == 19
    taught = {Path(link).stem for row in ROWS for link in links(row[1])}
    assert taught == set(LESSONS)
