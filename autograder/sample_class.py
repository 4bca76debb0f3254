"""A sample class: twelve submissions of every kind, as an instructor would have downloaded them."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import is_solution

from autograder.course import Course
from autograder.intake.roster import Student

NAMES = (
    *(
        "Ana Silva",
        "Bruno Costa",
        "Carla Souza",
        "Diego Ramos",
        "Elisa Prado",
        "Fábio Nunes",
        "Gabriela Rocha",
    ),
    *("Heitor Lima", "Íris Melo", "João Araújo", "Luíza Campos", "Maria Conceição"),
)
ROSTER = [
    Student(str(20260001 + i), first, last, f"aluno{i + 1}@example.org")
    for i, (first, last) in enumerate(name.split() for name in NAMES)
]


def write_sample_class(course: Course, lesson: str, folder: Path) -> None:
    """Write `folder`/roster.csv and `folder`/downloads. Maria Conceição hands in nothing."""
    downloads = folder / "downloads"
    for path, text in _downloads(course, lesson).items():
        (downloads / path).parent.mkdir(parents=True, exist_ok=True)
        (downloads / path).write_text(text, encoding="utf-8")
    with (folder / "roster.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Student))
        writer.writerows(map(astuple, ROSTER))


def _downloads(course: Course, lesson: str) -> dict[str, str]:
    """File name -> content, one kind of submission after the other."""
    release = nbformat.read(course.notebook("release", lesson), as_version=4)
    source = nbformat.read(course.notebook("source", lesson), as_version=4)
    right = [_without_markers(cell.source) for cell in source.cells if is_solution(cell)]
    empty = [cell.source for cell in release.cells if is_solution(cell)]
    wrong = [re.sub(r"raise NotImplementedError\(.*\)", "return None", text) for text in empty]
    half = len(right) // 2

    def text(answers: Sequence[str], change: Callable[[NotebookNode], None] = lambda notebook: None) -> str:
        notebook = nbformat.from_dict(json.loads(nbformat.writes(release)))
        for cell, answer in zip(filter(is_solution, notebook.cells), answers, strict=True):
            cell.source = answer
        change(notebook)
        return json.dumps(notebook, ensure_ascii=False)

    return {
        f"SilvaAna_20260001_{lesson}.ipynb": text(right),
        f"CostaBruno_20260002_{lesson} (1).ipynb": text(right[:half] + empty[half:]),
        f"SouzaCarla_20260003_{lesson}.ipynb": text(wrong),
        f"RamosDiego_20260004_{lesson}.ipynb": text(empty),
        f"PradoElisa_20260005_{lesson}.ipynb": text(["import ctypes\nctypes.string_at(0)", *right[1:]]),
        f"NunesFabio_20260006_{lesson}.ipynb": text(["while True:\n    pass", *right[1:]]),
        f"Gabriela Rocha/Cópia de {lesson}.ipynb": text(right, _as_colab_saves),
        f"LimaHeitor_20260008_{lesson}.ipynb": text(right, _duplicate_first_answer),
        f"MeloIris_20260009_{lesson}.ipynb": "<html>Faça login para baixar o arquivo</html>",
        f"AraujoJoao_20260010_{lesson}.ipynb": text(right, _as_other_lesson),
        f"CamposLuiza_20260011_{lesson}.ipynb": text(right),
        f"CamposLuiza_20260011_{lesson}-2.ipynb": text(empty),
        f"ZanattaRui_99990000_{lesson}.ipynb": text(right),
    }


def _without_markers(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if not re.search("(BEGIN|END) SOLUTION", line))


def _as_colab_saves(notebook: NotebookNode) -> None:
    """Colab writes nbformat 4.0, without nbformat's cell ids and with metadata of its own."""
    notebook.nbformat_minor = 0
    notebook.metadata["colab"] = {"name": "Cópia", "provenance": []}
    for index, cell in enumerate(notebook.cells):
        cell.pop("id")
        cell.metadata["id"] = f"Xy{index}"
        if cell.cell_type == "code":
            cell.metadata["outputId"] = f"0c{index}"


def _duplicate_first_answer(notebook: NotebookNode) -> None:
    index = next(i for i, cell in enumerate(notebook.cells) if is_solution(cell))
    notebook.cells.insert(index, notebook.cells[index])


def _as_other_lesson(notebook: NotebookNode) -> None:
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.source = f"outra-{index}", f"# célula {index} de outra aula"
        cell.metadata.pop("nbgrader", None)
