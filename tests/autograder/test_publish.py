"""Percent source to student notebook: as nbgrader hands it out, the same bytes twice, nothing leaked."""

import shutil
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import SaveCells
from traitlets.config import Config

from autograder.publish import (
    PublishError,
    leaks,
    main,
    nbgrader_config,
    outdated,
    publish,
    source_notebook,
    student_notebook,
)

ROOT = Path(__file__).parents[2]
LESSON = '''
# %% [markdown]
# # Uma aula

# %% nbgrader={"grade_id": "soma", "solution": true}
def soma(a, b):
    """A soma."""
    ### BEGIN SOLUTION
    resultado_da_soma = a + b
    return resultado_da_soma
    ### END SOLUTION

# %% nbgrader={"grade_id": "soma_teste", "points": 2}
assert soma(1, 2) == 3
### BEGIN HIDDEN TESTS
assert soma(-123, 456) == 333
### END HIDDEN TESTS

# %%
print("repetida")

# %%
print("repetida")

# %% [markdown] nbgrader={"grade_id": "livre", "solution": true, "points": 3}
# A resposta esperada fala de postos baixos.

# %% [markdown] tags=["instrutor"]
# Rubrica: um ponto por ideia.
'''


def course(root: Path, lesson: str = LESSON) -> Path:
    """A course of one lesson in `root`."""
    (root / "lessons" / "uma").mkdir(parents=True)
    (root / "lessons" / "uma" / "uma.py").write_text(lesson)
    for common in ("cabecalho.py", "rodape.py"):
        shutil.copy(ROOT / "lessons" / common, root / "lessons")
    (root / "course.toml").write_text('repository = "dona/curso"\nbranch = "verão"\nlessons = ["uma"]\n')
    return root


def by_id(notebook, grade_id):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def test_student_gets_stubs_and_visible_tests(tmp_path):
    student = student_notebook(source_notebook("uma", course(tmp_path)))
    text = "\n".join(c.source for c in student.cells)
    assert 'raise NotImplementedError("exercício ainda não feito")' in by_id(student, "soma").source
    assert by_id(student, "soma_teste").source == "assert soma(1, 2) == 3"
    assert by_id(student, "livre").source == "*Escreva aqui a sua resposta.*"
    for secret in ("resultado_da_soma", "333", "postos baixos", "Rubrica", "BEGIN", "END "):
        assert secret not in text


def test_tests_are_locked_and_do_not_stop_a_run(tmp_path):
    cell = by_id(student_notebook(source_notebook("uma", course(tmp_path))), "soma_teste")
    assert cell.metadata["nbgrader"]["locked"] and not cell.metadata["editable"]
    assert cell.metadata["nbgrader"]["points"] == 2
    assert "raises-exception" in cell.metadata["tags"]


def test_badge_and_set_up_come_from_the_course_file(tmp_path):
    badge, set_up = student_notebook(source_notebook("uma", course(tmp_path))).cells[:2]
    assert (
        "https://colab.research.google.com/github/dona/curso/blob/verão/lessons/colab/uma.ipynb"
        in badge.source
    )
    assert "--branch verão https://github.com/dona/curso" in set_up.source
    assert "--no-deps" in set_up.source


def test_two_runs_write_the_same_bytes_with_neither_outputs_nor_widgets(tmp_path):
    (path,) = publish(course(tmp_path))
    first = path.read_bytes()
    publish(tmp_path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in notebook.cells)
    assert len({c.id for c in notebook.cells}) == len(notebook.cells)


def test_a_change_elsewhere_leaves_a_cells_id_alone(tmp_path):
    before = source_notebook("uma", course(tmp_path / "a"))
    after = source_notebook("uma", course(tmp_path / "b", LESSON.replace("# # Uma aula", "# # Outra aula")))
    changed = [(a.source, b.source) for a, b in zip(before.cells, after.cells, strict=True) if a.id != b.id]
    assert changed == [("# Uma aula", "# Outra aula")]


def test_same_as_nbgrader_generate_assignment(tmp_path):
    source = source_notebook("uma", course(tmp_path / "curso"))
    nbgrader = tmp_path / "nbgrader"
    (nbgrader / "source" / "uma").mkdir(parents=True)
    nbformat.write(source, nbgrader / "source" / "uma" / "uma.ipynb")
    config = nbgrader_config()
    config.merge(Config({"CourseDirectory": {"root": str(nbgrader)}}))
    config.GenerateAssignment.no_database = True
    config.GenerateAssignment.preprocessors.remove(SaveCells)
    assert NbGraderAPI(config=config).generate_assignment("uma", create=False)["success"]
    released = nbformat.read(nbgrader / "release" / "uma" / "uma.ipynb", as_version=4)
    assert released == nbformat.from_dict(student_notebook(source))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("soma_teste", "# antes era: resultado_da_soma = a + b"),
        ("soma_teste", "assert soma(-123, 456) == 333"),
        ("livre", "A resposta esperada fala de postos baixos."),
        ("livre", "Rubrica: um ponto por ideia."),
    ],
)
def test_a_surviving_line_is_a_leak(tmp_path, where, text):
    source = source_notebook("uma", course(tmp_path))
    student = student_notebook(source)
    assert leaks(source, student) == []
    by_id(student, where).source += f"\n{text}"
    assert len(leaks(source, student)) == 1


def test_a_solution_given_away_in_the_text_is_refused(tmp_path):
    given = LESSON.replace("# # Uma aula", "# Basta escrever `resultado_da_soma = a + b`.")
    with pytest.raises(PublishError, match="resultado_da_soma"):
        student_notebook(source_notebook("uma", course(tmp_path, given)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    ### END SOLUTION\n", "", "BEGIN SOLUTION is never closed"),
        ("### END HIDDEN TESTS\n", "", "BEGIN HIDDEN TESTS is never closed"),
        ("    ### BEGIN SOLUTION\n", "", "unexpected '### END SOLUTION'"),
        ("### END HIDDEN TESTS", "### END SOLUTION", "unexpected '### END SOLUTION'"),
        ("    return resultado_da_soma\n", "    ### BEGIN SOLUTION\n", "unexpected '### BEGIN SOLUTION'"),
    ],
)
def test_unbalanced_markers_are_one_clear_error(tmp_path, old, new, said):
    with pytest.raises(PublishError, match=said) as raised:
        source_notebook("uma", course(tmp_path, LESSON.replace(old, new)))
    assert "uma.py, cell 'soma" in str(raised.value)


def test_outdated_missing_and_left_over_notebooks_are_named(tmp_path):
    path = tmp_path / "lessons" / "colab" / "uma.ipynb"
    assert outdated(course(tmp_path)) == [path]
    publish(tmp_path)
    assert outdated(tmp_path) == []
    path.write_text(path.read_text().replace("Uma aula", "Uma aula mexida à mão"))
    (path.parent / "velha.ipynb").write_text("{}")
    assert outdated(tmp_path) == [path, path.parent / "velha.ipynb"]


def test_command_fails_with_one_line(tmp_path, monkeypatch, capsys):
    def run(check=False):
        with pytest.raises(SystemExit) as ended:
            main(check)
        return ended.value.code

    monkeypatch.chdir(tmp_path)
    assert "course.toml not found" in run()
    course(tmp_path)
    assert run(check=True) == 1
    assert run() == 0
    assert run(check=True) == 0
    (tmp_path / "lessons" / "uma" / "uma.py").unlink()
    assert len(run(check=True).splitlines()) == 1


def test_committed_notebooks_are_up_to_date():
    assert outdated(ROOT) == []


def test_source_is_left_as_it_was(tmp_path):
    source = source_notebook("uma", course(tmp_path))
    before = deepcopy(source)
    student_notebook(source)
    assert source == before
