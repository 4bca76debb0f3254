"""How many parameters a fine-tune has and trains: from a plan alone, or from a live model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from toolkit.methods import ALL_LINEAR, IA3, Adapter, Full, LoRA, Method, PrefixTuning, PromptTuning
from toolkit.models import Architecture, Linear
from toolkit.plan import Plan

PARTS = ("embeddings", "attention", "mlp", "norms", "head", "adapters")


@dataclass(frozen=True)
class Count:
    """Parameters (not bytes): all, trained, and by part. Tied weights count once, 4-bit ones whole."""

    total: int
    trainable: int
    parts: Mapping[str, int]

    @property
    def percentage(self) -> float:
        """Trained parameters in percent of all, as peft's `print_trainable_parameters` prints it."""
        return 100 * self.trainable / self.total


def count(subject: Plan | Any) -> Count:
    """Count a Plan without building its model, or a live torch model; equal to peft's own count."""
    return _count_plan(subject) if isinstance(subject, Plan) else _count_live(subject)


def base_parameters(model: Architecture) -> dict[str, int]:
    """Parameters of the base model by part (shapes from transformers' modeling files)."""
    embedding = model.embedding or model.hidden
    sizes = {
        "embeddings": model.vocab * embedding + _positions(model),
        "attention": 0,
        "mlp": _experts(model),
        "norms": _norms(model),
        "head": (0 if model.tied else model.vocab * embedding)
        + (model.vocab if model.traits.head_bias else 0),
    }
    if embedding != model.hidden:  # OPT-350m projects in and out
        sizes["embeddings"] += 2 * embedding * model.hidden
    for linear in model.linears():
        sizes[linear.part] += linear.weights + (linear.outputs * linear.count if linear.bias else 0)
    return sizes


def _positions(model: Architecture) -> int:
    learned = model.traits.positions == "learned"
    return (model.max_positions + model.traits.position_offset) * model.hidden if learned else 0


def _experts(model: Architecture) -> int:
    return model.expert_weights + model.experts * model.hidden * model.layers


def _norms(model: Architecture) -> int:
    traits, vectors = model.traits, 2 if model.traits.norm_bias else 1
    final = not (model.embedding and model.embedding != model.hidden)
    widths = model.hidden * (traits.block_norms * model.layers + final + traits.embedding_norm)
    qk = {"": 0, "head": 2 * model.head_dim, "width": model.q_width + model.kv_width}[traits.qk_norm]
    return vectors * widths + qk * model.layers


@lru_cache(maxsize=256)
def targeted(model: Architecture, targets: tuple[str, ...] | str) -> list[Linear]:
    """The linear modules that peft's `target_modules` takes; "all-linear" leaves the head out."""
    linears = model.linears()
    if targets == ALL_LINEAR:
        return linears
    head = Linear("lm_head", model.hidden, model.vocab, model.traits.head_bias, 1, "head")
    return [linear for linear in [*linears, head] if any(linear.matches(target) for target in targets)]


@lru_cache(maxsize=256)
def adapter_parameters(model: Architecture, method: Method) -> int:
    """Parameters that the method adds (all of them trained)."""
    if isinstance(method, LoRA):
        modules = sum(
            linear.count * (method.rank * (linear.inputs + linear.outputs) + linear.outputs * method.use_dora)
            for linear in targeted(model, method.targets)
        )
        return modules + (_expert_lora(model, method.rank) if adapts_experts(model, method) else 0)
    if isinstance(method, IA3):
        feedforward = targeted(model, method.feedforward)
        return sum(
            linear.count * (linear.inputs if linear in feedforward else linear.outputs)
            for linear in targeted(model, method.targets)
        )
    if isinstance(method, PrefixTuning):
        return method.num_virtual_tokens * model.layers * 2 * model.kv_width
    if isinstance(method, PromptTuning):
        return method.num_virtual_tokens * (model.embedding or model.hidden)
    if isinstance(method, Adapter):  # down and up, with biases
        wide, narrow = model.hidden, method.bottleneck
        return adapter_ends(model) * model.layers * (2 * wide * narrow + narrow + wide)
    return 0


def adapter_ends(model: Architecture) -> int:
    """Bottleneck adapters of a layer: after attention and after the MLP, no module in a mixture."""
    return 1 if model.experts else 2


def adapts_experts(model: Architecture, method: Method) -> bool:
    """Whether peft puts LoRA on a mixture's experts, each a slice of one parameter, and on its router."""
    return isinstance(method, LoRA) and method.targets == ALL_LINEAR and model.traits.lora_experts


def _expert_lora(model: Architecture, rank: int) -> int:
    """The gate and what goes up are one matrix, of twice the rank."""
    into = 2 * rank * (model.hidden + 2 * model.intermediate)
    out = rank * (model.intermediate + model.hidden)
    return model.layers * (rank * (model.hidden + model.experts) + model.experts * (into + out))


def _count_plan(plan: Plan) -> Count:
    parts = {**base_parameters(plan.model), "adapters": adapter_parameters(plan.model, plan.method)}
    total = sum(parts.values())
    return Count(total, total if isinstance(plan.method, Full) else parts["adapters"], parts)


def _count_live(model: Any) -> Count:
    parts, trainable = dict.fromkeys(PARTS, 0), 0
    for name, parameter in model.named_parameters():
        size = _elements(parameter)
        parts[_part(name)] += size
        trainable += size if parameter.requires_grad else 0
    return Count(sum(parts.values()), trainable, parts)


def _elements(parameter: Any) -> int:
    packed = type(parameter).__name__ == "Params4bit"  # two 4-bit codes a byte, whatever the storage dtype
    return int(parameter.numel() * (2 * parameter.element_size() if packed else 1))


NAMED = {
    "adapters": ("lora_", "ia3_", "prompt_encoder", "bottleneck"),
    "norms": ("norm", "ln_"),
    "attention": ("attn", "attention"),
    "mlp": ("mlp", "fc1", "fc2", "expert", "router"),
    "head": ("lm_head", "embed_out"),
}


def _part(name: str) -> str:
    return next((part for part, marks in NAMED.items() if any(mark in name for mark in marks)), "embeddings")
