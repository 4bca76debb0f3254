"""What can be changed in a plan so that it needs less memory, and what each change costs its user."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any

from toolkit.methods import Full, LoRA, QLoRA
from toolkit.plan import Plan
from toolkit.vram.estimate import estimate
from toolkit.vram.gpus import GPU

EVERY_LINEAR = LoRA(rank=16, alpha=32, targets="all-linear")  # what replaces full fine-tuning
SHORTEST = 128  # tokens below which a sequence is not worth shortening


@dataclass(frozen=True)
class Change:
    """One change. `cost`: 1 nothing, 2 a little speed, 3 speed, 4 exactness, 5 the method, 6 the data.

    `apply` gives the changed plan, or None where the change means nothing. The labels say what was done and
    may name a field of the changed plan in braces.
    """

    cost: int
    pt: str
    en: str
    apply: Callable[[Plan, GPU], Plan | None]

    def label(self, plan: Plan, language: str = "pt") -> str:
        """The change in words; `plan` is the changed one."""
        return (self.pt if language == "pt" else self.en).format(plan=plan)


def _switch(field: str, frm: tuple[Any, ...], to: Any) -> Callable[[Plan, GPU], Plan | None]:
    return lambda plan, card: plan.change(**{field: to}) if getattr(plan, field) in frm else None


def _default(field: str) -> Callable[[Plan, GPU], Plan | None]:
    to = Plan.__dataclass_fields__[field].default
    return lambda plan, card: plan.change(**{field: to}) if getattr(plan, field) != to else None


def _checkpoint(plan: Plan, card: GPU) -> Plan | None:
    changed = plan.change(checkpointing=True, use_cache=False)
    return changed if changed.checkpoints_memory and not plan.checkpointing else None


def _smaller_batch(plan: Plan, card: GPU) -> Plan | None:
    """The largest divisor of the batch that fits, 1 where none does."""
    small = [n for n in range(1, isqrt(plan.batch) + 1) if plan.batch % n == 0]
    divisors = sorted({*small, *(plan.batch // n for n in small)} - {plan.batch})
    if not divisors:
        return None

    def split(batch: int) -> Plan:
        return plan.change(batch=batch, accumulation=plan.accumulation * (plan.batch // batch))

    def exceeds(batch: int) -> bool:
        return card.verdict(estimate(split(batch)).process) != "fits"

    return split(divisors[max(bisect_left(divisors, True, key=exceeds) - 1, 0)])


def _shorter(plan: Plan, card: GPU) -> Plan | None:
    lengths = [2**power for power in range(20, 0, -1) if SHORTEST <= 2**power < plan.seq_len]
    changed = [plan.change(seq_len=length) for length in lengths]
    fitting = (shorter for shorter in changed if card.verdict(estimate(shorter).process) == "fits")
    return next(fitting, changed[-1] if changed else None)


def _half_weights(plan: Plan, card: GPU) -> Plan | None:
    if plan.dtype != "fp32" or (isinstance(plan.method, Full) and not card.bf16):
        return None
    return plan.change(dtype="bf16" if card.bf16 else "fp16", autocast=False)


def _lora(plan: Plan, card: GPU) -> Plan | None:
    return plan.change(method=EVERY_LINEAR) if isinstance(plan.method, Full) else None


def _qlora(plan: Plan, card: GPU) -> Plan | None:
    if plan.quantized or not isinstance(plan.method, (Full, LoRA)):
        return None
    lora = plan.method if isinstance(plan.method, LoRA) else EVERY_LINEAR
    return plan.change(method=QLoRA(**asdict(lora)), compute_dtype="bf16" if card.bf16 else "fp16")


ADAMW = ("adamw", "adamw_fused", "adamw_loop", "paged_adamw_32bit")

CHANGES: tuple[Change, ...] = (
    Change(1, "desligar o cache de atenção", "turn the KV cache off", _default("use_cache")),
    Change(1, "não guardar a saída do modelo", "do not keep the output", _default("hold_output")),
    Change(1, "zerar gradientes com None", "zero gradients to None", _default("set_to_none")),
    Change(1, "atenção sdpa", "sdpa attention", _switch("attention", ("eager",), "sdpa")),
    Change(1, "AdamW fundido", "fused AdamW", _switch("optimizer", ("adamw",), "adamw_fused")),
    Change(2, "perda em blocos", "chunked loss", _switch("loss", ("fp32", "no_upcast"), "chunked")),
    Change(
        2,
        "lote {plan.batch} com acumulação {plan.accumulation}",
        "batch {plan.batch}, accumulation {plan.accumulation}",
        _smaller_batch,
    ),
    Change(3, "ativar recomputação", "gradient checkpointing", _checkpoint),
    Change(
        4, "AdamW de 8 bits paginado", "paged 8-bit AdamW", _switch("optimizer", ADAMW, "paged_adamw_8bit")
    ),
    Change(4, "pesos em {plan.dtype}", "weights in {plan.dtype}", _half_weights),
    Change(5, "QLoRA", "QLoRA", _qlora),
    Change(5, "LoRA", "LoRA", _lora),
    Change(6, "sequências de {plan.seq_len} tokens", "sequences of {plan.seq_len} tokens", _shorter),
)
