"""The machine as a student meets it: Colab or laptop, its card, the dtype and why, the profile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from toolkit.plan import Dtype
from toolkit.vram.memory import GIB

Profile = Literal["cpu", "t4", "big"]
PROFILE_VARIABLE = "TOOLKIT_PROFILE"
BIG_CARD = 20 * GIB  # a 7-8B QLoRA with room for the batch


class SettingError(ValueError):
    """A setting of the machine that makes no sense; the message says what it may be."""


@dataclass(frozen=True)
class Environment:
    """What a lesson must know of the machine. `memory` and `free`: bytes of the card, or of RAM."""

    place: Literal["Colab", "local"]
    gpu: str
    capability: tuple[int, int] | None
    memory: int
    free: int
    cores: int
    dtype: Dtype
    dtype_reason: str
    profile: Profile
    profile_reason: str


def choose_dtype(capability: tuple[int, int] | None) -> tuple[Dtype, str]:
    """The dtype to compute in, and why.

    Decided by compute capability: `torch.cuda.is_bf16_supported()` says True on a T4, which only emulates it.
    """
    if capability is None:
        return "fp32", "sem GPU: fp32, que toda CPU calcula sem perder precisão"
    version = f"{capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return (
            "bf16",
            f"capacidade de computação {version} (8.0 ou mais): bf16 no hardware, com a faixa do fp32",
        )
    return "fp16", f"capacidade de computação {version}, abaixo de 8.0: o bf16 seria só emulado, e lento"


def choose_profile(
    capability: tuple[int, int] | None, memory: int, wanted: str | None
) -> tuple[Profile, str]:
    """The size of the lessons' experiments, and why; `wanted` overrides. Raises for an unknown profile."""
    for profile in get_args(Profile):
        if wanted == profile:
            return profile, "pedido por você"
    if wanted:
        raise SettingError(
            f"o perfil (argumento de environment_card, ou {PROFILE_VARIABLE}) deve ser um de "
            f"{', '.join(get_args(Profile))}; recebi {wanted!r}."
        )
    if capability is None:
        return "cpu", "sem GPU: modelo pequeno e poucos passos"
    if capability >= (8, 0) and memory >= BIG_CARD:
        return "big", f"bf16 e {memory / GIB:.0f} GiB: cabe o QLoRA de um modelo de 7 a 8 bilhões"
    return "t4", f"{memory / GIB:.0f} GiB: modelos de até cerca de 1 bilhão de parâmetros, ou QLoRA"


def environment() -> Environment:
    """Look at the machine. Raises for a profile in TOOLKIT_PROFILE that does not exist."""
    import psutil
    import torch

    gpu, capability, ram = "", None, psutil.virtual_memory()
    memory, free = ram.total, ram.available
    if torch.cuda.is_available():
        gpu, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        free, memory = torch.cuda.mem_get_info()
    dtype, dtype_reason = choose_dtype(capability)
    profile, profile_reason = choose_profile(capability, memory, os.environ.get(PROFILE_VARIABLE))
    place: Literal["Colab", "local"] = "Colab" if "COLAB_RELEASE_TAG" in os.environ else "local"
    cores = os.cpu_count() or 1
    return Environment(
        place, gpu, capability, memory, free, cores, dtype, dtype_reason, profile, profile_reason
    )


def mend_torchao() -> str:
    """Keep a torchao too old for peft from breaking `get_peft_model`; a sentence where it was needed, or "".

    Colab ships torchao 0.10, which no lesson uses; peft raises ImportError below 0.16 (peft/import_utils.py).
    No package is touched: peft is told, in this process only, that there is no torchao.
    """
    from peft.import_utils import is_torchao_available
    from peft.tuners.lora import torchao
    from peft.utils import quantization_utils

    try:
        is_torchao_available()
    except ImportError:
        torchao.is_torchao_available = lambda: False
        quantization_utils.is_torchao_available = lambda: False
        return "o torchao instalado é antigo demais para o peft: o peft vai ignorá-lo nesta sessão"
    return ""


def environment_card(profile: Profile | Literal[""] = "") -> Environment:
    """Mend what has to be mended, print the machine as a card in Portuguese, and give it.

    A `profile` asked for here holds for the whole session, as if TOOLKIT_PROFILE had been set outside.
    """
    from rich import print as rich_print
    from rich.panel import Panel

    if profile:
        choose_profile(None, 0, profile)
        os.environ[PROFILE_VARIABLE] = profile
    found = environment()
    rich_print(Panel("\n".join(card_lines(found, mend_torchao())), title="Seu ambiente", expand=False))
    return found


def card_lines(found: Environment, mended: str = "") -> list[str]:
    """The card's lines. Memory is printed in GiB."""
    where = "Google Colab" if found.place == "Colab" else "máquina local"
    lines = [
        f"Onde:     {where}, {found.cores} núcleos de CPU",
        f"GPU:      {found.gpu or 'nenhuma'}",
        f"Memória:  {found.free / GIB:.1f} GiB livres de {found.memory / GIB:.1f} GiB "
        f"({'da GPU' if found.gpu else 'RAM'})",
        f"dtype:    {found.dtype} ({found.dtype_reason})",
        f"Perfil:   {found.profile} ({found.profile_reason})",
    ]
    if found.place == "Colab" and not found.gpu:
        lines.append("Dica:     no menu Ambiente de execução, escolha um ambiente com GPU T4")
    if find_spec("bitsandbytes") is None:
        lines.append("Falta:    bitsandbytes; para a QLoRA, rode %pip install bitsandbytes")
    return [*lines, f"Aviso:    {mended}"] if mended else lines
