"""Whether a fine-tune has room on this machine: asked before it loads, and answered when memory ran out."""

from __future__ import annotations

from dataclasses import replace

from toolkit.plan import Plan
from toolkit.recipe import TrainingError
from toolkit.vram.fit import Fit, fit
from toolkit.vram.gpus import GPU, GPUError, gpu
from toolkit.vram.memory import GIB


def this_gpu() -> GPU | None:
    """This machine's card with the memory that its driver hands out; None without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return None
    name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1]
    try:
        return replace(gpu(name), memory=memory)
    except GPUError:
        major, minor = torch.cuda.get_device_capability()
        return GPU(name, memory, f"{major}.{minor}")


def check_room(plan: Plan) -> None:
    """Raise TrainingError, with the cheapest fix, where the plan surely exceeds its card.

    The card is this machine's or, on a machine without one, the one that the plan names.
    """
    card = this_gpu() or (gpu(plan.gpu) if plan.gpu else None)
    if card is None or (found := fit(plan, card)).verdict != "exceeds":
        return
    raise TrainingError(
        f"o plano não cabe na GPU {card.name}: pede ao menos {_gib(found.memory.process.low)} e ela tem "
        f"{_gib(card.memory)}. {_advice(found)} Para tentar assim mesmo, use force=True."
    )


def ran_out(error: Exception) -> bool:
    """Whether torch found no memory left, on a card or in RAM."""
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def room_advice(plan: Plan) -> str:
    """What to say when memory ran out: the cheapest fix for a card that has a little less than is needed."""
    import psutil

    card = this_gpu() or GPU("CPU", psutil.virtual_memory().total, "8.0")
    needed = fit(plan, card).memory.process.low
    found = fit(plan, replace(card, memory=min(card.memory, needed - 1)))
    where = "a memória da GPU" if this_gpu() else "a memória RAM"
    return f"{where} acabou. {_advice(found)}"


def _advice(found: Fit) -> str:
    if not found.fixes:
        smaller = f": {found.largest_model} caberia" if found.largest_model else ""
        return f"Nenhuma mudança do plano o faria caber; use um modelo menor{smaller}."
    return f"O conserto mais barato: {found.fixes[0]}."


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB".replace(".", ",")
