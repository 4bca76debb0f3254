"""Pictures of runs: loss over time, memory by part, quality against memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.run import Run, table
from toolkit.vram.memory import GIB, Memory

GROUPS = {  # what a measured peak can be told apart into, from the ground up
    "pesos": ("weights", "quant_constants"),
    "adaptador": ("adapters",),
    "gradientes": ("gradients",),
    "estados do otimizador": ("optimizer_states",),
}
REST = "ativações, logits e temporários"
COLORS = ("#4c566a", "#f4a259", "#8cb369", "#5b8e7d", "#bcd4e6")


def plot_loss(runs: Mapping[str, Run]) -> Any:
    """Loss over steps, one colour a run (by its label); validation dotted. The matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    draw_loss(figure.subplots(), runs)
    return figure


def draw_loss(axes: Any, runs: Mapping[str, Run]) -> None:
    """The losses on matplotlib axes."""
    for label, run in runs.items():
        (line,) = axes.plot(range(1, run.steps + 1), run.losses, label=label)
        if run.validation:
            steps, losses = zip(*run.validation, strict=True)
            axes.plot(steps, losses, "o:", color=line.get_color(), label=f"{label} (validação)")
    axes.set_xlabel("passos do otimizador")
    axes.set_ylabel("perda média por token da resposta")
    axes.set_title("Perda durante o ajuste fino")
    axes.legend()


def compare(runs: Mapping[str, Run]) -> Any:
    """Print the table of the runs; give one Figure: memory by part, loss, quality against memory.

    Memory is predicted and simulated for a GPU (the plan's, else any) and measured here. Quality is the first
    figure of the metric, hollow for the base; where there was no metric, the last loss on held-out data.
    """
    from matplotlib.figure import Figure
    from rich import print as rich_print

    rich_print(table(runs))
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    memory, loss, quality = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    draw_memory(memory, {label: _memories(run) for label, run in runs.items()})
    draw_loss(loss, runs)
    draw_quality(quality, runs)
    return figure


def _memories(run: Run) -> dict[str, Memory]:
    measured = "medida na GPU" if run.memory_kind == "CUDA" else "medida (RSS da CPU)"
    return {"prevista": run.predicted, "simulada": run.simulated, measured: run.measured}


def draw_memory(axes: Any, memories: Mapping[str, Mapping[str, Memory]]) -> None:
    """Stacked bars in GiB: a group for each label, a bar for each way that its memory was found."""
    place = 0.0
    ticks: dict[float, str] = {}
    for label, found in memories.items():
        for source, memory in found.items():
            bottom = 0.0
            for (part, size), color in zip(grouped(memory).items(), COLORS, strict=True):
                first = part if not ticks else None
                axes.barh(place, size / GIB, left=bottom, color=color, label=first, edgecolor="white")
                bottom += size / GIB
            axes.text(bottom, place, f" {bottom:.2f}", va="center", fontsize=8)
            ticks[place] = f"{label}\n{source}"
            place -= 1
        place -= 0.6
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("GiB no pico")
    axes.set_title("Memória por parte")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=3, frameon=False)


def grouped(memory: Memory) -> dict[str, int]:
    """Bytes at the peak by GROUPS, and the rest."""
    sizes = {group: sum(memory.peak.get(part, 0) for part in parts) for group, parts in GROUPS.items()}
    return {**sizes, REST: sum(memory.peak.values()) - sum(sizes.values())}


def draw_quality(axes: Any, runs: Mapping[str, Run]) -> None:
    """A point for each run: predicted GiB against its quality."""
    name = next((name for run in runs.values() for name in run.after), "")
    for label, run in runs.items():
        memory = run.predicted.allocated.value / GIB
        after = run.after.get(name) if name else (run.validation[-1][1] if run.validation else run.losses[-1])
        if after is None:
            continue
        (point,) = axes.plot(memory, after, "o", label=label)
        axes.annotate(label, (memory, after), (6, 4), textcoords="offset points")
        if name:
            axes.plot(memory, run.before[name], "o", color=point.get_color(), fillstyle="none")
    axes.set_xlabel("memória prevista na GPU (GiB)")
    axes.set_ylabel(f"{name} (vazado: a base, sem ajuste)" if name else "última perda (menor é melhor)")
    axes.set_title("Qualidade e memória")
