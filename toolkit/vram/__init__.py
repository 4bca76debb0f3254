"""Memory of a fine-tune: predicted (`estimate`), simulated (`simulate`), measured (`measure`), compared."""

from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit
from toolkit.vram.measure import MeasureError, compare_memory, measure
from toolkit.vram.memory import GIB, Interval, Memory
from toolkit.vram.simulate import simulate

__all__ = [
    "GIB",
    "Interval",
    "MeasureError",
    "Memory",
    "compare_memory",
    "estimate",
    "fit",
    "measure",
    "simulate",
]
