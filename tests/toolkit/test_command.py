"""`python -m toolkit`: tables, JSON that can be read back, and one sentence for a mistake."""

import json
import sys

import pytest

from toolkit.__main__ import main
from toolkit.plan import Plan
from toolkit.vram.estimate import estimate


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["toolkit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


def test_the_table_says_whether_it_fits(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "vram", "SmolLM2-135M", "--gpu", "T4")
    assert code == 0 and "Cabe na T4" in out and "Pesos do modelo" in out


def test_fixes_are_listed_where_it_does_not(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "vram", "Qwen2.5-7B", "--method", "full", "--english")
    assert "Too large for the T4" in out and "QLoRA" in out and "Model weights" in out


def test_json_is_the_plan_and_its_memory_in_bytes(monkeypatch, capsys):
    _, out, _ = run(
        monkeypatch,
        capsys,
        "vram",
        "Qwen2.5-0.5B",
        "--method",
        "qlora",
        "--set",
        "checkpointing=true",
        "--json",
    )
    told = json.loads(out)
    plan = Plan.from_dict(told["plan"])
    assert plan.checkpointing and plan.quantized and plan.gpu == "T4"
    assert told["memory"] == json.loads(json.dumps(estimate(plan).to_dict()))
    assert told["verdict"] in ("fits", "tight", "exceeds")


def test_several_cards(monkeypatch, capsys):
    command = ("vram", "Llama-2-7b-hf", "--method", "full", "--gpus", "4", "--strategy", "zero3")
    _, out, _ = run(monkeypatch, capsys, *command)
    assert "Com 4 placas e zero3" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vram", "Qwen2.5-7B", "--batch", "0"), "batch deve ser um inteiro maior ou igual a 1"),
        (("vram", "Qwen2.5-7B", "--gpu", "Voodoo"), "não está na tabela"),
        (("vram", "Qwen2.5-7B", "--method", "magic"), "--method deve ser um de full, lora"),
        (("vram", "Qwen2.5-7B", "--seq-len", "999999"), "seq_len deve ficar entre 1 e 131072"),
        (("vram", "Qwen2.5-7B", "--set", "optimizer=lion"), "optimizer deve ser um de 'adamw'"),
        (("vram", "Qwen2.5-7B", "--set", "checkpointing"), "--set espera campo=valor"),
        (("vram", "Qwen2.5-7B", "--set", "method=Full"), "--set não muda method"),
        (("vram", "Qwen2.5-7B", "--batch", "9" * 30), "batch deve ser um inteiro maior ou igual a 1, até"),
        (("vram", "gpt2", "--method", "ia3"), "targets deve citar módulos do modelo (c_attn, c_fc, c_proj)"),
        (("vram", "Qwen2.5-7B", "--preset", "x"), "preset deve ser um de 'toolkit'"),
        (("vram", "Qwen2.5-7B", "--gpus", "4", "--strategy", "zero9"), "strategy deve ser um de 'zero1'"),
        (("vram", "Llama-2-7b"), "quis dizer meta-llama/Llama-2-7b-hf"),
    ],
)
def test_a_mistake_is_one_sentence(monkeypatch, capsys, arguments, words):
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2 and not out
    assert err.startswith("Erro: ") and words in err and err.count("\n") == 1 and "Traceback" not in err
