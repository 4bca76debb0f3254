"""Memory of a fine-tune: predicted (`estimate`), simulated (`simulate`), measured (`measure`), compared."""

from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit
from toolkit.vram.memory import GIB, Interval, Memory

__all__ = ["GIB", "Interval", "Memory", "estimate", "fit"]
