"""How each Hugging Face model family is put together: which modules a layer has, under which names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Switch = bool | tuple[str, bool]  # fixed, or (key of config.json, its default there)


@dataclass(frozen=True)
class Family:
    """The parts of a decoder layer, as transformers' `modeling_<model_type>.py` builds them."""

    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    mlp_in: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    mlp_out: str = "mlp.down_proj"
    gated: bool = True
    norm: Literal["rms", "layer"] = "rms"
    block_norms: int = 2
    final_norm: bool = True
    embedding_norm: bool = False
    softcap: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    qkv_bias: Switch = False
    out_bias: Switch = False
    mlp_bias: Switch = False
    norm_bias: bool = False
    head_bias: bool = False
    mask_buffer: bool = False  # a byte for each two positions, on the card with the weights
    dropout: bool = False  # whether the configuration's default drops a tenth of each block's output
    positions: Literal["rotary", "learned", "alibi"] = "rotary"
    position_offset: int = 0
    tied: bool = False
    conv1d: bool = False
    parallel: bool = False
    router: str = ""
    # Whether peft's "all-linear" takes experts and router (transformers_weight_conversion.py).
    lora_experts: bool = False
    expert_intermediate: str = ""
    shared_intermediate: str = ""
    head_dim: int = 0


LLAMA = Family(
    qkv_bias=("attention_bias", False), out_bias=("attention_bias", False), mlp_bias=("mlp_bias", False)
)
PLAIN = Family()
QWEN3 = Family(
    qk_norm="head", qkv_bias=("attention_bias", False), out_bias=("attention_bias", False), head_dim=128
)
GEMMA = replace(
    Family(qkv_bias=("attention_bias", False), out_bias=("attention_bias", False)), tied=True, head_dim=256
)
LAYER_NORM = Family(norm="layer", norm_bias=True, gated=False, qkv_bias=True, out_bias=True, mlp_bias=True)
GPT2 = replace(
    LAYER_NORM,
    qkv=("attn.c_attn",),
    out="attn.c_proj",
    mlp_in=("mlp.c_fc",),
    mlp_out="mlp.c_proj",
    positions="learned",
    tied=True,
    conv1d=True,
    dropout=True,
)
NEOX = replace(
    LAYER_NORM,
    qkv=("attention.query_key_value",),
    out="attention.dense",
    mlp_in=("mlp.dense_h_to_4h",),
    mlp_out="mlp.dense_4h_to_h",
    qkv_bias=("attention_bias", True),
    out_bias=("attention_bias", True),
    parallel=True,
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": PLAIN,
    "qwen2": replace(PLAIN, qkv_bias=True),
    "qwen3": QWEN3,
    "smollm3": replace(LLAMA, tied=True),
    "granite": LLAMA,
    "gemma": GEMMA,
    "gemma2": replace(GEMMA, block_norms=4, softcap=True),
    "gemma3_text": replace(GEMMA, block_norms=4, qk_norm="head"),
    "olmo2": replace(
        PLAIN, qk_norm="width", qkv_bias=("attention_bias", False), out_bias=("attention_bias", False)
    ),
    "stablelm": replace(PLAIN, norm="layer", norm_bias=True, qkv_bias=("use_qkv_bias", False)),
    "cohere": replace(
        PLAIN,
        norm="layer",
        block_norms=1,
        tied=True,
        parallel=True,
        qkv_bias=("attention_bias", False),
        out_bias=("attention_bias", False),
    ),
    "phi": replace(
        LAYER_NORM,
        qkv=PLAIN.qkv,
        out="self_attn.dense",
        mlp_in=("mlp.fc1",),
        mlp_out="mlp.fc2",
        block_norms=1,
        head_bias=True,
        parallel=True,
    ),
    "phi3": replace(PLAIN, qkv=("self_attn.qkv_proj",), mlp_in=("mlp.gate_up_proj",)),
    "starcoder2": replace(
        LAYER_NORM,
        mlp_in=("mlp.c_fc",),
        mlp_out="mlp.c_proj",
        qkv_bias=("use_bias", True),
        out_bias=("use_bias", True),
        mlp_bias=("use_bias", True),
        tied=True,
    ),
    "gpt2": GPT2,
    "gpt_bigcode": replace(GPT2, conv1d=False, mask_buffer=True),
    "gpt_neox": NEOX,
    "bloom": replace(
        NEOX,
        qkv=("self_attention.query_key_value",),
        out="self_attention.dense",
        qkv_bias=True,
        out_bias=True,
        embedding_norm=True,
        positions="alibi",
        tied=True,
        parallel=False,
    ),
    "opt": replace(
        LAYER_NORM,
        out="self_attn.out_proj",
        mlp_in=("fc1",),
        mlp_out="fc2",
        positions="learned",
        position_offset=2,
        tied=True,
        dropout=True,
    ),
    "mixtral": replace(PLAIN, router="mlp.gate", expert_intermediate="intermediate_size", lora_experts=True),
    "qwen2_moe": replace(
        PLAIN,
        qkv_bias=("qkv_bias", True),
        router="mlp.gate",
        expert_intermediate="moe_intermediate_size",
        shared_intermediate="shared_expert_intermediate_size",
    ),
    "qwen3_moe": replace(
        QWEN3,
        router="mlp.gate",
        expert_intermediate="moe_intermediate_size",
        head_dim=0,
        lora_experts=True,
    ),
    "olmoe": replace(
        PLAIN,
        qk_norm="width",
        qkv_bias=("attention_bias", False),
        out_bias=("attention_bias", False),
        router="mlp.gate",
        expert_intermediate="intermediate_size",
        lora_experts=True,
    ),
    "granitemoe": replace(
        PLAIN,
        qkv_bias=("attention_bias", False),
        out_bias=("attention_bias", False),
        router="block_sparse_moe.router",
        expert_intermediate="intermediate_size",
    ),
}
