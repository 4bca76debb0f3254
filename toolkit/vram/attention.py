"""What computes attention on a card: the kernel that torch picks, and whether keys are repeated before it."""

from __future__ import annotations

from toolkit.methods import PrefixTuning
from toolkit.plan import Plan
from toolkit.vram.gpus import gpu

FLASH_REPEATED = ("mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "starcoder2")


def attention_kernel(plan: Plan) -> str:
    """What computes attention: "eager" code, or the kernel that torch picks for "sdpa".

    Flash needs 16 bits, compute capability 8.0 and no mask; the memory-efficient kernel needs as many keys as
    queries; what is left is "math", which keeps all scores
    (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).
    """
    traits = plan.model.traits
    if plan.attention == "eager" or traits.softcap or traits.positions == "alibi":  # sdpa has neither
        return "eager"
    upcast = plan.upcast == "all" or (plan.quantized and plan.upcast == "norms")  # to an fp32 stream
    half = plan.autocast or (plan.dtype != "fp32" and not upcast)
    ampere = not plan.gpu or gpu(plan.gpu).bf16
    if plan.attention == "flash" or (plan.attention == "sdpa" and half and ampere and not masked(plan)):
        return "flash"
    return "efficient" if repeats_keys(plan) else "math"


def repeats_keys(plan: Plan) -> bool:
    """Whether keys and values are as many as queries when the kernel sees them, repeated or from the start.

    transformers repeats them for sdpa: always before 4.54, later only beside a mask (sdpa_attention.py,
    use_gqa_in_sdpa); for flash attention 2 before 4.48, in some families (MistralFlashAttention2 and others).
    """
    if plan.model.kv_heads == plan.model.heads or plan.attention == "efficient":
        return True
    if plan.attention == "flash":
        return plan.transformers_version < (4, 48) and plan.model.family in FLASH_REPEATED
    return plan.transformers_version < (4, 54) or masked(plan)


def lacks_grouped_products(plan: Plan) -> bool:
    """Whether the card is too old for torch's grouped products of experts (integrations/moe.py)."""
    return bool(plan.gpu) and not gpu(plan.gpu).bf16


def masked(plan: Plan) -> bool:
    """Whether sdpa is given a mask: for padding, for keys that are more than the queries, or for a window
    that is not longer than the sequence (transformers' masking_utils.py, _ignore_causal_mask_sdpa)."""
    if plan.attention == "flash":  # the package knows of windows and of more keys, and packs what is padded
        return False
    window = plan.model.sliding_window
    return plan.padding or isinstance(plan.method, PrefixTuning) or 0 < window <= plan.seq_len
