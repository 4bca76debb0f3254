"""Methods on a live model, against peft itself and against what the papers promise."""

import time

import peft
import pytest
import safetensors.torch
import torch

from toolkit import saved
from toolkit.adapters import AdapterError, adapter_weights, attach, merge, switch, unmerge
from toolkit.count import count
from toolkit.folders import DiskError
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.saved import load, save

ADDED = [
    LoRA(rank=4, targets="all-linear"),
    QLoRA(),
    PrefixTuning(4),
    PromptTuning(4),
    IA3(),
    Adapter(8),
]
IDENTITY = [LoRA(), LoRA(use_dora=True), LoRA(use_rslora=True), IA3(), Adapter(8)]
named = pytest.mark.parametrize("method", ADDED, ids=lambda m: type(m).__name__)


@pytest.fixture
def ids(tiny):
    return tiny.tokenizer("uma frase qualquer", return_tensors="pt").input_ids


def fresh(tiny, method):
    torch.manual_seed(0)
    return attach(tiny.load(tiny.plan(method)), method)


def scramble(model, seed=1):
    """Stand in for training: give every trained weight another value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits


@named
def test_live_count_equals_the_plans(tiny, method):
    live, planned = count(fresh(tiny, method)), count(tiny.plan(method))
    assert (live.trainable, live.total) == (planned.trainable, planned.total)


@named
def test_only_the_adapter_learns(tiny, ids, method):
    """As litgpt tests it: after a step the base is bit for bit what it was, and the adapter is not."""
    model = fresh(tiny, method).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert changed <= {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", IDENTITY, ids=str)
def test_a_new_adapter_changes_nothing(tiny, ids, method):
    assert torch.allclose(logits(fresh(tiny, method), ids), logits(tiny.model, ids), atol=1e-5)


def test_full_trains_everything(tiny):
    model = attach(tiny.load(), Full())
    assert all(p.requires_grad for p in model.parameters())


def test_lora_is_the_formula_on_pefts_weights(tiny):
    """W0 x + (alpha/r) B A x, from the matrices that peft holds."""
    model = scramble(fresh(tiny, LoRA(rank=4, alpha=10)))
    module = model.base_model.model.model.layers[0].self_attn.q_proj
    x, a, b = torch.randn(3, 64), module.lora_A["default"].weight, module.lora_B["default"].weight
    expected = module.base_layer(x) + 10 / 4 * x @ a.T @ b.T
    assert torch.allclose(module(x), expected, atol=1e-5)


def test_bottleneck_is_the_formula(tiny):
    model = scramble(fresh(tiny, Adapter(8)))
    module = model.base_model.model.layers[1].mlp.down_proj
    x, adapter = torch.randn(3, 128), module.bottleneck["default"]
    h = module.base_layer(x)
    down = torch.nn.functional.gelu(h @ adapter.down.weight.T + adapter.down.bias)
    assert torch.allclose(module(x), h + down @ adapter.up.weight.T + adapter.up.bias, atol=1e-5)


@named
def test_save_and_load_give_the_same_model(tiny, ids, tmp_path, method):
    model = scramble(fresh(tiny, method))
    size = save(model, tmp_path / "a")
    again = load(tiny.load(tiny.plan(method)), tmp_path / "a", "outro")
    assert torch.equal(logits(again, ids), logits(model, ids))
    tensors = sum(t.numel() * t.element_size() for t in adapter_weights(model).values())
    assert tensors < size < tensors + 8192  # safetensors adds its header only


def test_peft_reads_what_we_save(tiny, ids, tmp_path):
    model = scramble(fresh(tiny, LoRA()))
    save(model, tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(tiny.load(), tmp_path / "a")
    assert torch.equal(logits(theirs, ids), logits(model, ids))


def test_a_qlora_adapter_goes_on_a_16_bit_base(tiny, ids, tmp_path):
    model = scramble(fresh(tiny, QLoRA()))
    save(model, tmp_path / "a")
    assert adapter_weights(load(tiny.load(), tmp_path / "a")).keys() == adapter_weights(model).keys()


@named
def test_several_on_one_base_switched_in_milliseconds(tiny, ids, method):
    model = scramble(fresh(tiny, method))
    first = logits(model, ids)
    attach(model, method, "segundo")
    scramble(model, seed=2)
    second = logits(model, ids)
    began = time.perf_counter()
    switch(model, "default")
    assert time.perf_counter() - began < 1
    assert torch.equal(logits(model, ids), first)
    assert count(model).trainable == count(tiny.plan(method)).trainable
    switch(model, "segundo")
    assert torch.equal(logits(model, ids), second)
    assert not torch.equal(first, second)


def test_bottleneck_can_be_switched_off_and_on(tiny, ids):
    model = scramble(fresh(tiny, Adapter(8)))
    with model.disable_adapter():
        assert torch.equal(logits(model, ids), logits(tiny.model, ids))
    assert not torch.allclose(logits(model, ids), logits(tiny.model, ids))


@pytest.mark.parametrize("method", [LoRA(), IA3()], ids=["LoRA", "IA3"])
def test_merge_changes_no_answer_and_unmerge_gives_the_base_back(tiny, ids, method):
    model = scramble(fresh(tiny, method))
    before = logits(model, ids)
    merge(model)
    assert torch.allclose(logits(model, ids), before, atol=1e-4)
    unmerge(model)
    weight = model.base_model.model.model.layers[0].self_attn.v_proj.base_layer.weight
    assert torch.allclose(weight, tiny.model.model.layers[0].self_attn.v_proj.weight, atol=1e-6)


@pytest.mark.parametrize("method", [PrefixTuning(4), Adapter(8)], ids=["prefix", "bottleneck"])
def test_what_is_no_sum_of_matrices_cannot_be_merged(tiny, method):
    with pytest.raises(AdapterError, match="só LoRA, QLoRA e IA3"):
        merge(fresh(tiny, method))


def test_4_bit_base_still_learns_after_an_evaluation(tiny, ids):
    """bitsandbytes repacks 4-bit weights in an evaluation on CPUs with AVX512-BF16: gradients would be 0."""
    base = tiny.load(tiny.plan(QLoRA()))
    logits(base, ids)
    model = attach(base, QLoRA()).train()
    model(ids, labels=ids).loss.backward()
    assert sum(p.grad.norm() for p in model.parameters() if p.grad is not None) > 0


def test_4_bit_base_that_was_already_repacked_is_mended(tiny, ids):
    base = tiny.load(tiny.plan(QLoRA()))
    expected = logits(base, ids)
    from toolkit.quantization import linears_4bit

    for module in linears_4bit(base):
        module.support_avx512bf16_for_cpu = True
    logits(base, ids)  # repacked here, where the CPU can
    model = attach(base, QLoRA())
    assert torch.allclose(logits(model, ids), expected, atol=5e-3)  # the repacking rounds scales to bf16
    model.train()(ids, labels=ids).loss.backward()
    assert sum(p.grad.norm() for p in model.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LoRA(rank=33), "rank deve ser no máximo 32, o posto máximo da matriz 32x64 de v_proj; recebi 33"),
        (LoRA(targets=("query",)), r"\(down_proj, gate_proj, .*v_proj\); 'query' não existe"),
        (IA3(targets=("key",), feedforward=()), "'key' não existe"),
        (QLoRA(), "base em 4 bits"),
    ],
)
def test_a_method_that_does_not_fit_is_one_sentence(tiny, method, message):
    with pytest.raises(AdapterError, match=message):
        attach(tiny.load(), method)


def test_names_and_kinds_on_one_base(tiny):
    model = fresh(tiny, LoRA())
    with pytest.raises(AdapterError, match="já há um adaptador chamado 'default'"):
        attach(model, LoRA())
    with pytest.raises(AdapterError, match="não convive"):
        attach(model, PrefixTuning(4), "prefixo")
    with pytest.raises(AdapterError, match="não há adaptador chamado 'x'; há default"):
        switch(model, "x")


def test_an_adapter_for_another_base_names_the_difference(tiny, tmp_path, monkeypatch):
    save(fresh(tiny, LoRA()), tmp_path / "a")
    other = tiny.load()
    other.config.num_hidden_layers = 3
    with pytest.raises(AdapterError, match=r"é de outra base \(layers 2 em vez de 3\)"):
        load(other, tmp_path / "a")


@pytest.mark.parametrize("keep", [0, 4, 60, 1500], ids=lambda n: f"{n} bytes")
def test_a_truncated_file_is_one_sentence_and_leaves_the_model_alone(tiny, tmp_path, keep):
    save(fresh(tiny, LoRA()), tmp_path / "a")
    path = tmp_path / "a" / saved.WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    model = tiny.load()
    with pytest.raises(AdapterError, match="truncado ou corrompido"):
        load(model, tmp_path / "a")
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (saved.BASE, b"[1]"),
        (saved.CONFIG, b"{oops"),
        (saved.CONFIG, b'{"peft_type": "nada"}'),
        (saved.WEIGHTS, safetensors.torch.save({"base_model.x.lora_A.weight": torch.zeros(2, 2)})),
    ],
)
def test_a_folder_whose_files_do_not_belong_together_is_one_sentence(tiny, tmp_path, name, content):
    save(fresh(tiny, LoRA()), tmp_path / "a")
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(AdapterError, match=r"corrompido|não descreve|não são os que") as caught:
        load(tiny.load(), tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_save_does_not_take_the_place_of_other_files(tiny, tmp_path):
    (tmp_path / "notas.txt").write_text("minhas")
    for taken in (tmp_path, tmp_path / "notas.txt"):
        with pytest.raises(DiskError, match="continua lá"):
            save(fresh(tiny, LoRA()), taken)
    assert [path.name for path in tmp_path.iterdir()] == ["notas.txt"]


def test_no_adapter_there(tiny, tmp_path):
    with pytest.raises(AdapterError, match="não há adaptador em"):
        load(tiny.load(), tmp_path)


def test_a_save_that_fails_keeps_the_one_before(tiny, tmp_path, monkeypatch):
    model = fresh(tiny, LoRA())
    save(model, tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    monkeypatch.setattr(Architecture, "from_config", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(scramble(model), tmp_path / "a")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
