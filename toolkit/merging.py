"""An adapter merged into a 16-bit copy of its base (a 4-bit one too), and how far that moves the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.adapters import AdapterError
from toolkit.environment import environment
from toolkit.generation import evaluating
from toolkit.plan import Dtype
from toolkit.quantization import TORCH_NAMES


@dataclass(frozen=True)
class Drift:
    """How far another model is from the one that was trained.

    `weights` is ||W' - W|| / ||W|| (Frobenius) over the matrices that the adapter changes, `logits` the mean
    |difference| of the logits, `same_choice` the share of positions where both hold the same token likeliest.
    """

    weights: float
    logits: float
    same_choice: float


def merged_copy(model: Any, dtype: Dtype | None = None) -> Any:
    """A plain model with W = W0 + scaling B A in its weights, W0 dequantized where it is in 4 bits.

    `model` stays as it is. `dtype` is the machine's 16-bit one where it is not given (bf16 on a CPU). The
    sum is made in fp32 and rounded once; `merge` would quantize it again into the 4-bit weights. Raises
    AdapterError for what is not a LoRA, and for DoRA, whose magnitudes are no sum.
    """
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    _check_lora(model)
    half = environment().dtype
    chosen = getattr(torch, TORCH_NAMES[dtype or ("bf16" if half == "fp32" else half)])
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device(model.device):
        merged = AutoModelForCausalLM.from_config(config, dtype=chosen)
    places = dict(merged.named_parameters())
    with torch.no_grad():
        for name, weight in weights_in_use(model):
            places[name].copy_(weight)
    return merged.eval()


def drift(model: Any, other: Any, tokenizer: Any, texts: Sequence[str]) -> Drift:
    """How far `other` (a `merged_copy`, a model after `merge`) is from `model`, on the tokens of `texts`."""
    import torch

    before = {name: weight.cpu() for name, weight in weights_in_use(model, adapted=True)}
    after = {name: weight.cpu() for name, weight in weights_in_use(other) if name in before}
    moved = sum(float((after[name] - weight).square().sum()) for name, weight in before.items())
    size = sum(float(weight.square().sum()) for weight in before.values())
    differences, same = [], []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids
        one, two = (_logits(m, ids) for m in (model, other))
        differences.append((one - two).abs().mean(-1))
        same.append(one.argmax(-1) == two.argmax(-1))
    mean = torch.cat(differences).mean(), torch.cat(same).float().mean()
    return Drift((moved / size) ** 0.5, *(float(figure) for figure in mean))


def weights_in_use(model: Any, adapted: bool = False) -> Iterator[tuple[str, Any]]:
    """Name (the base's) and fp32 value of every weight as the model computes with it, one at a time.

    `adapted`: only those that the active LoRA changes.
    """
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    adapter = getattr(model, "active_adapter", None)
    layers = {path: m for path, m in inner.named_modules() if adapter in getattr(m, "lora_A", {})}
    for name, parameter in inner.named_parameters():
        path, _, kind = name.replace(".base_layer", "").rpartition(".")
        layer = layers.get(path) if kind == "weight" else None
        if ".lora_" in name or (adapted and layer is None):
            continue
        with torch.no_grad():
            weight = _dense(parameter).float()
            if layer is not None and not layer.merged:
                weight = weight + layer.get_delta_weight(adapter).float()
            yield f"{path}.{kind}", weight


def _dense(parameter: Any) -> Any:
    if getattr(parameter, "quant_state", None) is None:
        return parameter
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(parameter.data, parameter.quant_state)


def _logits(model: Any, ids: Any) -> Any:
    with evaluating(model):
        return model(input_ids=ids.to(model.device)).logits[0].float().cpu()


def _check_lora(model: Any) -> None:
    config = getattr(model, "peft_config", {}).get(getattr(model, "active_adapter", None))
    if getattr(config, "use_dora", True):  # what is not a LoRA has no such switch
        raise AdapterError("só LoRA e QLoRA, sem DoRA, têm cópia fundida: o adaptador ativo não é um deles.")
