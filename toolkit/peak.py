"""Peak memory while a block runs: what torch allocated on the card, or the resident set of the process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


class Peak:
    """Bytes at the peak of the block, beyond what was held when it began; `kind` is "CUDA" or "RSS"."""

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
