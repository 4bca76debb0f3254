"""Each lesson, first cell to last, in a Jupyter kernel: solved, as handed out, and at full size."""

import re

import pytest
from nbclient import NotebookClient

from autograder.publish import course_facts, source_notebook, student_notebook

from .scoring import ROOT, cells

LESSONS = course_facts(ROOT)["lessons"]


def execute(notebook, folder, monkeypatch, reduced=True):
    """Run the notebook in an empty folder that has the lessons' data, offline."""
    (folder / "dados").symlink_to(ROOT / "lessons" / "dados")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if reduced:
        monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    return NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()


def errors(cell):
    return [o.ename for o in cell.outputs if o.output_type == "error"]


def printed(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.parametrize("lesson", LESSONS)
def test_solved_notebook_runs_and_earns_every_point(lesson, tmp_path, monkeypatch):
    notebook = execute(source_notebook(lesson, ROOT), tmp_path, monkeypatch)
    for name, cell in cells(notebook).items():
        assert errors(cell) == [], name
        assert not any(o.get("name") == "stderr" for o in cell.outputs), (
            f"{name}: nbgrader takes points for stderr"
        )


@pytest.mark.parametrize("lesson", LESSONS)
def test_notebook_as_handed_out_says_what_is_not_done(lesson, tmp_path, monkeypatch):
    notebook = execute(student_notebook(source_notebook(lesson, ROOT)), tmp_path, monkeypatch)
    tests = {name: c for name, c in cells(notebook).items() if c.metadata["nbgrader"]["grade"]}
    assert {name: errors(cell) for name, cell in tests.items()} == {
        name: ["NotImplementedError"] for name in tests
    }
    waiting = [cell for cell in notebook.cells if "with needs_exercise(" in cell.source]
    assert waiting or lesson == "10_autoavaliacao"
    assert all("Faça primeiro" in printed(cell) for cell in waiting)


def printed_at_full_size(lesson, folder, monkeypatch):
    notebook = execute(source_notebook(lesson, ROOT), folder, monkeypatch, reduced=False)
    return "".join(printed(c) for c in notebook.cells if c.cell_type == "code")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_the_real_model_learns(tmp_path, monkeypatch):
    text = printed_at_full_size("03_lora", tmp_path, monkeypatch)
    losses = [float(value) for value in re.findall(r"perda na validação, passo +\d+: ([\d.]+)", text)]
    assert losses[-1] < losses[0] / 2
    assert float(re.search(r"\(([\d.]+)%\)", text).group(1)) < 1
    assert float(re.search(r"ganho de \+([\d.]+)", text).group(1)) > 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_nf4_costs_the_real_model_least(tmp_path, monkeypatch):
    text = printed_at_full_size("05_quantizacao", tmp_path, monkeypatch)
    rises = re.findall(r"^(\w+),.*\+([\d.]+) \(±", text, re.MULTILINE)
    assert [name for name, _ in rises] == ["int4", "FP4", "int4", "NF4"]
    assert [float(rise) for _, rise in rises] == sorted((float(rise) for _, rise in rises), reverse=True)
    assert re.search(r"^Tucano-160m .* 2\.07$", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_qlora_learns_and_merges_best_into_its_own_base(tmp_path, monkeypatch):
    text = printed_at_full_size("06_qlora", tmp_path, monkeypatch)
    row = re.search(r"perda na validação(.*)", text).group(1)
    assert all(float(after) < float(before) / 2 for before, after in re.findall(r"([\d.]+) -> ([\d.]+)", row))
    assert float(re.search(r"gradiente depois de uma avaliação: ([\d.]+)", text).group(1)) > 0
    drift = {
        name: float(re.search(rf"^{name} +[\d.]+ +([\d.]+)", text, re.MULTILINE).group(1))
        for name in (
            "cópia desquantizada, em fp16",
            "cópia desquantizada, em bf16",
            "modelo original, em bf16",
        )
    }
    assert list(drift.values()) == sorted(drift.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_full_fine_tuning_gains_and_forgets(tmp_path, monkeypatch):
    text = printed_at_full_size("02_ajuste_completo", tmp_path, monkeypatch)
    assert float(re.search(r"ganho de macro-F1: \+([\d.]+)", text)[1]) > 0
    rows = re.findall(r"^(base|ajuste completo|taxa alta) +[\d.]+ +([\d.]+) +[\d.]+%$", text, re.MULTILINE)
    general = {name: float(perplexity) for name, perplexity in rows}
    assert general["taxa alta"] > general["ajuste completo"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_each_adapter_serves_its_client(tmp_path, monkeypatch):
    text = printed_at_full_size("04_lora_na_pratica", tmp_path, monkeypatch)
    figures = {
        name: [float(value) for value in values.split()]
        for name, values in re.findall(
            r"^(base|cláusulas|atendimento) +((?:[\d.]+ *){3})$", text, re.MULTILINE
        )
    }
    assert figures["cláusulas"][0] > max(figures["base"][0], figures["atendimento"][0]) + 0.1
    assert figures["atendimento"][2] > max(figures["base"][2], figures["cláusulas"][2])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_full_size_the_history_teaches_bias_and_both_corrections_take_it_away(tmp_path, monkeypatch):
    text = printed_at_full_size("08_etica", tmp_path, monkeypatch)
    table = re.findall(
        r"^ *(\w+) +(\d+)% +(\d+)% .* (\S+) \[(\S+); (\S+)\]$", text.replace(",", "."), re.MULTILINE
    )
    rows = {name: tuple(map(float, figures)) for name, *figures in table}
    past, _, gap, low, _ = rows["histórico"]
    assert low > 0
    for as_past, _, left, _, _ in (rows["balanceado"], rows["aumentado"]):
        assert as_past < past
        assert abs(left) < gap / 2
