"""The student tree: complete, runnable, without a line that students must not get."""

import json
import shutil
import zipfile
from pathlib import Path

import psutil
import pytest

from autograder.course import Course
from autograder.handout import release
from autograder.publish import PublishError, course_facts, publish, source_notebook
from tests.autograder.test_publish import LESSON, ROOT, course

EXERCISE = LESSON.replace(
    "# # Uma aula", "# # Uma aula\n\n# %%\nprint(sorted(p.name for p in DADOS.iterdir()))"
)


SHORT_HEAD = (
    "# %%\n\n# %% [markdown]\n# https://x/$repository/blob/$branch/lessons/colab/$lesson.ipynb colab-badge\n"
)
SHORT_HEAD += "# %%\nfrom pathlib import Path\n\nDADOS = Path('dados')\n"


def repository(root, lesson=EXERCISE, head=SHORT_HEAD):
    """A repository with one lesson and a file of data, its toolkit, and the course made of it."""
    course(root, lesson)
    if head:
        (root / "lessons" / "cabecalho.py").write_text(head)
    (root / "lessons" / "dados").mkdir()
    (root / "lessons" / "dados" / "itens.csv").write_text("a,b\n")
    (root / "lessons" / "dados" / "gera.py").write_text("segredo = 1\n")
    shutil.copytree(ROOT / "toolkit", root / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    sources = {name: source_notebook(name, root) for name in course_facts(root)["lessons"]}
    return Course.init(root / "curso", sources, root / "lessons" / "dados")


def test_the_tree_runs_as_handed_out_and_its_zip_is_the_same_twice(tmp_path):
    made = repository(tmp_path, head="")
    first = release(made, tmp_path, tmp_path / "turma")
    data = first.archive.read_bytes()
    names = zipfile.ZipFile(first.archive).namelist()
    assert {
        "aula-peft/lessons/colab/uma.ipynb",
        "aula-peft/toolkit/check.py",
        "aula-peft/versoes.json",
    } <= set(names)
    assert not [name for name in names if "gera.py" in name or "__pycache__" in name]
    assert (
        first.changed == ["uma"] and json.loads((first.folder / "versoes.json").read_text()) == first.versions
    )
    publish(tmp_path)
    assert (first.folder / "lessons/colab/uma.ipynb").read_bytes() == (
        tmp_path / "lessons/colab/uma.ipynb"
    ).read_bytes()
    second = release(made, tmp_path, tmp_path / "turma")
    assert second.changed == [] and second.archive.read_bytes() == data
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "ipykernel_launcher" in child.cmdline()]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('print("repetida")', "print(nada)", "gives NameError."),
        ("assert soma(1, 2) == 3", "assert 1 + 2 == 3", "gives nothing instead of NotImplementedError"),
    ],
)
def test_a_notebook_that_fails_as_handed_out_is_not_released(tmp_path, old, new, said):
    with pytest.raises(PublishError, match=said):
        release(repository(tmp_path, EXERCISE.replace(old, new, 1)), tmp_path, tmp_path / "turma")
    assert not (tmp_path / "turma").exists()


def test_a_solution_in_the_data_or_a_notebook_and_a_stale_badge_are_said_together(tmp_path):
    made = repository(tmp_path)
    (tmp_path / "lessons" / "dados" / "itens.csv").write_text("resultado_da_soma = a + b\n")
    path = made.notebook("release", "uma")
    path.write_text(path.read_text().replace("# Uma aula", "# resultado_da_soma = a + b"))
    toml = tmp_path / "course.toml"
    toml.write_text(toml.read_text().replace("dona/curso", "outra/casa"))
    with pytest.raises(PublishError) as refused:
        release(made, tmp_path, tmp_path / "turma")
    text = str(refused.value)
    assert (
        "stands in lessons/dados/itens.csv" in text and "survives in the notebook" in text and "badge" in text
    )
    assert not (tmp_path / "turma").exists() and not Path(tmp_path / "turma.zip").exists()
