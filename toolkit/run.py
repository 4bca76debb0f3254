"""What a fine-tune gave: parameters, time, speed, peak memory, loss curves, size of the adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from toolkit.plan import Plan
from toolkit.vram.memory import GIB


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) fine-tune, measured.

    `seconds` is the time of the steps alone, `tokens` those that went through the model (padding apart).
    `peak_memory` is in bytes, above what was held before: allocated on the card ("CUDA") or resident ("RSS").
    `losses` has the mean loss of each step, `validation` pairs of (steps done, mean loss). `before` and
    `after` are the metric's figures, by name, of the base and of the trained model (empty where there was no
    metric, or the run was interrupted). `adapter_bytes` is what the trained weights take on disk. `model` is
    the trained model; JSON leaves it out.
    """

    plan: Plan
    parameters: int
    trainable: int
    seconds: float
    tokens: int
    peak_memory: int
    memory_kind: str
    losses: tuple[float, ...]
    validation: tuple[tuple[int, float], ...]
    adapter_bytes: int
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    model: Any = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return len(self.losses)

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on a second."""
        return self.tokens / self.seconds

    def save(self, path: str | Path) -> None:
        """Write the figures as JSON; the weights are `toolkit.save`'s."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("plan", "model")}
        Path(path).write_text(json.dumps({"plan": self.plan.to_dict(), **data}, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The run that `save` wrote, without its model."""
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        data["plan"] = Plan.from_dict(data["plan"])
        data["losses"] = tuple(data["losses"])
        data["validation"] = tuple((step, loss) for step, loss in data["validation"])
        return cls(**data)

    def __rich__(self) -> Any:
        """What `rich.print(run)` shows."""
        return table({type(self.plan.method).__name__: self})


def table(runs: Mapping[str, Run]) -> Any:
    """The runs as a rich Table, a column each, by label. Memory is printed in GiB, adapters in MiB."""
    from rich.table import Column, Table

    shown = Table(Column(no_wrap=True), *runs, title="Ajuste fino medido")
    columns = [_cells(run) for run in runs.values()]
    for title in dict.fromkeys(title for column in columns for title in column):
        shown.add_row(title, *(column.get(title, "") for column in columns))
    return shown


def _cells(run: Run) -> dict[str, str]:
    return {
        "parâmetros": f"{run.parameters:,}".replace(",", "."),
        "treináveis": f"{run.trainable:,}".replace(",", "."),
        "% do total": f"{100 * run.trainable / run.parameters:.3f}",
        "passos": str(run.steps),
        "tempo (s)": f"{run.seconds:.1f}",
        "tokens/s": f"{run.tokens_per_second:.0f}",
        "pico de memória (GiB)": f"{run.peak_memory / GIB:.2f} ({run.memory_kind})",
        "perda no primeiro passo": f"{run.losses[0]:.3f}",
        "perda no último passo": f"{run.losses[-1]:.3f}",
        "perda na validação": " -> ".join(
            f"{loss:.3f}" for _, loss in run.validation[:: len(run.validation) - 1 or 1]
        ),
        "adaptador (MiB)": f"{run.adapter_bytes / 2**20:.2f}",
        **{name: f"{run.before[name]:.3f} -> {value:.3f}" for name, value in run.after.items()},
    }
