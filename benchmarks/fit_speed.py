"""Speed of `fit` and of the calculator's picture: the budget is 100 ms a redraw."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from toolkit.calculator.view import view
from toolkit.methods import Full, LoRA, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit

BUDGET = 0.100  # seconds
CASES: list[tuple[str, Method, str]] = [
    ("SmolLM2-135M", LoRA(), "T4"),
    ("Qwen2.5-7B", LoRA(16, targets="all-linear"), "T4"),
    ("Qwen2.5-7B", Full(), "RTX 4090"),
    ("Llama-3.1-70B", QLoRA(64, targets="all-linear"), "RTX A6000"),
    ("Mixtral-8x7B-v0.1", QLoRA(16), "A100 80 GB"),
]


def seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """The median of several runs after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print a table, and leave with status 1 when a case is over the budget."""
    print(f"{'plan':52} {'estimate':>10} {'fit':>9} {'view':>9} {'view/budget':>12}")
    worst = 0.0
    for name, method, card in CASES:
        plan = Plan(Architecture.from_config(name), method, batch=8, seq_len=1024, gpu=card)
        runs = [lambda p=plan: estimate(p), lambda p=plan: fit(p, p.gpu), lambda p=plan: view(p)]  # type: ignore[misc]
        one, whole, shown = (seconds(run) for run in runs)
        worst = max(worst, shown / BUDGET)
        label, ratio = f"{name}, {type(method).__name__}, {card}", shown / BUDGET
        print(f"{label:52} {one * 1e6:7.0f} us {whole * 1e3:6.1f} ms {shown * 1e3:6.1f} ms {ratio:11.2f}x")
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
