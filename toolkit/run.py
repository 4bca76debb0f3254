"""What a fine-tune gave: parameters, time, speed, memory, loss curves, quality, size of the adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.folders import written_whole
from toolkit.methods import Full
from toolkit.plan import Plan
from toolkit.saved import load, write
from toolkit.vram.estimate import estimate
from toolkit.vram.memory import GIB, Memory
from toolkit.vram.simulate import simulate

FIGURES = "run.json"


class RunError(ValueError):
    """A folder without a whole saved run; one sentence."""


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) fine-tune, measured.

    `seconds` is the time of the steps alone, `tokens` those that went through the model (padding apart).
    `longest` is the most tokens that a sequence had, as it was padded. `measured` is the memory at the peak,
    above what was held before: allocated on the card (`memory_kind` "CUDA") or resident ("RSS"). `losses` has
    the mean loss of each step, `validation` pairs of (steps done, mean loss). `before` and `after` are the
    metric's figures, by name, of the base and of the trained model (empty where there was no metric, or the
    run was interrupted). `adapter_bytes` is what the trained weights take on disk, `model` the trained model.
    """

    plan: Plan
    parameters: int
    trainable: int
    seconds: float
    tokens: int
    longest: int
    measured: Memory
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

    @property
    def peak_memory(self) -> int:
        """The measured peak, in bytes."""
        return self.measured.allocated.value

    @property
    def as_run(self) -> Plan:
        """The plan with the longest sequence that there really was: what prediction and measurement share."""
        return self.plan.change(seq_len=self.longest, padding=self.plan.batch > 1)

    @cached_property
    def predicted(self) -> Memory:
        """`estimate` of the plan as it was run, on the plan's GPU (without one: on any)."""
        return estimate(self.as_run)

    @cached_property
    def simulated(self) -> Memory:
        """`simulate` of the plan as it was run; takes seconds the first time."""
        return simulate(self.as_run)

    def save(self, folder: str | Path) -> None:
        """Write the figures (JSON) and the trained weights (safetensors) to `folder`, whole or not at all."""
        kept = [f.name for f in fields(self) if f.name not in ("plan", "measured", "model")]
        data = {name: getattr(self, name) for name in kept}
        data |= {"plan": self.plan.to_dict(), "measured": self.measured.to_dict()}
        with written_whole(Path(folder)) as new:
            write(self.model, new)
            (new / FIGURES).write_text(json.dumps(data, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path, base: Any = None) -> Run:
        """The run that `save` wrote; with its `base` (a BaseModel), its model too."""
        try:
            run = cls._from_json((Path(folder) / FIGURES).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"não há um treino inteiro em {folder} ({error!r}): aponte para a pasta de um run.save."
            ) from None
        if not base:
            return run
        full = isinstance(run.plan.method, Full)
        model = (
            replace(base, folder=Path(folder)).load(run.plan) if full else load(base.load(run.plan), folder)
        )
        return replace(run, model=model)

    @classmethod
    def _from_json(cls, text: str) -> Run:
        data = json.loads(text)
        data["plan"] = Plan.from_dict(data["plan"])
        data["measured"] = Memory.from_dict(data["measured"])
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
    columns = [figures(run) for run in runs.values()]
    for title in dict.fromkeys(title for column in columns for title in column):
        shown.add_row(title, *(column.get(title, "") for column in columns))
    return shown


def figures(run: Run) -> dict[str, str]:
    """What was measured, by name, as text; memory in GiB, the adapter in MiB."""
    return {
        "parâmetros": f"{run.parameters:,}".replace(",", "."),
        "treináveis": f"{run.trainable:,}".replace(",", "."),
        "% do total": f"{100 * run.trainable / run.parameters:.3f}",
        "passos": str(run.steps),
        "tempo (s)": f"{run.seconds:.1f}",
        "tokens/s": f"{run.tokens_per_second:.0f}",
        "pico previsto na GPU (GiB)": f"{run.predicted.allocated.value / GIB:.2f}",
        "pico medido (GiB)": f"{run.peak_memory / GIB:.2f} ({run.memory_kind})",
        "perda no primeiro passo": f"{run.losses[0]:.3f}",
        "perda no último passo": f"{run.losses[-1]:.3f}",
        "perda na validação": " -> ".join(
            f"{loss:.3f}" for _, loss in run.validation[:: len(run.validation) - 1 or 1]
        ),
        "adaptador (MiB)": f"{run.adapter_bytes / 2**20:.2f}",
        **{name: f"{run.before[name]:.3g} -> {value:.3g}" for name, value in run.after.items()},
    }
