"""Paths that people run, by name: the switches of a plan, and the versions that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.methods import Method
from toolkit.models import Architecture
from toolkit.plan import Plan, PlanError


@dataclass(frozen=True)
class Preset:
    """A path that people run: the switches that it sets, and the versions that it stands for."""

    versions: str
    switches: Mapping[str, Any]


PRESETS: dict[str, Preset] = {
    "toolkit": Preset("toolkit.train; torch 2.13, transformers 5.23, peft 0.21", {}),
    "peft plain": Preset(
        "peft 0.20-0.21 in a loop of one's own; transformers 5 leaves use_cache on and the output alive",
        {"use_cache": True, "hold_output": "next"},
    ),
    "prepare_model_for_kbit_training": Preset(
        "peft 0.10-0.21 (peft/utils/other.py), with the Trainer's autocast",
        {"upcast": "all", "checkpointing": True, "reentrant": True, "autocast": True},
    ),
    "TRL 2024": Preset(
        "trl 0.8-0.13, transformers 4.40-4.48, torch < 2.8 (AdamW foreach)",
        {
            "upcast": "norms",
            "autocast": True,
            "adapter_dtype": "bf16",
            "reentrant": True,
            "transformers": "4.48",
        },
    ),
    "TRL 2026": Preset(
        "trl 1.x, transformers 5, torch >= 2.8 (AdamW fused)",
        {
            "autocast": True,
            "adapter_dtype": "bf16",
            "checkpointing": True,
            "loss": "chunked",
            "optimizer": "adamw_fused",
        },
    ),
    "Liger": Preset(
        "Liger-Kernel 0.5 or Unsloth 2025-2026: fused loss, norms and MLP, checkpointing, 8-bit AdamW",
        {
            "loss": "fused",
            "kernels": "liger",
            "checkpointing": True,
            "optimizer": "adamw_8bit",
            "attention": "flash",
        },
    ),
}


def preset(name: str, model: Architecture, method: Method, **changes: Any) -> Plan:
    """A plan on the path `name` of PRESETS, with `changes` on top. Raises PlanError for an unknown path."""
    if name not in PRESETS:
        raise PlanError(f"preset deve ser um de {', '.join(map(repr, PRESETS))}; recebi {name!r}.")
    return Plan(model, method).change(**{**PRESETS[name].switches, **changes})
