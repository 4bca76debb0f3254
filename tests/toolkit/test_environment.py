"""The decisions about dtype and profile, for cards that are not here, and the mending of an old torchao."""

import subprocess
import sys
from dataclasses import replace

import pytest

from toolkit.environment import (
    BIG_CARD,
    SettingError,
    card_lines,
    choose_dtype,
    choose_profile,
    environment,
    environment_card,
)

T4, A100, L4 = (7, 5), (8, 0), (8, 9)
GIB = 2**30


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(None, "fp32"), ((7, 0), "fp16"), (T4, "fp16"), (A100, "bf16"), (L4, "bf16"), ((9, 0), "bf16")],
)
def test_dtype_follows_compute_capability_and_says_why(capability, dtype):
    chosen, reason = choose_dtype(capability)
    assert chosen == dtype
    assert capability is None or f"{capability[0]}.{capability[1]}" in reason


def test_profile_follows_card_and_memory():
    assert choose_profile(None, 64 * GIB, None)[0] == "cpu"
    assert choose_profile(T4, 15 * GIB, None)[0] == "t4"
    assert choose_profile((7, 0), 32 * GIB, None)[0] == "t4"
    assert choose_profile(A100, BIG_CARD, None)[0] == "big"
    assert choose_profile(L4, BIG_CARD - 1, None)[0] == "t4"


def test_profile_can_be_asked_for_and_a_wrong_one_is_named(monkeypatch):
    monkeypatch.setenv("TOOLKIT_PROFILE", "big")
    assert environment().profile == "big"
    monkeypatch.setenv("TOOLKIT_PROFILE", "enorme")
    with pytest.raises(SettingError, match=r"cpu, t4, big; recebi 'enorme'"):
        environment()


def test_a_profile_asked_of_the_card_holds_for_the_session(monkeypatch, capsys):
    monkeypatch.setenv("TOOLKIT_PROFILE", "")  # so that what the card sets is undone
    assert environment_card().profile == choose_profile(*card_of_this_machine(), None)[0]
    assert environment_card("t4").profile == environment().profile == "t4"
    assert "t4 (pedido por você)" in capsys.readouterr().out
    with pytest.raises(SettingError, match="recebi 'enorme'"):
        environment_card("enorme")
    assert environment().profile == "t4"


def card_of_this_machine():
    found = environment()
    return found.capability, found.memory


def test_card_names_place_card_memory_and_reason():
    card = replace(environment(), place="Colab", gpu="Tesla T4", memory=15 * GIB, free=14 * GIB, dtype="fp16")
    text = "\n".join(card_lines(card, "torchao antigo"))
    for part in ("Google Colab", "Tesla T4", "14.0 GiB livres de 15.0 GiB", "fp16", "torchao antigo"):
        assert part in text
    assert "escolha um ambiente com GPU" in "\n".join(card_lines(replace(card, gpu="")))


OLD_TORCHAO = """
import sys
sys.path.insert(0, sys.argv[1])
from transformers import LlamaConfig, LlamaForCausalLM
from peft import LoraConfig, get_peft_model
tiny = LlamaConfig(vocab_size=8, hidden_size=32, intermediate_size=8, num_hidden_layers=1)
try:
    get_peft_model(LlamaForCausalLM(tiny), LoraConfig(target_modules=["q_proj"]))
except ImportError:
    print("broken")
from toolkit.environment import mend_torchao
print(mend_torchao())
get_peft_model(LlamaForCausalLM(tiny), LoraConfig(target_modules=["q_proj"]))
print("mended")
"""


def test_an_old_torchao_no_longer_breaks_peft(tmp_path):
    """A package called torchao, version 0.10, as Colab has it: peft raises, is mended, and works."""
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao/__init__.py").write_text("")
    (tmp_path / "torchao-0.10.0.dist-info").mkdir()
    (tmp_path / "torchao-0.10.0.dist-info/METADATA").write_text("Name: torchao\nVersion: 0.10.0\n")
    command = [sys.executable, "-c", OLD_TORCHAO, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[0] == "broken"
    assert "torchao instalado é antigo" in printed
    assert printed.splitlines()[-1] == "mended"
