"""Memory of one training step: bytes by part and by moment, however they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

GIB = 2**30

PARTS = (
    "weights",  # base weights, 4-bit ones packed
    "quant_constants",  # scales of 4-bit blocks and their codebooks
    "adapters",
    "gradients",
    "optimizer_states",
    "optimizer_temporaries",
    "activations",  # kept from forward to backward
    "recompute",  # working memory: a recomputed layer, kernels' temporaries, dequantised weights
    "logits",  # logits, loss, and their gradients
    "workspaces",  # cuBLAS
    "batch",
)
MOMENTS = ("load", "forward", "loss", "backward", "step")


class Interval(NamedTuple):
    """A figure in bytes with the range that it should fall in."""

    low: int
    value: int
    high: int


@dataclass(frozen=True)
class Memory:
    """What a step needs. `moments[moment][part]` is in bytes, at that moment's own peak.

    Moments: "load" (weights and adapters on the card), then of a later step, when optimizer states exist:
    "forward", "loss", "backward", "step". Three tiers, each an interval: `allocated` is what tensors hold at
    the peak (torch.cuda.max_memory_allocated), `reserved` what PyTorch's allocator took for them
    (max_memory_reserved), `process` what nvidia-smi shows (reserved and the CUDA context).
    `source` is "estimate", "simulate" or "measure".
    """

    source: str
    moments: Mapping[str, Mapping[str, int]]
    allocated: Interval
    reserved: Interval
    process: Interval

    def __post_init__(self) -> None:
        frozen = {moment: MappingProxyType(dict(parts)) for moment, parts in self.moments.items()}
        object.__setattr__(self, "moments", MappingProxyType(frozen))

    def total(self, moment: str) -> int:
        """Bytes of all parts at `moment`."""
        return sum(self.moments[moment].values())

    @property
    def peak_moment(self) -> str:
        """The moment that sets the peak."""
        return max(self.moments, key=self.total)

    @property
    def peak(self) -> Mapping[str, int]:
        """Bytes by part at the peak."""
        return self.moments[self.peak_moment]

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON), bytes."""
        return {
            "source": self.source,
            "moments": {moment: dict(parts) for moment, parts in self.moments.items()},
            "peak_moment": self.peak_moment,
            "allocated": self.allocated._asdict(),
            "reserved": self.reserved._asdict(),
            "process": self.process._asdict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Memory:
        """The memory that `to_dict` described."""
        tiers = {name: Interval(**data[name]) for name in ("allocated", "reserved", "process")}
        return cls(data["source"], data["moments"], **tiers)
