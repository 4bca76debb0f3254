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
from toolkit.room import check_room, ran_out, room_advice
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
    packing: bool = False,
    force: bool = False,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = False,
) -> Run:
    """Fine-tune a fresh copy of `base` as `plan` says, on `data`, for `steps` optimizer steps.

    A step sees `plan.batch * plan.accumulation` examples (under `accelerate launch`, with DDP or FSDP2, that
    many in each process); its loss is the mean over all their answer tokens.
    The examples of a micro-batch are padded to its longest or, with `packing`, laid end to end in one
    sequence, each attending to itself alone: same losses, no padding to compute. `warmup` (steps) is a tenth
    of `steps` where not given, `clip` the largest norm of the gradients. `validation` is measured before,
    after, and `validate_every` steps; `metric` (see `toolkit.tasks`) of the base and of the finished model.

    Before anything is loaded, a plan that surely exceeds this machine's GPU (or, without one, the GPU that it
    names) is refused with the cheapest fix, unless `force`.

    With `checkpoint_dir`, the state is written every `checkpoint_every` steps and on Ctrl-C, which ends the
    run after the step in hand; `resume=True` goes on from there with the same data order, and starts anew
    where there is no checkpoint; one that the disk has no room for is said and left out. Sharded by FSDP,
    the whole weights are in the checkpoint, the shards in the Run's model. What goes wrong is said in one
    sentence: TrainingError, DataError, AdapterError, CheckpointError.
    """
    _check_plan(plan, base, packing)
    recipe = Recipe(steps, learning_rate, schedule, warmup, weight_decay, clip, seed, packing)
    encoded = encode_all(base.tokenizer, data, plan.seq_len)
    held_out = encode_all(base.tokenizer, validation, plan.seq_len) if validation else []
    folder = Path(checkpoint_dir) if checkpoint_dir else None
    _check_folder(folder, resume, checkpoint_every)
    longest = plan.change(seq_len=max(len(example.ids) for example in encoded))
    if not force:
        check_room(longest)

    def run() -> Run:
        loop = Loop(plan, recipe, base, encoded)
        if folder and resume and (newest := checkpoint.latest(folder)):
            loop.restore(newest)
        loop.run(held_out, validate_every, folder, checkpoint_every, metric)
        return loop.report()

    try:
        return run()
    except Exception as error:
        if not ran_out(error):
            raise
    raise TrainingError(room_advice(longest))  # out here nothing holds the model, so that its memory is free


def _check_plan(plan: Plan, base: BaseModel, packing: bool) -> None:
    def dimensions(model: Any) -> dict[str, Any]:
        return {**model.to_dict(), "name": ""}

    if dimensions(plan.model) != dimensions(base.architecture):
        raise TrainingError(
            f"o plano é para {plan.model.name} e a base é {base.name}: faça-o com base.plan(...)."
        )
    if packing and plan.virtual_tokens:
        raise TrainingError(
            f"packing não serve para {type(plan.method).__name__}, que põe os seus tokens na frente de cada "
            f"sequência: use packing=False."
        )
    for field in fields(Plan):
        if field.name in FIXED and getattr(plan, field.name) != field.default:
            raise TrainingError(
                f"train só roda com {field.name}={field.default!r}; o plano pede "
                f"{getattr(plan, field.name)!r}, que serve para estimar o treino de outras bibliotecas."
            )


def _check_folder(folder: Path | None, resume: bool, every: int) -> None:
    if every < 1:
        raise TrainingError(f"checkpoint_every deve ser maior ou igual a 1; recebi {every!r}.")
    if folder and not resume and (newest := checkpoint.latest(folder)):
        raise TrainingError(
            f"já existe o checkpoint {newest}: use resume=True para retomá-lo, ou outra pasta."
        )
