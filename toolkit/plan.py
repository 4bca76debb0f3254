"""A fine-tune described before it is run: the model, the method, and every switch that moves its memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from toolkit import methods
from toolkit.methods import IA3, Full, LoRA, Method, PrefixTuning, PromptTuning, QLoRA, is_size, not_a_size
from toolkit.models import Architecture

Dtype = Literal["fp32", "bf16", "fp16"]
Optimizer = Literal[
    "adamw",
    "adamw_fused",
    "adamw_loop",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adafactor",
    "sgd",
    "sgd_momentum",
]
Attention = Literal["eager", "sdpa", "efficient", "flash"]
Loss = Literal["fp32", "in_place", "no_upcast", "chunked", "fused"]
Kernels = Literal["torch", "norms", "liger", "lora"]
Upcast = Literal["none", "norms", "all"]
Hold = Literal["never", "backward", "step", "next"]

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
SWITCHES = "autocast", "checkpointing", "reentrant", "set_to_none", "use_cache", "padding"
VERSIONS = "transformers", "peft", "bitsandbytes"


class PlanError(ValueError):
    """A plan that cannot be run; one sentence names the field and the values that it may have."""


@dataclass(frozen=True)
class Plan:
    """One fine-tune. The defaults are what `toolkit.train` does.

    `batch` is the micro-batch (sequences a forward), `accumulation` the forwards a step, `seq_len` the tokens
    of a sequence as the batch is padded. `dtype` is that of the weights as loaded (not-quantised weights of a
    QLoRA), `compute_dtype` that of 4-bit matrix products and of autocast, when `autocast` is on.

    `optimizer="adamw"` is torch's default kernel for a GPU (foreach). `upcast` says which of the frozen
    not-quantised weights are made fp32 before training: "all" is peft's `prepare_model_for_kbit_training`,
    "norms" TRL's of 2024. `attention="sdpa"` takes the kernel that torch picks on the card, "efficient" pins
    the memory-efficient one. `loss` is how logits meet the loss: "fp32" is transformers' `ForCausalLMLoss`,
    "in_place" the same with a Triton kernel that writes the gradient over the logits (Unsloth, fms),
    "chunked" TRL's of 2026, "fused" Liger's. `kernels="norms"` takes Triton's RMSNorm and rotary embedding,
    which keep no fp32 copies (Unsloth, fms), "liger" its SwiGLU too, "lora" Unsloth's LoRA products, fused
    over q, k and v, over the output, and over the MLP, where all of these are targets. `set_to_none` frees
    the gradients between steps; `use_cache` leaves the key-value cache on; `padding` says that batches are
    padded, which costs a mask a layer; `hold_output` keeps the model's output (its logits) alive through the
    backward, the step, or until the next output takes its name. `gpu` names a card of `toolkit.vram.gpus`.
    `transformers`, `peft` and `bitsandbytes` are the versions whose behaviour is meant.
    """

    model: Architecture
    method: Method
    batch: int = 1
    seq_len: int = 512
    accumulation: int = 1
    dtype: Dtype = "bf16"
    compute_dtype: Dtype = "bf16"
    autocast: bool = False
    adapter_dtype: Dtype = "fp32"
    optimizer: Optimizer = "adamw"
    checkpointing: bool = False
    reentrant: bool = False
    attention: Attention = "sdpa"
    loss: Loss = "fp32"
    kernels: Kernels = "torch"
    upcast: Upcast = "none"
    set_to_none: bool = True
    use_cache: bool = False
    padding: bool = False
    hold_output: Hold = "never"
    gpu: str = ""
    transformers: str = "5.23"
    peft: str = "0.21"
    bitsandbytes: str = "0.50"

    def __post_init__(self) -> None:
        if not isinstance(self.model, Architecture):
            object.__setattr__(self, "model", Architecture.from_config(self.model))
        _check_choices(self)
        _check_sizes(self)
        _check_pairs(self)

    @property
    def transformers_version(self) -> tuple[int, ...]:
        """Major and minor."""
        return _version(self.transformers)[:2]

    @property
    def peft_version(self) -> tuple[int, ...]:
        """Major and minor; from 0.20 on preparing a 4-bit model empties the allocator's cache."""
        return _version(self.peft)[:2]

    @property
    def bitsandbytes_version(self) -> tuple[int, ...]:
        """Its numbers; before 0.43.2 a 4-bit product kept its input."""
        return _version(self.bitsandbytes)

    @property
    def quantized(self) -> bool:
        """Whether the linear weights are kept in 4 bits."""
        return isinstance(self.method, QLoRA)

    @property
    def virtual_tokens(self) -> int:
        """Positions that the method puts in front of every sequence."""
        return self.method.num_virtual_tokens if isinstance(self.method, (PrefixTuning, PromptTuning)) else 0

    @property
    def checkpoints_memory(self) -> bool:
        """Whether activations are recomputed: peft's prefixes are a cache, which checkpointing refuses."""
        return self.checkpointing and not isinstance(self.method, PrefixTuning)

    def change(self, **changes: Any) -> Plan:
        """The same plan with some fields changed, checked again."""
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            raise PlanError(
                f"Plan não tem o campo {sorted(unknown)[0]!r}; os campos são "
                f"{', '.join(field.name for field in fields(self))}."
            )
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON); `Plan.from_dict` gives the plan back."""
        method = {"type": type(self.method).__name__, **asdict(self.method)}
        return {**asdict(self), "method": method}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that `to_dict` described. Raises PlanError for an unknown method, or for other data."""
        if not isinstance(data, Mapping) or not all(
            isinstance(data.get(name), Mapping) for name in ("model", "method")
        ):
            raise PlanError("um plano em dados deve ter os campos model e method, como to_dict() os escreve.")
        described = dict(data["method"])
        kind = described.pop("type", "")
        if kind not in {m.__name__ for m in get_args(Method)}:
            raise PlanError(
                f"method deve ser um de {', '.join(m.__name__ for m in get_args(Method))}; recebi {kind!r}."
            )
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
        try:
            model, method = Architecture(**data["model"]), getattr(methods, kind)(**arguments)
            return cls(**{**data, "model": model, "method": method})
        except TypeError as error:  # a field that is unknown, or not there
            raise PlanError(f"o plano em dados não tem os campos que to_dict() escreve ({error}).") from None


@cache
def _choices() -> dict[str, tuple[Any, ...]]:
    return {name: get_args(hint) for name, hint in get_type_hints(Plan).items()}


@cache
def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _check_choices(plan: Plan) -> None:
    for name, allowed in _choices().items():
        value = getattr(plan, name)
        if name == "method":
            if not isinstance(value, allowed):
                raise PlanError(
                    f"method deve ser um de {', '.join(m.__name__ for m in allowed)}; recebi {value!r}."
                )
        elif allowed and value not in allowed:
            raise PlanError(f"{name} deve ser um de {', '.join(map(repr, allowed))}; recebi {value!r}.")
    if not isinstance(plan.gpu, str):
        raise PlanError(f"gpu deve ser o nome de uma placa, como 'T4', ou vazio; recebi {plan.gpu!r}.")
    for name in SWITCHES:
        if not isinstance(value := getattr(plan, name), bool):
            raise PlanError(f"{name} deve ser True ou False; recebi {value!r}.")
    for name in VERSIONS:
        value = getattr(plan, name)
        if not isinstance(value, str) or not re.fullmatch(r"\d{1,6}(\.\d{1,6})*", value):
            raise PlanError(f"{name} deve ser uma versão, como '5.23'; recebi {repr(value)[:40]}.")


def _check_sizes(plan: Plan) -> None:
    for name in ("batch", "seq_len", "accumulation"):
        if not is_size(value := getattr(plan, name)):
            raise PlanError(not_a_size(name, value))
    longest = plan.model.max_positions - plan.virtual_tokens
    if longest < 1:
        raise PlanError(
            f"num_virtual_tokens deve ser menor que as {plan.model.max_positions} posições que o modelo "
            f"{plan.model.name} tem; recebi {plan.virtual_tokens}."
        )
    if plan.seq_len > longest:
        raise PlanError(
            f"seq_len deve ficar entre 1 e {longest}, as posições que o modelo {plan.model.name} tem; "
            f"recebi {plan.seq_len}."
        )


def _check_pairs(plan: Plan) -> None:
    if isinstance(plan.method, Full) and plan.dtype == "fp16":
        raise PlanError(
            "dtype deve ser 'fp32' ou 'bf16' no ajuste completo: gradientes fp16 não se desescalam."
        )
    # peft's preparation makes a model that is not quantized fp32 throughout
    half = plan.autocast or (plan.dtype != "fp32" and (plan.quantized or plan.upcast != "all"))
    if plan.attention == "flash" and not half:
        raise PlanError(
            "attention deve ser 'eager' ou 'sdpa' em fp32: a atenção flash só calcula em 16 bits."
        )
    if plan.autocast and plan.compute_dtype == "fp32":
        raise PlanError("compute_dtype deve ser 'bf16' ou 'fp16' com autocast; recebi 'fp32'.")
    if plan.kernels != "torch" and plan.model.traits.norm != "rms":
        raise PlanError(
            f"kernels deve ser 'torch' em modelos com LayerNorm, como {plan.model.name}; "
            f"recebi {plan.kernels!r}."
        )
    if _mixes_dtypes(plan):
        raise PlanError(
            f"upcast deve ser 'none' ou 'all' sem autocast: normas em fp32 dariam aos pesos em {plan.dtype} "
            f"entradas de outro tipo; recebi 'norms'."
        )
    if isinstance(plan.method, (LoRA, IA3)):
        _check_targets(plan, plan.method)
    if isinstance(plan.method, LoRA):
        _check_experts(plan, plan.method)


def _mixes_dtypes(plan: Plan) -> bool:
    """Whether fp32 norms, giving out what they compute in, meet 16-bit weights that are not quantized."""
    if plan.upcast != "norms" or plan.autocast or plan.quantized or plan.dtype == "fp32":
        return False
    casts_back = plan.model.family.startswith(("gemma", "olmo2", "cohere"))
    return plan.kernels == "torch" and not casts_back


def _check_targets(plan: Plan, method: LoRA | IA3) -> None:
    if method.targets == methods.ALL_LINEAR:
        return
    linears = plan.model.linears()
    for target in method.targets:
        if target != "lm_head" and not any(linear.matches(target) for linear in linears):
            names = sorted({linear.name.rsplit(".", 1)[-1] for linear in linears})
            raise PlanError(
                f"targets deve citar módulos do modelo ({', '.join(names)}); {target!r} não existe."
            )


def _check_experts(plan: Plan, method: LoRA) -> None:
    """peft's LoRA of a parameter, which is what the experts of a mixture are, has neither."""
    if method.targets != methods.ALL_LINEAR or not plan.model.traits.lora_experts:
        return
    for name, allowed in (("dropout", 0.0), ("use_dora", False)):
        if (value := getattr(method, name)) != allowed:
            raise PlanError(
                f"{name} deve ser {allowed!r} com targets='all-linear' na mistura {plan.model.name}; recebi "
                f"{value!r}: o peft não o aplica a especialistas."
            )
