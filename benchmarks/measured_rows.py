"""Published measurements, and the plan that each of them ran: which switches its row and its script tell."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.methods import Full, LoRA, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan

DATA = Path(__file__).parent / "data" / "vram_measured.csv"
SYNTHETIC = {  # AnswerDotAI/fsdp_qlora, nbs/00-profile_lora_qlora.ipynb: its own LlamaConfig
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
NAMES = {
    "meta-Llama-3.1-8B": "Llama-3.1-8B",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "TinyLlama_v1.1",
    "Qwen/Qwen2.5-1.5B-Instruct": "Qwen2.5-1.5B",
    "Qwen/Qwen2.5-7B-Instruct": "Qwen2.5-7B",
    "Llama-3.2-3B-Instruct": "Llama-3.2-3B",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B-v0.1",
}


@dataclass(frozen=True)
class Row:
    """One measurement (bytes), and the plan that each of `cards` ran."""

    name: str
    group: str
    method: str
    gpu: str
    plan: Plan
    allocated: int
    reserved: int | None
    raw: dict[str, str]
    cards: int = 1


def rows(path: Path = DATA) -> Iterator[Row | tuple[str, str]]:
    """The rows that can be reproduced, in order; (id, reason) for those that cannot."""
    with path.open(encoding="utf-8", newline="") as file:
        for raw in csv.DictReader(file):
            reason = _excluded(raw)
            yield (raw["id"], reason) if reason else _row(raw)


def _excluded(raw: dict[str, str]) -> str:
    if raw["group"] not in PROTOCOLS:
        return "an operator or a static figure, not a training step"
    if raw["method"] not in ("full", "lora", "qlora"):
        return f"{raw['method']} is not a method of the toolkit"
    if "HQQ" in raw["quantization"]:
        return "HQQ quantization is not a method of the toolkit"
    return ""


def _row(raw: dict[str, str]) -> Row:
    model = Architecture.from_config(
        SYNTHETIC if raw["model"].startswith("synthetic") else NAMES.get(raw["model"], raw["model"])
    )
    cards = int(raw["n_gpus"])
    switches: dict[str, Any] = {
        "batch": int(raw["micro_batch"]),
        "seq_len": int(raw["seq_len"]) * cards,  # the table divides one card's tokens by all cards' samples
        "checkpointing": raw["grad_ckpt"].startswith("yes"),
        "reentrant": "reentrant HF" in raw["grad_ckpt"],
        **_versions(raw["software"]),
        **PROTOCOLS[raw["group"]](raw),
    }
    return Row(
        raw["id"],
        raw["group"] if cards == 1 else f"{raw['group']}, {cards} cards",
        raw["method"],
        raw["gpu"],
        Plan(model, _method(raw), **switches),
        int(raw["value_bytes"]),
        int(raw["max_reserved_bytes"]) if raw["max_reserved_bytes"] else None,
        raw,
        cards,
    )


def _method(raw: dict[str, str]) -> Method:
    if raw["method"] == "full":
        return Full()
    targets = tuple(t for t in raw["targets"].split(" ")[0].split("+") if t != "c_attn")
    rank, dropout = int(raw["rank_or_tokens"]), 0.1 if raw["group"] == "fms-accel" else 0.0
    if raw["method"] == "lora":
        return LoRA(rank, 2.0 * rank, targets, dropout)
    return QLoRA(rank, 2.0 * rank, targets, dropout, double_quant=raw["double_quant"].startswith("yes"))


def _versions(software: str) -> dict[str, str]:
    """The libraries' versions, where the row names them."""
    return dict(re.findall(r"(transformers|peft|bitsandbytes) (\d[\d.]*\d)", software))


def _fitcheck(raw: dict[str, str]) -> dict[str, Any]:
    """scripts/measure.py of the same sdist: pure fp16, `out` alive until the step is over, efficient
    attention with keys and values repeated beforehand; 4-bit ones by prepare_model_for_kbit_training.

    Two sessions were not loaded by the versions that they state: their allocated bytes tell. 2026-09-15
    (transformers 5.17, peft 0.20): one model takes six different amounts once loaded, where 5.17 loads in
    order and can give but one; taken as the later sessions' versions. 2026-09-01 (5.0.0): its peaks are those
    of loading in order within 1 MiB (3 for Qwen), where four threads spread them over 8.
    """
    loaded = {
        "2026-09-01": {"transformers": "5.4"},
        "2026-09-15": {"transformers": "5.0.0", "peft": "0.19.1"},
    }
    return {
        **loaded.get(raw["date"], {}),
        "dtype": "fp16",
        "compute_dtype": "fp16",
        "upcast": "all" if raw["method"] == "qlora" else "none",
        "attention": "eager" if raw["attn_impl"].startswith("eager") else "efficient",
        "hold_output": "step",
        "gpu": "T4",
    }


def _vramcalc(raw: dict[str, str]) -> dict[str, Any]:
    """src/vramcalc/bench.py of the same sdist: gradients kept (set_to_none=False), `out` alive through
    backward, autocast where the row says so. transformers 4.53-4.57 make a mask, as for a padded batch,
    when they are given none (masking_utils.py, find_packed_sequence_indices)."""
    amp = "autocast" in raw["base_dtype"]
    return {
        "dtype": "fp32" if amp else "bf16",
        "autocast": amp,
        "attention": raw["attn_impl"],
        "set_to_none": False,
        "hold_output": "backward",
        "padding": True,
        "gpu": "RTX A6000",
    }


def _fms(raw: dict[str, str]) -> dict[str, Any]:
    """fms-acceleration scripts/benchmarks: SFTTrainer on packed sequences, in pure bf16 or with autocast as
    the row's notes say; stock bitsandbytes through TRL's cast of the norms; its fused kernels are RMSNorm,
    rotary embedding and loss, and in 4 bits LoRA's products. lora_dropout is 0.1 in every scenario
    (scenarios.yaml). On several cards FSDP shards all (accelerate.yaml); with autocast accelerate makes what
    is trained fp32 (accelerator.py, prepare_model), and gathers it in 16 bits, norms too."""
    fused = {"fused Triton CE (foak)": "in_place", "Liger fused linear CE": "fused"}
    kernels = "lora" if raw["method"] == "qlora" else "norms"
    amp, alone = "AMP autocast on" in raw["notes"], raw["n_gpus"] == "1"
    return {
        "loss": fused.get(raw["loss_impl"], "fp32"),
        "kernels": kernels if raw["loss_impl"] in fused else "torch",
        "attention": "flash",
        "dtype": "fp32" if amp and not alone and raw["method"] == "full" else "bf16",
        "autocast": amp,
        "upcast": "norms" if "norms went fp32" in raw["notes"] and alone else "none",
        "gpu": "A100 80 GB",
    }


PROTOCOLS = {"fms-accel": _fms, "fitcheck-t4": _fitcheck, "vramcalc-a6000": _vramcalc}
