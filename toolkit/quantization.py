"""A base in 4 bits over bitsandbytes, and the trap that it has on the CPU."""

from __future__ import annotations

from typing import Any

from toolkit.plan import Plan

TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def bits_and_bytes(plan: Plan) -> Any:
    """The `BitsAndBytesConfig` of a QLoRA plan; the library's own defaults are FP4, single, fp32."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=plan.method.quant_type,  # type: ignore[union-attr]
        bnb_4bit_use_double_quant=plan.method.double_quant,  # type: ignore[union-attr]
        bnb_4bit_compute_dtype=getattr(torch, TORCH_NAMES[plan.compute_dtype]),
    )


def linears_4bit(model: Any) -> list[Any]:
    """The modules of the model whose weights are in 4 bits."""
    return [module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]


def keep_gradients(model: Any) -> None:
    """Undo and switch off the repacking that makes gradients 0 on CPUs with AVX512-BF16.

    There the first forward in evaluation mode repacks every `Linear4bit` for inference (bitsandbytes
    nn/modules.py, `Linear4bit.forward`), and what is trained later silently gets gradients of exactly 0.
    Taking a state dict undoes it (`_save_to_state_dict`); the switch keeps it from happening again.
    """
    for module in linears_4bit(model):
        module.support_avx512bf16_for_cpu = False
        if getattr(module.weight.quant_state, "packing_format_for_cpu", False):
            module.state_dict()
