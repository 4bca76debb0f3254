"""The base model for this machine: Tucano-160m from the hub, SmolLM2-135M where the hub is out of reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit import embedded, hub
from toolkit.environment import environment
from toolkit.methods import Full, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Dtype, Plan
from toolkit.quantization import TORCH_NAMES, bits_and_bytes, keep_gradients

TUCANO = "TucanoBR/Tucano-160m"
SMOLLM2 = "SmolLM2-135M-Instruct"
TINY = "tiny"


class BaseModelError(ValueError):
    """A base model that cannot be had; one sentence says which there are, or what is missing."""


@dataclass(frozen=True)
class BaseModel:
    """A base on this machine's disk and why it was chosen; every `load` gives a fresh, untouched copy."""

    name: str
    folder: Path
    reason: str

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, with a padding token."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def model(self) -> Any:
        """One copy in this machine's dtype, to look at and to ask; `train` never touches it."""
        return self.load()

    @cached_property
    def architecture(self) -> Architecture:
        """The dimensions of the model."""
        described = Architecture.from_config(self.folder).to_dict()
        return Architecture(**{**described, "name": self.name})

    def plan(self, method: Method, **changes: Any) -> Plan:
        """A plan for this base on this machine: its dtype, autocast where 16 bits would not do.

        A full fine-tune keeps fp32 weights (bf16 would swallow its small steps); fp16 needs fp32 islands.
        QLoRA takes the paged AdamW with 8-bit states (its authors' script: `paged_adamw_32bit`).
        """
        compute: Dtype = environment().dtype
        full = isinstance(method, Full)
        switches = {
            "dtype": "fp32" if full else compute,
            "compute_dtype": compute,
            "autocast": compute == "fp16" or (full and compute == "bf16"),
            "optimizer": "paged_adamw_8bit" if isinstance(method, QLoRA) else "adamw",
        }
        return Plan(self.architecture, method).change(**{**switches, **changes})

    def load(self, plan: Plan | None = None) -> Any:
        """A fresh copy of the model as `plan` loads it (dtype, attention, 4 bits), or in the machine's."""
        import torch
        from transformers import AutoModelForCausalLM

        dtype = plan.dtype if plan else environment().dtype
        options: dict[str, Any] = {"dtype": getattr(torch, TORCH_NAMES[dtype])}
        if plan:
            attention = "flash_attention_2" if plan.attention == "flash" else plan.attention
            options["attn_implementation"] = attention
            if plan.quantized:
                options["quantization_config"] = bits_and_bytes(plan)
        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(self.folder, device_map={"": device}, **options)
        keep_gradients(model)
        return model.eval()


def base_model(name: str = "") -> BaseModel:
    """The base model for this machine, or the one named: "SmolLM2-135M-Instruct", "tiny", a hub id, a folder.

    Without a name: Tucano-160m (Portuguese) where the hub answers or it is on disk, SmolLM2-135M otherwise.
    Raises BaseModelError, in one sentence, for an unknown name or a hub id that cannot be reached.
    """
    if not name:
        folder, reason = hub.folder(TUCANO)
        if folder:
            return BaseModel(TUCANO, folder, f"{reason}; foi treinado em português")
        return BaseModel(SMOLLM2, embedded.smollm2(), f"{reason}; o SmolLM2-135M vem do PyPI e roda sem rede")
    if name == SMOLLM2:
        return BaseModel(name, embedded.smollm2(), "pedido pelo nome")
    if name == TINY:
        return BaseModel(name, embedded.tiny(), "pesos aleatórios, só para testar o código")
    if (Path(name) / "config.json").is_file():
        return BaseModel(Path(name).name, Path(name), "pasta indicada")
    if name.count("/") != 1:
        raise BaseModelError(
            f"não conheço o modelo {name!r}; há {TUCANO!r}, {SMOLLM2!r}, {TINY!r}, "
            f"qualquer outro id do Hugging Face Hub ('dono/modelo') ou uma pasta com config.json."
        )
    folder, reason = hub.folder(name)
    if not folder:
        raise BaseModelError(
            f"não foi possível obter {name!r}: {reason}; use {SMOLLM2!r}, que não precisa dele."
        )
    return BaseModel(name, folder, reason)
