"""What stops a fine-tune, or must not: mistakes, too little memory, a full disk, a 4-bit trap."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.toolkit.test_training import DATA, assert_same, plan, weights
from toolkit import checkpoint, recipe
from toolkit.adapters import AdapterError
from toolkit.base_model import BaseModel
from toolkit.data import DataError, Example, encode_all
from toolkit.evaluation import perplexity
from toolkit.methods import Full, LoRA, QLoRA
from toolkit.quantization import linears_4bit
from toolkit.recipe import TrainingError
from toolkit.training import train
from toolkit.vram.fit import fit


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": []}, DataError, "vazio"),
        ({"data": [Example("p" * 200, "r")]}, DataError, "aumente seq_len"),
        ({"steps": 0}, TrainingError, "steps deve"),
        ({"steps": "3"}, TrainingError, "steps deve"),
        ({"learning_rate": 0.0}, TrainingError, "learning_rate deve"),
        ({"learning_rate": "1e-3"}, TrainingError, "learning_rate deve"),
        ({"checkpoint_every": 0}, TrainingError, "checkpoint_every deve"),
        ({"schedule": "degrau"}, TrainingError, "schedule deve"),
        ({"plan": {"method": LoRA(rank=40)}}, AdapterError, "rank deve"),
        ({"plan": {"use_cache": True}}, TrainingError, "train só roda com use_cache=False"),
    ],
)
def test_mistakes_are_one_sentence(tiny, changes, error, message):
    settings = {"data": DATA, "steps": 1, **changes}
    chosen = plan(tiny, **settings.pop("plan", {}))
    with pytest.raises(error, match=message) as caught:
        train(chosen, settings.pop("data"), tiny, **settings)
    assert "\n" not in str(caught.value)


def test_a_plan_for_another_model_and_a_loss_that_explodes(tiny):
    other = replace(tiny.architecture, layers=3, name="outro")
    with pytest.raises(TrainingError, match="o plano é para outro e a base é tiny"):
        train(replace(plan(tiny), model=other), DATA, tiny, steps=1)
    with pytest.raises(TrainingError, match="NaN no passo"):
        train(plan(tiny, Full(), optimizer="sgd"), DATA, tiny, steps=9, learning_rate=1e30, clip=1e30)


HUGE = 2**26  # sequences: terabytes of logits


def test_a_plan_that_cannot_fit_is_refused_before_loading(tiny, monkeypatch):
    monkeypatch.setattr(BaseModel, "load", lambda *_: 1 / 0)
    wanted = plan(tiny, batch=HUGE, gpu="T4")
    with pytest.raises(
        TrainingError, match=r"não cabe na GPU T4: pede ao menos .* GiB e ela tem 14,7"
    ) as said:
        train(wanted, DATA, tiny, steps=1)
    cheapest = fit(wanted.change(seq_len=longest(tiny)), "T4").fixes[0]
    assert f"O conserto mais barato: {cheapest}." in str(said.value) and "force=True" in str(said.value)
    for forced in ({"plan": wanted, "force": True}, {"plan": plan(tiny, gpu="T4")}):
        with pytest.raises(ZeroDivisionError):  # loads
            train(forced.pop("plan"), DATA, tiny, steps=1, **forced)


def longest(tiny):
    return max(len(e.ids) for e in encode_all(tiny.tokenizer, DATA, 128))


NO_MEMORY = """
import gc, resource
import psutil
from tests.toolkit.test_training import plan
from toolkit.base_model import base_model
from toolkit.data import Example
from toolkit.loop import Loop
from toolkit.training import TrainingError, train
tiny = base_model("tiny")
train(plan(tiny), [Example("p", "r")], tiny, steps=1)  # what is imported late is there before the limit
most = psutil.Process().memory_info().vms + 2**27
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    train(plan(tiny, batch=256, seq_len=1024), [Example("p" * 500, "r" * 400)], tiny, steps=1)
except TrainingError as error:
    print("erro", error, error.__context__)
gc.collect()
print("vivos", sum(isinstance(o, Loop) for o in gc.get_objects()))
"""


def test_memory_that_runs_out_is_answered_with_the_cheapest_fix(tiny):
    """For real, in a process that may not take more; afterwards nothing keeps the model alive."""
    environment = {**os.environ, "TOOLKIT_CACHE": str(tiny.folder.parent)}
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], env=environment, capture_output=True, text=True)
    assert re.search(r"erro a memória RAM acabou. O conserto mais barato: .* GiB. None", done.stdout), done
    assert "vivos 0" in done.stdout


@pytest.mark.parametrize("guarded", [True, False])
def test_4_bit_weights_are_not_repacked_by_an_evaluation(tiny, monkeypatch, guarded):
    """As on CPUs with AVX512-BF16, where bitsandbytes does so and gradients are 0 from then on."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    if not guarded:  # shows that the trap is there
        for module in ("toolkit.base_model", "toolkit.adapters"):
            monkeypatch.setattr(sys.modules[module], "keep_gradients", lambda model: None)
    repacked = []

    def metric(model):
        figures = {"perplexidade": perplexity(model, tiny.tokenizer, ["um texto"])}
        states = [module.weight.quant_state for module in linears_4bit(model)]
        repacked.append(any(getattr(state, "packing_format_for_cpu", False) for state in states))
        return figures

    run = train(plan(tiny, QLoRA(rank=4)), DATA, tiny, steps=2, learning_rate=1e-2, metric=metric)
    assert repacked == [not guarded] * 2
    assert all(w.abs().sum() > 0 for name, w in weights(run).items() if "lora_B" in name)


def test_gradients_that_are_all_0_stop_the_run(tiny):
    """As they are, silently, where such a weight was repacked."""
    with pytest.raises(TrainingError, match="gradientes são todos 0"):
        train(plan(tiny, LoRA(rank=4, alpha=1e-300)), DATA, tiny, steps=1)


def test_the_cpu_has_no_paged_optimizer_and_says_so_once(tiny, capsys, recwarn):
    recipe._say_not_paged.cache_clear()
    assert plan(tiny, QLoRA()).optimizer == "paged_adamw_8bit"
    paged, unpaged = (
        train(plan(tiny, QLoRA(), optimizer=optimizer), DATA, tiny, steps=2, learning_rate=1e-2)
        for optimizer in ("paged_adamw_8bit", "adamw_8bit")
    )
    train(plan(tiny, QLoRA()), DATA, tiny, steps=1)
    assert capsys.readouterr().out.count("o otimizador paginado só existe em GPU") == 1
    assert not [w for w in recwarn if "Paged" in str(w.message)]
    assert_same(paged, unpaged)


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.toolkit.test_training import DATA, plan
from toolkit import checkpoint
from toolkit.base_model import base_model
from toolkit.saved import save
from toolkit.training import train
tiny = base_model("tiny")
settings = {"learning_rate": 1e-2, "checkpoint_dir": sys.argv[1], "checkpoint_every": 1}
train(plan(tiny), DATA, tiny, steps=2, **settings)
weights = (checkpoint.latest(Path(sys.argv[1])) / checkpoint.TRAINED).stat().st_size
for most in (weights + 100, 2**12):  # no file grows beyond: a full disk, for the state or the weights
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, -1))
    run = train(plan(tiny), DATA, tiny, steps=2, **{**settings, "checkpoint_dir": sys.argv[1] + "-other"})
    print("passos", run.steps)
try:
    save(run.model, sys.argv[1] + "-saved")
except OSError as error:
    print("erro", error)
"""


def test_a_full_disk_costs_neither_the_run_nor_what_was_saved(tiny, tmp_path):
    environment = {**os.environ, "TOOLKIT_CACHE": str(tiny.folder.parent)}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("passos 2") == 2
    for what in ("Aviso", "erro"):
        assert re.search(rf"{what}:? não consegui gravar .*o que já estava gravado continua lá", done.stdout)
    assert checkpoint.latest(tmp_path / "run").name == "step-00000002"
    assert not checkpoint.latest(tmp_path / "run-other")
