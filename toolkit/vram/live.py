"""A plan's model, made by transformers and peft with weights of no meaning: on fake tensors or a device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from toolkit.configs import NAMES
from toolkit.methods import Full, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram.attention import attention_kernel
from toolkit.vram.static import BLOCK, NESTED_BLOCK

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NO_WINDOW = 2**31 - 1  # longer than any sequence
FOUR_BIT = ("compress_statistics", "quant_type", "quant_state")  # what a 4-bit weight carries


def config_of(model: Architecture, attention: str) -> Any:
    """The transformers config with these dimensions, for "eager" attention, "sdpa" or "flash"."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(model.family).to_dict()
    names = {
        **NAMES,
        "kv_heads": ("num_key_value_heads",),
        "vocab": ("vocab_size",),
        "tied": ("tie_word_embeddings",),
        "experts_per_token": ("num_experts_per_tok",),
        "embedding": ("word_embed_proj_dim",),
        "shared_intermediate": ("shared_expert_intermediate_size",),
    }
    values = {
        key: getattr(model, field)
        for field, keys in names.items()
        for key in keys
        if key in known and getattr(model, field)
    }
    values["head_dim"] = model.head_dim  # some read it without declaring it
    if "sliding_window" in known:  # flash attention has the window inside: no mask
        values["sliding_window"] = (attention != "flash" and model.sliding_window) or NO_WINDOW
    for field in ("qkv_bias", "out_bias", "mlp_bias"):
        switch = getattr(model.traits, field)
        if isinstance(switch, tuple):
            values[switch[0]] = getattr(model, field)
    if model.traits.expert_intermediate:
        values[model.traits.expert_intermediate] = model.intermediate
    config = AutoConfig.for_model(
        model.family, **{**values, "tie_word_embeddings": model.tied, "use_cache": False, "pad_token_id": 0}
    )
    config._attn_implementation = "eager" if attention == "eager" else "sdpa"
    return config


def build(plan: Plan) -> Any:
    """The plan's model, ready to train but without storage; `materialize` gives it some."""
    from peft.tuners.lora import dora
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), patch.object(dora, "dequantize_module_weight", dequantized):
        eager = attention_kernel(plan) == "eager"
        config = config_of(plan.model, "eager" if eager else plan.attention)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[plan.dtype])
        if isinstance(plan.method, QLoRA):
            _quantize(model, plan, plan.method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _prepare(model, plan)
    model.train()
    return model


def _quantize(model: nn.Module, plan: Plan, method: QLoRA) -> None:
    """Put 4-bit modules where transformers' bitsandbytes integration does: all linear ones but the head."""
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert

    left = get_keys_to_not_convert(model)
    for name, module in list(model.named_modules()):
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and name not in left:
            model.set_submodule(name, _linear4bit(module, plan, method))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def _linear4bit(module: Any, plan: Plan, method: QLoRA) -> Any:
    """A bitsandbytes module with the storages of a quantized one; its own constructor needs a real device."""
    import bitsandbytes as bnb

    made: Any = bnb.nn.Linear4bit.__new__(bnb.nn.Linear4bit)
    nn.Module.__init__(made)
    shape = module.weight.shape if isinstance(module, nn.Linear) else module.weight.T.shape  # GPT-2's Conv1D
    (made.out_features, made.in_features), made.bias = shape, module.bias
    made.compute_dtype, made.compute_type_is_set = DTYPES[plan.compute_dtype], True
    made.quant_storage, made.support_avx512bf16_for_cpu = torch.uint8, False
    packed = torch.empty(module.weight.numel() // 2, 1, dtype=torch.uint8)
    weight: Any = nn.Parameter(packed, requires_grad=False)
    weight.__dict__.update(compress_statistics=method.double_quant, quant_type=method.quant_type)
    weight.quant_state = _quant_state(shape, DTYPES[plan.dtype], method)
    made.weight, made.quant_state = weight, weight.quant_state
    return made


def dequantized(module: Any) -> Any:
    """The weight of a 4-bit module as DoRA asks for it (peft knows one by a class that needs a device)."""
    state = getattr(module, "quant_state", None)
    return (
        torch.empty(state.shape, dtype=state.dtype, device=module.weight.device) if state else module.weight
    )


def _quant_state(shape: torch.Size, dtype: torch.dtype, method: QLoRA) -> Any:
    from bitsandbytes.functional import QuantState

    blocks = -(-shape.numel() // BLOCK)
    second = None
    if method.double_quant:
        scales = torch.empty(-(-blocks // NESTED_BLOCK))
        second = QuantState(absmax=scales, code=torch.empty(256), blocksize=NESTED_BLOCK, dtype=torch.float32)
    return QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8 if method.double_quant else torch.float32),
        shape=shape,
        code=torch.empty(16),
        blocksize=BLOCK,
        quant_type=method.quant_type,
        dtype=dtype,
        offset=torch.empty(()) if method.double_quant else None,
        state2=second,
    )


def constants(state: Any) -> Iterator[tuple[Any, str]]:
    """Where a 4-bit weight's constants are: (owner, name of the tensor)."""
    yield from ((state, "absmax"), (state, "code"))
    if state.nested:
        yield from ((state, "offset"), (state.state2, "absmax"), (state.state2, "code"))


def materialize(model: nn.Module, device: str) -> None:
    """Give every parameter and buffer storage on `device`: none, in a FakeTensorMode."""
    if hasattr(model, "prompt_tokens"):  # peft's positions of soft prompts are no buffer
        tokens: Any = model.prompt_tokens
        tokens.update({name: torch.empty(ids.shape, dtype=ids.dtype) for name, ids in tokens.items()})
    made: dict[int, nn.Parameter] = {}
    module: Any
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                data = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                made[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
                kept = {key: parameter.__dict__[key] for key in FOUR_BIT if key in parameter.__dict__}
                made[id(parameter)].__dict__.update(kept)
                for owner, name_of in constants(kept["quant_state"]) if kept else ():
                    tensor = getattr(owner, name_of)
                    setattr(owner, name_of, torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)


def _prepare(model: Any, plan: Plan) -> Any:
    from peft import prepare_model_for_kbit_training

    from toolkit.adapters import attach

    if plan.upcast == "all":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if plan.checkpoints_memory:
        model.gradient_checkpointing_enable({"use_reentrant": plan.reentrant, "preserve_rng_state": False})
        if plan.reentrant and not isinstance(plan.method, Full):
            model.enable_input_require_grads()
    model = attach(model, plan.method)
    if not isinstance(plan.method, Full):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(DTYPES[plan.adapter_dtype])
    if plan.upcast == "norms":
        for name, module in model.named_modules():
            if "norm" in name.rpartition(".")[2] or isinstance(module, nn.LayerNorm):
                for parameter in module.parameters():
                    parameter.data = parameter.data.float()
    return model
