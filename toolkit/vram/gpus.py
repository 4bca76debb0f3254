"""Graphics cards: the memory that a program can really use, and what CUDA itself takes of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from toolkit.vram.memory import Interval

MIB = 2**20
Verdict = Literal["fits", "tight", "exceeds"]

# The smallest and the largest context measured with modules loaded lazily (CUDA 11.7 or newer), T4 and A6000.
UNKNOWN_CONTEXT = (105 * MIB, 711 * MIB)


class GPUError(ValueError):
    """A card that is not in the table; the message names those that are."""


@dataclass(frozen=True)
class GPU:
    """One card. `memory` and `context` are bytes; `architecture` is "8.6" (CUDA) or "gfx942" (ROCm).

    `memory` is what the driver hands out (`torch.cuda.mem_get_info`), below the figure on the box.
    `context` is an interval: what the CUDA context and loaded kernels take outside PyTorch's allocator.
    """

    name: str
    memory: int
    architecture: str
    context: tuple[int, int] = UNKNOWN_CONTEXT
    source: str = ""

    def __post_init__(self) -> None:
        if self.memory <= 0:
            raise GPUError(f"a memória da GPU {self.name} deve ser maior que 0 bytes; recebi {self.memory}.")

    @property
    def rocm(self) -> bool:
        """Whether this is an AMD card."""
        return self.architecture.startswith("gfx")

    @property
    def bf16(self) -> bool:
        """Whether bfloat16 runs in hardware: compute capability 8.0 or newer (a T4 only emulates it)."""
        return self.rocm or float(self.architecture) >= 8.0

    @property
    def dtype(self) -> str:
        """The half precision to train in on this card."""
        return "bfloat16" if self.bf16 else "float16"

    @property
    def blas_workspace(self) -> int:
        """Bytes that each thread's cuBLAS handle holds (the defaults in ATen/cuda/CublasHandlePool.cpp)."""
        if self.rocm:
            return (128 if self.architecture == "gfx942" else 32) * MIB
        return 32 * MIB if float(self.architecture) >= 9.0 else 4096 * 1024 * 2 + 16 * 1024 * 8

    def verdict(self, process: Interval) -> Verdict:
        """Whether a process that takes these bytes fits: surely, perhaps, or surely not."""
        if process.high <= self.memory:
            return "fits"
        return "exceeds" if process.low > self.memory else "tight"


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(files("toolkit.vram").joinpath("gpus.json").read_text(encoding="utf-8")))


@cache
def gpus() -> dict[str, GPU]:
    """The cards known here, by short name, in the table's order."""
    return {
        name: GPU(
            name=name,
            memory=row["memory_mib"] * MIB,
            architecture=row["architecture"],
            context=_interval(row.get("context_mib")),
            source=row["source"],
        )
        for name, row in _table().items()
    }


def gpu(name: str | GPU) -> GPU:
    """The card called `name`: a short name ("T4", "A100 80 GB") or what torch calls it ("Tesla T4").

    Raises GPUError, with the known cards, when there is none.
    """
    if isinstance(name, GPU):
        return name
    found = _spellings().get(_squeeze(name)) if isinstance(name, str) else None
    if found is None:
        raise GPUError(f"a GPU {name!r} não está na tabela; as conhecidas são: {', '.join(gpus())}.")
    return found


def _interval(mib: list[int] | None) -> tuple[int, int]:
    return (mib[0] * MIB, mib[1] * MIB) if mib else UNKNOWN_CONTEXT


@cache
def _spellings() -> dict[str, GPU]:
    return {
        _squeeze(word): gpus()[name] for name, row in _table().items() for word in (name, *row["aliases"])
    }


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]|nvidia|geforce|tesla", "", name.casefold())
