"""A run's report: its figures against files on disk and tensors in memory, and its way through JSON."""

import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from toolkit.adapters import save
from toolkit.data import Example, encode_all
from toolkit.evaluation import perplexity
from toolkit.methods import Full, LoRA, PromptTuning
from toolkit.plots import plot_loss
from toolkit.run import Run, table
from toolkit.training import train

DATA = [Example(f"pergunta {n}", f"resposta {n}") for n in range(4)]


@pytest.fixture(scope="module")
def run(tiny):
    return train(tiny.plan(LoRA(), batch=4, seq_len=128), DATA, tiny, steps=3, validation=DATA[:2])


def test_figures_are_those_of_the_run(tiny, run, tmp_path):
    assert run.adapter_bytes == pytest.approx(save(run.model, tmp_path / "a"), abs=100)
    assert run.tokens == 3 * sum(len(e.ids) for e in encode_all(tiny.tokenizer, DATA, 128))
    assert run.steps == 3
    assert [step for step, _ in run.validation] == [0, 3]
    assert run.tokens_per_second == run.tokens / run.seconds


@pytest.mark.parametrize("method", [LoRA(), PromptTuning(4)], ids=lambda method: type(method).__name__)
def test_metric_is_that_of_the_base_and_of_the_trained_model(tiny, method):
    def metric(model):
        assert not model.training
        return {"perplexidade": perplexity(model, tiny.tokenizer, ["resposta 1"])}

    plan = tiny.plan(method, batch=4, seq_len=128)
    run = train(plan, DATA, tiny, steps=3, learning_rate=0.1, metric=metric)
    assert run.before == metric(tiny.model)
    assert run.after == metric(run.model) != run.before
    printed = StringIO()
    Console(file=printed, width=100).print(run)
    assert f"{run.before['perplexidade']:.3f} -> {run.after['perplexidade']:.3f}" in printed.getvalue()


def test_json_keeps_all_but_the_model(run, tmp_path):
    run.save(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run
    assert Run.read(tmp_path / "run.json").model is None


def test_table_and_picture_show_each_run(tiny, run):
    full = train(tiny.plan(Full(), batch=4, seq_len=128), DATA, tiny, steps=1)
    printed = StringIO()
    Console(file=printed, width=100).print(table({"LoRA": run, "completo": full}))
    for part in ("LoRA", "completo", "3.584", "90.624", "100.000", f"{run.losses[-1]:.3f}"):
        assert part in printed.getvalue()
    (axes,) = plot_loss({"LoRA": run, "completo": full}).axes
    assert list(axes.lines[0].get_ydata()) == list(run.losses)
    assert axes.get_xlabel() == "passos do otimizador"


PEAK = """
import torch
from toolkit.peak import Peak
torch.ones(100 * 2**20, dtype=torch.uint8)  # before: forgotten
peak = Peak()
kept = torch.ones(200 * 2**20, dtype=torch.uint8)
del kept
print(peak.bytes / 2**20)
"""


def test_peak_sees_what_was_freed_again_and_not_what_was_before():
    printed = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout
    assert float(printed) == pytest.approx(200, abs=10)
