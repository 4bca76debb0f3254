"""Peak memory while a model trains: what torch allocated on the card, or the resident set of the process."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.vram.memory import Interval, Memory


class Peak:
    """Bytes beyond what was held when it was made, at the peak and now; `kind` is "CUDA" or "RSS"."""

    def __init__(self) -> None:
        import torch

        self.kind = "CUDA" if torch.cuda.is_available() else "RSS"
        if self.kind == "CUDA":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            with suppress(OSError):  # Linux: forget the peak so far (man 5 proc, clear_refs)
                Path("/proc/self/clear_refs").write_text("5")
            import psutil

            self.before = psutil.Process().memory_info().rss

    @property
    def bytes(self) -> int:
        """The peak so far."""
        import torch

        highest = torch.cuda.max_memory_allocated() if self.kind == "CUDA" else highest_rss()
        return max(0, highest - self.before)

    @property
    def now(self) -> int:
        """What is held at this moment."""
        import psutil
        import torch

        cuda = self.kind == "CUDA"
        held = torch.cuda.memory_allocated() if cuda else psutil.Process().memory_info().rss
        return max(0, held - self.before)

    def memory(self, model: Any, optimizer: Any) -> Memory:
        """The peak as a Memory. What stays from step to step is added up from the tensors themselves; the
        rest (activations, logits, temporaries and, of an RSS, the libraries' own) is told as activations."""
        import torch

        parts, peak = held(model, optimizer), self.bytes
        parts["activations"] = max(0, peak - sum(parts.values()))
        reserved = torch.cuda.max_memory_reserved() if self.kind == "CUDA" else peak
        tiers = (Interval(peak, peak, peak), *(Interval(reserved, reserved, reserved) for _ in range(2)))
        return Memory("measure", {"backward": parts}, *tiers)


def held(model: Any, optimizer: Any) -> dict[str, int]:
    """Bytes of the tensors that a fine-tune holds from step to step, and of the gradients within one."""
    from toolkit.vram.live import constants

    parameters = list(model.parameters())
    states = [getattr(p, "quant_state", None) for p in parameters]
    trained = [p for p in parameters if p.requires_grad]
    optimizing = [t for state in optimizer.state.values() for t in state.values() if hasattr(t, "numel")]
    adapters = _bytes(trained) if hasattr(model, "peft_config") else 0
    return {
        "weights": _bytes(parameters) - adapters,
        "quant_constants": _bytes(getattr(o, name) for s in states if s for o, name in constants(s)),
        "adapters": adapters,
        "gradients": _bytes(trained),
        "optimizer_states": _bytes(t for t in optimizing if not getattr(t, "is_paged", False)),
    }


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def highest_rss() -> int:
    """The largest resident set of this process, in bytes (since it began, where it cannot be reset)."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import psutil

    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(info.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS: bytes
