"""A plan's model, made by transformers and peft with weights of no meaning: on fake tensors or a device."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from toolkit.methods import IA3, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import NAMES, Architecture
from toolkit.plan import Plan
from toolkit.vram.static import BLOCK, NESTED_BLOCK

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FOUR_BIT = ("compress_statistics", "quant_type")  # what peft asks of a 4-bit weight


def config_of(model: Architecture, attention: str) -> Any:
    """The transformers config with these dimensions."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(model.family).to_dict()
    names = {
        **NAMES,
        "kv_heads": ("num_key_value_heads",),
        "head_dim": ("head_dim",),
        "vocab": ("vocab_size",),
        "tied": ("tie_word_embeddings",),
        "experts_per_token": ("num_experts_per_tok",),
        "sliding_window": ("sliding_window",),
        "embedding": ("word_embed_proj_dim",),
        "shared_intermediate": ("shared_expert_intermediate_size",),
    }
    values = {
        key: getattr(model, field)
        for field, keys in names.items()
        for key in keys
        if key in known and getattr(model, field)
    }
    for field in ("qkv_bias", "out_bias", "mlp_bias"):
        switch = getattr(model.traits, field)
        if isinstance(switch, tuple):
            values[switch[0]] = getattr(model, field)
    if model.traits.expert_intermediate:
        values[model.traits.expert_intermediate] = model.intermediate
    config = AutoConfig.for_model(
        model.family, **{**values, "tie_word_embeddings": model.tied, "use_cache": False, "pad_token_id": 0}
    )
    config._attn_implementation = attention
    return config


def build(plan: Plan, device: str = "cpu") -> Any:
    """The plan's model, ready to train on `device`; inside a FakeTensorMode it takes no memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        config = config_of(plan.model, "eager" if plan.attention == "eager" else "sdpa")
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[plan.dtype])
        if isinstance(plan.method, QLoRA):
            _quantize(model, plan, plan.method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _prepare(model, plan)
    _materialize(model, device)
    model.train()
    return model


def _quantize(model: nn.Module, plan: Plan, method: QLoRA) -> None:
    """Put 4-bit modules where transformers' bitsandbytes integration does: all linear ones but the head."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, _linear4bit(module, plan, method))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def _linear4bit(module: nn.Linear, plan: Plan, method: QLoRA) -> Any:
    """A bitsandbytes module with the storages of a quantized one; its own constructor needs a real device."""
    import bitsandbytes as bnb

    made: Any = bnb.nn.Linear4bit.__new__(bnb.nn.Linear4bit)
    nn.Module.__init__(made)
    made.in_features, made.out_features, made.bias = module.in_features, module.out_features, module.bias
    made.compute_dtype, made.compute_type_is_set = DTYPES[plan.compute_dtype], True
    made.quant_state, made.quant_storage, made.support_avx512bf16_for_cpu = None, torch.uint8, False
    packed = torch.empty(module.weight.numel() // 2, 1, dtype=torch.uint8)
    weight = nn.Parameter(packed, requires_grad=False)
    weight.__dict__.update(compress_statistics=method.double_quant, quant_type=method.quant_type)
    made.weight = weight
    made.meant = module.weight.shape, DTYPES[plan.dtype]
    return made


def _quant_state(module: Any, method_nested: bool, device: str) -> Any:
    from bitsandbytes.functional import QuantState

    shape, dtype = module.meant
    blocks = -(-shape.numel() // BLOCK)
    state2 = None
    if method_nested:
        state2 = QuantState(
            absmax=torch.empty(-(-blocks // NESTED_BLOCK), device=device),
            code=torch.empty(256, device=device),
            blocksize=NESTED_BLOCK,
            dtype=torch.float32,
        )
    return QuantState(
        absmax=torch.empty(blocks, device=device, dtype=torch.uint8 if method_nested else torch.float32),
        shape=shape,
        code=torch.empty(16, device=device),
        blocksize=BLOCK,
        quant_type=module.weight.quant_type,
        dtype=dtype,
        offset=torch.empty((), device=device) if method_nested else None,
        state2=state2,
    )


def _materialize(model: nn.Module, device: str) -> None:
    """Give every parameter and buffer storage on `device`; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    module: Any
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                data = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(data, requires_grad=parameter.requires_grad)
                kept = {key: parameter.__dict__[key] for key in FOUR_BIT if key in parameter.__dict__}
                made[id(parameter)].__dict__.update(kept)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=device)
        if hasattr(module, "meant"):
            module.weight.quant_state = _quant_state(module, module.weight.compress_statistics, device)


def _prepare(model: Any, plan: Plan) -> Any:
    from peft import get_peft_model, prepare_model_for_kbit_training

    if plan.upcast == "all":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if plan.checkpoints_memory:
        model.gradient_checkpointing_enable({"use_reentrant": plan.reentrant, "preserve_rng_state": False})
        if plan.reentrant and not isinstance(plan.method, Full):
            model.enable_input_require_grads()
    if not isinstance(plan.method, Full):
        model = get_peft_model(model, peft_config(plan), autocast_adapter_dtype=False)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(DTYPES[plan.adapter_dtype])
    if plan.upcast == "norms":
        for name, module in model.named_modules():
            if "norm" in name.rpartition(".")[2] or isinstance(module, nn.LayerNorm):
                for parameter in module.parameters():
                    parameter.data = parameter.data.float()
    return model


def peft_config(plan: Plan) -> Any:
    """The method in peft's terms."""
    import peft

    method, task = plan.method, peft.TaskType.CAUSAL_LM
    if isinstance(method, LoRA):
        return peft.LoraConfig(
            task_type=task,
            r=method.rank,
            lora_alpha=method.alpha,  # type: ignore[arg-type]
            lora_dropout=method.dropout,
            target_modules=method.targets if isinstance(method.targets, str) else list(method.targets),
            use_rslora=method.use_rslora,
            use_dora=method.use_dora,
        )
    if isinstance(method, IA3):
        return peft.IA3Config(
            task_type=task, target_modules=list(method.targets), feedforward_modules=list(method.feedforward)
        )
    kinds = {PrefixTuning: peft.PrefixTuningConfig, PromptTuning: peft.PromptTuningConfig}
    return kinds[type(method)](task_type=task, num_virtual_tokens=method.num_virtual_tokens)  # type: ignore[index, union-attr]
