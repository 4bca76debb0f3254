"""What is said about the memory of LoRA and QLoRA: each claim computed, with what it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from toolkit.count import count
from toolkit.methods import Full, LoRA, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram import static
from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit
from toolkit.vram.gpus import gpu

Verdict = Literal["vale", "vale com condição", "não vale"]
GB = 10**9  # the claims' own unit
ALL: Final = "all-linear"
LLAMA_7B, LLAMA_65B, LLAMA_70B = (
    "meta-llama/Llama-2-7b-hf",
    "huggyllama/llama-65b",
    "meta-llama/Llama-2-70b-hf",
)
GPT3 = Architecture(  # Brown et al., 2020, table 2.1, with separate projections as in the LoRA paper
    "opt", 12288, 96, 96, 96, 128, 49152, 50257, 2048, tied=True, qkv_bias=True, out_bias=True, mlp_bias=True
)


@dataclass(frozen=True)
class Claim:
    """A claim, what was computed for it, under which condition it holds, and whether it does."""

    claim: str
    computed: str
    condition: str
    verdict: Verdict


def claims() -> list[Claim]:
    """The course's claims about parameters and memory, computed anew from `count`, `estimate` and `fit`."""
    return [
        _full_65b(),
        _qlora_on_48("65B com QLoRA em menos de 48 GB", LLAMA_65B),
        _qlora_on_48("Llama-2-70B com QLoRA numa placa de 48 GB", LLAMA_70B),
        _ten_thousand(),
        _three_times(),
        _sixteen_times(),
        _half_a_byte(),
        _consumer(12, "RTX 3060 12 GB", LoRA(16, targets=ALL)),
        _consumer(24, "RTX 4090", LoRA(16, targets=ALL)),
        _consumer(24, "RTX 4090", QLoRA(16, targets=ALL)),
    ]


def show_claims() -> None:
    """Print the table, in a terminal or in a notebook."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="O que se afirma e o que a conta mostra (GB = 10⁹ bytes)", show_lines=True)
    for heading in ("Afirmação", "Calculado", "Condição", "Veredito"):
        table.add_column(heading, overflow="fold")
    for claim in claims():
        table.add_row(claim.claim, claim.computed, claim.condition, claim.verdict)
    Console().print(table)


def _plan(model: str, method: Method) -> Plan:
    """A frugal plan: one sequence of 512 tokens, activations recomputed, states paged for QLoRA."""
    plan = Plan(Architecture.from_config(model), method, checkpointing=True)
    return plan.change(optimizer="paged_adamw_32bit") if plan.quantized else plan


def _peak(plan: Plan) -> float:
    return estimate(plan).allocated.value / GB


def _number(value: float, decimals: int = 0) -> str:
    return f"{value:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


def _full_65b() -> Claim:
    plan = _plan(LLAMA_65B, Full())
    mixed, pure = 12 * count(plan).total / GB, _peak(plan)
    return Claim(
        "65B em ajuste completo precisa de mais de 780 GB",
        f"{_number(mixed)} GB com Adam em fp32; {_number(pure)} GB de pico em bf16 puro",
        "12 bytes por parâmetro (pesos e gradientes em 16 bits, dois estados de Adam em fp32); "
        "com tudo em bf16, como o PyTorch faz por padrão, é menos",
        _judge(mixed > 780, pure > 780),
    )


def _qlora_on_48(text: str, model: str) -> Claim:
    plan = _plan(model, QLoRA(64, targets=ALL))
    result, longest = fit(plan, "RTX A6000"), fit(plan.change(seq_len=2048), "RTX A6000")
    sure = result.largest["seq_len"]
    limit = f"cabe com certeza até {_number(sure)} tokens" if sure else "fica no limite"
    return Claim(
        text,
        f"{_number(result.memory.process.value / GB, 1)} GB com 512 tokens, "
        f"{_number(longest.memory.process.value / GB, 1)} GB com 2.048",
        "posto 64 em todos os lineares, lote 1, recomputação de ativações e otimizador paginado; "
        f"{limit} numa RTX A6000",
        _judge(result.verdict != "exceeds", longest.verdict == "fits"),
    )


def _ten_thousand() -> Claim:
    few = count(Plan(GPT3, LoRA(4, targets=("q_proj", "v_proj"))))
    usual = count(_plan(LLAMA_7B, LoRA(16, targets=ALL)))
    base, base_7b = few.total - few.trainable, usual.total - usual.trainable
    times, times_7b = base / few.trainable, base_7b / usual.trainable
    return Claim(
        "LoRA treina até 10.000 vezes menos parâmetros (GPT-3)",
        f"{_number(times)} vezes no GPT-3 ({_number(few.trainable)} parâmetros); "
        f"{_number(times_7b)} vezes num 7B usual",
        "GPT-3 175B, posto 4, só em q e v; a razão cai com posto maior, mais módulos e modelos menores",
        _judge(times > 9000, times_7b > 9000),
    )


def _three_times() -> Claim:
    lora, qlora = LoRA(64, targets=ALL), QLoRA(64, targets=ALL)
    small, large = (_peak(_plan(name, lora)) / _peak(_plan(name, qlora)) for name in (LLAMA_7B, LLAMA_70B))
    plan = _plan(LLAMA_7B, lora).change(checkpointing=False, seq_len=2048)
    kept = _peak(plan) / _peak(plan.change(method=qlora))
    return Claim(
        "QLoRA gasta até 3 vezes menos que LoRA",
        f"{_number(small, 1)} vezes em 7B e {_number(large, 1)} em 70B; {_number(kept, 1)} em 7B com 2.048 "
        "tokens sem recomputação",
        "os pesos dominam: lote 1, 512 tokens, recomputação; as ativações são as mesmas nos dois métodos",
        _judge(large >= 3, kept >= 3),
    )


def _sixteen_times() -> Claim:
    mixed = 12 * count(_plan(LLAMA_65B, Full())).total / GB
    large = mixed / _peak(_plan(LLAMA_65B, QLoRA(64, targets=ALL)))
    small = _peak(_plan(LLAMA_7B, Full())) / _peak(_plan(LLAMA_7B, QLoRA(64, targets=ALL)))
    return Claim(
        "QLoRA gasta até 16 vezes menos que o ajuste completo",
        f"{_number(large, 1)} vezes em 65B com Adam em fp32; {_number(small, 1)} em 7B com tudo em bf16",
        "modelo grande, lote 1, recomputação, e o ajuste completo com 12 bytes por parâmetro",
        _judge(large >= 16, small >= 16),
    )


def _half_a_byte() -> Claim:
    plan = _plan(LLAMA_7B, QLoRA(64, targets=ALL))
    packed = static.quantized_weights(plan)
    double = 4 + 8 * static.quant_constants(plan) / packed
    single = 4 + 8 * static.quant_constants(plan.change(method=QLoRA(double_quant=False))) / packed
    base = count(plan).total - count(plan).trainable
    whole = 8 * (static.weights(plan) + static.quant_constants(plan)) / base
    return Claim(
        "4 bits por peso são meio byte",
        f"{_number(double, 3)} bits com quantização dupla, {_number(single, 3)} sem; "
        f"{_number(whole, 2)} na média do modelo inteiro (7B)",
        "só os códigos: cada bloco de 64 pesos guarda uma escala, e embeddings, cabeça e normas não mudam",
        _judge(double < 4.2, whole < 4.2),
    )


def _consumer(size: int, card: str, method: Method) -> Claim:
    name = type(method).__name__
    plan = _plan("Qwen/Qwen2.5-1.5B", method)
    best = fit(plan, card).largest_model
    seven = fit(plan.change(model=Architecture.from_config(LLAMA_7B)), card)
    return Claim(
        f"{name} cabe em placas de consumo de {size} GB",
        f"maior modelo do catálogo numa {card}: {best or 'nenhum'}; um 7B pede "
        f"{_number(seven.memory.process.value / GB, 1)} de {_number(gpu(card).memory / GB, 1)} GB",
        "lote 1, 512 tokens, posto 16, recomputação de ativações",
        _judge(best is not None, seven.verdict == "fits"),
    )


def _judge(once: bool, always: bool) -> Verdict:
    """Holds in the claim's own case, and in the usual one too."""
    return "vale" if once and always else "vale com condição" if once or always else "não vale"
