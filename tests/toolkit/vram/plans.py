"""Small models of several families, and plans on them."""

from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan

SIZES = {
    "hidden_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1408,
    "vocab_size": 8192,
    "max_position_embeddings": 2048,
    "num_local_experts": 4,
}


def architecture(family="llama", **changes):
    """A model of four layers, 512 wide."""
    heads = {"gpt_neox": 8, "opt": 8, "bloom": 8}.get(family, 4)
    return Architecture.from_config({"model_type": family, **SIZES, "num_key_value_heads": heads, **changes})


def plan(method=None, family="llama", **switches):
    """Two sequences of 256 tokens through it."""
    return Plan(architecture(family), method or LoRA(), **{"batch": 2, "seq_len": 256, **switches})


ALL = LoRA(16, targets="all-linear")
GRID = {
    "full": plan(Full()),
    "full, checkpointed": plan(Full(), batch=4, checkpointing=True),
    "full, autocast": plan(Full(), dtype="fp32", autocast=True),
    "full, autocast, checkpointed": plan(Full(), dtype="fp32", autocast=True, checkpointing=True),
    "lora, autocast, checkpointed": plan(dtype="fp32", autocast=True, checkpointing=True),
    "full, fp32": plan(Full(), dtype="fp32"),
    "full, fused adamw": plan(Full(), optimizer="adamw_fused"),
    "full, 8 bits": plan(Full(), optimizer="adamw_8bit"),
    "full, paged": plan(Full(), optimizer="paged_adamw_32bit"),
    "full, momentum": plan(Full(), optimizer="sgd_momentum"),
    "lora": plan(),
    "lora, checkpointed": plan(checkpointing=True),
    "lora, reentrant": plan(checkpointing=True, reentrant=True),
    "lora, eager": plan(attention="eager"),
    "lora, eager, checkpointed": plan(attention="eager", checkpointing=True),
    "lora, padded": plan(padding=True),
    "lora, fp16 on a T4": plan(dtype="fp16", gpu="T4"),
    "lora, cached": plan(use_cache=True, hold_output="next"),
    "lora, held": plan(hold_output="backward", set_to_none=False),
    "lora, chunked": plan(loss="chunked", batch=4),
    "lora, fused loss": plan(loss="fused", batch=4),
    "lora, no upcast": plan(loss="no_upcast"),
    "lora, triton norms": plan(ALL, kernels="norms"),
    "lora, triton norms, checkpointed": plan(ALL, kernels="norms", checkpointing=True, loss="in_place"),
    "full, liger": plan(Full(), kernels="liger", loss="fused", optimizer="adamw_fused"),
    "qlora, liger, norms": plan(QLoRA(), kernels="liger", upcast="norms", autocast=True),
    "lora, transformers 4.48": plan(transformers="4.48"),
    "lora, all modules": plan(ALL),
    "lora, within a window": plan().change(model=architecture("mistral", sliding_window=128)),
    "lora, dropout, checkpointed": plan(LoRA(16, targets="all-linear", dropout=0.1), checkpointing=True),
    "lora, dropout": plan(LoRA(dropout=0.1)),
    "dora": plan(LoRA(use_dora=True)),
    "qlora": plan(QLoRA()),
    "qlora, kbit": plan(QLoRA(), upcast="all", checkpointing=True, reentrant=True),
    "qlora, norms": plan(QLoRA(), upcast="norms", autocast=True),
    "qlora, dora": plan(QLoRA(use_dora=True)),
    "qlora, unsloth, checkpointed": plan(
        QLoRA(16, targets="all-linear", dropout=0.1), kernels="lora", checkpointing=True, attention="flash"
    ),
    "qlora, phi, autocast": plan(QLoRA(16, targets="all-linear"), "phi", autocast=True),
    "full, tied, fused adamw": plan(Full(), optimizer="adamw_fused").change(
        model=architecture(tie_word_embeddings=True)
    ),
    "prompt": plan(PromptTuning()),
    "ia3": plan(IA3()),
    "adapter": plan(Adapter()),
    "adapter, chunked": plan(Adapter(), loss="chunked", batch=4),
    "mistral": plan(ALL, "mistral"),
    "qwen2": plan(ALL, "qwen2"),
    "qwen3": plan(ALL, "qwen3", dtype="bf16"),
    "gemma": plan(ALL, "gemma"),
    "gemma2": plan(ALL, "gemma2"),
    "phi": plan(ALL, "phi"),
    "phi3": plan(ALL, "phi3"),
    "gpt_neox": plan(ALL, "gpt_neox"),
    "mixtral": plan(Full(), "mixtral"),
    "mixtral, lora": plan(ALL, "mixtral"),
    "mixtral, fp16": plan(family="mixtral", dtype="fp16", gpu="T4"),
    "bloom": plan().change(
        model=architecture("bloom", intermediate_size=None), method=LoRA(16, targets=("query_key_value",))
    ),
    "prefix": plan(PrefixTuning()),
}
