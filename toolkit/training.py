"""The real fine-tune: what is checked before it begins, the run, and what is said when it cannot go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from toolkit import checkpoint
from toolkit.base_model import BaseModel
from toolkit.data import Example, encode_all
from toolkit.evaluation import Metric
from toolkit.loop import Loop
from toolkit.plan import Plan
from toolkit.recipe import Recipe, Schedule, TrainingError
from toolkit.run import Run

# What the loop does, whatever the plan says; a plan that says otherwise is refused.
FIXED = ("loss", "upcast", "adapter_dtype", "set_to_none", "use_cache", "hold_output")


def train(
    plan: Plan,
    data: Sequence[Example],
    base: BaseModel,
    *,
    steps: int,
    learning_rate: float = 2e-4,
    schedule: Schedule = "cosine",
    warmup: int | None = None,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    seed: int = 0,
    validation: Sequence[Example] = (),
    validate_every: int = 0,
    metric: Metric | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = False,
) -> Run:
    """Fine-tune a fresh copy of `base` as `plan` says, on `data`, for `steps` optimizer steps.

    A step sees `plan.batch * plan.accumulation` examples, padded to the longest of a micro-batch; its loss is
    the mean over all their answer tokens. `warmup` (steps) is a tenth of `steps` where not given, `clip` the
    largest norm of the gradients. `validation` is measured before, after, and `validate_every` steps;
    `metric` (see `toolkit.tasks`) of the base and of the finished model.

    With `checkpoint_dir`, the state is written every `checkpoint_every` steps and on Ctrl-C, which ends the
    run after the step in hand; `resume=True` goes on from there with the same data order, and starts anew
    where there is no checkpoint. What goes wrong is said in one sentence: TrainingError, DataError,
    AdapterError, CheckpointError.
    """
    _check_plan(plan, base)
    warmup = steps // 10 if warmup is None else warmup
    recipe = Recipe(steps, learning_rate, schedule, warmup, weight_decay, clip, seed)
    encoded = encode_all(base.tokenizer, data, plan.seq_len)
    held_out = encode_all(base.tokenizer, validation, plan.seq_len) if validation else []
    folder = Path(checkpoint_dir) if checkpoint_dir else None
    _check_folder(folder, resume)
    try:
        loop = Loop(plan, recipe, base, encoded)
        if folder and resume and (newest := checkpoint.latest(folder)):
            loop.restore(newest)
        loop.run(held_out, validate_every, folder, checkpoint_every, metric)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise TrainingError(_out_of_memory(plan)) from None
        raise
    return loop.report()


def _check_plan(plan: Plan, base: BaseModel) -> None:
    def dimensions(model: Any) -> dict[str, Any]:
        return {**model.to_dict(), "name": ""}

    if dimensions(plan.model) != dimensions(base.architecture):
        raise TrainingError(
            f"o plano é para {plan.model.name} e a base é {base.name}: faça-o com base.plan(...)."
        )
    for field in fields(Plan):
        if field.name in FIXED and getattr(plan, field.name) != field.default:
            raise TrainingError(
                f"train só roda com {field.name}={field.default!r}; o plano pede "
                f"{getattr(plan, field.name)!r}, que serve para estimar o treino de outras bibliotecas."
            )


def _check_folder(folder: Path | None, resume: bool) -> None:
    if folder and not resume and (newest := checkpoint.latest(folder)):
        raise TrainingError(
            f"já existe o checkpoint {newest}: use resume=True para retomá-lo, ou outra pasta."
        )


def _out_of_memory(plan: Plan) -> str:
    saver = "checkpointing=True" if not plan.checkpointing else "batch menor, com mais accumulation"
    if plan.batch > 1:
        saver = f"batch={plan.batch // 2} e accumulation={plan.accumulation * 2}"
    return f"a memória da GPU acabou: refaça o plano com {saver}, um seq_len menor ou QLoRA."
