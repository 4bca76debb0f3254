"""`conferir` and `entregar`, as a student without nbgrader runs them."""

import json
import sys
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from toolkit.check import check, conferir, entregar, faults
from toolkit.lesson import exercises

TRIPLO = 'def triplo(x):\n    raise NotImplementedError("exercício ainda não feito")'
STUB = 'def dobro(x):\n    raise NotImplementedError("exercício ainda não feito")'
NAMES = ("dobro", "triplo", "livre")


def marked(cell, name, **mark):
    cell.metadata["nbgrader"] = {"grade_id": name, "grade": "points" in mark, "solution": False, **mark}
    return cell


def notebook(dobro=STUB, triplo=TRIPLO, livre="*Escreva aqui a sua resposta.*"):
    """Two exercises with tests, and an open question; the second has no heading of its own."""
    cells = [
        new_markdown_cell("# Aula\n\n### Exercício 1: o dobro\n\n★"),
        marked(new_code_cell(dobro), "dobro", solution=True),
        marked(new_code_cell("assert dobro(2) == 4, 'o dobro de 2 é 4'\nsinal = 1"), "dobro_teste", points=2),
        marked(new_code_cell(triplo), "triplo", solution=True),
        marked(new_code_cell("print('?')\nassert triplo(2) == 6"), "triplo_teste", points=3),
        new_markdown_cell("### Exercício 3: por quê?"),
        marked(new_markdown_cell(livre), "livre", solution=True, points=1),
    ]
    cells_wanted = [name for cell in cells if (name := cell.metadata.get("nbgrader", {}).get("grade_id"))]
    return new_notebook(cells=cells, metadata={"aula_peft": {"celulas": cells_wanted}})


def test_exercises_are_found_with_and_without_headings():
    found = exercises(notebook().cells)
    assert [(e.title, e.points, e.by_hand) for e in found] == [
        ("Exercício 1: o dobro", 2, False),
        ("triplo", 3, False),
        ("Exercício 3: por quê?", 1, True),
    ]


@pytest.mark.parametrize(
    ("answer", "state", "hint"),
    [
        ("def dobro(x):\n    return 2 * x", "certo", ""),
        ("def dobro(x):\n    return x", "errado", "o dobro de 2 é 4"),
        ("def dobro(x):\n    return x / 0", "errado", "ZeroDivisionError"),
        ("def outro(x):\n    return x", "errado", "rode as células desde o começo"),
        (STUB, "não feito", ""),
        ("def dobro(x):\n    raise NotImplementedError", "não feito", ""),
    ],
)
def test_each_state_and_its_hint(answer, state, hint):
    names = {}
    exec(answer, names)
    outcome = check(exercises(notebook(dobro=answer).cells)[0], names)
    assert outcome.state == state and hint in outcome.hint
    assert "sinal" not in names  # tests leave the student's variables alone


def test_an_answer_changed_since_it_was_run_is_said():
    right = "def dobro(x):\n    return 2 * x"
    names = {"In": ["", "def dobro(x):\n    return x"]}
    exec(names["In"][1], names)
    outcome = check(exercises(notebook(dobro=right).cells)[0], names)
    assert outcome.state == "errado" and "não foi rodada" in outcome.hint


def test_what_a_file_lacks_is_said():
    done = notebook("dobro = 1", "triplo = 1", "Porque sim.")
    assert faults(done) == []
    done.cells.append(done.cells[1])
    done.cells[3].source = "def triplo(x:"
    del done.cells[4]
    done.metadata["peso"] = "x" * (21 * 2**20)
    text = " ".join(faults(done))
    for words in ("'dobro' aparece 2 vezes", "Python válido", "'triplo_teste' foi apagada", "MiB"):
        assert words in text
    assert len(faults(notebook())) == 3  # nothing done yet
    assert "outra coisa" in faults(new_notebook())[0]


def test_in_a_jupyter_kernel_the_open_file_is_found(tmp_path, monkeypatch):
    nb = notebook(dobro="def dobro(x):\n    return 2 * x", livre="Porque sim.")
    nb.cells.append(new_code_cell("from toolkit import conferir, entregar\nconferir()\nentregar()"))
    nbformat.write(nb, tmp_path / "aula.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "aula.ipynb"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    done = NotebookClient(nb, timeout=60, allow_errors=True).execute()
    text = "".join(output.get("text", "") for output in done.cells[-1].outputs)
    assert "Exercício 1: o dobro" in text and "certo" in text and "será corrigido por uma pessoa" in text
    assert "1 de 2 certos" in text
    assert "triplo: ainda não feito." in text and "File → Download" in text


def test_in_colab_the_live_notebook_is_asked_for(monkeypatch, capsys):
    live = json.loads(nbformat.writes(notebook("dobro = 1", "triplo = 1", "Porque sim.")))
    assert isinstance(live["cells"][1]["source"], list)  # lines, as Colab gives them too
    message = SimpleNamespace(blocking_request=lambda kind, timeout_sec: {"ipynb": live})
    colab = ModuleType("google.colab")
    colab._message = message
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    entregar()
    assert "completo" in (text := capsys.readouterr().out) and "Fazer download do .ipynb" in text
    message.blocking_request = lambda kind, timeout_sec: None
    conferir()
    assert "não respondeu" in capsys.readouterr().out


def test_without_a_notebook_or_while_grading_nothing_breaks(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    conferir(tmp_path / "nenhum.ipynb")
    (tmp_path / "meio.ipynb").write_text('{"cells"')
    entregar(tmp_path / "meio.ipynb")
    printed = capsys.readouterr().out
    assert "Não sei qual" in printed and "não é um caderno" in printed
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    conferir(tmp_path / "nenhum.ipynb")
    assert capsys.readouterr().out == ""
