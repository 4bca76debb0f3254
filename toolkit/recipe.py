"""How long and how fast a fine-tune learns: steps, learning rate, schedule, seed; the plan's optimizer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from toolkit.plan import Plan

Schedule = Literal["cosine", "linear", "constant"]


class TrainingError(ValueError):
    """A training run that cannot start or go on; one sentence says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: optimizer steps, peak learning rate, its schedule, the seed of everything.

    `warmup` is in steps, a tenth of them where it is None. `packing` lays the examples of a batch end to end.
    """

    steps: int
    learning_rate: float
    schedule: Schedule
    warmup: int | None
    weight_decay: float
    clip: float
    seed: int
    packing: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise TrainingError(f"steps deve ser um inteiro maior ou igual a 1; recebi {self.steps!r}.")
        if self.warmup is None:
            object.__setattr__(self, "warmup", self.steps // 10)
        if not isinstance(self.learning_rate, (int, float)) or not self.learning_rate > 0:
            raise TrainingError(f"learning_rate deve ser maior que 0; recebi {self.learning_rate!r}.")
        if self.schedule not in get_args(Schedule):
            names = ", ".join(map(repr, get_args(Schedule)))
            raise TrainingError(f"schedule deve ser um de {names}; recebi {self.schedule!r}.")


def make_optimizer(plan: Plan, parameters: list[Any], recipe: Recipe) -> Any:
    """The plan's optimizer; torch's own defaults but for the learning rate and the weight decay."""
    import torch

    if plan.optimizer.endswith("bit"):
        import bitsandbytes as bnb

        if plan.optimizer.startswith("paged") and parameters[0].device.type == "cpu":
            _say_not_paged()
        quantized = {
            "adamw_8bit": bnb.optim.AdamW8bit,
            "paged_adamw_8bit": bnb.optim.PagedAdamW8bit,
            "paged_adamw_32bit": bnb.optim.PagedAdamW32bit,
        }
        return quantized[plan.optimizer](
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "adamw": (torch.optim.AdamW, {}),
        "adamw_fused": (torch.optim.AdamW, {"fused": True}),
        "adamw_loop": (torch.optim.AdamW, {"foreach": False}),
        "adafactor": (torch.optim.Adafactor, {}),
        "sgd": (torch.optim.SGD, {}),
        "sgd_momentum": (torch.optim.SGD, {"momentum": 0.9}),
    }
    kind, options = kinds[plan.optimizer]
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **options)


@cache
def _say_not_paged() -> None:
    """Once a session; bitsandbytes' own warning would say it in English."""
    warnings.filterwarnings("ignore", "Paged optimizers are not supported on CPU")
    print("Aviso: o otimizador paginado só existe em GPU; na CPU roda o mesmo AdamW, sem paginar.")
