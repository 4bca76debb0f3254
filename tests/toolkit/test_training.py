"""The loop against a hand-written one, against itself after a kill, and against what a student gets wrong."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from toolkit import checkpoint
from toolkit.adapters import adapter_weights, attach
from toolkit.checkpoint import CheckpointError
from toolkit.count import count
from toolkit.data import Encoded, Example, collate, encode_all, order, pack
from toolkit.generation import answer
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.recipe import TrainingError
from toolkit.training import train

DATA = [Example(f"pergunta número {n}?", f"resposta {n % 3}") for n in range(12)]


def kind(method):
    return type(method).__name__


def plan(tiny, method=LoRA(rank=4), **changes):  # noqa: B008
    return tiny.plan(method, **{"batch": 2, "seq_len": 128, **changes})


def weights(run):
    return {name: p.detach() for name, p in checkpoint.trained(run.model).items()}


def assert_same(one, other):
    assert one.losses == other.losses
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


def test_the_loop_is_the_plain_one(tiny):
    """Loss by loss against peft, AdamW and a linear schedule written out by hand."""
    steps, rate = 5, 1e-2
    run = train(
        plan(tiny), DATA, tiny, steps=steps, learning_rate=rate, schedule="linear", warmup=0, clip=1.0
    )
    model = tiny.load(tiny.plan(LoRA()))
    torch.manual_seed(0)
    model = attach(model, LoRA(rank=4)).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    indices, encoded, losses = order(len(DATA), 0), encode_all(tiny.tokenizer, DATA, 128), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        batch = collate([encoded[next(indices)] for _ in range(2)], 2)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert run.losses == pytest.approx(losses, rel=1e-5)


def test_accumulation_is_one_large_batch(tiny):
    """2 x 2 examples give the gradients of 4 at once, though their answers differ in length."""
    data = [Example("p", "curta"), Example("p", "uma resposta bem mais longa"), *DATA[:2]]
    small = train(plan(tiny, batch=2, accumulation=2), data, tiny, steps=4, learning_rate=1e-2)
    large = train(plan(tiny, batch=4), data, tiny, steps=4, learning_rate=1e-2)
    assert small.losses == pytest.approx(large.losses, rel=1e-4)
    assert small.tokens == large.tokens


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        (Full(), 1e-2),
        (LoRA(targets="all-linear", dropout=0.1), 3e-2),
        (QLoRA(targets="all-linear"), 3e-2),
        (PrefixTuning(4), 0.3),
        (PromptTuning(4), 0.3),
        (IA3(), 0.3),
        (Adapter(16), 1e-2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_method_learns(tiny, method, rate):
    run = train(plan(tiny, method), DATA, tiny, steps=12, learning_rate=rate, validation=DATA[:4])
    assert run.validation[-1][1] < run.validation[0][1]
    assert (run.trainable, run.parameters) == (
        count(plan(tiny, method)).trainable,
        count(plan(tiny, method)).total,
    )
    assert isinstance(answer(run.model, tiny.tokenizer, "pergunta número 1?", max_new_tokens=4), str)


def test_the_base_is_left_alone(tiny):
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    train(plan(tiny, Full()), DATA, tiny, steps=2, learning_rate=1e-2)
    assert all(torch.equal(p, before[name]) for name, p in tiny.model.named_parameters())


def test_a_full_fine_tune_learns_its_answers_by_heart(tiny):
    data = [Example("cor do céu?", "azul"), Example("cor da grama?", "verde")]
    run = train(plan(tiny, Full()), data, tiny, steps=60, learning_rate=1e-2)
    assert [answer(run.model, tiny.tokenizer, e.prompt, 16) for e in data] == ["azul", "verde"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_activations_changes_no_loss(tiny, reentrant):
    plain = train(plan(tiny), DATA, tiny, steps=3, learning_rate=1e-2)
    saving = plan(tiny, checkpointing=True, reentrant=reentrant)
    assert train(saving, DATA, tiny, steps=3, learning_rate=1e-2).losses == pytest.approx(
        plain.losses, rel=1e-5
    )


def test_bf16_autocast_stays_near_fp32_and_adapters_stay_fp32(tiny):
    plain = train(plan(tiny), DATA, tiny, steps=3, learning_rate=1e-2)
    mixed = plan(tiny, autocast=True, compute_dtype="bf16")
    run = train(mixed, DATA, tiny, steps=3, learning_rate=1e-2)
    assert run.losses == pytest.approx(plain.losses, rel=1e-2)
    assert all(w.dtype == torch.float32 for w in adapter_weights(run.model).values())


@pytest.mark.parametrize(
    "optimizer", ["adamw_loop", "adamw_fused", "adamw_8bit", "adafactor", "sgd_momentum"]
)
def test_optimizers_of_a_plan(tiny, optimizer):
    run = train(plan(tiny, optimizer=optimizer), DATA, tiny, steps=6, learning_rate=3e-2, validation=DATA[:4])
    assert run.validation[-1][1] < run.validation[0][1]


STEPS = 40
KILLED = """
import sys
from tests.toolkit.test_training import DATA, STEPS, plan
from toolkit.base_model import base_model
from toolkit.methods import LoRA
from toolkit.training import train
tiny = base_model("tiny")
train(plan(tiny, LoRA(rank=4, dropout=0.1)), DATA, tiny, steps=STEPS, learning_rate=1e-2,
      checkpoint_dir=sys.argv[1], checkpoint_every=1, validation=DATA[:2], validate_every=5)
"""


def done(folder):
    """Steps in the newest checkpoint."""
    newest = checkpoint.latest(folder)
    return int(newest.name.removeprefix("step-")) if newest else 0


def start(tiny, folder):
    """The same training in another process; when it has written a few checkpoints."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        env={**os.environ, "TOOLKIT_CACHE": str(tiny.folder.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and done(folder) < 3:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_ends_as_if_it_had_not_been(tiny, tmp_path, killer):
    """Bit for bit: losses, weights, validation, with dropout, an accumulating optimizer and three epochs."""
    settings = {"steps": STEPS, "learning_rate": 1e-2, "validation": DATA[:2], "validate_every": 5}
    dropping = plan(tiny, LoRA(rank=4, dropout=0.1))
    process = start(tiny, tmp_path / "run")
    process.send_signal(killer)
    printed = process.communicate()[0]
    assert 3 <= done(tmp_path / "run") < STEPS, printed
    assert ("Retome com resume=True" in printed) == (killer == signal.SIGINT)
    resumed = train(dropping, DATA, tiny, checkpoint_dir=tmp_path / "run", resume=True, **settings)
    whole = train(dropping, DATA, tiny, **settings)
    assert_same(resumed, whole)
    assert resumed.tokens == whole.tokens
    at = dict(whole.validation)
    assert all(at[step] == loss for step, loss in resumed.validation if step in at)
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name[0] != "."] == [
        f"step-{STEPS:08d}"
    ]


def checkpointed(tiny, folder, **changes):
    settings = {"steps": 2, "learning_rate": 1e-2, "checkpoint_dir": folder, **changes}
    return train(settings.pop("plan", plan(tiny)), settings.pop("data", DATA), tiny, **settings)


def test_a_checkpoint_of_another_run_is_refused_and_kept(tiny, tmp_path):
    checkpointed(tiny, tmp_path)
    for changes, name in (
        ({"plan": plan(tiny, LoRA(rank=2))}, "plan"),
        ({"data": DATA[1:]}, "data"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"seed": 1}, "seed"),
    ):
        with pytest.raises(CheckpointError, match=rf"de outro treino \(mudou: {name}\)"):
            checkpointed(tiny, tmp_path, resume=True, **changes)
    with pytest.raises(TrainingError, match="use resume=True"):
        checkpointed(tiny, tmp_path)
    assert checkpointed(tiny, tmp_path, resume=True).steps == 2


def test_a_damaged_checkpoint_is_one_sentence(tiny, tmp_path):
    checkpointed(tiny, tmp_path)
    damaged = checkpoint.latest(tmp_path) / checkpoint.TRAINED
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="danificado"):
        checkpointed(tiny, tmp_path, resume=True)


def test_resume_without_a_checkpoint_starts_anew(tiny, tmp_path):
    assert checkpointed(tiny, tmp_path / "novo", resume=True).steps == 2


def test_outside_the_main_thread_it_trains_too(tiny):
    runs = []
    worker = threading.Thread(target=lambda: runs.append(train(plan(tiny), DATA, tiny, steps=1)))
    worker.start()
    worker.join()
    assert runs[0].steps == 1


@pytest.mark.parametrize("method", [Full(), LoRA(rank=4), QLoRA(rank=4), Adapter(8)], ids=kind)
def test_packing_changes_no_loss(tiny, method):
    """Examples end to end in one sequence learn what they learn apart, though their lengths differ."""
    data = [Example("p", "curta"), Example("pergunta", "uma resposta bem mais longa"), *DATA]
    settings = {"steps": 4, "learning_rate": 1e-2}
    chosen = plan(tiny, method, batch=3, accumulation=2, optimizer="adamw")
    apart = train(chosen, data, tiny, **settings)
    packed = train(chosen, data, tiny, packing=True, **settings)
    assert packed.losses == pytest.approx(apart.losses, rel=2e-4)
    assert packed.tokens == apart.tokens and packed.longest < apart.longest


def test_a_packed_example_sees_only_itself(tiny):
    """Logits of the second of two packed examples are those that it has alone, at the same positions."""
    one, other = encode_all(tiny.tokenizer, DATA[:2], 128)
    model = tiny.load()
    model.config.use_cache = False  # as in training: with a cache transformers does not look at the positions
    with torch.no_grad():
        alone = model(**collate([other], 2)).logits[0]
        together = model(**pack([one, other])).logits[0, len(one.ids) :]
    assert torch.allclose(together, alone, atol=1e-5)
    assert pack([Encoded((5, 6, 7), 0)])["labels"].tolist() == [[-100, 6, 7]]


def test_how_a_batch_is_laid_out_is_said(tiny, capsys):
    data = [Example("p", "r" * length) for length in (10, 30)]
    train(plan(tiny), data, tiny, steps=1)
    lengths = [len(e.ids) for e in encode_all(tiny.tokenizer, data, 128)]
    assert f"{1 - sum(lengths) / (2 * max(lengths)):.0%} dos tokens são enchimento" in capsys.readouterr().out
    train(plan(tiny), data, tiny, steps=1, packing=True)
    assert "sem atenção de um exemplo a outro" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="packing não serve para PrefixTuning"):
        train(plan(tiny, PrefixTuning(4)), data, tiny, steps=1, packing=True)
