"""A run's report: its figures against files on disk and tensors in memory, and its way through JSON."""

import subprocess
import sys
from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from toolkit.data import Example, encode_all
from toolkit.evaluation import perplexity
from toolkit.methods import Adapter, Full, LoRA, PromptTuning, QLoRA
from toolkit.plots import compare, plot_loss
from toolkit.run import Run, RunError, table
from toolkit.saved import save
from toolkit.training import train
from toolkit.vram.memory import GIB

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
    assert f"{run.before['perplexidade']:.3g} -> {run.after['perplexidade']:.3g}" in printed.getvalue()


@pytest.mark.parametrize("method", [LoRA(), QLoRA(), Full(), Adapter(8)], ids=lambda m: type(m).__name__)
def test_saved_and_read_again(tiny, tmp_path, method):
    """Figures, and a model that answers the same, from JSON and safetensors alone."""
    run = train(tiny.plan(method, batch=4, seq_len=128), DATA, tiny, steps=2, learning_rate=1e-2)
    run.save(tmp_path / "run")
    assert Run.read(tmp_path / "run") == run and Run.read(tmp_path / "run").model is None
    again = Run.read(tmp_path / "run", tiny).model
    ids = tiny.tokenizer("uma frase", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, run.model(input_ids=ids).logits)
    assert {path.suffix for path in (tmp_path / "run").iterdir()} <= {".json", ".safetensors", ".md"}


def test_a_folder_without_a_whole_run_is_one_sentence(tmp_path):
    for figures in (None, "{", "[]", '{"plan": {}}'):
        if figures:
            (tmp_path / "run.json").write_text(figures)
        with pytest.raises(RunError, match="não há um treino inteiro"):
            Run.read(tmp_path)


def test_memory_of_a_run_in_parts(tiny):
    """What is held from step to step, against a count by hand; predicted and simulated agree on it."""
    for method in (LoRA(rank=4), QLoRA(rank=4)):
        plan = tiny.plan(method, batch=4, seq_len=128, optimizer="adamw")
        run = train(plan, DATA, tiny, steps=2)
        peak = run.measured.peak
        assert peak["adapters"] == peak["gradients"] == 4 * run.trainable
        assert peak["optimizer_states"] == pytest.approx(8 * run.trainable, rel=0.05)
        assert run.longest == max(len(e.ids) for e in encode_all(tiny.tokenizer, DATA, 128))
        rounding = 512 * len(list(run.model.parameters())) * 5  # the allocator's, of each small tensor
        for memory, tolerance in ((run.predicted, 4096), (run.simulated, rounding)):
            for part in ("weights", "quant_constants", "adapters"):
                assert memory.peak.get(part, 0) == pytest.approx(peak[part], abs=tolerance), part
        assert sum(peak.values()) >= run.peak_memory == run.measured.allocated.value


def test_table_and_pictures_show_each_run(tiny, run):
    full = train(tiny.plan(Full(), batch=4, seq_len=128), DATA, tiny, steps=1)
    runs = {"LoRA": run, "completo": full}
    printed = StringIO()
    Console(file=printed, width=100).print(table(runs))
    for part in ("LoRA", "completo", "3.584", "90.624", "100.000", f"{run.losses[-1]:.3f}"):
        assert part in printed.getvalue()
    (axes,) = plot_loss(runs).axes
    assert list(axes.lines[0].get_ydata()) == list(run.losses)
    assert axes.get_xlabel() == "passos do otimizador"


def test_compare_draws_what_the_runs_hold(tiny, capsys):
    run = replace(train(tiny.plan(LoRA(), batch=4, seq_len=128), DATA, tiny, steps=2), before={"acerto": 0.1})
    runs = {"a": replace(run, after={"acerto": 0.7}), "b": replace(run, after={"acerto": 0.9})}
    memory, loss, quality = compare(runs).axes
    assert "acerto" in capsys.readouterr().out
    widths = [bar.get_width() for bar in memory.patches]
    assert sum(widths) == pytest.approx(
        2 * sum(sum(m.peak.values()) / GIB for m in (run.predicted, run.simulated, run.measured))
    )
    assert [line.get_ydata()[0] for line in quality.lines] == [0.7, 0.1, 0.9, 0.1]
    assert len(loss.lines) == 2


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
