"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.run import Run


def plot_loss(runs: Mapping[str, Run]) -> Any:
    """Loss over steps, one colour a run (by its label); validation dotted. The matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label, run in runs.items():
        (line,) = axes.plot(range(1, run.steps + 1), run.losses, label=label)
        if run.validation:
            steps, losses = zip(*run.validation, strict=True)
            axes.plot(steps, losses, "o:", color=line.get_color(), label=f"{label} (validação)")
    axes.set_xlabel("passos do otimizador")
    axes.set_ylabel("perda média por token da resposta")
    axes.set_title("Perda durante o ajuste fino")
    axes.legend()
    return figure
